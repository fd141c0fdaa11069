"""Generated values of every lattice, and the plain values that trip lattices. Needs hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kvs.causal import AddWinsSet, CausalContext, MultiValue, Text, VersionVector
from kvs.lattices import (
    Average,
    BoolOr,
    GCounter,
    GrowSet,
    HyperLogLog,
    Last,
    Lattice,
    Map,
    Max,
    Min,
    Pair,
    PNCounter,
    Sealed,
    TopK,
    UnionFind,
    WriteOnce,
)
from kvs.lattices.average import Part

TROUBLE: tuple[Any, ...] = (
    *(None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, float("inf"), float("-inf"), 5e-324, 1.7, 1.2),
    *(2**53, 2**53 + 1, float(2**53), 2**64, -(2**63) - 1, 10**400, -(10**400), 2**127, -(2**127)),
    *("", "a", "1", "é", "e\u0301", "\ud800", "\x00", b"", b"a", b"1", (), (1,), (1.0,), (True,), ((),), (None, "a")),
)
"""Values that Python calls equal and are not, or that are at the edge of a byte form."""


def scalars() -> st.SearchStrategy[Any]:
    """Plain values, most of them troublesome and many of them equal to each other."""
    return st.sampled_from(TROUBLE[:9]) | st.sampled_from(TROUBLE) | st.integers(0, 2)


def names() -> st.SearchStrategy[Any]:
    """Few, so that they meet."""
    return st.sampled_from(["a", "b", 1, True])


def few_sets() -> st.SearchStrategy[GrowSet[Any]]:
    return st.lists(scalars(), max_size=3).map(GrowSet)


def dots() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, 2), st.integers(1, 4))


def contexts() -> st.SearchStrategy[CausalContext]:
    return st.lists(dots(), max_size=5).map(CausalContext)


@st.composite
def sealed_values(draw: st.DrawFn) -> Sealed[Any]:
    """Open, closed and clashing parts, with one, no or two manifests."""
    parts = st.dictionaries(names(), st.lists(st.integers(0, 1), max_size=2).map(GrowSet), max_size=2)
    manifests = st.none() | st.lists(names(), max_size=2)
    value: Sealed[Any] = Sealed(draw(parts).items(), draw(parts).items(), draw(manifests))
    return value.join(Sealed(manifest=draw(manifests))) if draw(st.booleans()) else value


@st.composite
def add_wins_sets(draw: st.DrawFn) -> AddWinsSet[Any]:
    """Any elements under any dots that were seen; one dot may be another element's in another value."""
    owners = draw(st.dictionaries(dots(), st.sampled_from([0, 1, 2]), max_size=4))
    held = [(element, [d for d, n in owners.items() if n == place]) for place, element in enumerate(("x", 1, True))]
    return AddWinsSet(held, draw(contexts()).join(CausalContext(owners)))


@st.composite
def multi_values(draw: st.DrawFn) -> MultiValue:
    """Any values under any dots that were seen, with clocks that tie; two of one dot may differ."""
    values = st.tuples(st.integers(0, 1), scalars())
    held = draw(st.dictionaries(dots(), values, max_size=3))
    return MultiValue(held, draw(contexts()).join(CausalContext(held)))


@st.composite
def sketches(draw: st.DrawFn) -> HyperLogLog:
    sketch = HyperLogLog(draw(st.sampled_from([4, 4, 5, 7])))
    return sketch.join(sketch.add(*draw(st.lists(scalars(), max_size=6))))


def last_values() -> st.SearchStrategy[Last[Any]]:
    """Clocks, replicas and counters all tie, and the same write may have two values."""
    tie = st.integers(0, 1)
    return st.builds(Last, tie, tie, tie, scalars()) | st.just(Last())


def texts() -> st.SearchStrategy[Text]:
    """Some of the edits of one history, in which each replica sees all that came before."""
    return st.sets(st.sampled_from(_edits())).map(Text)


def _edits() -> list[Any]:
    text = Text()
    for replica, word in ((1, "héllo"), (2, " world"), (1, "😀"), (3, "")):
        text = text.join(text.insert(replica, len(text) // 2, word) if word else text.delete(replica, 0, 3))
    concurrent = text.insert(4, 1, "X").join(text.insert(5, 1, "Y"))
    return [*text.join(concurrent).edits(), *Text().append(1, "another first edit of the same name").edits()]


def counters() -> st.SearchStrategy[GCounter]:
    return st.dictionaries(names(), st.sampled_from([0, 1, 2, 10**30]), max_size=3).map(lambda d: GCounter(d.items()))


def averages() -> st.SearchStrategy[Average]:
    number = st.sampled_from([0.0, -0.0, 1.0, 1.2, 1.7, -1e300, 1e300])
    totals = number | st.tuples(number) | st.tuples(number, number)
    part = st.builds(Part, st.integers(1, 2), totals, st.sampled_from([0.5, 1.0, 1e300]))
    return st.lists(st.tuples(names(), part), max_size=3).map(Average)


def maps() -> st.SearchStrategy[Map[Any, Any]]:
    """Values of another type by key, maps within maps included."""
    inner = st.dictionaries(st.sampled_from("xy"), scalars().map(Max), max_size=2).map(Map)
    fixed: tuple[tuple[Any, Any], ...] = (("a", scalars().map(Max)), (1, few_sets()), (True, inner), (1.0, inner))
    pairs = st.one_of(*(st.tuples(st.just(key), value) for key, value in fixed))
    return st.lists(pairs, max_size=3).map(Map)


def pairs() -> st.SearchStrategy[Pair[Any, Any]]:
    return st.builds(Pair, st.none() | scalars().map(Max), st.none() | few_sets())


def values_of(cls: type[Lattice]) -> st.SearchStrategy[Any]:
    """Values of one of our types, with ties as the rule.

    Raises:
        LookupError: the type is not one of ours.
    """
    strategy: st.SearchStrategy[Any] = STRATEGIES[cls]()
    return strategy


def top_lists() -> st.SearchStrategy[TopK[Any]]:
    entries = st.lists(st.tuples(names(), scalars()), max_size=4)
    return st.builds(TopK, st.sampled_from([None, 1, 2, 2, 3]), entries)


def partitions() -> st.SearchStrategy[UnionFind[Any]]:
    element = st.sampled_from(["a", 1, True, 1.0, "b"])
    return st.lists(st.lists(element, max_size=3), max_size=2).map(UnionFind)


def vectors() -> st.SearchStrategy[VersionVector]:
    counts = st.dictionaries(st.integers(0, 2), st.integers(0, 2), max_size=3)
    return counts.map(lambda items: VersionVector(items.items()))


STRATEGIES: dict[type[Lattice], Any] = {
    Max: lambda: scalars().map(Max),
    Min: lambda: scalars().map(Min),
    BoolOr: lambda: st.booleans().map(BoolOr),
    GrowSet: few_sets,
    Map: maps,
    Pair: pairs,
    GCounter: counters,
    PNCounter: lambda: st.builds(PNCounter, counters(), counters()),
    Average: averages,
    TopK: top_lists,
    Last: last_values,
    WriteOnce: lambda: st.lists(scalars(), max_size=3).map(lambda values: WriteOnce(*values)),
    Sealed: sealed_values,
    UnionFind: partitions,
    HyperLogLog: sketches,
    VersionVector: vectors,
    CausalContext: contexts,
    AddWinsSet: add_wins_sets,
    MultiValue: multi_values,
    Text: texts,
}
"""A strategy for each type of ours, made when asked for."""
