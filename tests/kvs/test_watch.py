"""A watch hears what other processes publish, sleeps meanwhile, and costs nobody anything."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import bell
from kvs.watch import Watch
from tests.kvs.support import DEADLINE_S, child, received

NO_LOOK_S = 1000.0
"""So that nothing but the bell wakes it."""


def watching(replica: kvs.Replica, prefix: bytes = b"", *, timeout_s: float = DEADLINE_S) -> Watch:
    watch = replica.watch(prefix, timeout_s=timeout_s)
    watch._look_again_s = NO_LOOK_S
    return watch


def publish_when_told(connection: Connection, path: Path, name: str) -> None:
    """For each message of keys, publish them from a lane of this process's own."""
    with kvs.open(path).space("s").replica() as replica:
        connection.send("ready")
        while keys := connection.recv():
            replica.publish({key: kvs.Value(name.encode()) for key in keys})
            connection.send(replica.id)


def test_a_watch_hears_of_every_process_and_of_what_it_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with (
        kvs.open(path).space("s").replica() as replica,
        child(publish_when_told, path, "one") as (_, one),
        watching(replica, b"plots/") as watch,  # the other process comes after it: a lane that is new to it
        child(publish_when_told, path, "two") as (_, two),
    ):
        assert received(one) == received(two) == "ready"
        for other, key in ((one, b"plots/1"), (two, b"plots/2"), (one, b"plots/1"), (two, b"plots/1")):
            other.send([key, b"else/" + key])
            change = next(watch)
            assert change.keys == {key}
            assert change.vector == replica.vector and len(replica.get(key)) >= 1
            assert received(other) in (1, 2)
        assert {version.value.payload for version in replica.get(b"plots/1")} == {b"one", b"two"}
        assert watch.is_told


def test_a_watch_of_named_keys_hears_of_those_alone(space: kvs.Space, opened: ExitStack) -> None:
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    watch = opened.enter_context(here.watch(keys=[b"a"], timeout_s=DEADLINE_S))
    there.publish({b"aa": kvs.Value(b"1"), b"a": kvs.Value(b"1"), b"b": kvs.Value(b"1")})
    assert next(watch).keys == {b"a"}


def test_what_comes_while_the_caller_is_busy_is_one_change(space: kvs.Space, opened: ExitStack) -> None:
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    watch = opened.enter_context(watching(here))
    for n in range(300):
        there.put(b"%d" % (n % 50), b"%d" % n)
    there.delete(b"7")
    assert next(watch).keys == {b"%d" % n for n in range(50)}
    assert here.vector == there.vector and here.get(b"7") == ()


def test_what_another_refresh_has_joined_is_heard_too(space: kvs.Space, opened: ExitStack) -> None:
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    watch = opened.enter_context(watching(here))
    there.put(b"a", b"1")
    assert here.refresh() == {b"a"}
    here.put(b"own", b"1")
    assert next(watch).keys == {b"a"}


def test_it_ends_when_nothing_came_in_time_and_sleeps_meanwhile(space: kvs.Space, opened: ExitStack) -> None:
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    there.put(b"before", b"1")
    here.refresh()
    looks, refresh = [0], here.refresh

    def counted() -> frozenset[bytes]:
        looks[0] += 1
        return refresh()

    here.refresh = counted  # type: ignore[method-assign]
    watch = watching(here, timeout_s=0.5)
    start_s, used_s = time.monotonic(), time.thread_time()
    assert list(watch) == []
    assert time.monotonic() - start_s >= 0.5
    assert looks[0] <= 3 and time.thread_time() - used_s < 0.2
    assert list(watch) == []  # once ended it stays so


def test_waiting_zero_seconds_is_one_look(space: kvs.Space, opened: ExitStack) -> None:
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    there.put(b"a", b"1")
    assert [change.keys for change in here.watch(timeout_s=0)] == [{b"a"}]


@pytest.mark.parametrize("end", ["watch", "replica"])
def test_closing_it_or_its_replica_ends_a_wait_of_another_thread(space: kvs.Space, end: str) -> None:
    replica = space.replica()
    watch, seen = watching(replica, timeout_s=300.0), list[object]()
    thread = threading.Thread(target=lambda: seen.extend(watch), daemon=True)
    thread.start()
    time.sleep(0.1)
    (watch if end == "watch" else replica).close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive() and seen == []
    replica.close()


def test_two_threads_may_not_share_one(space: kvs.Space, opened: ExitStack) -> None:
    replica = opened.enter_context(space.replica())
    watch = opened.enter_context(watching(replica, timeout_s=300.0))
    thread = threading.Thread(target=lambda: list(watch), daemon=True)
    thread.start()
    end_s = time.monotonic() + DEADLINE_S
    while not watch._iterating.locked():
        assert time.monotonic() < end_s
        time.sleep(0.01)
    with pytest.raises(kvs.KvsError, match="another thread"):
        next(watch)
    watch.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def watch_for_ever(connection: Connection, path: Path) -> None:
    with kvs.open(path).space("s").reader() as reader:
        watch = reader.watch(timeout_s=300.0)
        connection.send("ready")
        for change in watch:
            connection.send(sorted(change.keys))


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_watcher_that_dies_or_stops_costs_nobody_anything(tmp_path: Path, blow: signal.Signals) -> None:
    path = tmp_path / "store"
    with kvs.open(path).space("s").replica() as replica:
        replica.put(b"a", b"0")
        with child(watch_for_ever, path) as (process, connection):
            assert received(connection) == "ready"
            replica.put(b"a", b"1")
            assert received(connection) == [b"a"]
            assert process.pid is not None
            os.kill(process.pid, blow)
            start_s = time.monotonic()
            for n in range(200):
                replica.put(b"a", b"%d" % n)
            replica.sync()
            replica.collect(now_s=time.time())
            assert time.monotonic() - start_s < DEADLINE_S
            with watching(replica) as own, kvs.open(path).space("s").replica() as other:
                other.put(b"b", b"1")
                assert next(own).keys == {b"b"}


@pytest.mark.parametrize("missing", ["inotify", "an instance", "a watch"])
def test_where_the_system_does_not_tell_it_looks(
    space: kvs.Space, opened: ExitStack, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    class Libc:
        def inotify_init1(self, flags: int) -> int:
            if missing == "a watch":
                return int(libc.inotify_init1(flags))
            bell.ctypes.set_errno(errno.EMFILE)
            return -1

        def inotify_add_watch(self, *arguments: object) -> int:
            bell.ctypes.set_errno(errno.ENOSPC)
            return -1

    libc = bell._libc()
    monkeypatch.setattr(bell, "_libc", object if missing == "inotify" else Libc)
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.replica())
    watch = opened.enter_context(watching(here))
    timer = threading.Timer(0.2, there.put, (b"a", b"1"))
    timer.start()
    assert next(watch).keys == {b"a"} and not watch.is_told
    timer.join()


def test_a_space_that_is_deleted_meanwhile_is_told(space: kvs.Space, opened: ExitStack) -> None:
    replica = opened.enter_context(space.replica())
    replica.put(b"a", b"1")
    watch = opened.enter_context(replica.watch(timeout_s=DEADLINE_S))
    space.delete(force=True)
    with pytest.raises(kvs.StoreUnusable, match="was deleted"):
        next(watch)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_wait_without_a_deadline_is_refused(space: kvs.Space, opened: ExitStack, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        opened.enter_context(space.replica()).watch(timeout_s=seconds)


def test_a_closed_watch_leaves_no_descriptor(space: kvs.Space, opened: ExitStack) -> None:
    replica = opened.enter_context(space.replica())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert list(replica.watch(timeout_s=0)) == []
        replica.watch(timeout_s=0).close()
    assert len(os.listdir("/proc/self/fd")) == before
