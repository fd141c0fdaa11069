"""The product of two lattices."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

from kvs.lattices import codec
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.declared import morphism, mutator
from kvs.lattices.errors import LatticeMismatch, OutsideDomain

A = TypeVar("A", bound=Lattice)
B = TypeVar("B", bound=Lattice)


@codec.lattice_type("pair")
class Pair(Lattice, Generic[A, B]):
    """Two values that change together: join and order are by side, bottom is `Pair()`.

    A side that nobody wrote is None, which is below every lattice value, so that bottom needs no types.

    Raises:
        OutsideDomain: a side is no lattice.
    """

    __slots__ = ("first", "second")
    first: A | None
    second: B | None

    def __init__(self, first: A | None = None, second: B | None = None) -> None:
        for name, side in (("first", first), ("second", second)):
            if side is not None and not isinstance(side, Lattice):
                raise OutsideDomain(f"{side!r} as a side of a Pair", "is no lattice", "Wrap it: Max, GrowSet, ...")
            set_field(self, name, side)

    def _join(self, other: Pair[A, B]) -> Pair[A, B]:
        first = _joined("first", self.first, other.first)
        second = _joined("second", self.second, other.second)
        if first is self.first and second is self.second:
            return self
        return other if first is other.first and second is other.second else Pair(first, second)

    def _leq(self, other: Pair[A, B]) -> bool:
        return _leq("first", self.first, other.first) and _leq("second", self.second, other.second)

    def difference(self, known: Pair[A, B]) -> Pair[A, B]:
        if type(known) is not Pair:
            raise self._mismatch(known)
        return Pair(_lacking("first", self.first, known.first), _lacking("second", self.second, known.second))

    def atoms(self) -> Iterator[Pair[A, B]]:
        if self.first is not None:
            yield from (Pair(a, None) for a in _atoms(self.first))
        if self.second is not None:
            yield from (Pair(None, b) for b in _atoms(self.second))

    @mutator
    def merge_first(self, value: A) -> Pair[A, B]:
        """The delta of joining `value` into the first side."""
        delta: Pair[A, B] = Pair(value, None)
        return delta.difference(self)

    @mutator
    def merge_second(self, value: B) -> Pair[A, B]:
        """The delta of joining `value` into the second side."""
        delta: Pair[A, B] = Pair(None, value)
        return delta.difference(self)

    @morphism
    def read_first(self) -> A | None:
        return self.first

    @morphism
    def read_second(self) -> B | None:
        return self.second

    def body(self) -> Any:
        return tuple(None if side is None else codec.nested(side) for side in (self.first, self.second))

    @classmethod
    def from_body(cls, body: Any) -> Pair[Any, Any]:
        first, second = (None if side is None else codec.from_nested(side) for side in body)
        return cls(first, second)

    def _key(self) -> Hashable:
        return (self.first, self.second)

    def __repr__(self) -> str:
        if self.first is None and self.second is None:
            return "Pair()"
        return f"Pair({self.first!r}, {self.second!r})"


def _joined(name: str, mine: A | None, theirs: A | None) -> A | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    _check(name, mine, theirs)
    return mine.join(theirs)


def _leq(name: str, mine: A | None, theirs: A | None) -> bool:
    if mine is None or theirs is None:
        return mine is None
    _check(name, mine, theirs)
    return mine.leq(theirs)


def _lacking(name: str, mine: A | None, theirs: A | None) -> A | None:
    if mine is None or theirs is None:
        return mine
    return None if _leq(name, mine, theirs) else mine.difference(theirs)


def _atoms(side: A) -> Iterator[A]:
    atoms = [*side.atoms()]
    return iter(atoms or [side])


def _check(name: str, mine: Lattice, theirs: Lattice) -> None:
    if type(mine) is not type(theirs):
        raise LatticeMismatch(type(mine).__name__, type(theirs).__name__, f"the {name} of a Pair")
