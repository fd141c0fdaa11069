"""Lattices of sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)  # no slots: with them `GrowSet[int](...)` fails in Python 3.11
class GrowSet(Generic[T]):
    """A set that only grows: join is union, order is subset, bottom is the empty set.

    Elements that are equal are one element (`1`, `1.0` and `True` are): keep to one type in one set.
    Source: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011 (G-Set).
    """

    elements: frozenset[T] = frozenset()

    def __post_init__(self) -> None:
        # A set that its maker goes on changing would change this value. A frozenset is not copied.
        object.__setattr__(self, "elements", frozenset(self.elements))

    def join(self, other: GrowSet[T]) -> GrowSet[T]:
        """The union. O(both sizes), and no copy where one side holds the other."""
        if self.leq(other):
            return other
        return self if other.leq(self) else GrowSet(self.elements | other.elements)

    def leq(self, other: GrowSet[T]) -> bool:
        return self.elements <= other.elements

    def added(self, *elements: T) -> GrowSet[T]:
        """With `elements` too."""
        return GrowSet(self.elements.union(elements))

    def __contains__(self, element: object) -> bool:
        return element in self.elements

    def __iter__(self) -> Iterator[T]:
        return iter(self.elements)

    def __len__(self) -> int:
        return len(self.elements)
