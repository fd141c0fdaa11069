"""Classes of the notebook: one identity a session, a definition stored once, instances that refer to it.

A class is known by a uid. Instances name the uid, so that they come back as instances of the very class that the name
is bound to, and old instances keep the old class after it was defined anew. Rebuilding a class runs none of the
user's metaclass code, `__init_subclass__` or `__set_name__`, whose effects are in the state already.
"""

from __future__ import annotations

import abc
import enum
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from cloudpickle import cloudpickle as cp

from lambdakernel.state.hooks import make_class, make_enum


class ClassBook:
    """The classes that a worker knows, both ways."""

    def __init__(self) -> None:
        self._uids: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        self._classes: WeakValueDictionary[str, type] = WeakValueDictionary()

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


def is_notebook_class(cls: type) -> bool:
    """Whether `cls` cannot be imported where it is loaded, so that its definition must travel."""
    if cls.__module__ == "builtins":
        return False
    return not cp._should_pickle_by_reference(cls)


def reduce_class(cls: type, uid: str) -> tuple[Any, ...]:
    """The definition: a skeleton that is known under its uid, then what fills it."""
    if issubclass(cls, enum.Enum):
        bases, name, qualname, members, module, _, _ = cp._enum_getnewargs(cls)
        state = cp._enum_getstate(cls)[0]
        return (make_enum, (uid, bases, name, qualname, members, module), _plain(state), None, None, fill_class)
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if "__slots__" in cls.__dict__:
        namespace["__slots__"] = cls.__dict__["__slots__"]
    state = _plain(cp._class_getstate(cls)[0])
    for name in (*namespace, "__classcell__"):
        state.pop(name, None)
    return (make_class, (uid, type(cls), cls.__name__, cls.__bases__, namespace), state, None, None, fill_class)


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
        return meta(name, bases, dict(namespace))  # type: ignore[no-any-return]


def build_enum(bases: tuple[type, ...], name: str, qualname: str, members: dict[str, Any], module: str) -> type:
    return cp._make_skeleton_enum(bases, name, qualname, members, module, uuid.uuid4().hex, None)  # type: ignore[no-any-return]


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
    for name, value in state.items():
        type.__setattr__(cls, sys.intern(name), value)
    for subclass in registered:
        cls.register(subclass)  # type: ignore[attr-defined]
