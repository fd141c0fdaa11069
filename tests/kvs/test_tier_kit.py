"""Every tier keeps the contract, and the kit notices one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kvs.testing import TierBroken, check_tier
from kvs.testing.tier import record
from kvs.tiers.blobs import BlobRef
from kvs.tiers.local import NodeTier
from kvs.tiers.memory import MemoryPlace, MemoryTier
from kvs.tiers.object import ObjectPlace
from kvs.tiers.protocol import Record
from kvs.tiers.s3 import PART_BYTES
from tests.kvs.s3_server import Proxy


def test_process_memory_is_a_tier() -> None:
    check_tier(MemoryPlace().space)


def test_the_files_of_a_node_are_a_tier(tmp_path: Path) -> None:
    check_tier(lambda place: NodeTier(str(tmp_path / place)), large_bytes=5 << 20)


def test_a_bucket_is_a_tier(place: ObjectPlace) -> None:
    check_tier(place.space, large_bytes=PART_BYTES + 1234)


def test_a_bucket_whose_every_other_request_fails_or_comes_twice_is_a_tier(place: ObjectPlace, s3: Proxy) -> None:
    """A condition that fails (412) is an answer, so the second of two equal puts is told that the first one won."""
    words = ["503", "pass", "reset", "pass", "409", "twice", "reset after", "pass", "500", "twice", "429", "pass"]

    def plan(method: str, path: str) -> str:
        return words[len(s3.seen) % len(words)]

    s3.plan = plan
    check_tier(place.space, large_bytes=1 << 20)
    assert {word for *_, word in s3.seen} == set(words)


class _Overwrites(MemoryTier):
    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        kept = [record for record in self._lanes.get(lane, []) if record.n <= after]
        if kept or records:
            self._lanes[lane] = [*kept, *records]


class _AppendsTwice(MemoryTier):
    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        if records:
            self._lanes[lane] = [*self._lanes.get(lane, []), *records]


class _DropsTheLast(MemoryTier):
    def read(self, lane: int, after: int = 0) -> Iterator[Record]:
        return iter(list(super().read(lane, after))[:-1])


class _EmptyForMissing(MemoryTier):
    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        return iter([self._blobs.get(ref, b"")])


class _NeverNews(MemoryTier):
    def news(self) -> bytes:
        return b""


class _AnyOwner(MemoryTier):
    def claim(self, lane: int, owner: bytes) -> bytes:
        return owner


@pytest.mark.parametrize(
    "kind",
    [_Overwrites, _AppendsTwice, _DropsTheLast, _EmptyForMissing, _NeverNews, _AnyOwner],
    ids=lambda k: k.__name__,
)
def test_the_kit_notices_a_tier_that_is_wrong(kind: type[MemoryTier]) -> None:
    places: dict[str, MemoryTier] = {}
    with pytest.raises(TierBroken):
        check_tier(lambda place: places.setdefault(place, kind()))


def test_appends_are_atomic_for_a_reader_that_has_begun() -> None:
    tier = MemoryTier()
    tier.append(0, [record(0, 1), record(0, 2)], after=0)
    reading = tier.read(0)
    assert next(reading) == record(0, 1)
    tier.append(0, [record(0, 3)], after=2)
    assert list(reading) == [record(0, 2)]
