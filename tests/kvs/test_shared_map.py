"""Shared maps: what several replicas join is what the lattice says, at once, and nothing to catch up with."""

from __future__ import annotations

import math
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import kvs
from kvs import lattices
from kvs.lattices import GCounter, GrowSet, Map, Max, Min, OutsideDomain, PNCounter
from kvs.shared import SharedMap

KEY = b"best"
KINDS: list[tuple[type[lattices.Lattice], type[float]]] = [
    (Max, int),
    (Max, float),
    (Min, int),
    (Min, float),
    (GCounter, int),
    (PNCounter, int),
]


@pytest.fixture(params=["numpy", "alone"])
def with_or_without_numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        pytest.importorskip("numpy")
    else:
        monkeypatch.setitem(sys.modules, "numpy", None)


@pytest.fixture
def replicas(space: kvs.Space, opened: ExitStack) -> list[kvs.Replica]:
    return [opened.enter_context(space.replica()) for _ in range(3)]


def drawn(rng: random.Random, number: type[float]) -> float:
    edges = [0, 1, -1, 2**63 - 1, 1 - 2**63, 2**53 + 1, 2**53]
    if number is int:
        return rng.choice([*edges, rng.randrange(-1000, 1000)])
    return rng.choice([0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324, 1.5, -1.5, sys.float_info.max, rng.gauss(0, 1)])


def read(value: lattices.Lattice) -> Any:
    return value.body() if isinstance(value, Max | Min) else value.total()  # type: ignore[attr-defined]


# -- what it says


@pytest.mark.usefixtures("with_or_without_numpy")
@pytest.mark.parametrize(("lattice", "number"), KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_map_says_what_the_lattice_says_whoever_joins_and_whoever_reads(
    replicas: list[kvs.Replica], lattice: type[Any], number: type[float], seed: int
) -> None:
    rng = random.Random(seed)
    maps = [replica.shared_map(KEY, lattice, number) for replica in replicas]
    expected: dict[Any, Any] = {}
    keys = [1, "1", b"1", None, (1, "a"), (), ((b"",),), "", -1, 2**80, *range(2, rng.choice([5, 150]))]
    for _ in range(rng.choice([30, 800])):
        by, key = rng.randrange(3), rng.choice(keys)
        ident = (type(key), key)
        before = expected.get(ident, lattice())
        if lattice in (Max, Min):
            said = drawn(rng, number)
            maps[by].join(key, said)
            expected[ident] = before | lattice(said)
        elif lattice is PNCounter and rng.random() < 0.4:
            maps[by].add(key, -7)
            expected[ident] = before | before.decrement(by, 7)
        else:
            maps[by].add(key, 3)
            expected[ident] = before | before.increment(by, 3)
        if rng.random() < 0.05:
            assert maps[rng.randrange(3)].get(key) == read(expected[ident])
    for shared in maps:
        found = {(type(key), key): said for key, said in shared.numbers().items()}
        assert (
            found
            == {ident: read(value) for ident, value in expected.items()}
            == {(type(key), key): read(value) for key, value in shared.value().items()}
        )
        assert [repr(found[i]) for i in expected] == [repr(read(v)) for v in expected.values()]  # 0.0 is not -0.0
        assert len(shared) == len(expected)


def test_a_replica_has_one_map_of_a_key(replicas: list[kvs.Replica]) -> None:
    """Two would write the same file, and each would overwrite what the other has entered."""
    one, same = replicas[0].shared_map(KEY, Max), replicas[0].shared_map(KEY, Max)
    for n in range(200):
        (one, same)[n % 2].join(n, n)
    assert one is same and replicas[1].shared_map(KEY, Max).numbers() == {n: n for n in range(200)}
    with pytest.raises(OutsideDomain, match="max int"):
        replicas[0].shared_map(KEY, Min)
    one.close()
    assert replicas[0].shared_map(KEY, Max).get(7) == 7


def test_others_see_a_join_at_once_without_refresh(replicas: list[kvs.Replica]) -> None:
    ada, bob, _ = (replica.shared_map(KEY, Max) for replica in replicas)
    assert bob.get("x") is None and "x" not in bob
    assert ada.join("x", 3)
    assert bob.get("x") == 3 and "x" in bob
    assert not ada.join("x", 2)
    assert bob.join("x", 2), "what others have said is not what this writer has said"
    assert ada.get("x") == 3


def test_a_map_that_grows_is_followed_by_who_has_it_open(replicas: list[kvs.Replica]) -> None:
    ada, bob, _ = (replica.shared_map(KEY, GCounter) for replica in replicas)
    names = [f"{n}-" + "n" * (n % 500) for n in range(3000)]
    for at, name in enumerate(names):
        ada.add(name, at + 1)
        if at % 500 == 0:
            assert bob.get(name) == at + 1
    assert bob.numbers() == {name: at + 1 for at, name in enumerate(names)}
    ada.add(names[0])
    assert bob.get(names[0]) == 2


def test_threads_of_a_process_lose_nothing_of_each_other(replicas: list[kvs.Replica]) -> None:
    counts, best = replicas[0].shared_map(b"counts", GCounter), replicas[0].shared_map(b"best", Max)

    def work(first: int) -> None:
        for n in range(3000):
            counts.add(n % 7)
            best.join("one", first + n)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10, 5, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sum(counts.numbers().values()) == 12000
    assert best.get("one") == 3009


# -- with the rest of the store


def test_published_it_is_a_value_like_any_other(space: kvs.Space, replicas: list[kvs.Replica]) -> None:
    ada, bob = (replica.shared_map(KEY, PNCounter) for replica in replicas[:2])
    ada.add("x", 5)
    bob.add("x", -2)
    assert replicas[2].get(KEY) == ()
    assert ada.publish().at("x").total() == 3
    replicas[2].refresh()
    assert replicas[2].value(KEY, Map).at("x").total() == 3
    vector = replicas[0].vector
    assert ada.publish().at("x").total() == 3
    assert replicas[0].vector == vector, "nothing new was published anew"
    with replicas[2].snapshot() as before:
        bob.add("x", 10)
        replicas[1].refresh()
        bob.publish()
        replicas[2].refresh()
        assert Map.decode(before.get(KEY)[0].value.payload).at("x").total() == 3
        assert replicas[2].value(KEY, Map).at("x").total() == 13


def test_what_others_published_of_it_is_read_too(space: kvs.Space, replicas: list[kvs.Replica]) -> None:
    """Another machine's writers have no file here."""
    replicas[0].merge(KEY, Map({"x": GCounter([(77, 5)]), "y": GCounter([(77, 1), (78, 2)])}))
    shared = replicas[0].shared_map(KEY, GCounter)
    shared.add("x", 2)
    assert shared.numbers() == {"x": 7, "y": 3} and shared.get("y") == 3
    assert shared.publish().at("x").total() == 7


def test_the_next_holder_of_a_lane_goes_on_counting(space: kvs.Space) -> None:
    for expected in (2, 4, 6):
        with space.replica() as replica:
            shared = replica.shared_map(KEY, GCounter)
            shared.add("x")
            shared.add("x")
            assert shared.get("x") == expected
            assert len(list(shared.value().at("x"))) == 1


def file_of(space: kvs.Space, lane: int) -> Path:
    return next(Path(space.directory, "shared").glob(f"*/{lane}"))


def test_a_file_that_is_lost_or_set_back_after_a_publish_counts_nothing_twice(space: kvs.Space) -> None:
    """As a power loss may leave it: what was published and flushed is there, the file is older or gone."""
    with space.replica() as replica:
        shared = replica.shared_map(KEY, GCounter)
        shared.add("x", 5)
        old = file_of(space, 0).read_bytes()
        shared.add("x", 5)
        shared.add("y")
        shared.publish()
    file_of(space, 0).write_bytes(old)
    with space.reader() as reader:
        assert reader.shared_map(KEY, GCounter).numbers() == {"x": 10, "y": 1}
    with space.replica() as replica:
        shared = replica.shared_map(KEY, GCounter)
        assert shared.numbers() == {"x": 10, "y": 1}
        shared.add("x", 1)
        assert shared.publish().at("x").total() == 11
    file_of(space, 0).unlink()
    with space.replica() as replica:
        shared = replica.shared_map(KEY, GCounter)
        shared.add("x", 1)
        assert shared.numbers() == {"x": 12, "y": 1}
        assert shared.publish().at("x").total() == 12


def test_a_reader_reads_and_does_not_join(space: kvs.Space, replicas: list[kvs.Replica]) -> None:
    replicas[0].shared_map(KEY, Min, float).join("loss", 0.5)
    with space.reader() as reader:
        shared = reader.shared_map(KEY, Min, float)
        assert shared.numbers() == {"loss": 0.5}
        with pytest.raises(kvs.ReadOnlyReplica):
            shared.join("loss", 0.1)
        with pytest.raises(kvs.ReadOnlyReplica):
            shared.publish()


def test_a_map_ends_with_its_replica(space: kvs.Space, replicas: list[kvs.Replica]) -> None:
    shared = replicas[0].shared_map(KEY, Max)
    shared.join("x", 1)
    replicas[0].close()
    with pytest.raises(kvs.LaneLost, match="closed"):
        shared.join("x", 2)
    with pytest.raises(kvs.KvsError, match="Open it anew"):
        shared.get("x")
    assert "closed" in repr(shared)
    assert replicas[1].shared_map(KEY, Max).get("x") == 1


def test_a_map_is_deleted_when_nobody_has_it_open(replicas: list[kvs.Replica]) -> None:
    shared = replicas[0].shared_map(KEY, Max)
    shared.join("x", 1)
    with pytest.raises(kvs.StoreUnusable, match="has the map open"):
        replicas[1].delete_shared_map(KEY)
    assert shared.get("x") == 1
    shared.close()
    assert replicas[1].delete_shared_map(KEY) and not replicas[1].delete_shared_map(KEY)
    assert replicas[1].shared_map(KEY, Min).numbers() == {}


def test_a_map_that_is_dropped_leaves_no_file_open(replicas: list[kvs.Replica]) -> None:
    replicas[0].shared_map(KEY, Max).join("x", 1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        replicas[0].shared_map(KEY, Max).join("x", 1)
    assert len(os.listdir("/proc/self/fd")) <= before


# -- bad input


@pytest.mark.parametrize(
    ("lattice", "number", "bad"),
    [
        (Max, int, 1.5),
        (Max, int, True),
        (Max, int, 2**63),
        (Max, int, -(2**63)),
        (Max, float, math.nan),
        (Max, float, "1"),
        (Min, float, None),
        (GCounter, int, 1.0),
        (GCounter, int, -1),
        (PNCounter, int, 2**63),
    ],
)
def test_a_number_that_fits_no_slot_is_refused(
    replicas: list[kvs.Replica], lattice: type[Any], number: type[float], bad: Any
) -> None:
    shared = replicas[0].shared_map(KEY, lattice, number)
    verb: Callable[..., object] = shared.join if lattice in (Max, Min) else shared.add
    with pytest.raises(OutsideDomain):
        verb("x", bad)
    assert shared.numbers() == {}


def test_each_kind_has_its_own_verb(replicas: list[kvs.Replica]) -> None:
    with pytest.raises(OutsideDomain, match="Use `add`"):
        replicas[0].shared_map(b"a", GCounter).join("x", 1)
    with pytest.raises(OutsideDomain, match="Use `join`"):
        replicas[0].shared_map(b"b", Max).add("x", 1)


@pytest.mark.parametrize("key", [math.nan, 1.0, True, (1, 1.0), [1], object(), "k" * 70_000])
def test_a_key_that_no_lattice_takes_is_refused(replicas: list[kvs.Replica], key: Any) -> None:
    shared = replicas[0].shared_map(KEY, Max)
    with pytest.raises(OutsideDomain):
        shared.join(key, 1)
    assert shared.numbers() == {}


def test_a_map_has_one_kind(replicas: list[kvs.Replica]) -> None:
    replicas[0].shared_map(KEY, Max).join("x", 1)
    with pytest.raises(OutsideDomain, match="max int"):
        replicas[1].shared_map(KEY, Max, float)
    with pytest.raises(OutsideDomain, match="cannot lie in shared memory"):
        replicas[1].shared_map(b"other", GrowSet)
    replicas[1].put(b"plain", b"no lattice")
    with pytest.raises(kvs.WrongLattice):
        replicas[1].shared_map(b"plain", Max)
    replicas[1].merge(b"sets", Map({"x": GrowSet([1])}))
    with pytest.raises(OutsideDomain, match="GrowSet"):
        replicas[1].shared_map(b"sets", Max)


# -- damage


@pytest.fixture
def left(space: kvs.Space) -> Iterator[tuple[Path, Path]]:
    """Two lanes of a map whose holders are gone."""
    with space.replica() as one, space.replica() as other:
        maps = [replica.shared_map(KEY, Max) for replica in (one, other)]
        for n in range(100):
            maps[n % 2].join(n, n)
    yield file_of(space, 0), file_of(space, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[: len(data) // 2],
        lambda data: b"XXXX" + data[4:],
        lambda data: data[:10] + b"\xff" + data[11:],
        lambda data: data[:64] + b"\xff" * 8 + data[72:],
        lambda data: data[: 128 + 64 * 8 + 20] + b"\xff" + data[128 + 64 * 8 + 21 :],
    ],
)
def test_a_damaged_file_is_named_and_costs_its_own_lane_alone(
    space: kvs.Space, left: tuple[Path, Path], damage: Callable[[bytes], bytes]
) -> None:
    left[1].write_bytes(damage(left[1].read_bytes()))
    with space.reader() as reader, pytest.warns(kvs.DamageWarning, match="lane 1"):
        assert reader.shared_map(KEY, Max).numbers() == {n: n for n in range(0, 100, 2)}
    with space.replica() as one, space.replica() as other, pytest.warns(kvs.DamageWarning, match="damaged"):
        assert other.shared_map(KEY, Max).join(1, 5)
        assert one.shared_map(KEY, Max).numbers() == {n: n for n in range(0, 100, 2)} | {1: 5}
    assert [path.name for path in left[1].parent.iterdir() if ".damaged-" in path.name]


def test_a_damaged_table_is_named(space: kvs.Space, left: tuple[Path, Path], opened: ExitStack) -> None:
    table = left[0].with_name("table")
    good = table.read_bytes()
    replica = opened.enter_context(space.replica())
    for bad in (b"", good[:80], b"X" + good[1:]):
        table.write_bytes(bad)
        with pytest.raises(kvs.StoreDamaged, match="table"):
            replica.shared_map(KEY, Max)
    table.write_bytes(good)
    assert len(replica.shared_map(KEY, Max)) == 100


def test_check_names_what_is_damaged_and_repair_moves_it_aside(space: kvs.Space, left: tuple[Path, Path]) -> None:
    table = left[0].with_name("table")
    good = left[1].read_bytes()
    left[1].write_bytes(good[:-100] + b"x" * 100)
    left[0].write_bytes(left[0].read_bytes()[:200])
    with space.reader() as reader:
        assert [str(left[0]) in line for line in reader.check()] == [True], "names that are not used are not damaged"
    left[1].write_bytes(b"")
    with space.reader() as reader:
        found = list(reader.check())
        assert len(found) == 2 and str(left[0]) in found[0] and str(left[1]) in found[1]
    left[1].write_bytes(good)
    assert [str(left[0]) in line for line in space.repair().moved] == [True]
    table.write_bytes(b"nothing")
    with space.reader() as reader:
        assert [str(table) in line for line in reader.check()] == [True]
    assert [str(table) in line for line in space.repair().moved] == [True]
    assert sorted(path.name for path in Path(space.directory, "quarantine").rglob("*-*/shared/*"))
    with space.reader() as reader:
        assert list(reader.check()) == []
        assert reader.shared_map(KEY, Max).numbers() == {n: n for n in range(1, 100, 2)}


def test_a_later_version_is_refused(space: kvs.Space, left: tuple[Path, Path]) -> None:
    import struct
    import zlib

    data = left[0].read_bytes()
    head = data[:4] + struct.pack("<H", 9) + data[6:40]
    left[0].write_bytes(head + struct.pack("<I", zlib.crc32(head)) + data[44:])
    with space.replica() as replica, pytest.raises(kvs.StoreForeign, match="newer"):
        replica.shared_map(KEY, Max)


def test_the_map_is_what_it_says(replicas: list[kvs.Replica]) -> None:
    shared = replicas[0].shared_map(KEY, Max)
    shared.join("x", 1)
    assert isinstance(shared, SharedMap)
    assert repr(shared) == "SharedMap(b'best', max int, 1 entries)"
