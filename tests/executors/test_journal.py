"""The journal that a worker shares with the front."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lambdakernel.executors.journal import SLOTS, Journal


@pytest.fixture
def ends() -> Iterator[tuple[Journal, Journal]]:
    """Two maps of one journal: who notes, and who reads."""
    fd = Journal.create()
    both = Journal(fd), Journal(fd)
    os.close(fd)
    yield both
    for journal in both:
        journal.close()


def test_what_is_noted_is_read_at_the_other_end_in_order(ends: tuple[Journal, Journal]) -> None:
    writer, reader = ends
    assert reader.notes() == []
    for name in ("a", "b_1", "ü"):
        assert writer.note(name)
    assert reader.notes() == ["a", "b_1", "ü"]


def test_the_newest_are_kept(ends: tuple[Journal, Journal]) -> None:
    writer, reader = ends
    names = [str(number) for number in range(3 * SLOTS + 5)]
    assert all(writer.note(name) for name in names)
    assert reader.notes() == names[-SLOTS:]


def test_a_name_too_long_for_a_slot_is_refused_and_nothing_is_lost(ends: tuple[Journal, Journal]) -> None:
    writer, reader = ends
    writer.note("a")
    assert not writer.note("x" * 300)
    assert reader.notes() == ["a"]


def test_what_was_noted_outlives_the_process_that_noted_it() -> None:
    fd = Journal.create()
    reader = Journal(fd)
    pid = os.fork()
    if pid == 0:
        Journal(fd).note("started")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    os.close(fd)
    assert reader.notes() == ["started"]
    reader.close()
