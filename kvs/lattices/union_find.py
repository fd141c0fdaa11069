"""Which things are the same thing: equivalence classes that only merge."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, mutator

T = TypeVar("T", bound=domain.Scalar)


@lattice_type("union_find")
class UnionFind(Lattice, Generic[T]):
    """A partition of all plain values: join merges classes that share an element, bottom has every value alone.

    Order: every class lies within one of the other's. `same` is monotone and no morphism (a~b here and b~c there make
    a~c in the join alone). Join costs O(elements of both sides), nearly.
    Source: Galler and Fischer, "An improved equivalence algorithm", 1964.

    Raises:
        OutsideDomain: an element is nan or nothing plain.
    """

    __slots__ = ("_root",)
    _root: dict[Any, Any]  # of every element that is not alone: the smallest of its class

    def __init__(self, classes: Iterable[Iterable[T]] = ()) -> None:
        parent: dict[Any, Any] = {}
        for members in classes:
            idents = [domain.ident(domain.checked(m, "an element")) for m in members]
            for identity in idents[1:]:
                _unite(parent, idents[0], identity)
        set_field(self, "_root", _flat(parent))

    def _join(self, other: UnionFind[T]) -> UnionFind[T]:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        parent = dict(self._root)
        for identity, root in other._root.items():
            _unite(parent, identity, root)
        return _of_roots(_flat(parent))

    def _leq(self, other: UnionFind[T]) -> bool:
        return all(other._find(i) == other._find(root) for i, root in self._root.items())

    def _find(self, identity: Any) -> Any:
        return self._root.get(identity, identity)

    def atoms(self) -> Iterator[UnionFind[T]]:
        """Pairs of an element and the smallest of its class: one of several ways to split."""
        for identity, root in sorted(self._root.items(), key=lambda pair: domain.key(domain.original(pair[0]))):
            if identity != root:
                yield _of_roots({identity: root, root: root})

    @mutator
    def union(self, a: T, b: T) -> UnionFind[T]:
        """The delta of `a` and `b` being the same."""
        return UnionFind() if self.same(a, b) else UnionFind([(a, b)])

    @monotone
    def same(self, a: T, b: T) -> bool:
        """Whether `a` and `b` are known to be the same."""
        return bool(self._find(domain.ident(a)) == self._find(domain.ident(b)))

    @monotone
    def merges(self) -> int:
        """How many unions made this, at least: elements less classes."""
        return len(self._root) - len(set(self._root.values()))

    def classes(self) -> tuple[tuple[T, ...], ...]:
        """Classes of two or more, each in order, by their smallest element."""
        found: dict[Any, list[T]] = {}
        for element in sorted(map(domain.original, self._root), key=domain.key):
            found.setdefault(self._root[domain.ident(element)], []).append(element)
        return tuple(map(tuple, found.values()))

    def body(self) -> Any:
        return self.classes()

    @classmethod
    def from_body(cls, body: Any) -> UnionFind[Any]:
        return cls(body)

    def _key(self) -> Hashable:
        return frozenset(self._root.items())

    def __repr__(self) -> str:
        return f"UnionFind({', '.join('~'.join(map(domain.shown, c)) for c in self.classes())})"


def _find(parent: dict[Any, Any], identity: Any) -> Any:
    root = identity
    while parent.setdefault(root, root) != root:
        root = parent[root]
    while parent[identity] != root:
        parent[identity], identity = root, parent[identity]
    return root


def _unite(parent: dict[Any, Any], a: Any, b: Any) -> None:
    parent[_find(parent, b)] = _find(parent, a)


def _flat(parent: dict[Any, Any]) -> dict[Any, Any]:
    """Every element by the smallest of its class; those that are alone are left out."""
    members: dict[Any, list[Any]] = {}
    for identity in list(parent):
        members.setdefault(_find(parent, identity), []).append(identity)
    flat = {}
    for idents in members.values():
        if len(idents) > 1:
            smallest = min(idents, key=lambda i: domain.key(domain.original(i)))
            flat.update(dict.fromkeys(idents, smallest))
    return flat


def _of_roots(roots: dict[Any, Any]) -> UnionFind[Any]:
    made: UnionFind[Any] = UnionFind.__new__(UnionFind)
    set_field(made, "_root", roots)
    return made
