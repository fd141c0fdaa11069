"""What ends the same under every schedule passes; what does not is caught, with the two events that clash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, permutations
from random import Random
from typing import Any

import pytest

from kvs.causal import AddWinsSet, MultiValue, Text
from kvs.lattices import (
    Average,
    BoolOr,
    GCounter,
    GrowSet,
    Last,
    Map,
    Max,
    NotReadable,
    PNCounter,
    Sealed,
    TopK,
    UnionFind,
)
from kvs.testing import At, NotConfluent, Output, check_confluent
from kvs.testing.program import Ended, Program, run
from kvs.testing.schedules import Deliver, Gossip, at_random, every_batching, every_order, every_repetition, in_order
from kvs.testing.shrink import between, smallest

Fact = tuple[str, ...]


# -- programs that are confluent


def test_deltas_of_every_kind_end_the_same() -> None:
    check_confluent(Map, [Map({"a": Max(n)}) for n in (3, 1)] + [Map({"b": GrowSet([n])}) for n in (1, True)])
    check_confluent(Sealed, [Sealed().expect("a", "b"), Sealed().finish("a", Max(1)), Sealed().finish("b", Max(2))])
    check_confluent(TopK, [TopK(2), *(TopK(None, [(n, n * n % 7)]) for n in range(6))], examples=100)
    check_confluent(Last, [Last(5, r, c, v) for r, c, v in ((1, 1, "a"), (1, 1, "b"), (2, 1, "c"), (2, 2, None))])


def test_operations_at_replicas_end_the_same_in_each_history() -> None:
    check_confluent(
        AddWinsSet,
        [
            At(0, lambda s: s.add(0, "x", "y")),
            At(1, lambda s: s.add(1, "x")),
            At(0, lambda s: s.remove("x")),
            At(2, lambda s: s.clear()),
            At(1, lambda s: s.add(1, "z")),
        ],
        outputs={"seen": AddWinsSet.seen},
        examples=30,
        exhaustive=4,
        histories=3,
    )
    check_confluent(
        MultiValue,
        [
            At(replica, lambda v, r=replica, t=time: v.write(r, t, (r, t)))
            for replica, time in ((0, 5), (1, 5), (0, 5), (2, 4))
        ],
        final=lambda v: v.writes,
        examples=30,
        exhaustive=3,
        histories=3,
    )
    check_confluent(
        PNCounter,
        [At(0, lambda c: c.increment(0, 5)), At(1, lambda c: c.decrement(1, 2)), At(0, lambda c: c.increment(0))],
        outputs={"added": PNCounter.added, "taken": PNCounter.taken},
        final=PNCounter.total,
    )


def test_histories_differ_in_who_has_heard_of_what() -> None:
    heard = []

    def act(state: GrowSet[int]) -> GrowSet[int]:
        heard.append(len(state))
        return state.add(9)

    check_confluent(
        GrowSet, [At(0, lambda s: s.add(1)), At(1, lambda s: s.add(2)), At(2, act)], histories=12, examples=5
    )
    assert set(heard) == {0, 1, 2}


def test_a_text_ends_the_same_letter_by_letter() -> None:
    check_confluent(
        Text,
        [
            At(0, lambda t: t.insert(0, 0, "héllo")),
            At(1, lambda t: t.append(1, "😀!")),
            At(2, lambda t: t.delete(2, 0, min(2, len(t)))),
            At(0, lambda t: t.insert(0, 1, "X")),
        ],
        outputs={"size": Text.size},
        final=str,
        examples=20,
        exhaustive=3,
        histories=3,
    )


def cycles(edges: GrowSet[Any]) -> frozenset[Fact]:
    """The cycles among edges (waiter, holder), each begun at its smallest member."""
    follow: dict[str, set[str]] = {}
    for waiter, holder in edges:
        follow.setdefault(waiter, set()).add(holder)
    found = set()
    paths: list[Fact] = [(node,) for node in follow]
    while paths:
        path = paths.pop()
        for node in follow.get(path[-1], ()):
            if node == path[0] and node == min(path):
                found.add(path)
            elif node not in path and node > path[0]:
                paths.append((*path, node))
    return frozenset(found)


def test_deadlock_detection_needs_no_coordination() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("b", "d"), ("d", "b")]
    check_confluent(GrowSet, [GrowSet([edge]) for edge in edges], outputs={"cycles": cycles}, final=cycles)


def garbage(facts: Any) -> frozenset[str]:
    """Objects that no root leads to, by the facts that are here."""
    objects = {f[1] for f in facts if f[0] == "object"}
    live = {f[1] for f in facts if f[0] == "root"}
    while True:
        more = live | {f[2] for f in facts if f[0] == "refers" and f[1] in live}
        if more == live:
            return frozenset(objects - live)
        live = more


FACTS: list[Fact] = [("object", "x"), ("object", "y"), ("root", "x"), ("refers", "x", "y"), ("object", "z")]


def test_garbage_collection_is_right_below_a_seal() -> None:
    def freed(state: Sealed[GrowSet[Fact]]) -> frozenset[str]:
        return garbage(state.value(GrowSet())) if state.sealed() else frozenset()

    events: list[Sealed[GrowSet[Fact]]] = [Sealed([("p", GrowSet([fact]))]) for fact in FACTS]
    events += [Sealed((), [("p", GrowSet(FACTS))]), Sealed().expect("p")]
    check_confluent(Sealed, events, outputs={"freed": freed, "sealed": Sealed.sealed}, final=freed)


def test_a_mean_is_right_below_a_seal() -> None:
    def mean(state: Sealed[Average]) -> Any:
        try:
            return state.value(Average()).mean()
        except NotReadable:
            return None

    events: list[Sealed[Average]] = [Sealed().expect("a", "b", "c")]
    events += [
        Sealed((), [(name, Average().add(name, value))]) for name, value in (("a", 1.0), ("b", 2.5), ("c", -4.0))
    ]
    flat = Output(mean, lambda a, b: a is None or a == b)
    check_confluent(Sealed, events, outputs={"mean": flat}, final=mean)


# -- negative controls: each is caught, and the two events that clash are named


@dataclass(frozen=True)
class Stamped:
    clock: int
    value: str


def later_or_equal(state: Stamped | None, event: Stamped | None) -> Stamped | None:
    if state is None or event is None:
        return event or state
    return event if event.clock >= state.clock else state


def test_a_last_writer_with_ties_is_caught() -> None:
    events = [Stamped(1, "a"), Stamped(3, "b"), Stamped(2, "c"), Stamped(3, "d")]
    with pytest.raises(
        NotConfluent, match=r"event \d, Stamped\(clock=3, value='.'\), and event \d, .*clock=3"
    ) as caught:
        check_confluent(lambda: None, events, apply=later_or_equal, merge=later_or_equal)
    assert {caught.value.one, caught.value.other} == {1, 3}


Dominated = tuple[dict[str, int], tuple[int, ...]]


def dominating(a: Dominated, b: Dominated) -> Dominated:
    """The naive pair: a larger clock takes all, of incomparable ones both are joined."""
    a_below = all(n <= b[0].get(k, 0) for k, n in a[0].items())
    b_below = all(n <= a[0].get(k, 0) for k, n in b[0].items())
    if a_below and not b_below:
        return b
    if b_below and not a_below:
        return a
    clock = {k: max(a[0].get(k, 0), b[0].get(k, 0)) for k in sorted(a[0].keys() | b[0].keys())}
    return clock, tuple(sorted({*a[1], *b[1]}))


def test_a_naive_dominating_pair_is_caught_in_its_third_event() -> None:
    events: list[Dominated] = [({"k": 1}, (5,)), ({"j": 1}, (7,)), ({"k": 2}, (3,)), ({"i": 1}, (9,))]
    with pytest.raises(NotConfluent, match="after") as caught:
        check_confluent(lambda: ({}, ()), events, apply=dominating, merge=dominating)
    assert {caught.value.one, caught.value.other} & {0, 2}


def test_eager_garbage_collection_is_caught() -> None:
    with pytest.raises(NotConfluent, match="output 'freed' went from") as caught:
        check_confluent(GrowSet, [GrowSet([fact]) for fact in FACTS], outputs={"freed": garbage})
    clash = {FACTS[caught.value.one][0], FACTS[caught.value.other][0]}
    assert "object" in clash and clash <= {"object", "root", "refers"}


def test_a_mean_of_an_unsealed_set_is_caught() -> None:
    def mean(state: GrowSet[int]) -> Any:
        return Fraction(sum(state), len(state)) if state else None

    shown = Output(mean, lambda a, b: a is None or a <= b)
    with pytest.raises(NotConfluent, match="output 'mean' went from") as caught:
        check_confluent(GrowSet, [GrowSet([n]) for n in (5, 5, 1)], outputs={"mean": shown})
    assert caught.value.other == 2  # the 1 pulls it down, after a 5
    rounded = Output(lambda s: None if not s else round(sum(s) / len(s), 9), lambda a, b: a is None or a == b)
    with pytest.raises(NotConfluent):
        check_confluent(GrowSet, [GrowSet([1.0]), GrowSet([2.0])], outputs={"mean": rounded})


def test_appending_to_a_list_is_caught() -> None:
    append = {"apply": lambda state, e: (*state, e), "merge": lambda a, b: (*a, *b)}
    with pytest.raises(NotConfluent, match=r"event 0, 'a', and event 1, 'b', clash"):
        check_confluent(tuple, ["a", "b"], **append)
    with pytest.raises(NotConfluent, match=r"event 0, 'a', clashes with itself"):
        check_confluent(tuple, ["a", "a", "a"], **append)


def test_a_sum_is_caught_by_an_event_that_comes_twice() -> None:
    with pytest.raises(NotConfluent, match="event 2, 4, clashes with itself"):
        check_confluent(int, [0, 0, 4], apply=lambda s, e: s + e, merge=lambda a, b: a + b)


def test_an_add_wins_set_without_its_context_is_caught() -> None:
    """A removal that forgets what was added is undone by a late copy of the addition."""

    def apply(state: frozenset[str], event: tuple[str, str]) -> frozenset[str]:
        return state | {event[1]} if event[0] == "add" else state - {event[1]}

    with pytest.raises(NotConfluent) as caught:
        check_confluent(frozenset, [("add", "x"), ("add", "y"), ("remove", "x")], apply=apply, merge=lambda a, b: a | b)
    assert {caught.value.one, caught.value.other} == {0, 2}


def test_what_bytes_lose_is_caught() -> None:
    def save(state: frozenset[Any]) -> bytes:
        return json.dumps(sorted(map(list, state))).encode()

    def load(data: bytes) -> frozenset[Any]:
        return frozenset((name, float(n)) for name, n in json.loads(data))

    pairs = [("a", 2**53), ("a", 2**53 + 1)]
    check_confluent(frozenset, pairs, apply=lambda s, e: s | {e}, merge=lambda a, b: a | b)
    with pytest.raises(NotConfluent):
        check_confluent(frozenset, pairs, apply=lambda s, e: s | {e}, merge=lambda a, b: a | b, save=save, load=load)


def test_a_merge_that_is_wrong_alone_is_caught() -> None:
    """One replica that takes every event is right; two that merge are not."""
    with pytest.raises(NotConfluent):
        check_confluent(frozenset, [1, 2, 3], apply=lambda s, e: s | {e}, merge=lambda a, b: max(a, b, key=len))


def test_a_program_that_raises_under_one_order_is_caught() -> None:
    def apply(state: GrowSet[int], event: int) -> GrowSet[int]:
        if event == 2 and 1 not in state:
            raise RuntimeError("2 before 1")
        return state | GrowSet([event])

    with pytest.raises(NotConfluent, match="RuntimeError: 2 before 1") as caught:
        check_confluent(GrowSet, [0, 1, 2], apply=apply)
    assert caught.value.other == 2


# -- the harness itself


def test_a_seed_finds_the_same_again_and_is_in_the_text() -> None:
    events = [Stamped(n // 2, str(n)) for n in range(12)]
    texts = []
    for _ in range(2):
        with pytest.raises(NotConfluent, match="seed=77") as caught:
            check_confluent(lambda: None, events, apply=later_or_equal, merge=later_or_equal, seed=77)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    with pytest.raises(NotConfluent) as caught:
        check_confluent(lambda: None, events, apply=later_or_equal, merge=later_or_equal, seed=None)
    with pytest.raises(NotConfluent) as again:
        check_confluent(lambda: None, events, apply=later_or_equal, merge=later_or_equal, seed=caught.value.seed)
    assert str(again.value) == str(caught.value)


def test_two_events_among_many_are_found() -> None:
    """Twenty events of which two clash; the orders of all would be 2 * 10**18."""
    events = [Stamped(n, str(n)) for n in range(1, 20)] + [Stamped(19, "tie")]
    with pytest.raises(NotConfluent) as caught:
        check_confluent(lambda: None, events, apply=later_or_equal, merge=later_or_equal)
    assert {caught.value.one, caught.value.other} == {18, 19}
    assert len(caught.value.schedule.steps) == 2


def test_all_orders_batchings_and_repetitions_are_tried() -> None:
    for kind, size in ((every_order, 6), (every_batching, 6 * 4), (every_repetition, 6 * 3)):
        schedules = list(kind(3))
        orders = {tuple(e for s in x.steps if isinstance(s, Deliver) for e in s.events)[:3] for x in schedules}
        assert orders == set(permutations(range(3)))
        assert len(schedules) == len(set(map(str, schedules))) == size


def test_a_random_schedule_loses_no_event() -> None:
    random = Random(3)
    replicas, batches, repeated = set(), set(), 0
    for _ in range(300):
        schedule = at_random(4, 5, random)
        replicas.add(schedule.replicas)
        delivered = [step.events for step in schedule.steps if isinstance(step, Deliver)]
        batches.update(map(len, delivered))
        repeated += sum(map(len, delivered)) > 4
        has: list[set[int]] = [set() for _ in range(schedule.replicas)]
        for step in schedule.steps:
            if isinstance(step, Gossip):
                has[step.target] |= has[step.source]
            else:
                has[step.replica].update(step.events)
        assert has[0] == {0, 1, 2, 3}
    assert replicas == {1, 2, 3, 4, 5} and batches == {1, 2, 3} and 100 < repeated < 300


def test_a_clash_that_needs_many_events_is_found() -> None:
    """Seven events, none of which can be left out: the order of the last two counts once all others are there."""

    def apply(state: tuple[frozenset[int], int], event: int) -> tuple[frozenset[int], int]:
        has, first = state
        return has | {event}, event if not first and event > 4 and has >= {0, 1, 2, 3, 4} else first

    with pytest.raises(NotConfluent, match="after") as caught:
        check_confluent(
            lambda: (frozenset(), 0),
            range(7),
            apply=apply,
            merge=lambda a, b: (a[0] | b[0], a[1] or b[1]),
            examples=400,
        )
    assert 5 <= max(caught.value.one, caught.value.other) <= 6


def test_neighbours_are_swapped_from_one_order_to_another() -> None:
    path = list(between((0, 1, 2, 3), (3, 1, 0, 2)))
    assert path[0] == (0, 1, 2, 3) and path[-1] == (3, 1, 0, 2)
    for one, other in pairwise(path):
        differ = [n for n in range(4) if one[n] != other[n]]
        assert len(differ) == 2 and differ[1] == differ[0] + 1


def test_the_smallest_failing_set_is_found() -> None:
    assert smallest(range(30), lambda some: {3, 17, 28} <= set(some)) == (3, 17, 28)
    assert smallest(range(7), lambda some: 4 in some) == (4,)


def test_states_pass_through_bytes_at_every_step() -> None:
    moved = []

    def load(data: bytes) -> Any:
        moved.append(data)
        return GrowSet.decode(data)

    program = Program(GrowSet, GrowSet.join, GrowSet.join, GrowSet.size, {}, GrowSet.encode, load)
    assert run(program, [GrowSet([1]), GrowSet([2])], in_order((0, 1))) == Ended(2)
    assert [GrowSet.decode(data) for data in moved] == [GrowSet([1]), GrowSet([1, 2])]


def test_bad_input_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="Give at least one"):
        check_confluent(GrowSet, [])
    with pytest.raises(ValueError, match="Give `apply` and `merge`"):
        check_confluent(list, [1])
    with pytest.raises(ValueError, match="Give all events as At"):
        check_confluent(GCounter, [At(0, lambda c: c.increment(0)), GCounter()])


def test_an_output_may_be_a_lattice() -> None:
    def solved(state: UnionFind[str]) -> BoolOr:
        return BoolOr(state.same("a", "d"))

    check_confluent(UnionFind, [UnionFind([pair]) for pair in ("ab", "cd", "bc")], outputs={"solved": solved})
