"""put, delete, merge, value, scan and snapshot: what each writes, refuses, and keeps."""

from __future__ import annotations

import gc
import os
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs.lattices import GCounter, GrowSet, Map, Max
from tests.kvs.support import child, received

KEEP_NOTHING = kvs.Settings(retain_bytes=0, retain_s=0.0)


@pytest.fixture
def pair(space: kvs.Space, opened: ExitStack) -> tuple[kvs.Replica, kvs.Replica]:
    return opened.enter_context(space.replica()), opened.enter_context(space.replica())


def test_put_and_delete_replace_what_is_shown(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, there = pair
    here.put(b"a", b"1")
    there.put(b"a", b"2")
    here.refresh()
    assert len(here.get(b"a")) == 2
    here.put(b"a", b"3")
    assert [version.value.payload for version in here.get(b"a")] == [b"3"]
    here.delete(b"a")
    there.refresh()
    assert here.get(b"a") == there.get(b"a") == ()


@pytest.mark.parametrize("key", [b"", b"\0", b"\xff" * 300, bytes(range(256)), "k\u00e9".encode("utf-16"), b"a/../b\n"])
def test_keys_are_any_bytes_and_values_may_be_empty(pair: tuple[kvs.Replica, kvs.Replica], key: bytes) -> None:
    here, there = pair
    here.put(key, b"")
    there.refresh()
    assert [version.value.payload for version in there.get(key)] == [b""] and there.keys() == [key]
    assert [found for found, _ in there.scan(key)] == [key]


def test_merges_of_writers_that_have_not_met_are_all_kept(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, there = pair
    assert here.value(b"s", GrowSet) == GrowSet()
    assert here.merge(b"s", GrowSet([1])) == GrowSet([1])
    assert there.merge(b"s", GrowSet([2])) == GrowSet([2])
    here.refresh(), there.refresh()
    assert here.value(b"s", GrowSet) == there.value(b"s", GrowSet) == GrowSet([1, 2])
    assert here.merge(b"s", GrowSet([3])) == GrowSet([1, 2, 3])
    there.refresh()
    assert there.value(b"s", GrowSet) == GrowSet([1, 2, 3]) and len(there.get(b"s")) == 1


def test_a_merge_that_says_nothing_new_publishes_nothing(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, _ = pair
    here.merge(b"m", Max(3))
    before = here.vector
    assert here.merge(b"m", Max(2)) == Max(3) and here.vector == before


@pytest.mark.parametrize(
    ("held", "delta", "why"),
    [
        (GrowSet([1]).encode(), Max(1), "a stored GrowSet"),
        (b"plain bytes", Max(1), "no lattice value"),
        (b"", Max(1), "no lattice value"),
        (Map({"a": GrowSet([1])}).encode(), Map({"a": Max(1)}), "does not join"),
        (Max(1).encode()[:-1], Max(1), "no lattice value"),
    ],
)
def test_a_value_of_another_type_is_refused_and_stays(
    pair: tuple[kvs.Replica, kvs.Replica], held: bytes, delta: Max | Map, why: str
) -> None:
    here, there = pair
    here.put(b"k", held)
    there.refresh()
    with pytest.raises(kvs.WrongLattice, match=rf"key b'k' .*{why}.*Use a key of its own"):
        there.merge(b"k", delta)
    here.refresh()
    assert [version.value.payload for version in here.get(b"k")] == [held]


def test_a_sibling_of_another_type_is_refused_and_not_dropped(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, there = pair
    here.merge(b"k", Max(1))
    there.merge(b"k", GrowSet([1]))
    here.refresh()
    with pytest.raises(kvs.WrongLattice):
        here.value(b"k", Max)
    assert len(here.get(b"k")) == 2


def count_up(connection: Connection, path: Path, times: int) -> None:
    with kvs.open(path).space("s").replica() as replica:
        for _ in range(times):
            replica.refresh()
            replica.merge(b"n", replica.value(b"n", GCounter).increment(replica.id + 1))
        connection.send(replica.id)


def test_no_increment_of_several_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with (
        kvs.open(path).space("s").replica(),
        child(count_up, path, 200) as (_, one),
        child(count_up, path, 200) as (_, two),
    ):
        assert received(one) != received(two)
    with kvs.open(path).space("s").reader() as reader:
        assert reader.value(b"n", GCounter).total() == 400


def test_a_scan_is_in_order_and_reads_one_key_at_a_time(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, _ = pair
    for n in (3, 1, 2, 20):
        here.put(b"k/%02d" % n, b"%d" % n)
    here.put(b"other", b"x")
    scan = here.scan(b"k/")
    assert next(scan)[0] == b"k/01"
    here.delete(b"k/03")
    assert [(key, versions[0].value.payload) for key, versions in scan] == [(b"k/02", b"2"), (b"k/20", b"20")]


def test_a_snapshot_stays_what_it_was(pair: tuple[kvs.Replica, kvs.Replica]) -> None:
    here, there = pair
    here.publish({b"a": kvs.Value(b"1"), b"b": kvs.Value(b"1"), b"gone": kvs.Value(b"1")})
    there.put(b"c", b"not joined yet")
    with here.snapshot() as snapshot:
        vector = here.vector
        here.publish({b"a": kvs.Value(b"2"), b"gone": None, b"new": kvs.Value(b"2")})
        here.refresh()
        shown = {key: versions[0].value.payload for key, versions in snapshot.scan()}
        assert shown == {b"a": b"1", b"b": b"1", b"gone": b"1"} and snapshot.keys() == sorted(shown)
        assert snapshot.vector == vector and snapshot.get(b"c") == () == snapshot.get(b"new")
        assert snapshot.dots(b"a") == (kvs.Dot(here.id, 1),)
        assert {key for key, _ in here.scan()} == {b"a", b"b", b"c", b"new"}


def test_no_collection_takes_what_a_snapshot_shows(tmp_path: Path, opened: ExitStack) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    here, there = opened.enter_context(space.replica()), opened.enter_context(space.reader())
    here.put(b"small", b"old")
    here.put(b"large", b"x" * 200_000)
    there.refresh()
    snapshots = [opened.enter_context(here.snapshot()), opened.enter_context(there.snapshot())]
    here.put(b"small", b"new")
    here.put(b"large", b"y")
    there.refresh()
    for held in (True, True, False):
        collected = here.collect(now_s=time.time() + 60)
        assert bool(collected.versions) is not held
        if held:
            for snapshot in snapshots:
                assert snapshot.get(b"small")[0].value.payload == b"old"
                assert len(snapshot.get(b"large")[0].value.payload) == 200_000
            snapshots.pop().close()
    assert collected.versions == 2 and collected.blobs == 1


def test_a_closed_snapshot_is_refused_and_a_forgotten_one_holds_nothing(space: kvs.Space, opened: ExitStack) -> None:
    replica = opened.enter_context(space.replica())
    replica.put(b"a", b"1")
    snapshot = replica.snapshot()
    snapshot.close()
    for read in (snapshot.keys, lambda: snapshot.get(b"a"), lambda: next(snapshot.scan())):
        with pytest.raises(kvs.KvsError, match="closed"):
            read()
    pins = len(os.listdir(f"{space.directory}/pins"))
    replica.snapshot()
    gc.collect()
    assert len(os.listdir(f"{space.directory}/pins")) == pins
