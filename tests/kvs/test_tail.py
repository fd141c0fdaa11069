"""The tail of a lane: one write a commit, folded in batches; whatever happens, no commit is torn, doubled or missed."""

from __future__ import annotations

import os
import random
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvs
from kvs import Value
from kvs.tiers import node
from kvs.tiers.frames import HEAD_SIZE, SUM_SIZE, frames, packed, plain_frames
from kvs.tiers.node import CommitRow, EntryRow, LaneLog
from tests.kvs.golden.make import SETTINGS
from tests.kvs.support import DEADLINE_S, child, everything, kill, received, values

texts = st.binary(max_size=40)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
KEYS = [b"key %d" % n for n in range(7)]
STRESS_S = float(os.environ.get("KVS_STRESS_S", "6"))


@st.composite
def commits(draw: st.DrawFn) -> tuple[CommitRow, list[EntryRow]]:
    row = CommitRow(0, draw(numbers), draw(texts), draw(texts), draw(texts), draw(texts))
    keys = draw(st.sets(texts, max_size=4))
    return row, [EntryRow(key, 0, draw(numbers), draw(texts), draw(texts), draw(texts)) for key in sorted(keys)]


def numbered(rows: list[tuple[CommitRow, list[EntryRow]]], first: int = 1) -> list[tuple[CommitRow, list[EntryRow]]]:
    return [(c._replace(n=n), [e._replace(n=n) for e in es]) for n, (c, es) in enumerate(rows, first)]


@given(rows=st.lists(commits(), max_size=4), first=st.integers(1, 1 << 40), data=st.data())
def test_frames_come_back_as_they_were_packed_and_a_torn_end_is_left_out(
    rows: list[tuple[CommitRow, list[EntryRow]]], first: int, data: st.DataObject
) -> None:
    rows = numbered(rows, first)
    parts = [packed(*row) for row in rows]
    whole = b"".join(parts)
    ends = [len(b"".join(parts[: n + 1])) for n in range(len(parts))]
    cut = data.draw(st.integers(0, len(whole)))
    found = list(frames(whole[:cut], start=100))
    assert [(f.commit, list(f.rows.values())) for f in found] == rows[: len(found)]
    assert [f.end - 100 for f in found] == [end for end in ends if end <= cut] and all(f.is_whole for f in found)


def test_a_flipped_bit_anywhere_costs_its_own_frame_at_most_and_keeps_its_number() -> None:
    row = CommitRow(0, 5, b"context", b"note", b"marks", b"m" * 64)
    rows = numbered([(row, [EntryRow(b"key", 0, 1, b"pay" * 9, b"", b"mac")])] * 4, 7)
    parts = [packed(*row) for row in rows]
    whole = b"".join(parts)
    for victim in (0, 1, 3):
        start = len(b"".join(parts[:victim]))
        for bit in range(8 * start, 8 * (start + len(parts[victim]))):
            bad = bytearray(whole)
            bad[bit // 8] ^= 1 << bit % 8
            found = {f.n: f for f in frames(bytes(bad), base=6)}
            assert list(found) == [7, 8, 9, 10], bit
            assert not found[7 + victim].is_whole and sum(f.is_whole for f in found.values()) == 3
            in_head, in_sum = bit // 8 - start < HEAD_SIZE, bit // 8 - start >= len(parts[victim]) - SUM_SIZE
            if in_head or in_sum:  # the body is as it was
                assert (found[7 + victim].commit, list(found[7 + victim].rows.values())) == rows[victim]


@given(rows=st.lists(commits(), min_size=1, max_size=4), data=st.data())
def test_the_short_way_through_plain_frames_finds_what_the_long_one_does(
    rows: list[tuple[CommitRow, list[EntryRow]]], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(packed(*row) for row in numbered(rows, 7)))
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut, last = data.draw(st.integers(0, len(whole))), data.draw(st.sampled_from([0, 6, 7]))
    seen = bytes(whole[:cut])
    plain, at = plain_frames(seen, last, 100)
    rest = frames(seen[at:], last=plain[-1].n if plain else last, base=6, start=100 + at, with_sums=False)
    assert [*plain, *rest] == list(frames(seen, last=last, base=6, start=100, with_sums=False))


# -- one lane


def tail_of(space: kvs.Space, lane: int = 0) -> Path:
    return Path(space.directory, f"lanes/{lane}/log.sqlite-tail")


def left_behind(connection: Connection, space: kvs.Space, count: int) -> None:
    """Publish, and be killed: the tail stays as it is."""
    with space.replica() as replica:
        for n in range(1, count + 1):
            replica.publish({b"all": Value(b"%d" % n), b"own %d" % n: Value(b"%d" % n)}, note=b"%d" % n)
        connection.send(count)
        connection.poll(DEADLINE_S)


def abandon(space: kvs.Space, count: int) -> None:
    with child(left_behind, space, count) as (process, connection):
        assert received(connection) == count
        kill(process)


def test_a_commit_is_one_frame_and_a_fold_leaves_an_empty_tail(space: kvs.Space) -> None:
    with space.replica() as replica, space.reader() as reader:
        replica.publish({b"a": Value(b"1")})
        replica.publish({b"a": Value(b"2")})
        assert [frame.n for frame in frames(tail_of(space).read_bytes())] == [1, 2]
        with closing(sqlite3.connect(replica._log_path(0))) as log:
            assert log.execute("select count(*) from commits").fetchone() == (0,)
            reader.refresh()
            assert values(reader) == {b"a": b"2"}
            replica._logs[0].fold()
            assert log.execute("select n from commits").fetchall() == [(1,), (2,)]
        assert tail_of(space).stat().st_size == 0
        assert reader.refresh() == frozenset() and values(reader) == {b"a": b"2"}
        replica.publish({b"a": Value(b"3")})
        assert reader.refresh() == {b"a"} and values(reader) == values(replica) == {b"a": b"3"}
    assert tail_of(space).stat().st_size == 0, "who closes a lane folds it"


def test_a_commit_during_a_fold_is_carried_to_the_next_tail(space: kvs.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    with space.replica() as replica, space.reader() as reader:
        replica.publish({b"a": Value(b"1")})
        flush = LaneLog._sync_database

        def meddle(log: LaneLog) -> None:
            monkeypatch.undo()
            flush(log)
            replica.publish({b"a": Value(b"2"), b"b": Value(b"2")})

        monkeypatch.setattr(LaneLog, "_sync_database", meddle)
        replica._logs[0].fold()
        assert tail_of(space).stat().st_size > 0
        reader.refresh()
        assert values(reader) == values(replica) == {b"a": b"2", b"b": b"2"}
        replica.publish({b"c": Value(b"3")})
        reader.refresh()
        assert values(reader) == values(replica) and [c.dot.counter for c in reader.log()] == [3, 2, 1]


def test_a_fold_that_was_killed_before_the_tail_went_shows_nothing_twice(space: kvs.Space) -> None:
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n)})
        kept = tail_of(space).read_bytes()
    tail_of(space).write_bytes(kept)
    for opened in (space.reader, space.replica):
        with opened() as replica:
            assert [c.dot.counter for c in replica.log()] == [3, 2, 1] and list(replica.check()) == []
            assert [(commit.n, len(rows)) for _, commit, rows in replica.records()] == [(1, 1), (2, 1), (3, 1)]
    with space.replica() as replica:
        assert replica.publish({b"b": Value(b"x")}) == kvs.Dot(0, 4)
        replica.collect(now_s=4e9)
    with space.reader() as reader:
        assert values(reader) == {b"a": b"2", b"b": b"x"} and list(reader.check()) == []


def test_the_next_holder_cuts_off_what_a_killed_one_did_not_finish(space: kvs.Space) -> None:
    abandon(space, 3)
    whole = tail_of(space).read_bytes()
    third = list(frames(whole))[2]
    for cut in range(third.start + 1, third.end):
        tail_of(space).write_bytes(whole[:cut])
        with space.reader() as reader:
            assert values(reader)[b"all"] == b"2" and list(reader.check()) == []
    with space.replica() as replica, space.reader() as reader:
        assert replica.publish({b"all": Value(b"again")}) == kvs.Dot(0, 3)
        reader.refresh()
        assert values(reader) == values(replica) == {b"all": b"again", b"own 1": b"1", b"own 2": b"2"}


def test_every_flipped_bit_of_a_tail_is_named_or_harmless(space: kvs.Space) -> None:
    """Also in the last frame, where it could look like the end of a write that was killed."""
    abandon(space, 3)
    whole, truth = tail_of(space).read_bytes(), {b"all": b"3", b"own 1": b"1", b"own 2": b"2", b"own 3": b"3"}
    rng, harmed = random.Random(7), 0
    for frame in frames(whole):
        places = [*range(frame.start, frame.start + HEAD_SIZE), *range(frame.end - SUM_SIZE, frame.end, 5)]
        for at in [*places, *rng.sample(range(frame.start, frame.end), 60)]:
            bad = bytearray(whole)
            bad[at] ^= 1 << rng.randrange(8)
            tail_of(space).write_bytes(bad)
            with space.reader() as reader:
                refused, found = set(), {}
                for key in truth:
                    try:
                        found[key] = b"".join(version.value.payload for version in reader.get(key))
                    except kvs.NotAuthentic:
                        refused.add(key)
                complaints = list(reader.check())
                assert reader.vector[0] == 3, at
                if at in places:
                    assert found == truth and not complaints, "what bears the codes of others is whole"
                assert complaints or found == truth, at
                harmed += bool(complaints)
    assert harmed > 50


def test_a_damaged_frame_is_named_moved_aside_by_a_repair_and_its_number_is_not_given_again(space: kvs.Space) -> None:
    abandon(space, 3)
    whole = tail_of(space).read_bytes()
    _, second, third = frames(whole)
    bad = bytearray(whole)
    bad[third.start + 2] ^= 1  # the head, so that its end is not known,
    bad[third.start + HEAD_SIZE] ^= 0xFF  # and the body, so that nothing of it is
    bad[second.start + bytes(whole[second.start :]).index(b"own 2") + 60] ^= 1
    tail_of(space).write_bytes(bad)
    with space.reader() as reader:
        assert any("commit 0.3" in line for line in reader.check())
    with space.replica() as replica:
        assert replica.publish({b"new": Value(b"4")}) == kvs.Dot(0, 4)
    with space.reader() as reader:
        assert any("commit 0.3" in line for line in reader.check()), "a fold took the damage for nothing"
        assert reader.get(b"own 1")[0].value == Value(b"1") and reader.get(b"new")[0].value == Value(b"4")
    assert any("commit 0.3 is not authentic" in line for line in space.repair().moved)
    tail_of(space).write_bytes(b"")
    abandon(space, 2)
    bad = bytearray(tail_of(space).read_bytes())
    bad[HEAD_SIZE] ^= 0xFF
    tail_of(space).write_bytes(bad)
    assert space.repair().moved
    kept = [path.read_bytes() for path in Path(space.directory, "quarantine").rglob("*-tail")]
    assert bytes(bad) in kept
    with space.replica() as replica:
        assert replica.publish({b"all": Value(b"x")}) == kvs.Dot(0, 7)
        assert space.exists() and values(replica)[b"all"] == b"x"


def test_a_second_writer_of_a_lane_is_noticed_before_anything_is_written(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        log = LaneLog(replica._log_path(0), writable=True)
        try:
            log.append(CommitRow(2, 0, b"", b"", b"", b""), [])
            with pytest.raises(kvs.LaneLost, match="another process has written it"):
                replica.publish({b"a": Value(b"2")})
        finally:
            log._connection.close()
            log._tail.close()


def test_a_number_that_was_written_is_never_written_again(space: kvs.Space) -> None:
    """As when an interrupt comes between the write of a commit and its entry in the view of who wrote it."""
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        for fold in (False, True):
            if fold:
                replica._logs[0].fold()
            with pytest.raises(kvs.LaneLost, match="commit 1 is there already"):
                replica._logs[0].append(CommitRow(1, 0, b"", b"", b"", b""), [])
        assert replica.publish({b"a": Value(b"2")}) == kvs.Dot(0, 2)


def test_an_interrupt_of_the_write_leaves_a_whole_commit_that_nobody_writes_over(
    space: kvs.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes during the call is raised when it has returned: readers may have the commit by then."""
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        write(fd, data)
        raise KeyboardInterrupt

    with space.replica() as replica, space.reader() as reader:
        replica.publish({b"a": Value(b"1")})
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            replica.publish({b"a": Value(b"2")})
        monkeypatch.undo()
        reader.refresh()
        assert values(reader) == {b"a": b"2"}
        with pytest.raises(kvs.LaneLost, match="commit 2 is there already"):
            replica.publish({b"a": Value(b"other")})
    with space.replica() as replica:
        assert values(replica) == {b"a": b"2"} and replica.publish({b"a": Value(b"3")}) == kvs.Dot(0, 3)


def test_a_flush_that_failed_ends_the_lane_and_its_number_is_not_given_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = kvs.open(tmp_path / "store", kvs.Settings(durability="disk")).space("s")
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        with monkeypatch.context() as patched:

            def fails(fd: int) -> None:
                raise OSError(5, "Input/output error")

            patched.setattr(os, "fdatasync", fails)
            with pytest.raises(kvs.StoreUnusable, match="could not be flushed"):
                replica.publish({b"a": Value(b"2")})
        with pytest.raises(kvs.StoreUnusable, match="open the space anew"):
            replica.publish({b"a": Value(b"other")})
    with space.replica() as replica:
        assert values(replica) == {b"a": b"2"} and replica.publish({b"a": Value(b"3")}) == kvs.Dot(0, 3)


def test_a_lane_of_format_1_is_read_as_it_is_and_raised_by_its_first_commit(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "golden/format-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    space = kvs.open(tmp_path / "store", SETTINGS).space("one")

    def version() -> int:
        with closing(sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite")) as log:
            return int(log.execute("pragma user_version").fetchone()[0])

    with space.reader() as reader:
        before = values(reader)
    with space.replica() as replica, space.reader() as reader:
        assert (version(), tail_of(space).exists()) == (1, False)
        replica.publish({b"more": Value(b"1")})
        assert version() == 2 and tail_of(space).stat().st_size > 0
        reader.refresh()
        assert values(reader) == before | {b"more": b"1"}


def test_what_a_live_writer_added_since_is_no_damage_to_a_check(space: kvs.Space) -> None:
    """Rows of commits that a view had not joined yet were called not authentic."""
    with space.replica() as replica, space.reader() as reader:
        replica.publish({b"a": Value(b"1")})
        replica._logs[0].fold()
        replica.publish({b"a": Value(b"2")})
        assert reader.vector[0] == 0 and list(reader.check()) == []


# -- processes


def write_for_ever(connection: Connection, path: Path, due: int) -> None:
    """Publish the next number, fold every few commits, and acknowledge each."""
    node.DUE_NBYTES = due
    with kvs.open(path).space("s").replica() as replica:
        n = replica.vector[replica.id]
        while True:
            n += 1
            assert replica.publish({b"n": Value(b"%d" % n), KEYS[n % 7]: Value(b"%d" % n)}).counter == n
            connection.send(n)
            if n % 5 == 0:
                replica.sync()


def read_for_ever(connection: Connection, path: Path) -> None:
    """Say of each view whether it is that of one number, and which."""
    with kvs.open(path).space("s").reader() as reader:
        before, looks = reader.vector[0], 0  # a writer may have been faster to start
        end_s = time.monotonic() + STRESS_S
        while time.monotonic() < end_s:
            changed = reader.refresh()
            n = reader.vector[0]
            assert n >= before and (n > before) == bool(changed), (before, n, changed)
            if n:
                assert changed == (frozenset({b"n"} | {KEYS[m % 7] for m in range(before + 1, n + 1)}) if changed else
                                   frozenset())  # fmt: skip
                expected = {KEYS[m % 7]: b"%d" % m for m in range(max(1, n - 6), n + 1)} | {b"n": b"%d" % n}
                assert {key: reader.get(key)[0].value.payload for key in expected} == expected
            looks += n > before
            before = n
        assert list(reader.check()) == []
        connection.send((before, looks))


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[list[Connection]]:
    kvs.open(tmp_path / "store").space("s").replica().close()
    with ExitStack() as stack:
        yield [stack.enter_context(child(guarded, tmp_path / "store"))[1] for _ in range(2)]


def guarded(connection: Connection, path: Path) -> None:
    try:
        read_for_ever(connection, path)
    except BaseException as e:
        connection.send(AssertionError(f"{type(e).__name__}: {e}"))


@pytest.mark.timeout(600)
def test_readers_miss_nothing_and_see_nothing_twice_while_writers_fold_and_are_killed(
    tmp_path: Path, readers: list[Connection]
) -> None:
    rng, acknowledged, path, lives = random.Random(11), 0, tmp_path / "store", 0
    end_s = time.monotonic() + STRESS_S
    while time.monotonic() < end_s:
        with child(write_for_ever, path, rng.choice([0, 1000, 1 << 20])) as (process, connection):
            first = received(connection)
            assert first in (acknowledged + 1, acknowledged + 2), "a commit was lost, or a number given twice"
            time.sleep(rng.uniform(0, 0.2))  # the instant of the kill
            kill(process)
            acknowledged = max([first, *everything(connection)])
            lives += 1
    for connection in readers:
        connection.poll(DEADLINE_S + STRESS_S)
        seen, looks = received(connection)
        assert seen <= acknowledged + 1 and looks > 10
    with kvs.open(path).space("s").reader() as reader:
        assert acknowledged <= reader.vector[0] <= acknowledged + 1 and list(reader.check()) == []
        assert len(list(reader.log())) == reader.vector[0]
    assert lives > 3
