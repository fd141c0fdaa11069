"""The laws hold for every lattice, ties included; and the kit that says so catches lattices that break them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.causal import Dot, MultiValue, Sibling, VersionVector
from kvs.lattices import BoolOr, GrowSet, Last, Lattice, Map, Max, Min
from kvs.testing import LawBroken, check_lattice

few = settings(max_examples=150, deadline=None)

small = st.none() | st.integers(0, 3)
floats = st.none() | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf")])
clocks = st.integers(0, 1)  # ties are the rule, not the exception
sets = st.frozensets(st.integers(0, 3), max_size=3).map(GrowSet)
counts = st.dictionaries(st.integers(0, 2), st.integers(0, 2), max_size=3)
vectors = counts.map(lambda items: VersionVector(items.items()))


@st.composite
def lasts(draw: st.DrawFn) -> Last[str]:
    """Writes as replicas make them: the value is a function of the write's name, and of nothing else."""
    clock, replica, counter = draw(clocks), draw(clocks), draw(st.integers(1, 2))
    return Last(clock, replica, counter, f"{clock}.{replica}.{counter}")


@st.composite
def registers(draw: st.DrawFn) -> MultiValue[str]:
    """Some of the writes of one history of three replicas that see each other's writes at random."""
    history: list[Sibling[str]] = []
    vector = {replica: VersionVector() for replica in range(3)}
    seed = [(0, False), (1, True), (0, True), (2, False), (1, False), (2, True)]
    for n, (replica, sees_all) in enumerate(seed):
        if sees_all:
            vector[replica] = vector[replica].join(VersionVector([(w.dot.replica, w.dot.counter) for w in history]))
        dot = Dot(replica, vector[replica][replica] + 1)
        history.append(Sibling(dot, vector[replica], draw(st.just(7)), f"write {n}"))
        vector[replica] = vector[replica].advanced(dot)
    chosen = draw(st.lists(st.sampled_from(history), max_size=4))
    register: MultiValue[str] = MultiValue()
    for write in chosen:
        register = register.join(MultiValue((write,)))
    return register


LATTICES: list[Any] = [
    pytest.param(small.map(Max), Max(), id="Max"),
    pytest.param(floats.map(Max), Max(), id="Max of floats with both zeros"),
    pytest.param(small.map(Min), Min(), id="Min"),
    pytest.param(floats.map(Min), Min(), id="Min of floats with both zeros"),
    pytest.param(st.booleans().map(BoolOr), BoolOr(), id="BoolOr"),
    pytest.param(sets, GrowSet(), id="GrowSet"),
    pytest.param(st.dictionaries(st.sampled_from("ab"), sets).map(Map), Map(), id="Map of sets"),
    pytest.param(
        st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.integers(0, 1), small.map(Max)).map(Map)).map(Map),
        Map(),
        id="Map of maps of Max",
    ),
    pytest.param(lasts() | st.just(Last()), Last(), id="Last"),
    pytest.param(st.dictionaries(st.sampled_from("ab"), lasts()).map(Map), Map(), id="Map of Last"),
    pytest.param(vectors, VersionVector(), id="VersionVector"),
    pytest.param(registers(), MultiValue(), id="MultiValue"),
]


@pytest.mark.parametrize(("values", "bottom"), LATTICES)
@few
@given(data=st.data())
def test_every_lattice_obeys_the_laws(values: st.SearchStrategy[Any], bottom: Any, data: st.DataObject) -> None:
    check_lattice(data.draw(values), data.draw(values), data.draw(values), bottom=bottom)


@pytest.mark.parametrize(("values", "bottom"), LATTICES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_lattice_survives_pickle_and_copy(values: st.SearchStrategy[Any], bottom: Any, data: st.DataObject) -> None:
    value = data.draw(values)
    assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)


# -- negative controls: each is a lattice that somebody once shipped


@dataclass(frozen=True)
class MeanOfBoth:
    """Joins to the mean: idempotent and commutative, and not associative."""

    value: float = 0.0

    def join(self, other: MeanOfBoth) -> MeanOfBoth:
        return MeanOfBoth((self.value + other.value) / 2)

    def leq(self, other: MeanOfBoth) -> bool:
        return self.join(other) == other


@dataclass(frozen=True)
class ClockOnly:
    """Last writer by a clock alone: at equal clocks the side that it stands on wins."""

    clock: int = -1
    value: str = ""

    def join(self, other: ClockOnly) -> ClockOnly:
        return self if self.clock >= other.clock else other

    def leq(self, other: ClockOnly) -> bool:
        return self.clock <= other.clock


@dataclass(frozen=True)
class Counter:
    """Adds up: a message that arrives twice counts twice."""

    value: int = 0

    def join(self, other: Counter) -> Counter:
        return Counter(self.value + other.value)

    def leq(self, other: Counter) -> bool:
        return self.value <= other.value


class InPlace:
    """Joins into itself: right in result, and the left side is not what it was."""

    def __init__(self, *elements: int) -> None:
        self.elements = set(elements)

    def join(self, other: InPlace) -> InPlace:
        self.elements |= other.elements
        return self

    def leq(self, other: InPlace) -> bool:
        return self.elements <= other.elements

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InPlace) and self.elements == other.elements

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"InPlace{sorted(self.elements)}"


@dataclass(frozen=True)
class MixedNumbers:
    """Keeps the larger of numbers of any type: 1 and True are equal, and which one stays depends on the side."""

    value: float = 0

    def join(self, other: MixedNumbers) -> MixedNumbers:
        return self if self.value >= other.value else other

    def leq(self, other: MixedNumbers) -> bool:
        return self.value <= other.value


@pytest.mark.parametrize(
    ("values", "bottom", "law"),
    [
        ((MeanOfBoth(1.0), MeanOfBoth(2.0), MeanOfBoth(4.0)), MeanOfBoth(), "identity|associative"),
        ((ClockOnly(1, "a"), ClockOnly(1, "b"), ClockOnly(2, "c")), ClockOnly(), "commutative"),
        ((Counter(1), Counter(2), Counter(3)), Counter(), "idempotent"),
        ((InPlace(1), InPlace(2), InPlace(3)), InPlace(), "join changed|identity|least"),
        ((MixedNumbers(1), MixedNumbers(True), MixedNumbers(2)), MixedNumbers(), "commutative"),
    ],
)
def test_the_kit_catches_a_broken_lattice(values: tuple[Any, Any, Any], bottom: Lattice, law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_lattice(*values, bottom=bottom)


# -- what a wrong value is told


def test_a_number_in_no_order_is_refused_where_it_is_made() -> None:
    for kind in (Max, Min):
        with pytest.raises(ValueError, match="in no order"):
            kind(float("nan"))


def test_values_of_different_types_do_not_join() -> None:
    with pytest.raises(TypeError, match="Convert one"):
        Max(1).join(Max(True))
    with pytest.raises(TypeError, match="Convert one"):
        Min[Any](1).join(Min(1.0))


def test_two_values_under_one_dot_are_not_hidden() -> None:
    with pytest.raises(ValueError, match=r"named 1\.2"):
        Last(5, 1, 2, "a").join(Last(5, 1, 2, "b"))


def test_a_value_does_not_change_with_what_it_was_made_of() -> None:
    elements, items = {1}, {"a": Max(1)}
    grown: GrowSet[int] = GrowSet(elements)  # type: ignore[arg-type]
    mapped = Map(items)
    elements.add(2)
    items["b"] = Max(2)
    assert grown == GrowSet(frozenset({1})) and mapped == Map({"a": Max(1)})
    assert (
        GrowSet() == GrowSet(frozenset()) and Map[str, Max[int]]().join(mapped) == mapped
    )  # no shared default was written to


def test_a_map_reads_an_absent_key_as_bottom() -> None:
    board = Map({"ada": Max(3)}).merged("ada", Max(7)).merged("bob", Max(1))
    assert board["ada"] == Max(7) and board.get("eve", Max()) == Max() and "eve" not in board and len(board) == 2


# -- causality


@few
@given(counts)
def test_equal_knowledge_is_equal_bytes(items: dict[int, int]) -> None:
    forwards, backwards = VersionVector(items.items()), VersionVector(reversed(items.items()))
    assert forwards.to_bytes() == backwards.to_bytes()
    assert VersionVector.from_bytes(forwards.to_bytes()) == forwards


@few
@given(counts, st.integers(0, 2), st.integers(1, 3))
def test_a_vector_contains_exactly_the_dots_up_to_its_counts(items: dict[int, int], replica: int, counter: int) -> None:
    assert (Dot(replica, counter) in VersionVector(items.items())) == (items.get(replica, 0) >= counter)


def test_concurrent_writes_stay_and_a_write_that_saw_both_replaces_both() -> None:
    here = Sibling(Dot(0, 1), VersionVector(), 5, "here")
    there = Sibling(Dot(1, 1), VersionVector(), 5, "there")
    both = MultiValue((here,)).join(MultiValue((there,)))
    assert [s.value for s in both.siblings] == ["there", "here"]  # equal clocks: the larger replica
    settled = Sibling(Dot(0, 2), VersionVector([(0, 1), (1, 1)]), 6, "settled")
    assert both.join(MultiValue((settled,))).siblings == (settled,)
