"""Registers: one value, replaced by later writes or written once.

A register that is replaced is a lattice only if any two writes are in order. A clock alone gives ties, and a join that
breaks a tie by which side it stands on makes replicas differ for ever; so the order here goes on to the replica and its
counter, which no two writes share, and at last to the content, in case two writes share them after all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import Clash, NotReadable, OutsideDomain

T = TypeVar("T", bound=domain.Scalar)


@lattice_type("last")
class Last(Lattice, Generic[T]):
    """The latest write: join keeps the larger (clock, replica, counter, value), bottom is `Last()`.

    `clock` is a hybrid logical clock (`kvs.HybridClock`); (`replica`, `counter`) is the write's dot. The caller owes
    that one dot names one write; if two have the same name, the larger value stays, on every replica the same.
    Source: Johnson and Thomas, "The maintenance of duplicate databases", RFC 677, 1975.

    Raises:
        OutsideDomain: a number is negative or no integer, or the value is nan or nothing plain.
    """

    __slots__ = ("clock", "counter", "replica", "value")
    clock: int
    replica: int
    counter: int
    value: T | None

    def __init__(self, clock: int = -1, replica: int = -1, counter: int = -1, value: T | None = None) -> None:
        if (clock, replica, counter, value) != (-1, -1, -1, None):
            for name, number in (("clock", clock), ("replica", replica), ("counter", counter)):
                if type(number) is not int or number < 0:
                    raise OutsideDomain(f"{number!r} as {name}", "is no integer from 0", "Take it from a HybridClock.")
        set_field(self, "clock", clock)
        set_field(self, "replica", replica)
        set_field(self, "counter", counter)
        set_field(self, "value", domain.checked(value, "the value of a Last"))

    @property
    def order(self) -> tuple[int, int, int]:
        """The place of the write among all; values decide only where this is equal."""
        return (self.clock, self.replica, self.counter)

    def _join(self, other: Last[T]) -> Last[T]:
        return other if self._leq(other) else self

    def _leq(self, other: Last[T]) -> bool:
        if self.order != other.order:
            return self.order < other.order
        return domain.at_most(self.value, other.value)

    @mutator
    def write(self, clock: int, replica: int, counter: int, value: T) -> Last[T]:
        """The delta of writing `value`; bottom if a later write is here already."""
        written = Last(clock, replica, counter, value)
        return Last() if written._leq(self) else written

    @morphism
    def is_written(self) -> bool:
        return self.clock >= 0

    @monotone
    def newest(self) -> int:
        """The clock of the write that holds, -1 before the first."""
        return self.clock

    def body(self) -> Any:
        return (self.clock, self.replica, self.counter, self.value)

    @classmethod
    def from_body(cls, body: Any) -> Last[Any]:
        clock, replica, counter, value = body
        return cls(clock, replica, counter, value)

    def _key(self) -> Hashable:
        return (self.order, domain.key(self.value))

    def __repr__(self) -> str:
        if self.clock < 0:
            return "Last()"
        return f"Last({domain.shown(self.value)} by {self.replica}.{self.counter} at {self.clock})"


@lattice_type("write_once")
class WriteOnce(Lattice, Generic[T]):
    """A value that is written once: bottom is unwritten, two different values clash, and a clash stays.

    A clash keeps the two smallest of the values that met in it, so that every replica names the same two.
    Source: Hellerstein et al., hydro `lattices` (Conflict), where a clash keeps nothing.

    Raises:
        OutsideDomain: a value is nan or nothing plain.
    """

    __slots__ = ("_values",)
    _values: tuple[T, ...]

    def __init__(self, *values: T) -> None:
        distinct = {domain.ident(domain.checked(v, "the value of a WriteOnce")): v for v in values}
        set_field(self, "_values", tuple(sorted(distinct.values(), key=domain.key)[:2]))

    def _join(self, other: WriteOnce[T]) -> WriteOnce[T]:
        joined = WriteOnce(*self._values, *other._values)
        return self if joined == self else other if joined == other else joined

    def atoms(self) -> Iterator[WriteOnce[T]]:
        return (WriteOnce(value) for value in self._values)

    @mutator
    def write(self, value: T) -> WriteOnce[T]:
        """The delta of writing `value`."""
        return WriteOnce(value).difference(self)

    @property
    def value(self) -> T:
        """What was written.

        Raises:
            NotReadable: nothing was.
            Clash: two different values were.
        """
        if not self._values:
            raise NotReadable("nothing was written yet. Ask `is_written()` first.")
        if self.is_clash():
            one, other = map(domain.shown, self._values)
            raise Clash(
                f"what may be written once was written as {one} and as {other}. Write both under names of their own."
            )
        return self._values[0]

    @morphism
    def is_written(self) -> bool:
        return bool(self._values)

    @monotone
    def is_clash(self) -> bool:
        return len(self._values) > 1

    def body(self) -> Any:
        return self._values

    @classmethod
    def from_body(cls, body: Any) -> WriteOnce[Any]:
        return cls(*body)

    def _key(self) -> Hashable:
        return domain.key(self._values)

    def __repr__(self) -> str:
        if self.is_clash():
            return f"WriteOnce(clash of {domain.shown(self._values[0])} and {domain.shown(self._values[1])})"
        return f"WriteOnce({', '.join(map(domain.shown, self._values))})"
