"""Lattices of sets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import OutsideDomain

T = TypeVar("T", bound=domain.Scalar)


@lattice_type("grow_set")
class GrowSet(Lattice, Generic[T]):
    """A set that only grows: join is union, order is subset, bottom is the empty set.

    Elements are plain values; `1`, `1.0` and `True` are three. Iteration is in the order of `kvs.lattices.domain`.
    Source: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011 (G-Set).

    Raises:
        OutsideDomain: an element is nan, or nothing plain.
    """

    __slots__ = ("_idents",)
    _idents: frozenset[Any]

    def __init__(self, elements: Iterable[T] = ()) -> None:
        if isinstance(elements, str | bytes):
            raise OutsideDomain(
                f"GrowSet({elements!r})", "would be the set of its characters", "Write GrowSet([...]) around it."
            )
        set_field(self, "_idents", frozenset(domain.ident(domain.checked(e, "an element")) for e in elements))

    def _join(self, other: GrowSet[T]) -> GrowSet[T]:
        if self._idents <= other._idents:
            return other
        return self if other._idents <= self._idents else _of_idents(self._idents | other._idents)

    def _leq(self, other: GrowSet[T]) -> bool:
        return self._idents <= other._idents

    def difference(self, known: GrowSet[T]) -> GrowSet[T]:
        if type(known) is not GrowSet:
            raise self._mismatch(known)
        return _of_idents(self._idents - known._idents)

    def atoms(self) -> Iterator[GrowSet[T]]:
        return (_of_idents(frozenset([i])) for i in self._idents)

    @mutator
    def add(self, *elements: T) -> GrowSet[T]:
        """The delta of having `elements` too."""
        return GrowSet(elements).difference(self)

    @morphism
    def contains(self, element: T) -> bool:
        return element in self

    @morphism
    def restricted(self, elements: Iterable[T]) -> GrowSet[T]:
        """What is also among `elements`."""
        return _of_idents(self._idents & GrowSet(elements)._idents)

    @morphism
    def image(self, function: Callable[[T], T]) -> GrowSet[T]:
        """`function` of every element."""
        return GrowSet(map(function, self))

    @monotone
    def size(self) -> int:
        return len(self._idents)

    def __contains__(self, element: object) -> bool:
        return domain.ident(domain.checked(element, "an element")) in self._idents

    def __iter__(self) -> Iterator[T]:
        return iter(sorted(map(domain.original, self._idents), key=domain.key))

    def __len__(self) -> int:
        return len(self._idents)

    def body(self) -> Any:
        return tuple(self)

    @classmethod
    def from_body(cls, body: Any) -> GrowSet[Any]:
        return cls(body)

    def _key(self) -> Hashable:
        return self._idents

    def __repr__(self) -> str:
        return f"GrowSet([{', '.join(map(domain.shown, self))}])"


def _of_idents(idents: frozenset[Any]) -> GrowSet[Any]:
    made: GrowSet[Any] = GrowSet.__new__(GrowSet)
    set_field(made, "_idents", idents)
    return made
