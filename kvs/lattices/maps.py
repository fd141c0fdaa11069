"""Maps whose values are lattices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from kvs.lattices.base import Lattice

K = TypeVar("K")
V = TypeVar("V", bound=Lattice)


class Map(Generic[K, V]):
    """A map that grows by key and joins by value: order is by key, bottom is the empty map.

    Immutable and hashable. A key that is absent is below every value of it, the value's own bottom included: a map that
    has a key with bottom in it is larger than one without. Join costs O(keys of both sides), and shares what is equal.
    Source: Conway et al., "Logic and Lattices for Distributed Programming", 2012 (lmap).
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] = MappingProxyType({})) -> None:
        self._items: Mapping[K, V] = MappingProxyType(dict(items))  # a copy: the caller may go on changing theirs

    def join(self, other: Map[K, V]) -> Map[K, V]:
        """Every key of either side, joined where both have it."""
        joined = dict(self._items)
        for key, value in other._items.items():
            joined[key] = joined[key].join(value) if key in joined else value
        return Map(joined)

    def leq(self, other: Map[K, V]) -> bool:
        return all(key in other._items and value.leq(other._items[key]) for key, value in self._items.items())

    def merged(self, key: K, value: V) -> Map[K, V]:
        """With `value` joined into what `key` holds."""
        return self.join(Map({key: value}))

    def get(self, key: K, bottom: V) -> V:
        """What `key` holds, or `bottom`."""
        return self._items.get(key, bottom)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Map) and dict(self._items) == dict(other._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Map({dict(self._items)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Map, (dict(self._items),))
