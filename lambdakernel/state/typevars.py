"""Type variables, new types and type aliases to bytes and back: one object a session for each that a cell made.

Python pickles most of them as a reference to their own name in their module, which for the notebook's own is the very
name that is being loaded. They are compared by identity, so each is known by an identity that it is given when it is
first stored; `cloudpickle` keeps these, as it does for type variables.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle as cp

_NO_DEFAULT: Any = getattr(typing, "NoDefault", None)
_OPTIONS = ("__bound__", "__covariant__", "__contravariant__", "__infer_variance__", "__default__")


def _by_reference(obj: Any) -> tuple[Any, ...] | None:
    """How to find it in the library that made it; None if a cell did."""
    found = cp._lookup_module_and_qualname(obj, name=obj.__name__)
    return None if found is None else (getattr, found)


def reduce_variable(variable: Any) -> tuple[Any, ...]:
    """A TypeVar, ParamSpec or TypeVarTuple."""
    options = {name.strip("_"): getattr(variable, name) for name in _OPTIONS if hasattr(variable, name)}
    options = {name: value for name, value in options.items() if value not in (None, False, _NO_DEFAULT)}
    constraints = getattr(variable, "__constraints__", ())
    arguments = (type(variable), variable.__name__, constraints, options, variable.__module__)
    return _by_reference(variable) or (make_variable, (*arguments, cp._get_or_create_tracker_id(variable)))


def make_variable(
    kind: Any, name: str, constraints: tuple[Any, ...], options: dict[str, Any], module: str, uid: str
) -> Any:
    return _known(uid, _of_module(kind(name, *constraints, **options), module))


def reduce_new_type(kind: Any) -> tuple[Any, ...]:
    arguments = (kind.__name__, kind.__supertype__, kind.__module__, cp._get_or_create_tracker_id(kind))
    return _by_reference(kind) or (make_new_type, arguments)


def make_new_type(name: str, supertype: Any, module: str, uid: str) -> Any:
    make: Any = typing.NewType
    return _known(uid, _of_module(make(name, supertype), module))


def reduce_alias(alias: Any) -> tuple[Any, ...]:
    """An alias of Python 3.12's `type` statement, which may refer to itself unless it has parameters. It takes no weak
    reference, so it has no identity: values that share nothing else have one each."""
    found = _by_reference(alias)
    if found is not None:
        return found
    name, module = alias.__name__, alias.__module__
    if alias.__type_params__:
        return (make_generic_alias, (name, alias.__value__, alias.__type_params__, module))
    box: list[Any] = []
    return (make_alias, (name, box, module), (box, alias.__value__), None, None, fill_alias)


def make_generic_alias(name: str, value: Any, parameters: tuple[Any, ...], module: str) -> Any:
    make: Any = typing.TypeAliasType  # type: ignore[attr-defined]
    arguments = {"make": make, "name": name, "value": value, "parameters": parameters}
    return eval("make(name, value, type_params=parameters)", {"__name__": module, **arguments})  # its own module


def make_alias(name: str, box: list[Any], module: str) -> Any:
    """An alias of what will be in `box` by the time that somebody asks: only the statement makes one that waits."""
    namespace = {"__name__": module, "box": box}
    exec(f"type {name} = box[0]", namespace)
    return namespace[name]


def fill_alias(_alias: Any, state: tuple[list[Any], Any]) -> None:
    box, value = state
    box.append(value)


def _of_module(made: Any, module: str) -> Any:
    made.__module__ = module
    return made


def _known(uid: str, made: Any) -> Any:
    """The object of that identity: `made`, unless there is one."""
    return cp._lookup_class_or_track(uid, made)


REDUCERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple), reduce_variable),
    typing.NewType: reduce_new_type,
}
if sys.version_info >= (3, 12):
    REDUCERS[typing.TypeAliasType] = reduce_alias
