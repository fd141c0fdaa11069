"""Dot stores: content by the dots that wrote it, joined with the help of what each side has seen.

A dot that one side holds and the other has seen and holds no more was removed there, and goes; one that the other has
not seen is new to it, and stays. So per dot there are three states, unseen, held and removed, of which join takes the
latest: no tombstones are kept, and a write wins over a removal that had not seen it.
A store means nothing without its context, so it is no lattice; the types that pair the two are (`AddWinsSet`,
`MultiValue`). Every dot of a store is in its context.
Source: Almeida, Shoker and Baquero, "Delta State Replicated Data Types", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar

from kvs.causal.context import CausalContext
from kvs.causal.dot import Dot

V = TypeVar("V")
S = TypeVar("S", bound="DotStore")

_FEW = 256
"""A context of so many dots or fewer is looked up as a set: a small delta into a large map asks every key."""


class DotStore(Protocol):
    """Content by dot. Immutable; equal and hashable by content."""

    def dots(self) -> Iterator[Dot]:
        """Every dot that is held, some perhaps more than once."""
        ...

    def joined(self, seen: CausalContext, other: Self, other_seen: CausalContext) -> Self:
        """What both hold, and what either holds and the other has not seen."""
        ...

    def restricted(self, dots: CausalContext) -> Self:
        """What is held under these dots."""
        ...

    def has_any(self, dots: frozenset[Dot]) -> bool:
        """Whether one of these dots is held."""
        ...

    def lost(self, seen: CausalContext, newer: Self) -> Iterator[Dot]:
        """Dots held here that `newer`, in the context `seen`, has removed or holds with more content."""
        ...

    def __bool__(self) -> bool: ...


class DotSet:
    """Dots alone: whether something written by them is there."""

    __slots__ = ("_dots",)

    def __init__(self, dots: frozenset[Dot] = frozenset()) -> None:
        self._dots = dots

    def dots(self) -> Iterator[Dot]:
        return iter(self._dots)

    def joined(self, seen: CausalContext, other: DotSet, other_seen: CausalContext) -> DotSet:
        if self._dots == other._dots:
            return self
        both = self._dots & other._dots
        mine = (d for d in self._dots if d not in other_seen)
        theirs = (d for d in other._dots if d not in seen)
        return DotSet(both.union(mine, theirs))

    def restricted(self, dots: CausalContext) -> DotSet:
        return DotSet(frozenset(d for d in self._dots if d in dots))

    def has_any(self, dots: frozenset[Dot]) -> bool:
        return not dots.isdisjoint(self._dots)

    def lost(self, seen: CausalContext, newer: DotSet) -> Iterator[Dot]:
        return (d for d in self._dots - newer._dots if d in seen)

    def __bool__(self) -> bool:
        return bool(self._dots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DotSet) and self._dots == other._dots

    def __hash__(self) -> int:
        return hash(self._dots)


class DotFun(Generic[V]):
    """A value under each dot. `larger` joins two values under one dot: a broken promise that must not diverge."""

    __slots__ = ("_larger", "_values")

    def __init__(self, values: Mapping[Dot, V], larger: Callable[[V, V], V]) -> None:
        self._values = dict(values)
        self._larger = larger

    def dots(self) -> Iterator[Dot]:
        return iter(self._values)

    def items(self) -> Iterator[tuple[Dot, V]]:
        return iter(self._values.items())

    def joined(self, seen: CausalContext, other: DotFun[V], other_seen: CausalContext) -> DotFun[V]:
        held = {d: v for d, v in self._values.items() if d in other._values or d not in other_seen}
        for dot, value in other._values.items():
            if dot in held:
                held[dot] = self._larger(held[dot], value)
            elif dot not in seen:
                held[dot] = value
        return DotFun(held, self._larger)

    def restricted(self, dots: CausalContext) -> DotFun[V]:
        return DotFun({d: v for d, v in self._values.items() if d in dots}, self._larger)

    def has_any(self, dots: frozenset[Dot]) -> bool:
        return not dots.isdisjoint(self._values)

    def lost(self, seen: CausalContext, newer: DotFun[V]) -> Iterator[Dot]:
        for dot, value in self._values.items():
            theirs = newer._values.get(dot)
            if (theirs is None and dot in seen) or (theirs is not None and self._larger(value, theirs) != value):
                yield dot

    def __bool__(self) -> bool:
        return bool(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DotFun) and self._values == other._values

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))


class DotMap(Generic[S]):
    """A dot store under each key, all in one context; a key whose store is empty is not there."""

    __slots__ = ("_empty", "_stores")

    def __init__(self, stores: Mapping[Any, S], empty: S) -> None:
        self._stores = {key: store for key, store in stores.items() if store}
        self._empty = empty

    def dots(self) -> Iterator[Dot]:
        return (dot for store in self._stores.values() for dot in store.dots())

    def items(self) -> Iterator[tuple[Any, S]]:
        return iter(self._stores.items())

    def get(self, key: Any) -> S:
        """The store of a key, empty if it is not there."""
        return self._stores.get(key, self._empty)

    def joined(self, seen: CausalContext, other: DotMap[S], other_seen: CausalContext) -> DotMap[S]:
        joined = dict(self._stores)
        few = other_seen.dots(_FEW)
        for key, store in self._stores.items():
            if key not in other._stores and (few is None or store.has_any(few)):
                joined[key] = store.joined(seen, self._empty, other_seen)
        for key, store in other._stores.items():
            joined[key] = self.get(key).joined(seen, store, other_seen)
        return DotMap(joined, self._empty)

    def restricted(self, dots: CausalContext) -> DotMap[S]:
        return DotMap({key: store.restricted(dots) for key, store in self._stores.items()}, self._empty)

    def has_any(self, dots: frozenset[Dot]) -> bool:
        return any(store.has_any(dots) for store in self._stores.values())

    def lost(self, seen: CausalContext, newer: DotMap[S]) -> Iterator[Dot]:
        return (dot for key, store in self._stores.items() for dot in store.lost(seen, newer.get(key)))

    def __contains__(self, key: object) -> bool:
        return key in self._stores

    def __len__(self) -> int:
        return len(self._stores)

    def __bool__(self) -> bool:
        return bool(self._stores)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DotMap) and self._stores == other._stores

    def __hash__(self) -> int:
        return hash(frozenset(self._stores.items()))
