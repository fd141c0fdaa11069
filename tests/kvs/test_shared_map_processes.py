"""Shared maps of processes that are killed, stopped and forked: what a join said is there, and nobody waits."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs.lattices import GCounter, Max
from tests.kvs.crashes import Steps, die
from tests.kvs.support import child, everything, kill, received

KILLS = 40
KEY = b"counts"


def count_for_ever(connection: Connection, path: Path) -> None:
    """Count in old entries and in new ones, and say after each how many it has counted."""
    with kvs.open(path).space("s").replica() as replica:
        shared, n = replica.shared_map(KEY, GCounter), 0
        while True:
            shared.add(f"{os.getpid()}/{n // 10}")
            n += 1
            connection.send(n)


def test_kill_9_loses_nothing_that_was_counted_and_counts_nothing_twice(tmp_path: Path) -> None:
    rng, path, total = random.Random(8), tmp_path / "store", 0
    for _ in range(KILLS):
        with child(count_for_ever, path) as (process, connection):
            said = received(connection)
            time.sleep(rng.uniform(0, 0.02))  # the instant of the kill
            kill(process)
            said = max([said, *everything(connection)])
        with kvs.open(path).space("s").reader() as reader:
            now = sum(reader.shared_map(KEY, GCounter).numbers().values())
        assert total + said <= now <= total + said + 1
        total = now
    with kvs.open(path).space("s").replica() as replica:
        assert sum(counter.total() for _, counter in replica.shared_map(KEY, GCounter).publish().items()) == total


def one_life(connection: Connection, path: Path, at: int) -> None:
    """Make or open a map, and make it grow several times; killed before the system call `at`."""
    told = os.write
    steps = Steps(at, die)
    steps.watch()
    with kvs.open(path).space("s").replica() as replica:
        shared = replica.shared_map(KEY, GCounter)
        for n in range(400):
            shared.add(n)
            told(connection.fileno(), b"1")
    told(connection.fileno(), b"." * steps.count)


def test_a_kill_before_any_system_call_of_a_map_that_grows_loses_nothing(tmp_path: Path) -> None:
    def lived(path: Path, at: int) -> tuple[int, int]:
        with child(one_life, path, at) as (process, connection):
            text = b""
            while chunk := os.read(connection.fileno(), 65536):
                text += chunk
            process.join()
        return text.count(b"1"), text.count(b".")

    _, steps = lived(tmp_path / "whole", 0)
    assert steps > 30, "this kills at no step"
    for at in range(1, steps, 3):
        path = tmp_path / "store"
        said, _ = lived(path, at)
        if (path / "FORMAT").exists() and kvs.open(path).space("s").exists():
            with kvs.open(path).space("s").reader() as reader:
                shown = reader.shared_map(KEY, GCounter).numbers()
            assert said <= sum(shown.values()) <= said + 1 and set(shown.values()) <= {1}
        else:
            assert said == 0
        assert lived(path, 0)[0] == 400, "the next one finds something in its way"
        shutil.rmtree(path, ignore_errors=True)
        (tmp_path / "store.key").unlink(missing_ok=True)


def count(connection: Connection, path: Path, times: int) -> None:
    with kvs.open(path).space("s").replica() as replica:
        shared = replica.shared_map(KEY, GCounter)
        for n in range(times):
            shared.add(n % 5)
    connection.send("done")


def test_processes_that_count_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with (
        child(count, path, 20_000) as (_, one),
        child(count, path, 20_000) as (_, two),
        child(count, path, 20_000) as (_, three),
    ):
        with kvs.open(path).space("s").replica() as replica:
            shared, before = replica.shared_map(KEY, GCounter), 0
            while before < 60_000:
                now = sum(shared.numbers().values())
                assert now >= before, "a reader saw a count go down"
                before = now
        for connection in (one, two, three):
            assert received(connection) == "done"
    assert before == 60_000


def test_a_writer_that_is_stopped_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with child(count_for_ever, path) as (process, connection):
        received(connection)
        for _ in range(20):
            os.kill(process.pid or 0, signal.SIGSTOP)
            with kvs.open(path).space("s").replica() as replica:
                shared = replica.shared_map(KEY, GCounter)
                before = shared.get("mine", 0) or 0
                shared.add("mine")
                assert shared.get("mine") == before + 1
                assert any(str(process.pid) in str(key) for key in shared.numbers())
            os.kill(process.pid or 0, signal.SIGCONT)
            received(connection)


def test_a_fork_reads_on_and_does_not_write_its_parents_lane(tmp_path: Path) -> None:
    with kvs.open(tmp_path / "store").space("s").replica() as replica:
        shared = replica.shared_map(b"best", Max)
        shared.join("x", 1)

        def forked(connection: Connection) -> None:
            try:
                shared.join("x", 9)
            except kvs.LaneLost as e:
                connection.send(str(e))
            while (now := shared.get("x")) != 2:
                time.sleep(0.001)  # until the parent's join, or until the test ends us
            connection.send(now)
            while len(shared) < 500:
                time.sleep(0.001)
            connection.send(sum(shared.numbers().values()))

        with child(forked) as (_, connection):
            assert "fork" in received(connection)
            shared.join("x", 2)
            assert received(connection) == 2
            for n in range(499):
                shared.join(n, n)
            assert received(connection) == 2 + sum(range(499))
        assert shared.get("x") == 2
        shared.close()
        assert replica.delete_shared_map(b"best"), "the fork has kept the lock"


def join_under_limit(connection: Connection, path: Path) -> None:
    """Join until no file may grow, then go on without the limit."""
    with kvs.open(path).space("s").replica() as replica:
        shared = replica.shared_map(b"best", Max)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
        n = 0
        try:
            for n in range(10_000):
                shared.join(n, n)
        except kvs.StoreFull:
            connection.send(n)
        shared.join(0, 77)
        connection.send(shared.numbers())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        shared.join("after", 1)
        connection.send(shared.get("after"))


def test_a_file_that_may_not_grow_fails_the_join_and_nothing_else(tmp_path: Path) -> None:
    with child(join_under_limit, tmp_path / "store") as (_, connection):
        n = received(connection)
        assert n > 64
        assert received(connection) == {at: at for at in range(n)} | {0: 77}
        assert received(connection) == 1


@pytest.mark.parametrize("seed", range(3))
def test_whoever_makes_a_map_first_there_is_one(tmp_path: Path, seed: int) -> None:
    """Several processes make the store, the space and the map at once."""
    del seed
    path = tmp_path / "store"
    with (
        child(count, path, 10) as (_, one),
        child(count, path, 10) as (_, two),
        child(count, path, 10) as (_, three),
    ):
        assert [received(connection) for connection in (one, two, three)] == ["done"] * 3
    with kvs.open(path).space("s").reader() as reader:
        assert reader.shared_map(KEY, GCounter).numbers() == dict.fromkeys(range(5), 6)
