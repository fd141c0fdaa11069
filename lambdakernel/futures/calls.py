"""Calls as messages: plain ones by C pickle, any other by `encoding`, which is loaded when there is one."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from itertools import chain
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from lambdakernel.futures.line import Descriptor
from lambdakernel.futures.recipes import CACHE
from lambdakernel.futures.sealing import Kept, is_plain, keep

Share = Callable[[memoryview], Descriptor | None]


def keep_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], share: Share, apart: bool) -> Kept:
    """A call as `((function, *args), kwargs)`, or, if its function travels `apart`, as `(args, kwargs)`.

    Raises:
        Exception: whatever a value's own `__reduce__` raises; the call cannot be sent.
    """
    whole = (args if apart else (function, *args)), kwargs
    if (apart or is_importable(function)) and _are_plain(args) and is_plain(kwargs):
        return Kept(pickle.dumps(whole, 5))
    from lambdakernel.futures.encoding import encode

    return keep(*encode(whole), share)


def is_importable(function: Any) -> bool:
    """Whether a worker finds `function` by its module and name, and so need not be sent it."""
    if type(function) is BuiltinFunctionType:
        return type(function.__self__) is ModuleType and function.__module__ != "__main__"
    is_cache = type(function) is CACHE
    if not (is_cache or isinstance(function, type | FunctionType)):
        return False
    if function.__module__ in {"__main__", "__mp_main__"}:
        return False
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    if cloudpickle is not None and cloudpickle._PICKLE_BY_VALUE_MODULES and not is_cache:
        return bool(cloudpickle._should_pickle_by_reference(function))  # the user asked for some to be sent whole
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _are_plain(args: tuple[Any, ...]) -> bool:
    """As `is_plain`, with plain containers in it, or one chunk of calls, each a tuple of plain arguments."""
    if len(args) == 1 and type(args[0]) is tuple and set(map(type, args[0])) == {tuple}:
        return is_plain(tuple(chain.from_iterable(args[0])))
    return is_plain(args) or all(map(is_plain, args))
