"""The kit itself: each promise of a lattice, broken on purpose, is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st

from kvs.errors import KvsError
from kvs.lattices import GrowSet, Lattice, Max, lattice_type, monotone, morphism, mutator
from kvs.lattices.base import set_field
from kvs.testing import LawBroken, check_lattice, check_laws


@dataclass(frozen=True)
class MeanOfBoth:
    """Joins to the mean: idempotent and commutative, and not associative."""

    value: float = 0.0

    def join(self, other: MeanOfBoth) -> MeanOfBoth:
        return MeanOfBoth((self.value + other.value) / 2)

    def leq(self, other: MeanOfBoth) -> bool:
        return self.join(other) == other


@dataclass(frozen=True)
class Sum:
    """Adds up: a message that arrives twice counts twice."""

    value: int = 0

    def join(self, other: Sum) -> Sum:
        return Sum(self.value + other.value)

    def leq(self, other: Sum) -> bool:
        return self.value <= other.value


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
        ((Sum(1), Sum(2), Sum(3)), Sum(), "idempotent"),
        ((MixedNumbers(1), MixedNumbers(True), MixedNumbers(2)), MixedNumbers(), "commutative"),
        (
            (MixedNumbers(float("nan")), MixedNumbers(1), MixedNumbers(2)),
            MixedNumbers(),
            "identity|idempotent|reflexive|commutative",
        ),
        ((MixedNumbers(0.0), MixedNumbers(-0.0), MixedNumbers(1)), MixedNumbers(-1), "commutative"),
    ],
)
def test_a_broken_law_is_named(values: tuple[Any, Any, Any], bottom: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_laws(*values, bottom=bottom)


# -- a lattice of small integers, right as it stands, and each of its promises broken in one subclass


@lattice_type("tests.highest")
class Highest(Lattice):
    """The largest of integers from 0; bottom is 0."""

    __slots__ = ("value",)
    value: int

    def __init__(self, value: int = 0) -> None:
        set_field(self, "value", value)

    def _join(self, other: Highest) -> Highest:
        return type(self)(max(self.value, other.value))

    @mutator
    def reach(self, value: int) -> Highest:
        return type(self)(value if value > self.value else 0)

    @monotone
    def read(self) -> int:
        return self.value

    @morphism
    def positive(self) -> bool:
        return self.value > 0

    def body(self) -> Any:
        return self.value

    @classmethod
    def from_body(cls, body: Any) -> Highest:
        if type(body) is not int or body < 0:
            raise ValueError("no integer from 0")
        return cls(body)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value})"


@lattice_type("tests.sends_all")
class SendsAll(Highest):
    def difference(self, known: Highest) -> Any:
        if type(known) is not type(self):
            raise self._mismatch(known)
        return self


@lattice_type("tests.sends_nothing")
class SendsNothing(Highest):
    def difference(self, known: Highest) -> Any:
        if type(known) is not type(self):
            raise self._mismatch(known)
        return type(self)()


@lattice_type("tests.splits_wrong")
class SplitsWrong(Highest):
    def atoms(self) -> Iterator[Any]:
        return iter([type(self)(self.value), type(self)(self.value - 1)] if self.value > 1 else super().atoms())


@lattice_type("tests.delta_too_large")
class DeltaTooLarge(Highest):
    @mutator
    def reach(self, value: int) -> Any:
        return type(self)(max(value, self.value))


@lattice_type("tests.delta_of_something_else")
class DeltaOfSomethingElse(Highest):
    @mutator
    def reach(self, value: int) -> Any:
        return type(self)(value + 1 if value > self.value else 0)


@lattice_type("tests.goes_down")
class GoesDown(Highest):
    @monotone
    def read(self) -> int:
        return self.value % 3


@lattice_type("tests.no_morphism")
class NoMorphism(Highest):
    @morphism
    def even(self) -> bool:
        return self.value % 2 == 0 and self.value > 0


@lattice_type("tests.two_forms")
class TwoForms(Highest):
    """Equal values, by a `_key` that forgets, with different bytes."""

    def _key(self) -> int:
        return self.value // 2


@lattice_type("tests.loses_bits")
class LosesBits(Highest):
    def body(self) -> Any:
        return min(self.value, 2)


@lattice_type("tests.joins_with_all")
class JoinsWithAll(Highest):
    def join(self, other: Any) -> Any:
        return self._join(other) if hasattr(other, "value") else self


@lattice_type("tests.refuses_all")
class RefusesAll(Highest):
    @mutator
    def reach(self, value: int) -> Any:
        raise REFUSAL


REFUSAL = KvsError("no")


@lattice_type("tests.soft")
class Soft(Highest):
    def __setattr__(self, name: str, value: object) -> None:  # type: ignore[override]
        object.__setattr__(self, name, value)


def run(cls: type[Any], **more: Any) -> None:
    arguments = {"reach": st.tuples(st.integers(0, 4))}
    meanings: dict[str, Callable[..., Any]] = {"reach": lambda x, value: type(x)(max(x.value, value))}
    check_lattice(cls, st.integers(0, 4).map(cls), arguments=arguments, meanings=meanings, examples=100, **more)


def test_a_lattice_that_keeps_its_promises_passes() -> None:
    run(Highest, order=lambda a, b: a.value <= b.value)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (SendsAll, "holds what is known|not bottom exactly"),
        (SendsNothing, "difference is not enough"),
        (SplitsWrong, "in the others|splits again"),
        (DeltaTooLarge, "reach sends what is known"),
        (DeltaOfSomethingElse, "reach does not write"),
        (GoesDown, "read.* is declared monotone and goes from"),
        (NoMorphism, "even.* is no morphism"),
        (TwoForms, "== says less"),
        (LosesBits, "a copy of a value is another one"),
        (JoinsWithAll, "joins with another lattice"),
        (RefusesAll, "reach refused every write"),
    ],
)
def test_a_broken_promise_is_named(cls: type[Any], law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        run(cls)


def test_an_order_that_is_another_is_noticed() -> None:
    with pytest.raises(LawBroken, match="leq is not the order it should be"):
        run(Highest, order=lambda a, b: a.value >= b.value)


def test_the_smallest_values_are_in_the_text() -> None:
    with pytest.raises(LawBroken) as caught:
        check_lattice(
            NoMorphism, st.integers(0, 1000).map(NoMorphism), arguments={"reach": st.just((1,))}, examples=200
        )
    assert "NoMorphism(1)" in str(caught.value) or "NoMorphism(2)" in str(caught.value)


def test_a_value_that_can_be_changed_is_noticed() -> None:
    with pytest.raises(LawBroken, match="can be changed"):
        run(Soft)


def test_a_value_refuses_changes_with_the_remedy() -> None:
    value = Max(3)
    with pytest.raises(AttributeError, match=r"a Max does not change\. Join a delta into it"):
        value.value = 4
    with pytest.raises(AttributeError, match="does not change"):
        del value.value
    assert value == Max(3) and Max[int](3) == value and GrowSet[int]([1]) == GrowSet([1])
