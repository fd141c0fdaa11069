"""Collection frees what nobody can reach, and nothing else."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvs
from kvs import Value

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
