"""Processes that die, freeze, fork and race: nothing acknowledged is lost, nothing is torn, nobody waits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value
from tests.kvs.support import DEADLINE_S, child, everything, kill, received, values

KEYS = [b"key %d" % n for n in range(10)]
KILLS = 60
STALL_S = 2.0
"""What SQLite waits for a lock; whoever would have to wait for a frozen writer would wait that long, time and again."""


def checksummed(n: int, key: bytes) -> Value:
    body = b"%d/%s/" % (n, key)
    return Value(body + bytes([sum(body) % 256]) * (n % 300))


def write_for_ever(connection: Connection, path: Path) -> None:
    """Publish the next number in ten keys at once, and acknowledge each commit."""
    with kvs.open(path).space("s").replica(owner={"what": "writer"}) as replica:
        n = int(replica.get(KEYS[0])[0].value.payload.split(b"/")[0]) if replica.get(KEYS[0]) else 0
        while True:
            n += 1
            replica.publish({key: checksummed(n, key) for key in KEYS})
            connection.send(n)


@pytest.mark.timeout(120)
def test_kill_9_tears_nothing_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng, acknowledged, path = random.Random(20), 0, tmp_path / "store"
    for _ in range(KILLS):
        with child(write_for_ever, path) as (process, connection):
            acknowledged = max(acknowledged, received(connection))
            time.sleep(rng.uniform(0, 0.03))  # the instant of the kill
            kill(process)
            acknowledged = max([acknowledged, *everything(connection)])
        with kvs.open(path).space("s").reader() as reader:
            n = int(reader.get(KEYS[0])[0].value.payload.split(b"/")[0])
            assert {key: reader.get(key)[0].value for key in KEYS} == {key: checksummed(n, key) for key in KEYS}
            assert acknowledged <= n <= acknowledged + 1
    assert [(lane.id, lane.held) for lane in kvs.open(path).space("s").lanes()] == [(0, False)]
    assert acknowledged > KILLS


def test_another_process_reads_while_the_writer_lives_and_after_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with child(write_for_ever, path) as (process, connection):
        received(connection)
        with kvs.open(path).space("s").reader() as reader:
            seen = reader.vector[0]
            assert seen >= 1
            while received(connection) <= seen:  # what was acknowledged before the reader came
                pass
            assert reader.refresh() == frozenset(KEYS) and reader.vector[0] > seen
            kill(process)  # the write-ahead log is left as it is
            reader.refresh()
            with kvs.open(path).space("s").reader() as late:
                assert values(late) == values(reader) and late.vector == reader.vector


def test_a_frozen_writer_stalls_nobody(tmp_path: Path) -> None:
    """The same beside a frozen writer, and on a copy of the store that nobody holds, which is what it takes anyway."""
    rng, path = random.Random(3), tmp_path / "live" / "store"
    beside_frozen_s = alone_s = 0.0
    with child(write_for_ever, path) as (process, connection), kvs.open(path).space("s").replica() as replica:
        received(connection)
        assert process.pid is not None
        for n in range(12):
            time.sleep(rng.uniform(0, 0.01))  # the instant of the stop
            os.kill(process.pid, signal.SIGSTOP)
            try:
                copy = shutil.copytree(path.parent, tmp_path / f"copy {n}") / "store"
                with kvs.open(copy).space("s").replica() as other:
                    alone_s += seconds_of_use(copy, other, n)
                beside_frozen_s += seconds_of_use(path, replica, n)
            finally:
                os.kill(process.pid, signal.SIGCONT)
            everything(connection)
    assert beside_frozen_s < 3 * alone_s + STALL_S


def seconds_of_use(path: Path, replica: kvs.Replica, n: int) -> float:
    start = time.monotonic()
    replica.refresh()
    replica.publish({b"mine": Value(b"%d" % n)})
    with kvs.open(path).space("s").reader() as reader:
        assert reader.get(b"mine")[0].value.payload == b"%d" % n
    with kvs.open(path).space("s").replica() as newcomer:
        newcomer.publish({b"theirs": Value(b"%d" % n)})
    return time.monotonic() - start


def publish_from_fork(connection: Connection, replica: kvs.Replica) -> None:
    try:
        replica.publish({b"child": Value(b"1")})
        connection.send("published")
    except kvs.KvsError as e:
        connection.send(type(e).__name__)


def test_a_fork_of_the_holder_is_refused_and_does_not_harm_the_holder(space: kvs.Space) -> None:
    """A fork that published took the holder's next number, after which every commit of the holder failed."""
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        with child(publish_from_fork, replica) as (_, connection):
            assert received(connection) == "LaneLost"
        replica.publish({b"a": Value(b"2")})
        assert values(replica) == {b"a": b"2"}
        assert [lane.held for lane in space.lanes()] == [True]


def read_in_fork(connection: Connection, space: kvs.Space) -> None:
    with space.reader() as reader:
        connection.send(values(reader))


def test_many_processes_read_at_once(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"%d" % n: Value(b"x" * n) for n in range(50)})
        with child(read_in_fork, space) as (_, one), child(read_in_fork, space) as (_, two):
            assert received(one) == received(two) == values(replica)


def create_at(connection: Connection, path: Path, start_s: float, name: str) -> None:
    time.sleep(max(0.0, start_s - time.monotonic()))  # all start together
    try:
        with kvs.open(path).space("s").replica() as replica:
            replica.publish({name.encode(): Value(b"1")})
        connection.send(None)
    except Exception as e:
        connection.send(e)


def test_processes_that_create_a_store_at_once_agree(tmp_path: Path) -> None:
    for attempt in range(8):
        path, start_s = tmp_path / f"store{attempt}", time.monotonic() + 0.05
        with (
            child(create_at, path, start_s, "a") as (_, a),
            child(create_at, path, start_s, "b") as (_, b),
            child(create_at, path, start_s, "c") as (_, c),
        ):
            assert [received(a), received(b), received(c)] == [None] * 3
        with kvs.open(path).space("s").reader() as reader:
            assert values(reader) == {b"a": b"1", b"b": b"1", b"c": b"1"}


def test_a_store_whose_creation_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "store"
    (path / "spaces").mkdir(parents=True)
    (path / ".FORMAT-123-abc").write_bytes(b"{")
    with kvs.open(path).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})


def test_a_lane_made_in_the_same_tick_of_the_clock_is_seen(space: kvs.Space) -> None:
    """File systems keep times in ticks: a second lane can leave the time of its directory as it was."""
    lanes = Path(space.directory, "lanes")
    with space.replica() as here:
        before = lanes.stat()
        with space.replica() as there:
            os.utime(lanes, ns=(before.st_atime_ns, before.st_mtime_ns))
            there.publish({b"a": Value(b"1")})
            assert here.refresh() == {b"a"}


def hold(connection: Connection, path: Path) -> None:
    with kvs.open(path).space("s").replica(owner={"what": "holder"}) as replica:
        replica.publish({b"a": Value(b"1")})
        connection.send(os.getpid())
        connection.poll(DEADLINE_S)


def test_a_held_space_is_not_deleted_unless_forced(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store").space("s")
    assert not space.exists() and space.lanes() == []
    with child(hold, tmp_path / "store") as (process, connection):
        pid = received(connection)
        with pytest.raises(kvs.SpaceHeld, match=f"process {pid}"):
            space.delete()
        assert space.lanes()[0].owner["what"] == "holder"
        kill(process)
    space.delete()
    assert not space.exists() and not Path(space.directory).exists()
    with space.replica() as replica:
        assert replica.keys() == [] and replica.vector == kvs.VersionVector()
    space.delete(force=True)
