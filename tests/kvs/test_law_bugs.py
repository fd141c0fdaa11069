"""Six law bugs of earlier lattice stores, each as it was: the kit catches it, and our type in its place keeps the laws.

The faulty types are smallest models of shipped code (Anna's C++ and Python lattices, Cloudburst's timestamps), written
from descriptions. "What ours does" stands beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from kvs import HybridClock
from kvs.causal import CausalContext, Dot, MultiValue, VersionVector
from kvs.lattices import GrowSet, Last, Lattice, Map, Max, OutsideDomain
from kvs.testing import LawBroken, check_lattice, scalars, values_of
from tests.kvs.lattice_cases import CASES

OURS = {case.cls: case for case in CASES}


class Faulty:
    """What all models share: the order that their join gives."""

    @classmethod
    def bottom(cls) -> Any:
        return cls()

    def leq(self, other: Any) -> bool:
        return bool(self.join(other) == other)

    def join(self, other: Any) -> Any:
        raise NotImplementedError


def caught(cls: type[Any], values: st.SearchStrategy[Any], law: str, **more: Any) -> None:
    with pytest.raises(LawBroken, match=law):
        check_lattice(cls, values, examples=200, **more)


def ours_keeps_the_laws(cls: type[Lattice]) -> None:
    case = OURS[cls]
    check_lattice(cls, values_of(cls), arguments=case.arguments, meanings=case.meanings, order=case.order, examples=20)


# -- 1. last writer wins, and equal clocks: the value that comes in replaces the one that is there


@dataclass(frozen=True)
class TieGoesToTheIncoming(Faulty):
    clock: int = -1
    value: str = ""

    def join(self, other: TieGoesToTheIncoming) -> TieGoesToTheIncoming:
        return other if other.clock >= self.clock else self


@dataclass(frozen=True)
class TieGoesToTheReceiver(Faulty):
    """The same store's other language decided the other way, so that the two disagreed as well."""

    clock: int = -1
    value: str = ""

    def join(self, other: TieGoesToTheReceiver) -> TieGoesToTheReceiver:
        return other if other.clock > self.clock else self


def test_1_last_writer_ties_do_not_depend_on_the_side() -> None:
    for cls in (TieGoesToTheIncoming, TieGoesToTheReceiver):
        caught(cls, st.builds(cls, st.integers(0, 1), st.sampled_from("ab")), "commutative|leq")
    here, there = Last(7, 1, 1, "here"), Last(7, 2, 1, "there")
    assert here | there == there | here == there
    ours_keeps_the_laws(Last)


# -- 2. timestamps of tenths of a second, with a thread's number behind them and no replica


@dataclass(frozen=True)
class TenthsOfASecond(Faulty):
    """int(seconds * 10), then the digits of the thread, which was always 0."""

    seconds: float = -1.0
    thread: int = 0
    value: str = ""

    @property
    def stamp(self) -> int:
        return int(f"{int(self.seconds * 10)}{self.thread}")

    def join(self, other: TenthsOfASecond) -> TenthsOfASecond:
        return other if (other.stamp, other.value) > (self.stamp, self.value) else self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TenthsOfASecond) and (self.stamp, self.value) == (other.stamp, other.value)

    def __hash__(self) -> int:
        return hash((self.stamp, self.value))


def test_2_clock_resolution_does_not_make_two_writes_one() -> None:
    in_time = {"order": lambda a, b: (a.seconds, a.value) <= (b.seconds, b.value)}
    one_thread = st.builds(TenthsOfASecond, st.sampled_from([5.01, 5.02]), st.just(0), st.sampled_from("ab"))
    caught(
        TenthsOfASecond, one_thread, "order it should be|values|commutative", **in_time
    )  # 10 ms apart: which came later is lost
    threads = st.builds(TenthsOfASecond, st.sampled_from([5.0, 6.0]), st.sampled_from([9, 10]), st.just("a"))
    caught(
        TenthsOfASecond, threads, "order it should be|values|commutative", **in_time
    )  # 5010 is above 609, and 5.0 before 6.0
    frozen = HybridClock(wall_ms=lambda: 1000)
    first, second = (Last(frozen.tick(), 1, n, v) for n, v in ((1, "first"), (2, "second")))
    assert first < second and first | second == second | first == second


# -- 3. causal values whose clocks are joined while both values stay: the third side decides what is lost


NOTHING = VersionVector()


@dataclass(frozen=True)
class DominatingPair(Faulty):
    """A larger clock takes all; of incomparable clocks, clocks and values are joined."""

    clock: VersionVector = NOTHING
    values: frozenset[int] = frozenset()

    def join(self, other: DominatingPair) -> DominatingPair:
        if self.clock == other.clock:
            return DominatingPair(self.clock, self.values | other.values)
        if self.clock.leq(other.clock):
            return other
        if other.clock.leq(self.clock):
            return self
        return DominatingPair(self.clock.join(other.clock), self.values | other.values)


def test_3_causal_values_are_an_antichain_so_that_join_is_associative() -> None:
    a, b, c = (
        DominatingPair(VersionVector([clock]), frozenset([value]))
        for clock, value in (((1, 1), 5), ((1, 2), 3), ((2, 1), 7))
    )
    assert a.join(c).join(b).values != a.join(b).join(c).values  # as found: {3, 5, 7} and {3, 7}
    caught(DominatingPair, st.sampled_from([a, b, c]), "associative|least")
    x, z = MultiValue({Dot(1, 1): (0, 5)}, seen((1, 1))), MultiValue({Dot(2, 1): (0, 7)}, seen((2, 1)))
    y = MultiValue({Dot(1, 2): (0, 3)}, seen((1, 1), (1, 2)))
    assert sorted((x | z) | y) == sorted((x | y) | z) == [3, 7]
    ours_keeps_the_laws(MultiValue)


def seen(*dots: tuple[int, int]) -> CausalContext:
    return CausalContext(dots)


# -- 4. equal vector clocks with different values: the incoming one overwrites


@dataclass(frozen=True)
class EqualClocksOverwrite(Faulty):
    clock: int = 0
    value: str = ""

    def join(self, other: EqualClocksOverwrite) -> EqualClocksOverwrite:
        return self if other.clock < self.clock else other


def test_4_one_name_for_two_writes_still_has_one_winner() -> None:
    caught(
        EqualClocksOverwrite, st.builds(EqualClocksOverwrite, st.integers(1, 2), st.sampled_from("ab")), "commut|leq"
    )
    one, other = (MultiValue({Dot(1, 1): (0, value)}, seen((1, 1))) for value in ("a", "b"))
    assert one | other == other | one and (one | other).value == "b"
    assert Last(1, 1, 1, "a") | Last(1, 1, 1, "b") == Last(1, 1, 1, "b") | Last(1, 1, 1, "a") == Last(1, 1, 1, "b")


# -- 5. the larger of two floats, compared as integers; and of equal priorities, whichever was there


@dataclass(frozen=True)
class MaxThroughInt(Faulty):
    value: float = float("-inf")

    def join(self, other: MaxThroughInt) -> MaxThroughInt:
        mine, theirs = (int(max(-1e9, side.value)) for side in (self, other))
        return self if mine > theirs else other


@dataclass(frozen=True)
class PriorityKeepsTheReceiver(Faulty):
    priority: int = 1 << 30
    value: str = ""

    def join(self, other: PriorityKeepsTheReceiver) -> PriorityKeepsTheReceiver:
        return other if other.priority < self.priority else self


def test_5_numbers_are_compared_as_they_are() -> None:
    assert MaxThroughInt(1.7).join(MaxThroughInt(1.2)) == MaxThroughInt(1.2)
    caught(MaxThroughInt, st.sampled_from([1.2, 1.7, 2.0]).map(MaxThroughInt), "commutative|leq")
    priorities = st.builds(PriorityKeepsTheReceiver, st.integers(0, 1), st.sampled_from("ab"))
    caught(PriorityKeepsTheReceiver, priorities, "commutative|leq")
    assert Max(1.7) | Max(1.2) == Max(1.7)
    assert Max(2**53) | Max(2**53 + 1) | Max(float(2**53)) == Max(2**53 + 1)
    same = [Max(v) for v in (False, 0, 0.0, -0.0)]
    assert len({x.encode() for x in same}) == len(set(same)) == 4
    with pytest.raises(OutsideDomain, match="in no order"):
        Max(float("nan"))
    ours_keeps_the_laws(Max)


# -- 6. a merge that changes its side, gives nothing back, or raises; and one default for all


class MergesIntoItself(Faulty):
    def __init__(self, value: int = -1) -> None:
        self.value = value

    def join(self, other: MergesIntoItself) -> MergesIntoItself:
        self.value = max(self.value, other.value)
        return self

    def leq(self, other: MergesIntoItself) -> bool:
        return self.value <= other.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MergesIntoItself) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"MergesIntoItself({self.value})"


class GivesNothingBack(MergesIntoItself):
    def join(self, other: MergesIntoItself) -> Any:
        self.value = max(self.value, other.value)
        return None


class SharesItsDefault(Faulty):
    default: ClassVar[set[int]] = set()

    def __init__(self, elements: set[int] = default) -> None:
        self.elements = elements

    def join(self, other: SharesItsDefault) -> SharesItsDefault:
        self.elements.update(other.elements)
        return SharesItsDefault(self.elements)

    def leq(self, other: SharesItsDefault) -> bool:
        return self.elements <= other.elements

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharesItsDefault) and self.elements == other.elements

    def __hash__(self) -> int:
        return hash(frozenset(self.elements))

    def __repr__(self) -> str:
        return f"SharesItsDefault({sorted(self.elements)})"


@dataclass(frozen=True)
class CannotMerge(Faulty):
    elements: tuple[int, ...] = ()

    def join(self, other: CannotMerge) -> CannotMerge:
        return CannotMerge(self.elements | other.elements)  # type: ignore[operator]


def test_6_join_gives_a_value_and_changes_none() -> None:
    for cls in (MergesIntoItself, GivesNothingBack):
        caught(cls, st.integers(0, 3).map(cls), "changed|identity|least|associative|raised|idempotent|leq|alike")
    caught(SharesItsDefault, st.sets(st.integers(0, 3)).map(SharesItsDefault), "changed|identity|idempotent|bottom")
    caught(CannotMerge, st.lists(st.integers(0, 3)).map(tuple).map(CannotMerge), "TypeError was raised")
    SharesItsDefault.default.clear()
    mine: list[Any] = ["a"]
    grown = GrowSet(mine)
    mine.append("b")
    assert grown == GrowSet(["a"]) and GrowSet() | grown == grown and GrowSet() == GrowSet([])
    items: dict[str, Max[int]] = {"a": Max(1)}
    board = Map(items)
    items["b"] = Max(2)
    assert board == Map({"a": Max(1)})
    ours_keeps_the_laws(GrowSet)


def test_every_plain_value_is_told_from_every_other() -> None:
    """Where 1, 1.0 and True met, the first to come stayed; here all three do, and in one order everywhere."""
    values = [1, True, 1.0, 0.0, -0.0, (1,), (True,)]
    kept = {tuple(GrowSet(values[n:]) | GrowSet(reversed(values[: n + 1]))) for n in range(len(values))}
    assert [repr(list(order)) for order in kept] == ["[-0.0, 0.0, True, 1, 1.0, (True,), (1,)]"]
    check_lattice(GrowSet, st.lists(scalars(), max_size=4).map(GrowSet), arguments=OURS[GrowSet].arguments, examples=60)
