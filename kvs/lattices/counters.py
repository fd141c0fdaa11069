"""Counters: a replica adds to its own entry, and nobody else does, so that no increment is lost or counted twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, mutator
from kvs.lattices.errors import OutsideDomain

Replica = domain.Scalar


@lattice_type("g_counter")
class GCounter(Lattice):
    """A count that only grows: per replica the larger, bottom is 0 everywhere.

    Counts are integers of any size; a replica is named by any plain value, which no other replica may use.
    Source: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011.

    Raises:
        OutsideDomain: a count is negative or no integer, or a name is nothing plain.
    """

    __slots__ = ("_counts",)
    _counts: dict[Any, int]

    def __init__(self, counts: Mapping[Any, int] | Iterable[tuple[Any, int]] = ()) -> None:
        made: dict[Any, int] = {}
        for replica, count in counts.items() if isinstance(counts, Mapping) else counts:
            identity = domain.ident(domain.checked(replica, "a replica"))
            if _counted(count):
                made[identity] = max(count, made.get(identity, 0))
        set_field(self, "_counts", made)

    def _join(self, other: GCounter) -> GCounter:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        joined = dict(self._counts)
        for identity, count in other._counts.items():
            if count > joined.get(identity, 0):
                joined[identity] = count
        return _of_counts(joined)

    def _leq(self, other: GCounter) -> bool:
        return all(count <= other._counts.get(i, 0) for i, count in self._counts.items())

    def difference(self, known: GCounter) -> GCounter:
        if type(known) is not GCounter:
            raise self._mismatch(known)
        return _of_counts({i: count for i, count in self._counts.items() if count > known._counts.get(i, 0)})

    def atoms(self) -> Iterator[GCounter]:
        return (_of_counts({i: count}) for i, count in self._counts.items())

    @mutator
    def increment(self, replica: Replica, by: int = 1) -> GCounter:
        """The delta of `replica` counting `by` more. Join it into this value before that replica counts again.

        Raises:
            OutsideDomain: `by` is negative or no integer.
        """
        return GCounter([(replica, self.of(replica) + by)] if _counted(by) else [])

    def of(self, replica: Replica) -> int:
        """What `replica` counted."""
        return self._counts.get(domain.ident(replica), 0)

    @monotone
    def total(self) -> int:
        return sum(self._counts.values())

    @monotone
    def at_least(self, threshold: int) -> bool:
        return self.total() >= threshold

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Replicas and their counts, in the order of replicas."""
        names = sorted(map(domain.original, self._counts), key=domain.key)
        return ((name, self._counts[domain.ident(name)]) for name in names)

    def body(self) -> Any:
        return tuple(entry for pair in self for entry in pair)

    @classmethod
    def from_body(cls, body: Any) -> GCounter:
        return cls(zip(body[0::2], body[1::2], strict=True))

    def _key(self) -> Hashable:
        return frozenset(self._counts.items())

    def __repr__(self) -> str:
        return f"GCounter({domain.shown(self.total())}: {_listed(self)})" if self._counts else "GCounter(0)"


@lattice_type("pn_counter")
class PNCounter(Lattice):
    """A count that goes up and down: two counters that only grow; bottom is 0.

    Only the two halves are monotone: `total` is not, and reading it early may show a number that it comes back from.
    Source: Shapiro et al., 2011 (PN-Counter).
    """

    __slots__ = ("decrements", "increments")
    increments: GCounter
    decrements: GCounter

    def __init__(self, increments: GCounter | None = None, decrements: GCounter | None = None) -> None:
        for name, half in (("increments", increments), ("decrements", decrements)):
            half = GCounter() if half is None else half
            if not isinstance(half, GCounter):
                raise OutsideDomain(f"{half!r} as {name}", "is no GCounter", "Begin with PNCounter() and its deltas.")
            set_field(self, name, half)

    def _join(self, other: PNCounter) -> PNCounter:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        return PNCounter(self.increments.join(other.increments), self.decrements.join(other.decrements))

    def _leq(self, other: PNCounter) -> bool:
        return self.increments.leq(other.increments) and self.decrements.leq(other.decrements)

    def difference(self, known: PNCounter) -> PNCounter:
        if type(known) is not PNCounter:
            raise self._mismatch(known)
        return PNCounter(self.increments.difference(known.increments), self.decrements.difference(known.decrements))

    def atoms(self) -> Iterator[PNCounter]:
        yield from (PNCounter(up) for up in self.increments.atoms())
        yield from (PNCounter(None, down) for down in self.decrements.atoms())

    @mutator
    def increment(self, replica: Replica, by: int = 1) -> PNCounter:
        """The delta of `replica` adding `by`, which is not negative."""
        return PNCounter(self.increments.increment(replica, by))

    @mutator
    def decrement(self, replica: Replica, by: int = 1) -> PNCounter:
        """The delta of `replica` taking away `by`, which is not negative."""
        return PNCounter(None, self.decrements.increment(replica, by))

    def total(self) -> int:
        return self.increments.total() - self.decrements.total()

    @monotone
    def added(self) -> int:
        """The sum of all increments."""
        return self.increments.total()

    @monotone
    def taken(self) -> int:
        """The sum of all decrements."""
        return self.decrements.total()

    def body(self) -> Any:
        return (self.increments.body(), self.decrements.body())

    @classmethod
    def from_body(cls, body: Any) -> PNCounter:
        increments, decrements = body
        return cls(GCounter.from_body(increments), GCounter.from_body(decrements))

    def _key(self) -> Hashable:
        return (self.increments, self.decrements)

    def __repr__(self) -> str:
        if not self.added() and not self.taken():
            return "PNCounter(0)"
        return f"PNCounter({domain.shown(self.total())}: +[{_listed(self.increments)}] -[{_listed(self.decrements)}])"


def _counted(count: int) -> int:
    if type(count) is not int or count < 0:
        raise OutsideDomain(f"{count!r} as a count", "is no integer from 0", "Use int(...); to go down, a PNCounter.")
    return count


def _listed(counter: GCounter) -> str:
    return ", ".join(f"{domain.shown(name)} {domain.shown(count)}" for name, count in counter)


def _of_counts(counts: dict[Any, int]) -> GCounter:
    made: GCounter = GCounter.__new__(GCounter)
    set_field(made, "_counts", counts)
    return made
