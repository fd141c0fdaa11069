"""Instances whose `__dict__` something else refers to: it stays theirs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any


def reduce_with_dict(obj: Any, reduce: Callable[[Any], Any] | None = None) -> Any:
    """As `reduce` does or pickle would, but a `__dict__` that something else refers to stays that of its instance."""
    attributes = getattr(obj, "__dict__", None)
    if type(attributes) is dict and sys.getrefcount(attributes) > _OWN_DICT and not hasattr(type(obj), "__setstate__"):
        made = (reduce or _reduce)(obj)
        state = made[2] if isinstance(made, tuple) and len(made) > 2 else obj
        own, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if own is attributes or (own is None and not attributes):
            return (*made[:2], (attributes, slots), *(made[3:5] or (None, None)), give_dict)
    return reduce(obj) if reduce is not None else NotImplemented


def answers_any_name(cls: type) -> bool:
    """Whether an unpickler that asks an empty instance of `cls` for its `__setstate__` runs code of the class, which
    counts on attributes that are not there yet."""
    answers = any(_is_of_python(vars(base).get(name)) for base in cls.__mro__[:-1] for name in _ANSWERS)
    return answers and not any(name in vars(base) for base in cls.__mro__[:-1] for name in _OWN_WAYS)


def _is_of_python(method: Any) -> bool:
    return method is not None and not isinstance(method, types.WrapperDescriptorType)


_ANSWERS = ("__getattr__", "__getattribute__")
_OWN_WAYS = ("__setstate__", "__reduce__", "__reduce_ex__")


def reduce_with_fill(obj: Any) -> Any:
    """As pickle would, but the attributes are set without asking the instance how."""
    made = _reduce(obj)
    if not isinstance(made, tuple) or len(made) < 3 or made[2] is None:
        return made
    return (*made[:3], *(made[3:5] or (None, None)), fill_attributes)


def fill_attributes(obj: Any, state: Any) -> None:
    own, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if own:
        object.__getattribute__(obj, "__dict__").update((sys.intern(name), value) for name, value in own.items())
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


def _reduce(obj: Any) -> Any:
    return obj.__reduce_ex__(5)


def give_dict(obj: Any, state: tuple[dict[str, Any], dict[str, Any] | None]) -> None:
    """Make the first of `state` the `__dict__` of `obj`, whatever its class says of setting attributes; then fill its
    slots, as an unpickler does."""
    attributes, slots = state
    object.__setattr__(obj, "__dict__", attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def _count_of_own_dict() -> int:
    """References that the `__dict__` of an instance has which nothing else refers to, counted as above."""
    obj: Any = _Sample()
    attributes = getattr(obj, "__dict__", None)
    return sys.getrefcount(attributes)


class _Sample:
    def __init__(self) -> None:
        self.x = 1


_OWN_DICT = _count_of_own_dict()
