"""Types that pickle refuses although they can move, and types that pickle takes although they cannot.

The first get a reducer. The second are *liars*: a text file would come back as a string buffer, a memory view as a
copy, a child process as a corpse. They stay where they are and are said to be resident.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import re
import struct
import threading
import types
from _json import make_scanner as Scanner
from collections.abc import Callable
from typing import Any

from lambdakernel.state import csvs, iterators, typevars, weak
from lambdakernel.state.fixtures import reduce_builtin
from lambdakernel.state.functions import reduce_cell, reduce_code


class CannotMove(Exception):
    """Raised while encoding: this object lives in its process and nowhere else."""

    def __init__(self, obj: object, why: str) -> None:
        super().__init__(why)
        self.obj_type = type(obj)


def reduce_lock(lock: Any) -> tuple[Any, ...]:
    if lock.locked():
        raise CannotMove(lock, "a lock that is held")
    return (threading.Lock, ())


def reduce_rlock(lock: Any) -> tuple[Any, ...]:
    if lock._is_owned() or not lock.acquire(blocking=False):
        raise CannotMove(lock, "a lock that is held")
    lock.release()
    return (threading.RLock, ())


def reduce_dict_view(view: Any) -> tuple[Any, ...]:
    """A view of a dictionary goes on showing it."""
    return (view_of_dict, (gc.get_referents(view)[0], type(view).__name__.removeprefix("dict_")))


def view_of_dict(mapping: dict[Any, Any], kind: str) -> Any:
    return getattr(mapping, kind)()


def reduce_proxy(proxy: Any) -> tuple[Any, ...]:
    """A view of a dictionary goes on showing it; one of a class's attributes shows the class's."""
    mapping = gc.get_referents(proxy)[0]
    if type(mapping) is dict and "__module__" in mapping:
        owner = next((obj for obj in gc.get_referrers(mapping) if isinstance(obj, type)), None)
        if owner is not None:
            return (vars, (owner,))
    return (types.MappingProxyType, (mapping,))


def refuse_view(view: memoryview) -> tuple[Any, ...]:
    raise CannotMove(view, "a view into memory of this process")


def reduce_condition(condition: Any) -> tuple[Any, ...]:
    if condition._waiters:
        raise CannotMove(condition, "a condition that threads wait for")
    return (threading.Condition, (condition._lock,))


def reduce_local(local: threading.local) -> tuple[Any, ...]:
    """With what this thread has in it; other threads end with their process."""
    return (threading.local, (), dict(vars(local)))


def reduce_struct(layout: struct.Struct) -> tuple[Any, ...]:
    return (struct.Struct, (layout.format,))


def reduce_scanner(scanner: Any) -> tuple[Any, ...]:
    """What a `json.JSONDecoder` is made around."""
    return (scanner_of, ({name: getattr(scanner, name) for name in _OF_SCANNER},))


def scanner_of(details: dict[str, Any]) -> Any:
    context: Any = types.SimpleNamespace(**details)
    return Scanner(context)


_OF_SCANNER = ("strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant")


def reduce_match(match: re.Match[Any]) -> tuple[Any, ...]:
    """By finding it again, which is tried here."""
    arguments = (match.re, match.string, match.pos, match.endpos, _spans(match))
    if type(match.string) not in (str, bytes) or find_match(*arguments) is None:
        raise CannotMove(match, "a match that is not found again")
    return (find_match, arguments)


def find_match(
    pattern: re.Pattern[Any], text: Any, begin: int, end: int, spans: tuple[tuple[int, int], ...]
) -> re.Match[Any] | None:
    """The match with these spans; one that iterating gave is found where it starts."""
    at = spans[0][0]
    tries = ((pattern.search, begin), (pattern.match, begin), (pattern.fullmatch, begin), (pattern.match, at))
    found = (find(text, start, end) for find, start in tries)
    return next((match for match in found if match is not None and _spans(match) == spans), None)


def _spans(match: re.Match[Any]) -> tuple[tuple[int, int], ...]:
    return tuple(match.span(n) for n in range(match.re.groups + 1))


def reduce_mark(mark: object) -> str:
    """A mark of `dataclasses`, which is compared by identity, by its name."""
    return next(name for name, value in vars(dataclasses).items() if value is mark)


REDUCERS: dict[type, Callable[[Any], Any]] = {
    **weak.REDUCERS,
    **typevars.REDUCERS,
    **csvs.REDUCERS,
    **iterators.REDUCERS,
    types.CellType: reduce_cell,
    types.CodeType: reduce_code,
    types.BuiltinFunctionType: reduce_builtin,
    type(threading.Lock()): reduce_lock,
    type(threading.RLock()): reduce_rlock,
    type({}.keys()): reduce_dict_view,
    type({}.values()): reduce_dict_view,
    type({}.items()): reduce_dict_view,
    types.MappingProxyType: reduce_proxy,
    memoryview: refuse_view,
    threading.Condition: reduce_condition,
    re.Match: reduce_match,
    Scanner: reduce_scanner,
    threading.local: reduce_local,
    struct.Struct: reduce_struct,
    **{type(mark): reduce_mark for mark in (dataclasses.MISSING, dataclasses.KW_ONLY)},
}

_IN_MEMORY = (io.BytesIO, io.StringIO)
_LIVING: tuple[type, ...] = (io.IOBase, threading.Thread, types.GeneratorType, types.CoroutineType, types.FrameType)
_LIVING_NAMES = {
    ("subprocess", "Popen"): "a child process",
    ("_asyncio", "Task"): "a task of this process's event loop",
    ("_asyncio", "Future"): "a future of this process's event loop",
    ("sqlite3", "Connection"): "a connection to a database",
    ("sqlite3", "Cursor"): "a cursor of a database",
    ("socket", "socket"): "a socket",
    ("mmap", "mmap"): "a mapped file",
    ("numpy", "memmap"): "an array that maps a file",
    ("numpy.core.memmap", "memmap"): "an array that maps a file",
    ("ipykernel.comm.comm", "BaseComm"): "a connection to the notebook's page",
    ("ipykernel.comm.comm", "Comm"): "a connection to the notebook's page",
    ("concurrent.futures._base", "Future"): "a future of a pool in this process",
    ("concurrent.futures.thread", "ThreadPoolExecutor"): "a pool of threads",
}
_WHAT = {
    io.IOBase: "an open file",
    threading.Thread: "a thread",
    types.GeneratorType: "a generator",
    types.CoroutineType: "a coroutine",
    types.FrameType: "a stack frame",
}


def why_living(cls: type) -> str:
    """Why an object of that type cannot leave its process; empty if nothing is known against it."""
    named = _LIVING_NAMES.get((cls.__module__, cls.__name__))
    if named:
        return named
    if issubclass(cls, _LIVING) and not issubclass(cls, _IN_MEMORY):
        return next(what for kind, what in _WHAT.items() if issubclass(cls, kind))
    return ""
