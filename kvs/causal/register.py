"""A multi-value register: the writes of one key that no other write of it has seen.

Join keeps every write that neither side knows to be superseded. The values form an antichain under "was seen by", so
that join is associative, commutative and idempotent whatever the order of arrival; a deletion is a write like any
other, with nothing in it.
Source: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011 (MV-Register).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kvs.causal.dot import Dot
from kvs.causal.version_vector import VersionVector

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sibling(Generic[T]):
    """One write: its name, what its writer had seen, its time for breaking ties, and what it wrote."""

    dot: Dot
    context: VersionVector
    hlc: int
    value: T

    @property
    def order(self) -> tuple[int, int, int]:
        """A total order: no two writes are equal in it."""
        return (self.hlc, self.dot.replica, self.dot.counter)


@dataclass(frozen=True)  # no slots: with them `MultiValue[int]()` fails in Python 3.11
class MultiValue(Generic[T]):
    """Siblings, the deterministic winner first. Bottom is the empty register."""

    siblings: tuple[Sibling[T], ...] = ()

    def join(self, other: MultiValue[T]) -> MultiValue[T]:
        return MultiValue(surviving([*self.siblings, *other.siblings]))

    def leq(self, other: MultiValue[T]) -> bool:
        return self.join(other) == other


def surviving(writes: Iterable[Sibling[T]]) -> tuple[Sibling[T], ...]:
    """The writes that no other of them has seen, newest first; duplicates count once. O(n²) in concurrent writes."""
    distinct = {write.dot: write for write in writes}
    alive = [w for w in distinct.values() if not any(w.dot in o.context for o in distinct.values() if o is not w)]
    return tuple(sorted(alive, key=lambda w: w.order, reverse=True))
