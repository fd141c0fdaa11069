"""Maps whose values are lattices."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from kvs.lattices import codec, domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import LatticeMismatch, OutsideDomain
from kvs.lattices.sets import GrowSet

K = TypeVar("K", bound=domain.Scalar)
V = TypeVar("V", bound=Lattice)


@codec.lattice_type("map")
class Map(Lattice, Generic[K, V]):
    """A map that grows by key and joins by value: order is by key, bottom is the empty map.

    Keys are plain values (`1` and `True` are two keys); values are lattices, of any types, but of one type a key. A key
    that is absent is below every value of it, the value's own bottom included: a map that has a key with bottom in it
    is larger than one without. Join costs O(keys of both sides), and shares what is equal.
    Source: Conway et al., "Logic and Lattices for Distributed Programming", 2012 (lmap).

    Raises:
        OutsideDomain: a key is nan or nothing plain, or a value is no lattice.
    """

    __slots__ = ("_items",)
    _items: dict[Any, V]

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        pairs = items.items() if isinstance(items, Mapping) else items
        made: dict[Any, V] = {}
        for key, value in pairs:
            identity = domain.ident(domain.checked(key, "a key"))
            made[identity] = made[identity].join(_lattice(value)) if identity in made else _lattice(value)
        set_field(self, "_items", made)

    def _join(self, other: Map[K, V]) -> Map[K, V]:
        if not other._items or other is self:
            return self
        if not self._items:
            return other
        joined, changed = dict(self._items), False
        for identity, value in other._items.items():
            mine = joined.get(identity)
            if mine is value:
                continue
            both = value if mine is None else _joined(identity, mine, value)
            if both is not mine:
                joined[identity], changed = both, True
        if not changed:
            return self
        return other if len(joined) == len(other._items) and self._leq(other) else _of_items(joined)

    def _leq(self, other: Map[K, V]) -> bool:
        if len(self._items) > len(other._items):
            return False
        for identity, value in self._items.items():
            theirs = other._items.get(identity)
            if theirs is None or not _leq(identity, value, theirs):
                return False
        return True

    def difference(self, known: Map[K, V]) -> Map[K, V]:
        if type(known) is not Map:
            raise self._mismatch(known)
        lacking: dict[Any, V] = {}
        for identity, value in self._items.items():
            theirs = known._items.get(identity)
            if theirs is None:
                lacking[identity] = value
            elif theirs is not value and not _leq(identity, value, theirs):
                lacking[identity] = value.difference(theirs)
        return _of_items(lacking)

    def atoms(self) -> Iterator[Map[K, V]]:
        for identity, value in self._items.items():
            empty = True
            for atom in value.atoms():
                empty = False
                yield _of_items({identity: atom})
            if empty:
                yield _of_items({identity: value})

    @mutator
    def merge(self, key: K, value: V) -> Map[K, V]:
        """The delta of joining `value` into what `key` holds."""
        return Map({key: value}).difference(self)

    @morphism
    def at(self, key: K) -> V | None:
        """What `key` holds; None is below every value."""
        return self._items.get(domain.ident(key))

    def get(self, key: K, bottom: V) -> V:
        """What `key` holds, or `bottom`."""
        return self._items.get(domain.ident(key), bottom)

    @morphism
    def contains(self, key: K) -> bool:
        return key in self

    @morphism
    def restricted(self, keys: Iterable[K]) -> Map[K, V]:
        """The map without any keys but these."""
        wanted = {domain.ident(k) for k in keys}
        return _of_items({i: v for i, v in self._items.items() if i in wanted})

    @morphism
    def keys(self) -> GrowSet[K]:
        return GrowSet(map(domain.original, self._items))

    @monotone
    def size(self) -> int:
        return len(self._items)

    def items(self) -> Iterator[tuple[K, V]]:
        """Keys and values, in the order of keys."""
        return ((key, self._items[domain.ident(key)]) for key in self)

    def __getitem__(self, key: K) -> V:
        return self._items[domain.ident(key)]

    def __contains__(self, key: object) -> bool:
        return domain.ident(domain.checked(key, "a key")) in self._items

    def __iter__(self) -> Iterator[K]:
        return iter(sorted(map(domain.original, self._items), key=domain.key))

    def __len__(self) -> int:
        return len(self._items)

    def body(self) -> Any:
        """[tag, key, body, ...] where all values are of one type, else [None, key, [tag, body], ...]."""
        tags = {value.tag for value in self._items.values()}
        tag = tags.pop() if len(tags) == 1 else None
        flat: list[Any] = [tag]
        for key, value in self.items():
            flat += (key, value.body() if tag else codec.nested(value))
        return tuple(flat)

    @classmethod
    def from_body(cls, body: Any) -> Map[Any, Any]:
        tag, keys, values = body[0], body[1::2], body[2::2]
        one = codec.from_nested if tag is None else codec.type_of(tag).from_body
        return _of_pairs(zip(keys, map(one, values), strict=True))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Map and self._items == other._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def _key(self) -> Hashable:
        return frozenset(self._items.items())

    def __repr__(self) -> str:
        return f"Map({{{', '.join(f'{domain.shown(k)}: {v!r}' for k, v in self.items())}}})"


def _of_items(items: dict[Any, Any]) -> Map[Any, Any]:
    made: Map[Any, Any] = Map.__new__(Map)
    set_field(made, "_items", items)
    return made


def _of_pairs(pairs: Iterable[tuple[Any, Any]]) -> Map[Any, Any]:
    return Map(pairs)


def _lattice(value: V) -> V:
    if not isinstance(value, Lattice):
        raise OutsideDomain(
            f"{value!r} as a value of a Map", "is no lattice", "Wrap it: Last for the newest, Max, GrowSet, ..."
        )
    return value


def _joined(identity: Any, mine: V, theirs: V) -> V:
    if type(mine) is not type(theirs):
        raise _mismatch(identity, mine, theirs)
    return mine.join(theirs)


def _leq(identity: Any, mine: V, theirs: V) -> bool:
    if type(mine) is not type(theirs):
        raise _mismatch(identity, mine, theirs)
    return mine.leq(theirs)


def _mismatch(identity: Any, mine: Lattice, theirs: Lattice) -> LatticeMismatch:
    where = f"key {domain.shown(domain.original(identity))}"
    return LatticeMismatch(type(mine).__name__, type(theirs).__name__, where)
