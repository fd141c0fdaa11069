"""Several frames in one: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdakernel.executors.frames import OUTPUT, REPLY, pack, unpack


@given(where=st.sampled_from([OUTPUT, REPLY]), frames=st.lists(st.binary(max_size=64), max_size=12))
def test_frames_come_out_as_they_went_in(where: int, frames: list[bytes]) -> None:
    assert unpack(pack(where, frames)) == (where, frames)


def test_a_view_of_numbers_is_its_bytes() -> None:
    import array

    numbers = array.array("d", [1.0, 2.0])
    assert unpack(pack(OUTPUT, [memoryview(numbers)])) == (OUTPUT, [numbers.tobytes()])


@given(data=st.binary(max_size=64), cut=st.integers(1, 20))
def test_what_was_not_packed_is_refused(data: bytes, cut: int) -> None:
    whole = pack(REPLY, [data, b"tail"])
    with pytest.raises(ValueError, match="not a packed message"):
        unpack(whole[:-cut])
    with pytest.raises(ValueError, match="not a packed message"):
        unpack(whole + b"x")
