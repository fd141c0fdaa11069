"""A walk over a graph of objects in Python, level by level: what `_graph.c` does, where that was not built."""

from __future__ import annotations

import gc
import itertools
import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lambdakernel.state.kinds import BASES, Kind, Role, study
from lambdakernel.state.snapshots import Leaf, Snapshot


class _Level(msgspec.Struct, eq=False):
    """Objects at one distance from the roots: their types, and their children together."""

    types: array[int]
    numbers: list[list[Any]]
    children: _Sorted


class _Sorted(msgspec.Struct, eq=False):
    """References in their order: the atoms among them, which are kept alive, and the addresses of the rest."""

    atoms: list[Any] = msgspec.field(default_factory=list)
    others: array[int] = msgspec.field(default_factory=lambda: array("Q"))
    is_other: bytes = b""
    more: bytes = b""
    """Which of the others are to be visited in their turn."""

    def containers(self, references: Sequence[Any]) -> list[Any]:
        """Those to be visited, of these references, which `are` what was written down."""
        return list(itertools.compress(itertools.compress(references, self.is_other), self.more))

    def are(self, references: Sequence[Any]) -> bool:
        if len(references) != len(self.is_other):
            return False
        atoms = itertools.compress(references, self.is_other.translate(_NOT))
        return all(map(operator.is_, atoms, self.atoms)) and self.others == _addresses(
            itertools.compress(references, self.is_other)
        )


_NOT = bytes([1, 0]) + bytes(254)


def _addresses(objects: Iterable[Any]) -> array[int]:
    return array("Q", map(id, objects))


def _parts(objects: list[Any], kinds: dict[int, Kind]) -> tuple[list[list[Any]], list[Any]]:
    """Numbers and children of `objects`, type by type."""
    groups: dict[int, list[Any]] = {}
    for obj, key in zip(objects, map(id, map(type, objects)), strict=True):
        groups.setdefault(key, []).append(obj)
    numbers = [list(column(group)) for key, group in groups.items() for column in kinds[key].numbers]
    columns = (column(group) for key, group in groups.items() for column in kinds[key].children)
    return numbers, list(itertools.chain.from_iterable(columns))


class _PythonSnapshot:
    """See `Snapshot`."""

    def __init__(self, leaf: Leaf | None) -> None:
        self.leaf = leaf
        self.roots = _Sorted()
        self.levels: list[_Level] = []
        self.kinds: dict[int, Kind] = {}
        self.kept: list[Any] = []
        self.leaves: list[tuple[int, type, object]] = []

    @property
    def references(self) -> int:
        return len(self.roots.is_other) + sum(len(level.children.is_other) for level in self.levels)

    @property
    def nbytes(self) -> int:
        levels = sum(8 * len(level.types) + sum(8 * len(n) for n in level.numbers) for level in self.levels)
        return levels + 10 * self.references + 8 * len(self.kept)

    def is_unchanged(self, roots: Sequence[object]) -> bool:
        with _no_collection():
            met = self._leaves_of_same(roots)
        return met is not None and all(self._is_same_leaf(met[at], kind, token) for at, kind, token in self.leaves)

    def _leaves_of_same(self, roots: Sequence[object]) -> dict[int, Any] | None:
        """Objects that `leaf` answers for, by address; None if anything else may have changed."""
        wanted = {address for address, _, _ in self.leaves}
        if not self.roots.are(roots):
            return None
        met = {id(obj): obj for obj in roots if id(obj) in wanted}
        objects = self.roots.containers(roots)
        for level in self.levels:
            if _addresses(map(type, objects)) != level.types:
                return None
            numbers, children = _parts(objects, self.kinds)
            if numbers != level.numbers or not level.children.are(children):
                return None
            if wanted:
                met.update((id(obj), obj) for obj in children if id(obj) in wanted)
            objects = level.children.containers(children)
        return met

    def _is_same_leaf(self, obj: Any, kind: type, token: object) -> bool:
        assert self.leaf is not None
        if type(obj) is not kind:
            return False
        now = self.leaf(obj)
        return now is not None and bool(now == token)


class _GiveUp(Exception):
    """Something is opaque, or there is too much of it."""


class Walk(msgspec.Struct, eq=False):
    """One walk: what it has met."""

    out: _PythonSnapshot
    live: dict[str, Any]
    limit: int
    atoms: tuple[type, ...]
    kinds: dict[int, Kind]
    seen: set[int] = msgspec.field(default_factory=set)
    leaves: list[Any] = msgspec.field(default_factory=list)

    def kind_of(self, cls: type) -> Kind:
        kind = self.kinds.get(id(cls))
        if kind is None:
            kind = self.kinds[id(cls)] = study(cls, self.atoms)
            self.out.kept.append(cls)
        return kind

    def sort(self, references: Sequence[Any]) -> _Sorted:
        """What to write down of these; containers that were not met before are to be visited."""
        self.limit -= len(references)
        if self.limit < 0:
            raise _GiveUp
        is_other, more = bytearray(len(references)), bytearray()
        known = self.kinds.get
        for i, obj in enumerate(references):
            kind = known(id(type(obj))) or self.kind_of(type(obj))
            role = kind.role if isinstance(kind.role, Role) else kind.role(obj, self)
            if role is not Role.ATOM:
                is_other[i] = 1
                more.append(self._is_to_be_visited(obj, kind, role))
        mask = bytes(is_other)
        atoms = list(itertools.compress(references, mask.translate(_NOT)))
        return _Sorted(atoms, _addresses(itertools.compress(references, mask)), mask, bytes(more))

    def _is_to_be_visited(self, obj: Any, kind: Kind, role: Role) -> bool:
        if id(obj) in self.seen:
            return False
        self.seen.add(id(obj))
        if obj is self.live or role is Role.OPAQUE:
            if obj is self.live or self.out.leaf is None:
                raise _GiveUp
            self.leaves.append(obj)
            return False
        if kind.owned:
            self.out.kept.append(obj)
        return True


def python_snapshot(
    roots: tuple[object, ...], live: dict[str, Any], leaf: Leaf | None, limit: int, atoms: tuple[type, ...]
) -> Snapshot | None:
    """`snapshot` without the extension."""
    out = _PythonSnapshot(leaf)
    walk = Walk(out, live, limit, atoms, dict(BASES))
    try:
        with _no_collection():
            _write_down(roots, walk)
    except _GiveUp:
        return None
    for obj in walk.leaves:
        token = leaf(obj) if leaf is not None else None
        if token is None:
            return None
        out.leaves.append((id(obj), type(obj), token))
    return out


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection could run finalizers, and with them the notebook's code, in the middle."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _write_down(roots: tuple[object, ...], walk: Walk) -> None:
    out = walk.out
    out.kinds = walk.kinds
    found = out.roots = walk.sort(roots)
    objects = found.containers(roots)
    while objects:
        numbers, children = _parts(objects, walk.kinds)
        level = _Level(_addresses(map(type, objects)), numbers, walk.sort(children))
        out.levels.append(level)
        objects = level.children.containers(children)
