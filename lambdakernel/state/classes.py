"""Classes of the notebook: one identity a session, a definition stored once, instances that refer to it.

A class is known by a uid. Instances name the uid, so that they come back as instances of the very class that the name
is bound to, and old instances keep the old class after it was defined anew. Rebuilding a class runs none of the
user's metaclass code, `__init_subclass__` or `__set_name__`, whose effects are in the state already.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import sys
import types
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from cloudpickle import cloudpickle as cp

from lambdakernel.state.fixtures import Fixtures, OfModules, Originals
from lambdakernel.state.hooks import make_class, make_enum
from lambdakernel.state.imported import is_by_name

_MEMBERS = " members"
"""Key under which an enumeration's state has its members' attributes; no class attribute has such a name."""


class ClassBook:
    """The classes that a worker knows, both ways; and its fixtures, which are known by name as well."""

    def __init__(self, fixtures: Fixtures | None = None, originals: Originals | None = None) -> None:
        self.fixtures, self.originals = fixtures or Fixtures({}), originals or Originals()
        self.of_modules = OfModules()
        self._uids: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        self._classes: WeakValueDictionary[str, type] = WeakValueDictionary()
        self.untrue: dict[str, str] = {}
        """Kinds of which a value did not come back as it was, and how: they stay where they are."""

    def uid(self, cls: type) -> str:
        """The identity of `cls`, given now if it had none."""
        uid = self._uids.get(cls)
        if uid is None:
            uid = uuid.uuid4().hex
            self.learn(uid, cls)
        return uid

    def learn(self, uid: str, cls: type) -> None:
        self._uids[cls] = uid
        self._classes[uid] = cls

    def get(self, uid: str) -> type | None:
        return self._classes.get(uid)


def kind_of(cls: type) -> str:
    """The name of a type."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_notebook_class(cls: type) -> bool:
    """Whether `cls` cannot be imported where it is loaded, so that its definition must travel."""
    if cls.__module__ == "builtins":
        return False
    return not is_by_name(cls)


def reduce_class(cls: type, uid: str) -> tuple[Any, ...]:
    """The definition: a skeleton that is known under its uid, then what fills it."""
    if issubclass(cls, enum.Enum):
        bases, name, qualname, _, module, _, _ = cp._enum_getnewargs(cls)
        members = {name: member.value for name, member in cls.__members__.items()}  # aliases too
        state = {k: v for k, v in cp._enum_getstate(cls)[0].items() if k not in members}
        state[_MEMBERS] = {name: _own_attributes(member) for name, member in cls.__members__.items()}
        return (make_enum, (uid, bases, name, qualname, members, module), _plain(state), None, None, fill_class)
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    # what comes first in a class statement; what the making of a class looks at; what cannot be set
    for name in ("__firstlineno__", "__slots__", "__orig_bases__", "__class__"):
        if name in cls.__dict__:
            namespace[name] = cls.__dict__[name]
    state = _plain(_attributes_of(cls))
    for name in (*namespace, "__classcell__"):
        state.pop(name, None)
    return (make_class, (uid, type(cls), cls.__name__, cls.__bases__, namespace), state, None, None, fill_class)


def _attributes_of(cls: type) -> dict[str, Any]:
    """What cloudpickle takes, in the order of the class, with what its base has as the very same object."""
    taken = cp._class_getstate(cls)[0]
    above: dict[str, Any] = {name: value for base in reversed(cls.__bases__) for name, value in vars(base).items()}
    missing = object()
    return {
        "".join(name): taken.get(name, value)  # a text of its own: a shared one would change the bytes
        for name, value in vars(cls).items()
        if name != _SLOTS and (name in taken or (name not in _OF_PROCESS and above.get(name, missing) is value))
    }


_SLOTS = "__slotnames__"
"""What pickling the first instance leaves in a class, for the next one."""
_OF_PROCESS = ("__dict__", "__weakref__", "__annotate_func__", "_abc_impl")


def _own_attributes(member: enum.Enum) -> dict[str, Any]:
    """What a member's `__init__` or a cell gave it, beside what the making of the enumeration gives."""
    return {k: v for k, v in vars(member).items() if k not in ("_name_", "_value_", "__objclass__", "_sort_order_")}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Without what the interpreter makes anew for each class."""
    return {k: v for k, v in state.items() if k not in ("__dict__", "__weakref__")}


def build_class(meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """An empty class of that kind, made without running the notebook's own code."""
    with _quiet_subclassing(bases):
        if meta is type or is_notebook_class(meta):
            make: Any = abc.ABCMeta.__new__ if issubclass(meta, abc.ABCMeta) else type.__new__
            made: type = make(meta, name, bases, dict(namespace))
            return made
        try:
            return meta(name, bases, dict(namespace))  # type: ignore[no-any-return]
        except TypeError:  # a metaclass that takes a class statement only, as TypedDict's
            return type.__new__(meta, name, bases, dict(namespace))


def makes_itself(cls: type) -> bool:
    """Whether pickle would make an instance by a `__new__` of the notebook, which ran when the instance was made; or
    would not make it, since that wants arguments, or since the instance says that it is of another class."""
    kind: Any = cls
    return (
        (isinstance(kind.__new__, types.FunctionType) or any("__class__" in vars(base) for base in cls.__mro__[:-1]))
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not any(isinstance(getattr(cls, name, None), types.FunctionType) for name in _NEW_ARGUMENTS)
        and (is_notebook_class(cls) or _wants_arguments(kind.__new__))
    )


def _wants_arguments(function: Any) -> bool:
    if not isinstance(function, types.FunctionType):
        return False
    code, given = function.__code__, len(function.__defaults__ or ())
    return code.co_argcount - given > 1 or code.co_kwonlyargcount > len(function.__kwdefaults__ or ())


_NEW_ARGUMENTS = ("__getnewargs__", "__getnewargs_ex__")


def reduce_without_new(obj: Any) -> Any:
    """As pickle does, but the instance is made by the built-in type that it rests on."""
    made = obj.__reduce_ex__(5)
    if not isinstance(made, tuple) or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return made
    return (make_natively, *made[1:])


def make_natively(cls: type, *arguments: Any) -> Any:
    return native_type(cls).__new__(cls, *arguments)


def native_type(cls: type) -> Any:
    """The first base that is no class of Python code."""
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


_HEAP_TYPE = 1 << 9


def build_enum(bases: tuple[type, ...], name: str, qualname: str, members: dict[str, Any], module: str) -> type:
    given = {k: enum.member(v) if hasattr(type(v), "__get__") else v for k, v in members.items()}  # not its methods
    return cp._make_skeleton_enum(bases, name, qualname, given, module, uuid.uuid4().hex, None)  # type: ignore[no-any-return]


@contextmanager
def _quiet_subclassing(bases: tuple[type, ...]) -> Iterator[None]:
    """Keep the notebook's `__init_subclass__` from running a second time for a class that comes back."""
    silenced = []
    for cls in dict.fromkeys(c for base in bases for c in base.__mro__):
        hook = cls.__dict__.get("__init_subclass__")
        if hook is not None and cls is not object and is_notebook_class(cls):
            silenced.append((cls, hook))
            type.__setattr__(cls, "__init_subclass__", classmethod(_nothing))
    try:
        yield
    finally:
        for cls, hook in silenced:
            type.__setattr__(cls, "__init_subclass__", hook)


def _nothing(cls: Any, /, **_: Any) -> None:
    """In place of a hook that ran when the class was first made."""


def fill_class(cls: type, state: dict[str, Any]) -> None:
    registered = state.pop("_abc_impl", ())
    for name, attributes in state.pop(_MEMBERS, {}).items():
        vars(cls.__members__[name]).update(attributes)  # type: ignore[attr-defined]
    for name, value in state.items():
        type.__setattr__(cls, sys.intern(name), value)
        if type(value) is property and hasattr(property, "__set_name__"):  # its errors name it, from Python 3.13 on
            value.__set_name__(cls, name)  # type: ignore[attr-defined]
    for subclass in registered:
        cls.register(subclass)  # type: ignore[attr-defined]
