"""A version vector: for each replica, how many of its commits are known, with no gap below.

It is a lattice: join is the larger count per replica, order is "knows no more than", bottom knows nothing. Where a
replica's commits arrive in order, a plain vector is a whole causal context; where they may not, `CausalContext` has the
dots beyond the gaps too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise, starmap
from typing import Any

from kvs.causal.dot import Dot
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator

_ENTRY = struct.Struct(">IQ")


@lattice_type("version_vector")
class VersionVector(Lattice):
    """Immutable and hashable; replicas with count 0 are not kept, so equal knowledge is equal bytes.

    Source: Parker et al., "Detection of mutual inconsistency in distributed systems", 1983.
    """

    __slots__ = ("_counts",)
    _counts: dict[int, int]

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        set_field(self, "_counts", {r: c for r, c in sorted(counts) if c > 0})

    def __getitem__(self, replica: int) -> int:
        return self._counts.get(replica, 0)

    def __contains__(self, dot: object) -> bool:
        return isinstance(dot, Dot) and self._counts.get(dot[0], 0) >= dot[1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._counts.items())

    def _join(self, other: VersionVector) -> VersionVector:
        if other._leq(self):
            return self
        merged = self._counts.copy()
        for replica, count in other._counts.items():
            if count > merged.get(replica, 0):
                merged[replica] = count
        return _of_counts(merged) if len(merged) == len(self._counts) else VersionVector(merged.items())

    def _leq(self, other: VersionVector) -> bool:
        theirs = other._counts.get
        for replica, count in self._counts.items():  # noqa: SIM110 (a generator costs more than this)
            if count > theirs(replica, 0):
                return False
        return True

    def advanced(self, dot: Dot) -> VersionVector:
        """With `dot` and everything before it of its replica known too."""
        replica, counter = dot
        known = self._counts.get(replica, 0)
        if counter <= known:
            return self
        if not known:
            return VersionVector([*self._counts.items(), dot])
        counts = self._counts.copy()
        counts[replica] = counter
        return _of_counts(counts)

    def difference(self, known: VersionVector) -> VersionVector:
        if type(known) is not VersionVector:
            raise self._mismatch(known)
        return VersionVector((r, c) for r, c in self if c > known[r])

    def atoms(self) -> Iterator[VersionVector]:
        return (VersionVector([entry]) for entry in self)

    @mutator
    def advance(self, replica: int, counter: int) -> VersionVector:
        """The delta of knowing `replica` up to `counter`."""
        return VersionVector([(replica, counter)]).difference(self)

    @morphism
    def knows(self, dot: Dot) -> bool:
        return dot in self

    @monotone
    def size(self) -> int:
        """How many commits are known."""
        return sum(self._counts.values())

    def to_bytes(self) -> bytes:
        """As stored in a lane. Canonical: equal vectors have equal bytes."""
        return b"".join(starmap(_ENTRY.pack, self._counts.items()))

    @classmethod
    def from_bytes(cls, data: bytes) -> VersionVector:
        """The vector that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no whole number of entries.
        """
        if len(data) % _ENTRY.size:
            raise ValueError("not a version vector")
        numbers = _numbers(len(data) // _ENTRY.size)(data)
        replicas, counts = numbers[::2], numbers[1::2]
        if _are_in_order(replicas) and 0 not in counts:
            return _of_counts(dict(zip(replicas, counts, strict=True)))
        return cls(zip(replicas, counts, strict=True))

    def body(self) -> Any:
        return tuple(entry for pair in self for entry in pair)

    @classmethod
    def from_body(cls, body: Any) -> VersionVector:
        if any(type(number) is not int or number < 0 for number in body):
            raise ValueError("an entry that is no count")
        return cls(zip(body[0::2], body[1::2], strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._counts == other._counts

    def __hash__(self) -> int:
        return hash(tuple(self._counts.items()))

    def __repr__(self) -> str:
        return f"VersionVector({', '.join(f'{r}:{c}' for r, c in self)})"


@lru_cache(128)
def _numbers(entries: int) -> Callable[[bytes], tuple[int, ...]]:
    """What takes so many entries out of bytes."""
    return struct.Struct(">" + "IQ" * entries).unpack


@lru_cache(128)
def _are_in_order(replicas: tuple[int, ...]) -> bool:
    """Whether each is greater than the one before; asked of the same replicas again and again."""
    return all(one < other for one, other in pairwise(replicas))


def _of_counts(counts: dict[int, int]) -> VersionVector:
    """Of counts above 0 that are in order."""
    made: VersionVector = VersionVector.__new__(VersionVector)
    set_field(made, "_counts", counts)
    return made
