"""A segment is read whole, or named and refused: torn at any byte, changed in any, moved, or of a later format."""

from __future__ import annotations

import pytest

import kvs
from kvs import seal
from kvs.testing.tier import record
from kvs.tiers import segment

RECORDS = [record(7, n, size=20, keys=n % 3) for n in range(5, 9)]
DATA = segment.to_bytes(7, RECORDS, first=4)


def read(data: bytes, *, lane: int = 7, first: int = 4) -> segment.Segment:
    return segment.from_bytes(data, "s3://b/x.seg", lane=lane, first=first)


def test_a_segment_comes_back() -> None:
    assert read(DATA) == segment.Segment(7, 4, 8, tuple(RECORDS))


def test_it_is_the_same_bytes_each_time() -> None:
    assert segment.to_bytes(7, RECORDS, first=4) == DATA


def test_one_that_is_torn_at_any_byte_is_named() -> None:
    for length in range(len(DATA)):
        with pytest.raises(kvs.TierDamaged, match=r"x\.seg is damaged"):
            read(DATA[:length])


def test_one_with_any_byte_changed_is_named() -> None:
    for at in range(len(DATA)):
        with pytest.raises(kvs.TierDamaged):
            read(DATA[:at] + bytes([DATA[at] ^ 0x41]) + DATA[at + 1 :])


def test_one_with_something_behind_it_is_named() -> None:
    with pytest.raises(kvs.TierDamaged):
        read(DATA + b"x")


def test_one_that_lies_in_anothers_place_is_named() -> None:
    with pytest.raises(kvs.TierDamaged, match="lane 7 from commit 4"):
        read(DATA, first=5)
    with pytest.raises(kvs.TierDamaged, match="lane 7 from commit 4"):
        read(DATA, lane=6)


def test_a_later_format_is_refused_with_the_remedy() -> None:
    data = segment.MAGIC + (segment.FORMAT + 1).to_bytes(4, "big") + b"whatever comes then"
    with pytest.raises(kvs.StoreForeign, match="pip install -U"):
        read(data + seal.digest(data))
