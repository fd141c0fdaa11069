"""Whether anything in an object graph has changed, without encoding it: "surely unchanged", or "don't know".

Theory of operation
- A snapshot writes down, for every object that some roots reach, the addresses of its children. Atoms (what cannot
  change) are kept alive by it, so that their addresses stay theirs. Other objects are not: they die when the notebook
  lets go of them, as they would without a snapshot.
- A check follows the same references in the same order and compares addresses. It reads an object only after one that
  refers to it was found unchanged, so what it reads is alive; and one that was born at the address of a dead one, with
  the same type and the same children, is the same value.
- Types that are not understood to the last field are *opaque*: no snapshot, unless the caller's `leaf` gives a token.
  Understood are the built-in containers, functions, cells, methods, and instances of classes whose layout adds only a
  dictionary, slots and weak references to one of those. A class is compared by identity: it is a unit of its own.
- No code of the notebook runs: no attribute, no comparison, no hash.

`_graph.c` does this in C; what follows here does it level by level in Python, and is used where the extension was not
built, or when LAMBDAKERNEL_NO_EXTENSION is 1. Both give the same answers, but for one: on Python 3.12, where reading an
attribute can replace an instance's dictionary, this one then says "don't know".
"""

from __future__ import annotations

import datetime
import enum
import functools
import gc
import itertools
import operator
import os
import sys
import types
import weakref
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from lambdakernel.state.bases import Numbers

LIMIT = 8_000_000
"""References above which there is no snapshot: 64 MB of addresses."""

Leaf = Callable[[Any], object | None]
"""Gives what to compare an opaque object by, with `==`; None if it cannot. Called after a walk, never during one. The
object itself is not kept alive, so its token must tell it from another one at the same address."""


class Snapshot(Protocol):
    """What a graph looked like."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, tokens of leaves not counted: about 8 bytes a reference and 16 an object."""

    @property
    def references(self) -> int:
        """References that were written down: what a check costs is in proportion to it."""

    def is_unchanged(self, roots: Sequence[object]) -> bool:
        """True: these roots, and all that they reach, are surely as they were. False: one may have changed."""


class Edit(NamedTuple):
    """One object whose own value changed."""

    obj: Any
    before: int
    """Items of a list, a dictionary or a set that are as they were, from its beginning,"""
    after: int
    """and to its end."""
    between: list[Any] | None
    """What is between those: keys and values in turn for a dictionary. None for anything else: all of it may differ."""


class Difference(NamedTuple):
    """What changed from one snapshot to the next. Addresses are of objects that the newer one visited, and `gone` ones
    of those that only the older one did. An address that is in neither is of the same object, or of an equal one."""

    edits: list[Edit]
    added: list[int]
    gone: list[int]
    shared_added: list[int]
    """Of what two names could share and one could change."""
    shared_gone: list[int]


class ComparableSnapshot(Snapshot, Protocol):
    """What the extension takes."""

    @property
    def objects(self) -> int:
        """How many were visited; atoms are not."""

    @property
    def has_shared_dict(self) -> bool:
        """Whether something beside its instance referred to the `__dict__` of one."""

    def shared(self) -> frozenset[int]:
        """Addresses of the objects that two names could share and one could change; valid while those live. What an
        array looks into is not among them."""

    def containers(self) -> frozenset[int]:
        """Addresses of all objects that were visited."""

    def numbers(self, memo: dict[int, tuple[int, Any]]) -> dict[int, int] | None:
        """By address, the places of those objects in a pickler's memo; None if one but the empty tuple has none."""

    def needs(self, most: int) -> tuple[list[Any], list[Any]] | None:
        """What must have a place in a pickler's memo for `write`: the class of each of these instances, one of every
        class, and these atoms. None if there are more than `most` of them, or something cannot be written."""

    def write(
        self, roots: tuple[object, ...], names: tuple[str, ...], places: dict[int, int], first: int
    ) -> tuple[bytes, int] | None:
        """A pickle of the value of a unit, `{"classes": {}, "names": {name: root}}`, for a memo in which `first` places
        are taken, `places` by address; and the places that are taken after it. None if something changed since the
        snapshot, or cannot be written. What is in it is not asked for its own ways."""

    def edit_needs(self, added: list[int], least: int, most: int) -> tuple[list[Any], list[Any]] | None:
        """As `needs`, of the new objects of one that `amend` gave; None also if they have fewer than `least`
        references."""

    def write_edit(
        self,
        roots: tuple[object, ...],
        added: list[int],
        said: list[Any],
        names: dict[str, Any],
        without: list[str],
        numbers: Numbers,
        gone: frozenset[int],
        places: dict[int, int],
        first: int,
    ) -> tuple[bytes, int, list[int]] | None:
        """As `write`, a pickle of `(said, names, without)` in which objects that are not in `added` are persistent ids,
        from `numbers` but for those that are `gone`; and the place of each that is."""

    def place(self, address: int) -> int | None:
        """Of the object that was at `address`, its place in what was written last."""

    def kinds(self) -> list[type]:
        """Types of the objects that were met, but for the built-in ones; some that were not may be among them."""


def snapshot(
    roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None, limit: int = LIMIT
) -> Snapshot | None:
    """What `roots` and all that they reach look like; None if something there is opaque, or it is over `limit`.

    Functions whose globals are `live` do not reach it. Costs about 30 ns a reference, a check 3 ns (Python: 300, 60).

    Raises:
        Exception: what `leaf` raised.
    """
    take = native_snapshot if native_snapshot is not None and FAST else python_snapshot
    return take(tuple(roots), live, leaf, limit, _late_atoms())


def take(roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None) -> ComparableSnapshot | None:
    """As `snapshot`, by the extension only."""
    assert native_snapshot is not None
    return cast("ComparableSnapshot | None", native_snapshot(tuple(roots), live, leaf, LIMIT, _late_atoms()))


def amend(
    old: ComparableSnapshot, roots: Sequence[object], live: dict[str, Any]
) -> tuple[ComparableSnapshot, Difference] | None:
    """As `advance`, at the cost of a check where little changed; None if it was more than this can say, or what `leaf`
    gives for an opaque object is another token.

    Raises:
        Exception: what `leaf` raised.
    """
    assert native_amend is not None
    found = native_amend(old, tuple(roots), live, _late_atoms())
    return (found[0], _difference(found[1])) if found is not None else None


def advance(
    old: ComparableSnapshot, roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None
) -> tuple[ComparableSnapshot | None, Difference | None]:
    """A new snapshot, and what changed since `old`, whose roots may have been others; no difference if something
    changed that it cannot say (an array, the class of an object). By the extension only.

    Raises:
        Exception: what `leaf` raised.
    """
    assert native_advance is not None
    if (amended := amend(old, roots, live)) is not None:
        return amended
    taken = native_advance(old, tuple(roots), live, leaf, LIMIT, _late_atoms())
    if taken is None:
        return None, None
    return taken[0], _difference(taken[1]) if taken[1] is not None else None


def _difference(found: tuple[Any, ...]) -> Difference:
    edits, *addresses = found
    return Difference([Edit(*edit) for edit in edits], *addresses)


def nested(
    root: object, live: dict[str, Any], stride: int, is_plain: Callable[[type], bool]
) -> tuple[list[Any], bool] | None:
    """Objects to dump before `root`, innermost first, so that no dump goes deeper than `stride` of them; and whether
    some are in a cycle, which this does not break. None where the extension does not know. Instances are gone into if
    their type `is_plain`: if it is dumped as its attributes."""
    if native_nested is None or not FAST:
        return None
    plain: tuple[type, ...] = ()
    for _ in range(2):
        found = native_nested((root,), live, LIMIT, _late_atoms(), stride, plain)
        if found is None:
            return None
        parts, is_cyclic, kinds = found
        plain = tuple(kind for kind in kinds if is_plain(kind))
    return parts, is_cyclic


_NO_EXTENSION = os.environ.get("LAMBDAKERNEL_NO_EXTENSION") == "1"
Take = Callable[[tuple[object, ...], dict[str, Any], Leaf | None, int, tuple[type, ...]], Snapshot | None]

native_snapshot: Take | None
native_advance: Callable[..., Any] | None
native_amend: Callable[..., Any] | None
native_nested: Callable[..., Any] | None
try:
    from lambdakernel.state._graph import advance as native_advance
    from lambdakernel.state._graph import amend as native_amend
    from lambdakernel.state._graph import nested as native_nested
    from lambdakernel.state._graph import snapshot as native_snapshot
except ImportError:  # there was no compiler when it was installed, or it was built for another Python
    native_snapshot = native_advance = native_amend = native_nested = None

FAST = native_snapshot is not None and not _NO_EXTENSION
"""Whether the extension is used. A snapshot then costs about a tenth of a dump, and a check a hundredth; without it a
snapshot costs as much as some dumps, and a check from a tenth of a dump (instances) to five (numbers in a list)."""

_LATE = (
    ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"), ("zoneinfo", "ZoneInfo"), ("re", "Pattern"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("ipaddress", "IPv4Address"), ("ipaddress", "IPv6Address"),
)  # fmt: skip


def _late_atoms() -> tuple[type, ...]:
    """Types of immutable values in modules that were imported: there is no instance of others."""
    found = [getattr(sys.modules[module], name, None) for module, name in _LATE if module in sys.modules]
    return (*(kind for kind in found if isinstance(kind, type)), *_numpy_scalars(sys.modules.get("numpy")))


@functools.lru_cache(maxsize=2)
def _numpy_scalars(numpy: Any) -> tuple[type, ...]:
    kinds: set[type] = set(getattr(numpy, "sctypeDict", {}).values())
    return tuple(kind for kind in kinds if kind.__name__ not in ("void", "object_"))


# -- the same in Python


class _Role(enum.Enum):
    ATOM, CONTAINER, OPAQUE = range(3)


_Column = Callable[[Any], Iterable[Any]]
"""Something of each of some objects, in their order."""


class _Kind(msgspec.Struct, frozen=True, eq=False):
    """What is known of a type: how its objects are treated, and where their children are."""

    role: _Role | Callable[[Any, _Walk], _Role]
    children: tuple[_Column, ...] = ()
    numbers: tuple[_Column, ...] = ()
    """What is compared by value."""
    owned: bool = False
    """Children and numbers are not the whole value, so that its address must stay taken."""


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


def _parts(objects: list[Any], kinds: dict[int, _Kind]) -> tuple[list[list[Any]], list[Any]]:
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
        self.kinds: dict[int, _Kind] = {}
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


class _Walk(msgspec.Struct, eq=False):
    """One walk: what it has met."""

    out: _PythonSnapshot
    live: dict[str, Any]
    limit: int
    atoms: tuple[type, ...]
    kinds: dict[int, _Kind]
    seen: set[int] = msgspec.field(default_factory=set)
    leaves: list[Any] = msgspec.field(default_factory=list)

    def kind_of(self, cls: type) -> _Kind:
        kind = self.kinds.get(id(cls))
        if kind is None:
            kind = self.kinds[id(cls)] = _study(cls, self.atoms)
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
            role = kind.role if isinstance(kind.role, _Role) else kind.role(obj, self)
            if role is not _Role.ATOM:
                is_other[i] = 1
                more.append(self._is_to_be_visited(obj, kind, role))
        mask = bytes(is_other)
        atoms = list(itertools.compress(references, mask.translate(_NOT)))
        return _Sorted(atoms, _addresses(itertools.compress(references, mask)), mask, bytes(more))

    def _is_to_be_visited(self, obj: Any, kind: _Kind, role: _Role) -> bool:
        if id(obj) in self.seen:
            return False
        self.seen.add(id(obj))
        if obj is self.live or role is _Role.OPAQUE:
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
    walk = _Walk(out, live, limit, atoms, dict(_BASES))
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


def _write_down(roots: tuple[object, ...], walk: _Walk) -> None:
    out = walk.out
    out.kinds = walk.kinds
    found = out.roots = walk.sort(roots)
    objects = found.containers(roots)
    while objects:
        numbers, children = _parts(objects, walk.kinds)
        level = _Level(_addresses(map(type, objects)), numbers, walk.sort(children))
        out.levels.append(level)
        objects = level.children.containers(children)


# -- what is known of types

_UNSET = _Role.OPAQUE
"""Stands for a field that holds nothing."""
_HEAP_TYPE, _MANAGED_DICT = 1 << 9, 1 << 4
_base_of: Any = type.__dict__["__base__"].__get__  # as they are, whatever a metaclass says
_mro_of: Any = type.__dict__["__mro__"].__get__
_namespace_of: Any = type.__dict__["__dict__"].__get__
_size_of: Any = type.__dict__["__basicsize__"].__get__
_itemsize_of: Any = type.__dict__["__itemsize__"].__get__
_flags_of: Any = type.__dict__["__flags__"].__get__
_dictoffset_of: Any = type.__dict__["__dictoffset__"].__get__
_dict_of_module: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]
_weakrefoffset_of: Any = type.__dict__["__weakrefoffset__"].__get__


def _study(cls: type, atoms: tuple[type, ...]) -> _Kind:
    """What is known of a type that is not in the table of bases."""
    if any(atom is cls for atom in atoms) or _is_under(cls, type):
        return _ATOM
    if _is_under(type(cls), enum.EnumType):  # a member is part of its class
        return _ATOM
    slots: list[Any] = []
    below = cls
    while (base := _BODIES.get(id(below))) is None:
        added = _slots_of_layer(below)
        if added is None:
            return _OPAQUE
        slots += added
        below = _base_of(below)
    fields: list[_Column] = [functools.partial(_field, slot.__get__) for slot in slots]
    fields += _dict_column(cls)
    if below in _VALUES:
        return _Kind(_Role.CONTAINER, tuple(fields), owned=True) if fields else _ATOM
    if base.role is not _Role.CONTAINER and below not in (weakref.ref, OrderedDict):
        return _OPAQUE
    return msgspec.structs.replace(base, children=(*base.children, *fields))


def _is_under(cls: type, base: type) -> bool:
    """As `issubclass`, without asking anybody."""
    return any(above is base for above in _mro_of(cls))


def _slots_of_layer(cls: type) -> list[Any] | None:
    """The slots that `cls` adds to its base; None if it adds anything but slots, a dictionary and weak references."""
    base = _base_of(cls)
    if not _flags_of(cls) & _HEAP_TYPE or base is None or _itemsize_of(cls) != _itemsize_of(base):
        return None
    left = (_size_of(cls) - _size_of(base)) // 8
    if _dictoffset_of(cls) and not _dictoffset_of(base) and not _flags_of(cls) & _MANAGED_DICT:
        left -= 1
    if _weakrefoffset_of(cls) > 0 and not _weakrefoffset_of(base):
        left -= 1
    namespace = _namespace_of(cls)
    if "n_sequence_fields" in namespace:  # a tuple with items beyond its length, as `time.struct_time`
        return None
    members = {id(m): m for m in namespace.values() if type(m) is types.MemberDescriptorType and m.__objclass__ is cls}
    if len(members) != left or (members and "__slots__" not in namespace):
        return None
    return list(members.values())


def _dict_column(cls: type) -> tuple[_Column, ...]:
    """The dictionaries of instances, whatever the class calls `__dict__`; empty if they have none."""
    if not (_dictoffset_of(cls) or _flags_of(cls) & _MANAGED_DICT):
        return ()
    found = (_namespace_of(base).get("__dict__") for base in _mro_of(cls))
    descriptor = next(d for d in found if type(d) in (types.GetSetDescriptorType, types.MemberDescriptorType))
    return (functools.partial(map, descriptor.__get__),)


def _field(get: Callable[[Any], Any], objects: list[Any]) -> list[Any]:
    return [_value(get, obj) for obj in objects]


def _value(get: Callable[[Any], Any], obj: Any) -> Any:
    try:
        return get(obj)
    except (AttributeError, ValueError):  # an empty slot, an empty cell
        return _UNSET


def _items(kind: type) -> _Column:
    """Everything that iterating over a container of that kind gives."""
    return lambda objects: itertools.chain.from_iterable(map(kind.__iter__, objects))  # type: ignore[attr-defined]


def _lengths(kind: type) -> _Column:
    return functools.partial(map, kind.__len__)  # type: ignore[attr-defined]


def _keys_and_values(objects: list[Any]) -> Iterable[Any]:
    values = itertools.chain.from_iterable(map(dict.values, objects))
    return itertools.chain(itertools.chain.from_iterable(map(dict.__iter__, objects)), values)


def _order(objects: list[Any]) -> Iterable[Any]:
    """Keys in the order of the linked list; following it hashes them, which must run nobody's code."""
    return itertools.chain.from_iterable(
        list(OrderedDict.__iter__(obj)) if _is_plain(obj) else [_UNSET] for obj in objects
    )


def _is_plain(mapping: Any) -> bool:
    return all(type(key) in (str, int, bytes) for key in dict.__iter__(mapping))


def _fields(owner: type, *names: str) -> tuple[_Column, ...]:
    return tuple(functools.partial(_field, owner.__dict__[name].__get__) for name in names)


def _viewed(view: Any) -> Any:
    return gc.get_referents(view)[0]


def _other_parts(functions: list[Any]) -> Iterable[Any]:
    """What a function refers to beside its globals: annotations and type parameters have no accessor that is inert."""
    for function in functions:
        for part in gc.get_referents(function):
            if part is not function.__globals__ and part is not function.__builtins__:
                yield part


def _globals_of_module(globals_: dict[str, Any]) -> bool:
    name = globals_.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return _is_under(type(module), types.ModuleType) and _dict_of_module(module) is globals_


def _role_of_function(function: Any, walk: _Walk) -> _Role:
    """A library's own by identity, the notebook's by its parts."""
    globals_ = function.__globals__
    if globals_ is walk.live:
        return _Role.CONTAINER
    if type(globals_) is not dict or not _globals_of_module(globals_):
        return _Role.OPAQUE
    return _Role.ATOM if globals_.get(function.__name__) is function else _Role.CONTAINER


def is_made_by_hand(name: str, module: object) -> bool:
    """Whether what `sys.modules` has under `name` is a module that nothing was imported for."""
    if type(module) is not types.ModuleType or "." in name or name in _MAIN:
        return False
    content = _dict_of_module(module)
    return content.get("__spec__") is None and "__file__" not in content


_MAIN = ("__main__", "__mp_main__")


def is_of_process(obj: object) -> bool:
    """An imported module, or a function in C that belongs to no object: every process has the same."""
    kind = type(obj)  # a proxy would be asked what it stands for, and may be dead
    if _is_under(kind, types.ModuleType):
        name = (_dict_of_module(obj) or {}).get("__name__")
        return type(name) is str and sys.modules.get(name) is obj and not is_made_by_hand(name, obj)
    if kind is not types.BuiltinFunctionType:
        return False
    owner = obj.__self__  # type: ignore[attr-defined]
    return owner is None or _is_under(type(owner), types.ModuleType) or _is_under(type(owner), type)


def _role_of_builtin(function: Any, _walk: _Walk) -> _Role:
    return _Role.ATOM if is_of_process(function) else _Role.CONTAINER


def _role_of_module(module: Any, _walk: _Walk) -> _Role:
    return _Role.ATOM if is_of_process(module) else _Role.OPAQUE


def _role_of_moment(moment: Any, walk: _Walk) -> _Role:
    zone = walk.kind_of(type(moment.tzinfo))
    return _Role.ATOM if zone.role is _Role.ATOM else _Role.OPAQUE


def _role_of_weakref(reference: Any, walk: _Walk) -> _Role:
    """What it refers to must not be kept alive, for then it would not die."""
    target = weakref.ref.__call__(reference)
    kind = walk.kind_of(type(target))
    fits = target is None or kind.role is _Role.OPAQUE or (kind.role is _Role.CONTAINER and not kind.owned)
    return _Role.CONTAINER if fits else _Role.OPAQUE


def _role_of_ordered(mapping: Any, _walk: _Walk) -> _Role:
    return _Role.CONTAINER if _is_plain(mapping) else _Role.OPAQUE


_ATOM, _OPAQUE = _Kind(_Role.ATOM), _Kind(_Role.OPAQUE)
_VALUES = (int, float, complex, str, bytes)
_ATOMS = (
    *_VALUES, bool, type(None), type(...), type(NotImplemented), range, type, types.CodeType,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.ClassMethodDescriptorType, datetime.date, datetime.timedelta, datetime.timezone,
)  # fmt: skip
_FUNCTION = (
    "__code__", "__name__", "__qualname__", "__defaults__", "__kwdefaults__", "__closure__", "__doc__", "__dict__",
    "__module__",
)  # fmt: skip


def _container(*children: _Column, numbers: tuple[_Column, ...] = (), owned: bool = False, role: Any = None) -> _Kind:
    return _Kind(role or _Role.CONTAINER, children, numbers, owned)


def _members(owner: type, *names: str, owned: bool = False) -> _Kind:
    return _container(*_fields(owner, *names), owned=owned)


def _mapping(*more: _Column, role: Any = None) -> _Kind:
    return _container(_keys_and_values, *more, numbers=(_lengths(dict),), role=role)


_NOTHING: dict[str, str] = {}
_VIEWS: tuple[Any, ...] = (_NOTHING.keys(), _NOTHING.values(), _NOTHING.items())
_CONTAINERS: dict[type, _Kind] = {
    object: _container(),
    **{kind: _container(_items(kind), numbers=(_lengths(kind),)) for kind in (list, tuple, set, frozenset)},
    dict: _mapping(),
    defaultdict: _mapping(*_fields(defaultdict, "default_factory")),
    OrderedDict: _mapping(_order, role=_role_of_ordered),
    deque: _container(_items(deque), numbers=(_lengths(deque), functools.partial(map, deque.maxlen.__get__))),
    types.SimpleNamespace: _container(),
    types.CellType: _members(types.CellType, "cell_contents"),
    types.MethodType: _members(types.MethodType, "__func__", "__self__"),
    functools.partial: _members(functools.partial, "func", "args", "keywords"),
    slice: _members(slice, "start", "stop", "step", owned=True),
    types.GenericAlias: _members(types.GenericAlias, "__origin__", "__args__", owned=True),
    types.UnionType: _members(types.UnionType, "__args__", owned=True),
    weakref.ref: _container(
        functools.partial(map, weakref.ref.__call__), *_fields(weakref.ref, "__callback__"), role=_role_of_weakref
    ),
    **{type(view): _container(functools.partial(map, _viewed)) for view in _VIEWS},
}
_FLAT: _Column = itertools.chain.from_iterable
_LENGTHS: _Column = functools.partial(map, len)
_BODIES: dict[int, _Kind] = {
    **{id(kind): _ATOM for kind in _ATOMS},
    **{id(cls): kind for cls, kind in _CONTAINERS.items()},
    id(types.FunctionType): _container(
        *_fields(types.FunctionType, *_FUNCTION), _other_parts,
        numbers=(lambda functions: [id(f.__globals__) for f in functions],), role=_role_of_function,
    ),
    id(types.BuiltinFunctionType): _container(
        *_fields(types.BuiltinFunctionType, "__self__"),
        numbers=_fields(types.BuiltinFunctionType, "__name__"), role=_role_of_builtin,
    ),
    id(types.ModuleType): _Kind(_role_of_module),
    id(weakref.finalize): _OPAQUE,  # what it is to call is kept by its class
    id(datetime.datetime): _Kind(_role_of_moment),
    id(datetime.time): _Kind(_role_of_moment),
}  # fmt: skip
_BASES: dict[int, _Kind] = {
    **_BODIES,
    **{
        id(cls): msgspec.structs.replace(kind, children=(*kind.children, *_dict_column(cls)))
        for cls, kind in _CONTAINERS.items()
    },
    # exact types need no care for what a subclass overrides
    **{id(k): _container(_FLAT, numbers=(_LENGTHS,)) for k in (list, tuple, set, frozenset)},
    id(dict): _container(_FLAT, lambda objects: _FLAT(map(dict.values, objects)), numbers=(_LENGTHS,)),
}
"""What is known without study, by the address of the type: a lookup by the type itself would hash it."""
