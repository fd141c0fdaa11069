"""A causal context: which writes were seen, in any order of arrival.

A version vector says "the first n of each replica" and can say nothing of a write that overtook an earlier one. A
context keeps runs of counters: the one that begins at 1 is the vector's entry, those beyond a gap are its dot cloud,
and a cloud that closes its gap becomes part of the vector by itself.
Source: Almeida, Shoker and Baquero, "Delta State Replicated Data Types", 2018 (causal contexts, compaction).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from kvs.causal import runs
from kvs.causal.dot import Dot
from kvs.causal.version_vector import VersionVector
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import OutsideDomain


@lattice_type("causal_context")
class CausalContext(Lattice):
    """A set of dots: join is union, order is subset, bottom has seen nothing. Size and cost follow the gaps.

    Raises:
        OutsideDomain: a replica is no integer from 0, or a counter none from 1.
    """

    __slots__ = ("_runs",)
    _runs: dict[int, runs.Runs]

    def __init__(self, dots: Iterable[tuple[int, int]] = ()) -> None:
        found: dict[int, list[tuple[int, int]]] = {}
        for replica, counter in dots:
            checked_dot(replica, counter)
            found.setdefault(replica, []).append((counter, counter))
        set_field(self, "_runs", {replica: runs.of(found[replica]) for replica in sorted(found)})

    @classmethod
    def of_vector(cls, vector: VersionVector) -> CausalContext:
        """What a vector has seen."""
        return _of_runs({replica: ((1, count),) for replica, count in vector})

    @property
    def vector(self) -> VersionVector:
        """Per replica what was seen with no gap below."""
        return VersionVector((r, seen[0][1]) for r, seen in self._runs.items() if seen[0][0] == 1)

    def cloud(self) -> Iterator[Dot]:
        """The dots beyond gaps, in order."""
        for replica, seen in self._runs.items():
            for first, last in seen:
                if first > 1:
                    yield from (Dot(replica, counter) for counter in range(first, last + 1))

    def dots(self, limit: int) -> frozenset[Dot] | None:
        """All dots as a set, or None if they are more than `limit`."""
        if self.size() > limit:
            return None
        return frozenset(
            Dot(r, n) for r, seen in self._runs.items() for first, last in seen for n in range(first, last + 1)
        )

    def next_dot(self, replica: int) -> Dot:
        """A dot above all that were seen of `replica`: the name of its next write, if it has seen all of its own."""
        seen = self._runs.get(replica)
        return Dot(replica, seen[-1][1] + 1 if seen else 1)

    def _join(self, other: CausalContext) -> CausalContext:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        joined = dict(self._runs)
        for replica, seen in other._runs.items():
            joined[replica] = runs.union(joined.get(replica, ()), seen)
        return _of_runs(joined)

    def _leq(self, other: CausalContext) -> bool:
        return all(runs.within(seen, other._runs.get(replica, ())) for replica, seen in self._runs.items())

    def difference(self, known: CausalContext) -> CausalContext:
        if type(known) is not CausalContext:
            raise self._mismatch(known)
        left = {r: runs.minus(seen, known._runs.get(r, ())) for r, seen in self._runs.items()}
        return _of_runs({r: seen for r, seen in left.items() if seen})

    def atoms(self) -> Iterator[CausalContext]:
        """One a dot: as many as there were writes."""
        for replica, seen in self._runs.items():
            for first, last in seen:
                yield from (_of_runs({replica: ((counter, counter),)}) for counter in range(first, last + 1))

    @mutator
    def add(self, *dots: tuple[int, int]) -> CausalContext:
        """The delta of having seen `dots`."""
        return CausalContext(dots).difference(self)

    @morphism
    def has_seen(self, dot: Dot) -> bool:
        return dot in self

    @monotone
    def known(self) -> VersionVector:
        """`vector`: it only grows, though not by each side alone (a dot may close the other side's gap)."""
        return self.vector

    @monotone
    def size(self) -> int:
        """How many dots were seen."""
        return sum(last - first + 1 for seen in self._runs.values() for first, last in seen)

    def __contains__(self, dot: object) -> bool:
        return isinstance(dot, Dot) and runs.contains(self._runs.get(dot.replica, ()), dot.counter)

    def body(self) -> Any:
        """(replica, (first, last, ...)) of each replica in order."""
        return tuple((replica, tuple(end for run in seen for end in run)) for replica, seen in self._runs.items())

    @classmethod
    def from_body(cls, body: Any) -> CausalContext:
        found = {}
        for replica, ends in body:
            seen = tuple(zip(ends[0::2], ends[1::2], strict=True))
            for first, last in seen:
                checked_dot(replica, first)
                checked_dot(replica, last)
                if last < first:
                    raise ValueError("a run that ends before it begins")
            if not seen:
                raise ValueError("a replica with nothing seen")
            found[replica] = runs.of(seen)
        return _of_runs(found)

    def _key(self) -> Hashable:
        return tuple(self._runs.items())

    def __repr__(self) -> str:
        shown = (
            f"{replica}:" + "+".join(f"{first}" if first == last else f"{first}-{last}" for first, last in seen)
            for replica, seen in self._runs.items()
        )
        return f"CausalContext({', '.join(shown)})"


def checked_dot(replica: Any, counter: Any) -> Dot:
    """The dot of these numbers.

    Raises:
        OutsideDomain: they are none of one.
    """
    if type(replica) is not int or replica < 0 or type(counter) is not int or counter < 1:
        raise OutsideDomain(f"{replica!r}.{counter!r}", "is no dot", "Replicas count from 0, their writes from 1.")
    return Dot(replica, counter)


def _of_runs(found: dict[int, runs.Runs]) -> CausalContext:
    made: CausalContext = CausalContext.__new__(CausalContext)
    set_field(made, "_runs", {replica: found[replica] for replica in sorted(found)})
    return made
