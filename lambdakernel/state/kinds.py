"""What is known of types, for the walk in Python: how their objects are treated, and where their children are."""

from __future__ import annotations

import datetime
import enum
import functools
import gc
import itertools
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from lambdakernel.state.imported import are_of_module, is_of_process, is_under


class Role(enum.Enum):
    ATOM, CONTAINER, OPAQUE = range(3)


Column = Callable[[Any], Iterable[Any]]
"""Something of each of some objects, in their order."""


class Kind(msgspec.Struct, frozen=True, eq=False):
    """What is known of a type: how its objects are treated, and where their children are."""

    role: Role | Callable[[Any, Walk], Role]
    children: tuple[Column, ...] = ()
    numbers: tuple[Column, ...] = ()
    """What is compared by value."""
    owned: bool = False
    """Children and numbers are not the whole value, so that its address must stay taken."""


class Walk(Protocol):
    """One walk."""

    live: dict[str, Any]

    def kind_of(self, cls: type) -> Kind: ...


_UNSET = Role.OPAQUE
"""Stands for a field that holds nothing."""
_HEAP_TYPE, _MANAGED_DICT = 1 << 9, 1 << 4
_base_of: Any = type.__dict__["__base__"].__get__  # as they are, whatever a metaclass says
_mro_of: Any = type.__dict__["__mro__"].__get__
_namespace_of: Any = type.__dict__["__dict__"].__get__
_size_of: Any = type.__dict__["__basicsize__"].__get__
_itemsize_of: Any = type.__dict__["__itemsize__"].__get__
_flags_of: Any = type.__dict__["__flags__"].__get__
_dictoffset_of: Any = type.__dict__["__dictoffset__"].__get__
_weakrefoffset_of: Any = type.__dict__["__weakrefoffset__"].__get__


def study(cls: type, atoms: tuple[type, ...]) -> Kind:
    """What is known of a type that is not in the table of bases."""
    if any(atom is cls for atom in atoms) or is_under(cls, type):
        return _ATOM
    if is_under(type(cls), enum.EnumType):  # a member is part of its class
        return _ATOM
    slots: list[Any] = []
    below = cls
    while (base := _BODIES.get(id(below))) is None:
        added = _slots_of_layer(below)
        if added is None:
            return _OPAQUE
        slots += added
        below = _base_of(below)
    fields: list[Column] = [functools.partial(_field, slot.__get__) for slot in slots]
    fields += _dict_column(cls)
    if below in _VALUES:
        return Kind(Role.CONTAINER, tuple(fields), owned=True) if fields else _ATOM
    if base.role is not Role.CONTAINER and below not in (weakref.ref, OrderedDict):
        return _OPAQUE
    return msgspec.structs.replace(base, children=(*base.children, *fields))


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


def _dict_column(cls: type) -> tuple[Column, ...]:
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


def _items(kind: type) -> Column:
    """Everything that iterating over a container of that kind gives."""
    return lambda objects: itertools.chain.from_iterable(map(kind.__iter__, objects))  # type: ignore[attr-defined]


def _lengths(kind: type) -> Column:
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


def _fields(owner: type, *names: str) -> tuple[Column, ...]:
    return tuple(functools.partial(_field, owner.__dict__[name].__get__) for name in names)


def _viewed(view: Any) -> Any:
    return gc.get_referents(view)[0]


def _other_parts(functions: list[Any]) -> Iterable[Any]:
    """What a function refers to beside its globals: annotations and type parameters have no accessor that is inert."""
    for function in functions:
        for part in gc.get_referents(function):
            if part is not function.__globals__ and part is not function.__builtins__:
                yield part


def _role_of_function(function: Any, walk: Walk) -> Role:
    """A library's own by identity, the notebook's by its parts."""
    globals_ = function.__globals__
    if globals_ is walk.live:
        return Role.CONTAINER
    if type(globals_) is not dict or not are_of_module(globals_):
        return Role.OPAQUE
    return Role.ATOM if globals_.get(function.__name__) is function else Role.CONTAINER


def _role_of_builtin(function: Any, _walk: Walk) -> Role:
    return Role.ATOM if is_of_process(function) else Role.CONTAINER


def _role_of_module(module: Any, _walk: Walk) -> Role:
    return Role.ATOM if is_of_process(module) else Role.OPAQUE


def _role_of_moment(moment: Any, walk: Walk) -> Role:
    zone = walk.kind_of(type(moment.tzinfo))
    return Role.ATOM if zone.role is Role.ATOM else Role.OPAQUE


def _role_of_weakref(reference: Any, walk: Walk) -> Role:
    """What it refers to must not be kept alive, for then it would not die."""
    target = weakref.ref.__call__(reference)
    kind = walk.kind_of(type(target))
    fits = target is None or kind.role is Role.OPAQUE or (kind.role is Role.CONTAINER and not kind.owned)
    return Role.CONTAINER if fits else Role.OPAQUE


def _role_of_ordered(mapping: Any, _walk: Walk) -> Role:
    return Role.CONTAINER if _is_plain(mapping) else Role.OPAQUE


_ATOM, _OPAQUE = Kind(Role.ATOM), Kind(Role.OPAQUE)
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


def _container(*children: Column, numbers: tuple[Column, ...] = (), owned: bool = False, role: Any = None) -> Kind:
    return Kind(role or Role.CONTAINER, children, numbers, owned)


def _members(owner: type, *names: str, owned: bool = False) -> Kind:
    return _container(*_fields(owner, *names), owned=owned)


def _mapping(*more: Column, role: Any = None) -> Kind:
    return _container(_keys_and_values, *more, numbers=(_lengths(dict),), role=role)


_NOTHING: dict[str, str] = {}
_VIEWS: tuple[Any, ...] = (_NOTHING.keys(), _NOTHING.values(), _NOTHING.items())
_CONTAINERS: dict[type, Kind] = {
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
_FLAT: Column = itertools.chain.from_iterable
_LENGTHS: Column = functools.partial(map, len)
_BODIES: dict[int, Kind] = {
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
    id(types.ModuleType): Kind(_role_of_module),
    id(weakref.finalize): _OPAQUE,  # what it is to call is kept by its class
    id(datetime.datetime): Kind(_role_of_moment),
    id(datetime.time): Kind(_role_of_moment),
}  # fmt: skip
BASES: dict[int, Kind] = {
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
