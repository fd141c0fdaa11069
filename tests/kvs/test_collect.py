"""Collection frees what nobody can reach, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvs
from kvs import Value
from tests.kvs.support import DEADLINE_S, child, kill, received

LATER_S = 10_000.0
KEEP_NOTHING = kvs.Settings(retain_bytes=0, inline_limit_bytes=50)


def blob_files(space: kvs.Space) -> list[Path]:
    return [path for path in Path(space.directory, "blobs").rglob("*") if path.is_file()]


def test_superseded_versions_and_their_blobs_go_when_they_are_old(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n, (replica.put_blob(b"%d" % n * 1000),))})
        assert replica.collect(now_s=time.time()) == kvs.Collected(0, 0, 0)
        assert replica.collect(now_s=time.time() + LATER_S) == kvs.Collected(2000, 2, 2)
        (version,) = replica.get(b"a")
        assert bytes(replica.open_blob(version.value.blobs[0])) == b"2" * 1000 and len(blob_files(space)) == 1


def test_versions_within_the_budget_stay(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", kvs.Settings(retain_bytes=2500)).space("s")
    with space.replica() as replica:
        for n in range(5):
            replica.publish({b"a": Value(b"%d" % n * 1000)})
        assert replica.collect(now_s=time.time() + LATER_S).versions == 2  # 4,000 bytes are old; 2,000 fit


def test_a_blob_that_is_not_yet_published_stays(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as writer, space.replica() as collector:
        ref = writer.put_blob(b"x" * 100)
        os.utime(blob_files(space)[0], (1, 1))
        assert writer.put_blob(b"x" * 100) == ref  # not written again, and wanted again
        assert collector.collect(now_s=time.time()).blobs == 0
        writer.publish({b"a": Value(b"", (ref,))})
        assert bytes(writer.open_blob(ref)) == b"x" * 100


def test_a_blob_of_a_lane_that_was_never_joined_stays(tmp_path: Path) -> None:
    """The collector had opened its view before the other lane was made."""
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as collector, space.replica() as writer:
        ref = writer.put_blob(b"x" * 100)
        writer.publish({b"a": Value(b"", (ref,))})
        collector.collect(now_s=time.time() + LATER_S)
        assert bytes(writer.open_blob(ref)) == b"x" * 100


def test_a_view_taken_just_before_a_write_stays_readable(tmp_path: Path) -> None:
    """The old version was written long ago, but it is superseded only since a moment."""
    now_ms = [1_000_000]
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica(clock=kvs.HybridClock(lambda: now_ms[0])) as writer:
        writer.publish({b"a": Value(b"old")})
        with space.reader() as reader:
            now_ms[0] += 3_600_000
            writer.publish({b"a": Value(b"new")})
            writer.collect(now_s=now_ms[0] / 1000 + 1)
            assert reader.get(b"a")[0].value.payload == b"old"
            writer.collect(now_s=now_ms[0] / 1000 + 61)
            reader.refresh()
            assert reader.get(b"a")[0].value.payload == b"new"


def test_temporary_files_of_killed_writers_go(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        left = Path(space.directory, "blobs", "tmp-1-abc")
        left.write_bytes(b"half of a blob")
        replica.collect(now_s=time.time())
        assert left.exists()  # its writer may live
        replica.collect(now_s=time.time() + LATER_S)
        assert not left.exists()


# -- other processes


def look(connection: Connection, path: Path) -> None:
    """Take a view, and read it each time when told to."""
    with kvs.open(path, KEEP_NOTHING).space("s").reader() as reader:
        connection.send("ready")
        while connection.poll(DEADLINE_S) and (order := connection.recv()) != "end":
            if order == "refresh":
                reader.refresh()
            try:
                (version,) = reader.get(b"a")
                connection.send((version.value.payload, bytes(reader.open_blob(version.value.blobs[0]))))
            except kvs.KvsError as e:
                connection.send(e)


def publish(replica: kvs.Replica, n: int) -> None:
    replica.publish({b"a": Value(b"%d" % n, (replica.put_blob(b"%d" % n * 1000),))})


def test_what_an_old_view_of_another_process_shows_stays_as_long_as_it_does(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with kvs.open(path, KEEP_NOTHING).space("s").replica() as writer:
        publish(writer, 1)
        with child(look, path) as (process, connection):
            assert received(connection) == "ready"
            for n in (2, 3):
                publish(writer, n)
            assert writer.collect(now_s=time.time() + LATER_S).versions == 0  # 2 is newer than what it shows
            connection.send("read")
            assert received(connection) == (b"1", b"1" * 1000)
            connection.send("refresh")
            assert received(connection) == (b"3", b"3" * 1000)
            assert writer.collect(now_s=time.time() + LATER_S) == kvs.Collected(2000, 2, 2)
            connection.send("read")
            assert received(connection) == (b"3", b"3" * 1000)
            connection.send("end")
            process.join(DEADLINE_S)
            assert process.exitcode == 0


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_reader_that_died_holds_nothing_and_a_frozen_one_stalls_nobody(tmp_path: Path, is_frozen: bool) -> None:
    path = tmp_path / "store"
    with kvs.open(path, KEEP_NOTHING).space("s").replica() as writer:
        publish(writer, 1)
        with child(look, path) as (process, connection):
            assert received(connection) == "ready"
            publish(writer, 2)
            if is_frozen:
                os.kill(process.pid or 0, signal.SIGSTOP)
            assert writer.collect(now_s=time.time() + LATER_S).versions == 0
            kill(process)
            assert writer.collect(now_s=time.time() + LATER_S) == kvs.Collected(1000, 1, 1)
        assert len(os.listdir(Path(kvs.open(path).space("s").directory, "pins"))) == 1  # the writer's own


def test_a_fork_of_a_reader_does_not_keep_its_view_alive(tmp_path: Path) -> None:
    path = tmp_path / "store"
    space = kvs.open(path, KEEP_NOTHING).space("s")
    with space.replica() as writer:
        publish(writer, 1)
        reader = space.reader()
        with child(look, path) as (_, connection):  # a fork that inherits the reader, and has a view of its own
            assert received(connection) == "ready"
            publish(writer, 2)
            connection.send("refresh")
            assert received(connection)[0] == b"2"
            assert writer.collect(now_s=time.time() + LATER_S).versions == 0
            reader.close()
            assert writer.collect(now_s=time.time() + LATER_S).versions == 1


def hold_a_blob(connection: Connection, path: Path) -> None:
    with kvs.open(path, KEEP_NOTHING).space("s").replica() as replica:
        ref = replica.put_blob(b"x" * 1000)
        connection.send(ref)
        connection.recv()
        replica.publish({b"b": Value(b"", (ref,))})
        connection.send(None)


def test_a_blob_of_a_writer_that_was_stopped_before_its_publish_stays_however_long(tmp_path: Path) -> None:
    """A minute after a laptop was closed in the middle of a publish, another process deleted its blob."""
    path = tmp_path / "store"
    space = kvs.open(path, KEEP_NOTHING).space("s")
    with space.replica() as collector, child(hold_a_blob, path) as (process, connection):
        ref = received(connection)
        os.kill(process.pid or 0, signal.SIGSTOP)
        assert collector.collect(now_s=time.time() + LATER_S).blobs == 0
        os.kill(process.pid or 0, signal.SIGCONT)
        connection.send("go on")
        assert received(connection) is None
        collector.refresh()
        assert collector.read_blob(collector.get(b"b")[0].value.blobs[0]) == b"x" * 1000
        kill(process)
        assert collector.collect(now_s=time.time() + LATER_S).blobs == 0 and collector.read_blob(ref)


def test_a_blob_that_a_collector_died_over_is_found_again_or_freed(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        wanted, unwanted = replica.put_blob(b"w" * 100), replica.put_blob(b"u" * 100)
        replica.publish({b"a": Value(b"")})
        for path in blob_files(space):  # as a collector leaves them that is killed in between
            path.rename(Path(space.directory, "blobs", f"tmp-doomed-{path.parent.name}{path.name}"))
        assert replica.read_blob(wanted) == b"w" * 100
        assert replica.put_blob(b"w" * 100) == wanted
        replica.publish({b"a": Value(b"", (wanted,))})
        replica.collect(now_s=time.time() + LATER_S)
        assert replica.read_blob(wanted) == b"w" * 100 and len(blob_files(space)) == 1
        with pytest.raises(kvs.BlobDamaged):
            replica.read_blob(unwanted)


def test_a_collection_and_a_compaction_give_space_back_to_the_file_system(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING._replace(inline_limit_bytes=65536)).space("s")
    with space.replica() as replica:
        for _ in range(30):
            replica.publish(
                {b"%d" % k: Value(os.urandom(5_000), (replica.put_blob(os.urandom(5_000)),)) for k in range(5)}
            )
        before = on_disk(space)
        replica.collect(now_s=time.time() + LATER_S)
        with space.reader() as reader:  # a reader at rest is in nobody's way
            replica.compact()
            assert len(reader.keys()) == 5 and list(reader.check()) == []
        live = 5 * 10_000
        assert before > 1_500_000 and live <= on_disk(space) < live + 200_000


def on_disk(space: kvs.Space) -> int:
    return sum(path.stat().st_blocks * 512 for path in Path(space.directory).rglob("*") if path.is_file())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_collection_never_frees_what_can_be_reached(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    space = kvs.open(tmp_path_factory.mktemp("collect") / "store", KEEP_NOTHING).space("s")
    with ExitStack() as stack:
        replicas = [stack.enter_context(space.replica()) for _ in range(2)]
        for step in range(data.draw(st.integers(1, 15))):
            replica = replicas[data.draw(st.integers(0, 1))]
            what = data.draw(st.sampled_from(["write", "write", "delete", "refresh", "collect"]))
            key = data.draw(st.sampled_from([b"x", b"y"]))
            if what == "write":
                body = b"%d" % data.draw(st.integers(0, 3)) * data.draw(st.sampled_from([1, 200]))
                blobs = tuple(replica.put_blob(body + b"%d" % n) for n in range(data.draw(st.integers(0, 2))))
                replica.publish({key: Value(body, blobs)}, note=b"%d" % step)
            elif what == "delete":
                replica.publish({key: None})
            elif what == "refresh":
                replica.refresh()
            else:
                replica.collect(now_s=time.time() + LATER_S)
                for other in [*replicas, stack.enter_context(space.reader())]:
                    other.refresh()
                    assert_reachable(other)
        shown = []
        for replica in replicas:
            replica.refresh()
            shown.append({key: replica.get(key) for key in (b"x", b"y")})
            replica.collect(now_s=time.time() + LATER_S)
        assert shown[0] == shown[1] == {key: replicas[0].get(key) for key in (b"x", b"y")}
        assert_reachable(replicas[0])


def assert_reachable(replica: kvs.Replica) -> None:
    for key in replica.keys(b""):
        for version in replica.get(key):
            for n, ref in enumerate(version.value.blobs):
                assert bytes(replica.open_blob(ref)) == version.value.payload + b"%d" % n
    assert list(replica.check()) == []
