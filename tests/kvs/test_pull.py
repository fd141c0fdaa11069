"""Machines that share a cold tier and write at the same time: what one pushes, the others join."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value, seal
from kvs.lattices import GrowSet
from kvs.mirror import Mirror
from kvs.pull import Puller
from kvs.tiers.memory import MemoryPlace, MemoryTier
from kvs.tiers.protocol import Place
from tests.kvs.s3_server import Proxy
from tests.kvs.support import DEADLINE_S, child, kill, received, values

Machine = Callable[[str], kvs.Space]


def machine_of(tmp_path: Path, cold: str | Place) -> Machine:
    """Spaces named s, each of a store of its own directory and one key; the first that is asked for makes the key."""

    def space(name: str) -> kvs.Space:
        path, keys = tmp_path / name / "store", sorted(tmp_path.glob("*/store.key"))
        if keys and not Path(f"{path}.key").exists():
            path.parent.mkdir(exist_ok=True)
            shutil.copy(keys[0], f"{path}.key")
        path.parent.mkdir(exist_ok=True)
        return kvs.open(path, cold=cold).space("s")

    return space


@pytest.fixture
def cold() -> MemoryPlace:
    return MemoryPlace()


@pytest.fixture
def machine(tmp_path: Path, cold: MemoryPlace) -> Machine:
    return machine_of(tmp_path, cold)


def tier_of(cold: MemoryPlace) -> MemoryTier:
    return cold.space(seal.name_hash("s"))


def test_two_machines_that_write_through_s3_meet(
    tmp_path: Path, bucket_name: str, s3: Proxy, opened: ExitStack
) -> None:
    machine, large = machine_of(tmp_path, f"s3://{bucket_name}/team"), os.urandom(100_000)
    here, there = machine("here"), machine("there")
    one, two = opened.enter_context(here.replica()), opened.enter_context(there.replica())
    one.put(b"a", b"1")
    two.publish({b"b": Value(large), b"a": Value(b"2")})
    for replica in (one, two):
        replica.sync("object")
    s3.seen.clear()
    assert here.pull() == there.pull() == (1, 0)
    assert not any("/blobs/" in path for _, path, _ in s3.seen)
    for replica in (one, two):
        replica.refresh()
    assert values(one) == values(two) and values(one)[b"b"] == large
    assert {v.value.payload for v in one.get(b"a")} == {b"1", b"2"}
    one.put(b"a", b"3")  # has seen both
    one.sync("object")
    assert there.pull().commits == 1 and two.refresh() == {b"a"}
    assert [v.value.payload for v in two.get(b"a")] == [b"3"]
    assert list(one.check()) == list(two.check()) == []


def test_a_pull_without_news_is_one_request(tmp_path: Path, bucket_name: str, s3: Proxy, opened: ExitStack) -> None:
    machine = machine_of(tmp_path, f"s3://{bucket_name}")
    one = opened.enter_context(machine("here").replica())
    there = machine("there")
    opened.enter_context(there.replica())
    puller = there._puller()
    one.put(b"a", b"1")
    one.sync("object")
    assert puller.pull().commits == 1
    s3.seen.clear()
    assert puller.pull() == (0, 0) and [method for method, *_ in s3.seen] == ["GET"]


def test_a_third_machine_never_sees_a_reply_without_what_it_replies_to(
    machine: Machine, cold: MemoryPlace, opened: ExitStack
) -> None:
    here, there, third = machine("here"), machine("there"), machine("third")
    one, two = opened.enter_context(here.replica()), opened.enter_context(there.replica())
    again, reader = opened.enter_context(here.replica()), opened.enter_context(third.replica())
    one.put(b"question", b"?")
    again.refresh()
    again.put(b"answer", b"!")
    tier = tier_of(cold)
    mirror = Mirror(here.directory, here._key, tier)
    assert {one.id, again.id} <= set(mirror._lanes())
    assert len(list(mirror._push_lane(again.id, tier, time.monotonic() + DEADLINE_S))) == 1  # and is killed there
    assert third.pull() == (0, 1)
    assert reader.refresh() == frozenset() and reader.keys() == []
    one.sync("object")
    assert third.pull() == (2, 0)
    assert reader.refresh() == {b"question", b"answer"} and list(reader.check()) == []
    assert there.pull() == (2, 0) and two.refresh() == {b"question", b"answer"}


def test_what_will_never_come_can_be_done_without(machine: Machine, cold: MemoryPlace, opened: ExitStack) -> None:
    here, there = machine("here"), machine("there")
    one, again = opened.enter_context(here.replica()), opened.enter_context(here.replica())
    reader = opened.enter_context(there.replica())
    one.put(b"lost", b"?")
    again.refresh()
    for n in range(3):
        again.put(b"kept", b"%d" % n)
    list(Mirror(here.directory, here._key, tier_of(cold))._push_lane(again.id, tier_of(cold), time.monotonic() + 60))
    assert there.pull() == (0, 1) == there.pull()
    assert there.pull(accept_gaps=True) == (3, 0)
    assert reader.refresh() == {b"kept"} and reader.get(b"kept")[0].value.payload == b"2"


def test_a_planted_record_is_refused_and_what_came_before_stays(
    machine: Machine, cold: MemoryPlace, opened: ExitStack
) -> None:
    here, there = machine("here"), machine("there")
    one, two = opened.enter_context(here.replica()), opened.enter_context(there.replica())
    beside = opened.enter_context(here.replica())
    for n in range(3):
        one.put(b"a", b"%d" % n)
    beside.put(b"b", b"beside")
    one.sync("object")
    lane = tier_of(cold)._lanes[one.id]
    good, lane[1] = lane[1], lane[1]._replace(rows=(lane[1].rows[0]._replace(payload=b"planted"),))
    with pytest.raises(kvs.NotAuthentic, match=rf"commit {one.id}\.2"):
        there.pull()
    two.refresh()
    assert values(two) == {b"a": b"0", b"b": b"beside"}
    lane[1] = good
    assert there.pull().commits == 2 and two.refresh() and values(two) == {b"a": b"2", b"b": b"beside"}


def test_own_lanes_are_not_pulled_and_a_new_replica_takes_none_of_others(machine: Machine, opened: ExitStack) -> None:
    here, there = machine("here"), machine("there")
    replicas = [opened.enter_context(space.replica()) for space in (here, here, there, there)]
    for replica in replicas:
        replica.put(b"%d" % replica.id, b"x")
        replica.sync("object")
    assert here.pull() == there.pull() == (2, 0)
    for space in (here, there):
        newcomer = opened.enter_context(space.replica())
        newcomer.put(b"%d" % newcomer.id, b"x")
        newcomer.sync("object")
        replicas.append(newcomer)
    assert len({replica.id for replica in replicas}) == 6
    here.pull(), there.pull()
    for replica in replicas:
        replica.refresh()
        assert len(replica.keys()) == 6


def test_pulls_at_once_join_the_same_once(machine: Machine, opened: ExitStack) -> None:
    here, there = machine("here"), machine("there")
    one, two = opened.enter_context(here.replica()), opened.enter_context(there.replica())
    for n in range(100):
        one.put(b"%d" % (n % 7), b"%d" % n)
    one.sync("object")
    results: list[object] = []

    def pull() -> None:
        try:
            results.append(there.pull().commits)
        except BaseException as e:  # shown below
            results.append(e)

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sum(n for n in results if isinstance(n, int)) == 100 and len(results) == 4, results
    one.refresh(), two.refresh()
    assert values(one) == values(two) and list(two.check()) == []


def live_on(connection: Connection, path: Path, url: str, name: str) -> None:
    """A machine: its own store, a mirror that pushes and pulls, and merges until somebody kills it."""
    space = kvs.open(path, cold=url).space("s")
    with space.replica() as replica, space.mirror(every_s=0.02, pull=True):
        for n in range(100_000):
            replica.refresh()
            replica.merge(b"n", GrowSet([f"{name}:{n}"]))
            replica.sync("object")
            connection.send(f"{name}:{n}")


@pytest.mark.timeout(180)
def test_machines_that_are_killed_lose_nothing_that_reached_the_tier(
    tmp_path: Path, bucket_name: str, s3: Proxy
) -> None:
    url, said = f"s3://{bucket_name}", set[str]()
    machine = machine_of(tmp_path, url)
    machine("0"), machine("1")
    for life in range(3):
        with (
            child(live_on, tmp_path / "0/store", url, f"0.{life}") as (one, a),
            child(live_on, tmp_path / "1/store", url, f"1.{life}") as (two, b),
        ):
            said |= {received(a), received(b)}
            time.sleep(0.2)  # the instant of the kills
            kill(one), kill(two)
            for connection in (a, b):
                while connection.poll(0):
                    try:
                        said.add(connection.recv())
                    except EOFError:
                        break
    shown = []
    for name in ("0", "1", "fresh"):
        space = machine(name)
        with space.replica() as replica:
            replica.sync("object")
        while name != "fresh" and Puller(space.directory, space._key, space._cold_tier()).pull().commits:
            pass
    for name in ("0", "1", "fresh"):
        space = machine(name)
        space.pull()
        with space.reader() as reader:
            shown.append(set(reader.value(b"n", GrowSet)))
            assert list(reader.check()) == []
    assert said <= shown[0] and shown[0] == shown[1] == shown[2] and len(said) >= 6


def test_a_mirror_that_pulls_wakes_a_watch(machine: Machine, opened: ExitStack) -> None:
    here, there = machine("here"), machine("there")
    one, two = opened.enter_context(here.replica()), opened.enter_context(there.replica())
    opened.enter_context(there.mirror(every_s=0.02, pull=True))
    watch = opened.enter_context(two.watch(timeout_s=DEADLINE_S))
    one.put(b"a", b"1")
    one.sync("object")
    assert next(watch).keys == {b"a"}


def test_a_space_without_a_cold_tier_says_so(space: kvs.Space) -> None:
    with pytest.raises(kvs.StoreUnusable, match='Open the store with cold="s3'):
        space.pull()
