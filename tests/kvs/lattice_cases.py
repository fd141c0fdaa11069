"""For each lattice of ours: what to draw for its declared methods, and what they mean by another way than joining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from kvs.causal import AddWinsSet, CausalContext, Dot, MultiValue, Text, VersionVector
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
    domain,
)
from kvs.testing import scalars
from kvs.testing.values import dots, few_sets, names


@dataclass(frozen=True)
class Case:
    cls: type[Lattice]
    arguments: Mapping[str, st.SearchStrategy[tuple[Any, ...]]] = field(default_factory=dict)
    meanings: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    order: Callable[[Any, Any], bool] | None = None
    examples: int = 40


scalar = st.tuples(scalars())
not_none = st.tuples(scalars().filter(lambda v: v is not None))
replica = st.integers(0, 2)
elements = st.lists(st.sampled_from(["x", 1, True]), max_size=2).map(tuple)
contributions = st.tuples(names(), st.sampled_from([0.5, 1.2, 1.7, (1.0,), (1.0, 2.0)]), st.sampled_from([0.5, 2.0]))


def identity(value: Any) -> Any:
    return value


def constant(value: Any) -> Any:
    return 0


def highest(values: list[Any]) -> Any:
    return max(values, key=domain.key)


def states(value: Any) -> dict[tuple[Any, Dot], int]:
    """A set as what it is a product of: per element and dot that was seen, held (0) or removed (1)."""
    seen = [atom for atom in (Dot(r, c) for r in range(4) for c in range(1, 9)) if atom in value.context]
    keys = [domain.ident(e) for e in ("x", 1, True)]
    return {(k, d): 0 if d in value.store.get(k).dots() else 1 for k in keys for d in seen}


def below_by_state(a: Any, b: Any) -> bool:
    """The order of an AddWinsSet by its definition: unseen, held, removed."""
    theirs = states(b)
    return all(key in theirs and state <= theirs[key] for key, state in states(a).items())


def rows_of(x: Average) -> list[tuple[Any, Any]]:
    return [(name, tuple(part)) for name, *part in x.body()]


def part_of(x: Average, replica: Any) -> tuple[int, Any, float]:
    """(round, total, weight) of a replica."""
    found = [part for name, part in rows_of(x) if domain.key(name) == domain.key(replica)]
    return found[0] if found else (0, None, 0.0)


def added(part: tuple[int, Any, float], value: Any, weight: float) -> tuple[int, Any, float]:
    """A part after one more contribution."""
    n, total, before = part
    both = (
        zip(total or (0.0,) * len(value), value, strict=True) if isinstance(value, tuple) else [(total or 0.0, value)]
    )
    sums = tuple(t + v * weight for t, v in both)
    return n + 1, sums if isinstance(value, tuple) else sums[0], before + weight


def rebuilt(x: AddWinsSet[Any], without: Any, more: list[tuple[Any, Dot]]) -> AddWinsSet[Any]:
    """A set made anew of its elements, but for some, and some more."""
    gone = {domain.key(e) for e in without}
    kept = [(e, list(x.store.get(domain.ident(e)).dots())) for e in x if domain.key(e) not in gone]
    context = x.context.join(CausalContext(dot for _, dot in more))
    return AddWinsSet([*kept, *((e, [dot]) for e, dot in more)], context)


CASES = [
    Case(
        Max,
        {"raise_to": not_none, "at_least": not_none},
        {"raise_to": lambda x, v: Max(highest([x.value, v]))},
        lambda a, b: domain.at_most(a.value, b.value),
    ),
    Case(
        Min,
        {"lower_to": not_none, "at_most": not_none},
        {"lower_to": lambda x, v: Min(v if x.value is None else min(x.value, v, key=domain.key))},
    ),
    Case(BoolOr, meanings={"set": lambda x: BoolOr(True)}),
    Case(
        GrowSet,
        {
            "add": st.lists(scalars(), max_size=2).map(tuple),
            "contains": scalar,
            "restricted": st.tuples(st.lists(scalars(), max_size=2)),
            "image": st.tuples(st.sampled_from([identity, repr, constant])),
        },
        {"add": lambda x, *added: GrowSet([*x, *added])},
        lambda a, b: all(any(domain.key(e) == domain.key(f) for f in b) for e in a),
    ),
    Case(
        Map,
        {
            "merge": st.tuples(st.just("a"), scalars().map(Max)),
            "at": st.tuples(names()),
            "contains": st.tuples(names()),
            "restricted": st.tuples(st.lists(names(), max_size=2)),
        },
        {"merge": lambda x, k, v: Map([*x.items(), (k, v)])},
    ),
    Case(
        Pair,
        {"merge_first": st.tuples(scalars().map(Max)), "merge_second": st.tuples(few_sets())},
        {
            "merge_first": lambda x, v: Pair(v if x.first is None else x.first.join(v), x.second),
            "merge_second": lambda x, v: Pair(x.first, v if x.second is None else x.second.join(v)),
        },
    ),
    Case(
        GCounter,
        {"increment": st.tuples(names(), st.integers(0, 2)), "at_least": st.tuples(st.sampled_from([0, 1, 2, 10**30]))},
        {"increment": lambda x, r, by: GCounter([*x, (r, x.of(r) + by)])},
    ),
    Case(
        PNCounter,
        {"increment": st.tuples(names(), st.integers(0, 2)), "decrement": st.tuples(names(), st.integers(0, 2))},
        {
            "increment": lambda x, r, by: PNCounter(
                GCounter([*x.increments, (r, x.increments.of(r) + by)]), x.decrements
            )
        },
    ),
    Case(
        Average,
        {"add": contributions, "replace": contributions},
        {
            "add": lambda x, r, v, w: Average([(r, added(part_of(x, r), v, w)), *rows_of(x)]),
            "replace": lambda x, r, v, w: Average([(r, added((part_of(x, r)[0], None, 0.0), v, w)), *rows_of(x)]),
        },
    ),
    Case(
        TopK,
        {"add": st.tuples(names(), scalars())},
        {"add": lambda x, item, score: TopK(x.k, [*x, (item, score)])},
        examples=50,
    ),
    Case(
        Last,
        {"write": st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), scalars())},
        {"write": lambda x, *write: max(x, Last(*write), key=lambda last: (*last.order, domain.key(last.value)))},
        lambda a, b: (*a.order, domain.key(a.value)) <= (*b.order, domain.key(b.value)),
    ),
    Case(WriteOnce, {"write": scalar}, {"write": lambda x, v: WriteOnce(*x.body(), v)}),
    Case(
        Sealed,
        {
            "contribute": st.tuples(names(), few_sets()),
            "finish": st.tuples(names(), few_sets()),
            "expect": st.lists(names(), max_size=2).map(tuple),
        },
        examples=50,
    ),
    Case(
        UnionFind,
        {"union": st.tuples(names(), names()), "same": st.tuples(names(), names())},
        {"union": lambda x, a, b: UnionFind([*x.classes(), (a, b)])},
    ),
    Case(HyperLogLog, {"add": st.lists(scalars(), max_size=3).map(tuple)}, examples=40),
    Case(
        VersionVector,
        {"advance": st.tuples(replica, st.integers(1, 3)), "knows": st.tuples(dots().map(lambda d: Dot(*d)))},
        {"advance": lambda x, r, c: VersionVector({**dict(x), r: max(c, x[r])}.items())},
    ),
    Case(
        CausalContext,
        {"add": st.lists(dots(), max_size=2).map(tuple), "has_seen": st.tuples(dots().map(lambda d: Dot(*d)))},
        {"add": lambda x, *more: CausalContext([*(x.dots(1000) or ()), *more])},
        lambda a, b: all(Dot(r, c) in b for r in range(3) for c in range(1, 6) if Dot(r, c) in a),
    ),
    Case(
        AddWinsSet,
        {"add": st.tuples(replica, st.sampled_from(["x", 1, True])), "remove": elements},
        {
            "add": lambda x, r, e: rebuilt(x, without=[e], more=[(e, x.context.next_dot(r))]),
            "remove": lambda x, *gone: rebuilt(x, without=gone, more=[]),
            "clear": lambda x: AddWinsSet((), x.context),
        },
        below_by_state,
        examples=50,
    ),
    Case(
        MultiValue,
        {"write": st.tuples(replica, st.integers(0, 1), scalars())},
        {
            "write": lambda x, r, t, v: MultiValue(
                [(*(d := x.context.next_dot(r)), t, v)], x.context | CausalContext([d])
            )
        },
        examples=50,
    ),
    Case(
        Text,
        {
            "insert": st.tuples(replica, st.integers(0, 3), st.sampled_from(["a", "é😀", ""])),
            "append": st.tuples(replica, st.sampled_from(["a", "é😀"])),
            "delete": st.tuples(replica, st.integers(0, 2), st.integers(0, 3)),
        },
        examples=30,
    ),
]
