"""What is over can move: a closed file, a generator that ended, a thread or child process that is done.

A cell leaves such things behind by the way (`with open(path) as f:` binds `f` for good). They hold nothing of their
process any more, and come back as what they are: over. Whatever still runs or is open stays where it is.
"""

from __future__ import annotations

import io
import os
import threading
import types
from collections.abc import Callable
from typing import Any

Reducer = Callable[[Any], "tuple[Any, ...] | None"]
_TEXT, _RAW = io.TextIOWrapper, io.FileIO
_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_OVER = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")
"""States of a future that nobody will change."""


def reduce_finished(obj: Any) -> tuple[Any, ...] | None:
    """How to make an equal object, if that one is over; None if it is not, or if that is not known of its type."""
    named = _NAMED.get((type(obj).__module__, type(obj).__name__))
    reducer = named or next((reducer for kind, reducer in _KINDS if isinstance(obj, kind)), None)
    return None if reducer is None else reducer(obj)


# -- files


def _reduce_file(file: Any) -> tuple[Any, ...] | None:
    kind = type(file)
    if kind not in (_TEXT, _RAW, *_BUFFERED) or not file.closed:
        return None
    raw = file
    while hasattr(raw, "buffer") or hasattr(raw, "raw"):
        raw = raw.buffer if hasattr(raw, "buffer") else raw.raw
    if type(raw) is not _RAW:  # a pipe's, a socket's or a compressed file's
        return None
    details = (file.mode, file.encoding, file.errors) if kind is _TEXT else (raw.mode,)
    buffer = type(file.buffer) if kind is _TEXT else kind
    return (closed_file, (kind, buffer, raw.name, raw.mode, *details))


def closed_file(kind: type, buffer: Any, name: Any, raw_mode: str, mode: str, *codec: Any) -> Any:
    """A closed file of that name, which is not opened."""
    raw: Any = io.FileIO(os.devnull, {"rb": "r", "wb": "w", "ab": "a", "xb": "w"}.get(raw_mode, "r+"))
    raw.name = name
    file: Any = raw if buffer is _RAW else buffer(raw)
    if kind is _TEXT:
        file = io.TextIOWrapper(file, encoding=codec[0], errors=codec[1])
        file.mode = mode
    file.close()
    return file


# -- code that ran


def _reduce_code(code: Any) -> tuple[Any, ...] | None:
    is_coroutine = isinstance(code, types.CoroutineType)
    if (code.cr_frame if is_coroutine else code.gi_frame) is not None:
        return None
    return (ended_code, (is_coroutine, code.__name__, code.__qualname__))


def ended_code(is_coroutine: bool, name: str, qualname: str) -> Any:
    """A coroutine or a generator that has ended."""
    ended: Any = _nothing() if is_coroutine else (number for number in range(0))
    ended.close()
    ended.__name__, ended.__qualname__ = name, qualname
    return ended


async def _nothing() -> None: ...


_THREADS_OWN = frozenset(vars(threading.Thread(name="any"))) | {
    "_target",
    "_args",
    "_kwargs",
    "_tstate_lock",
    "_handle",
}
_THREADS_LAYOUT = (threading.Thread.__basicsize__, threading.Thread.__dictoffset__)


def _reduce_thread(thread: threading.Thread) -> tuple[Any, ...] | None:
    if thread.is_alive() or thread.ident is None or isinstance(thread, threading._DummyThread):
        return None
    kind = type(thread)
    if (kind.__basicsize__, kind.__dictoffset__) != _THREADS_LAYOUT:  # of a class with slots
        return None
    more = {name: value for name, value in vars(thread).items() if name not in _THREADS_OWN}
    return (ended_thread, (kind, thread.name, thread.daemon, thread.ident, thread.native_id), more)


def ended_thread(kind: type, name: str, daemon: bool, ident: int, native_id: int) -> threading.Thread:
    """A thread that ran nothing and ended."""
    thread: Any = threading.Thread(name=name, daemon=daemon)
    thread.start()
    thread.join()
    thread.__class__ = kind
    thread._ident, thread._native_id = ident, native_id
    return thread  # type: ignore[no-any-return]


def _reduce_socket(endpoint: Any) -> tuple[Any, ...] | None:
    if endpoint.fileno() >= 0:
        return None
    return (closed_socket, (int(endpoint.family), int(endpoint.type), endpoint.proto))


def closed_socket(family: int, kind: int, proto: int) -> Any:
    import socket

    endpoint = socket.socket(family, kind, proto)
    endpoint.close()
    return endpoint


def _reduce_process(process: Any) -> Any:
    return None if process.returncode is None else object.__reduce_ex__(process, 2)


def _reduce_future(future: Any) -> Any:
    return object.__reduce_ex__(future, 2) if future._state in _OVER else None


def _reduce_pool(pool: Any) -> tuple[Any, ...] | None:
    return (closed_pool, (type(pool), pool._max_workers)) if pool._shutdown else None


def closed_pool(kind: Any, workers: int) -> Any:
    pool = kind(workers)
    pool.shutdown()
    return pool


_KINDS: tuple[tuple[type, Reducer], ...] = (
    (io.IOBase, _reduce_file),
    (types.GeneratorType, _reduce_code),
    (types.CoroutineType, _reduce_code),
    (threading.Thread, _reduce_thread),
)
_NAMED: dict[tuple[str, str], Reducer] = {
    ("subprocess", "Popen"): _reduce_process,
    ("socket", "socket"): _reduce_socket,
    ("concurrent.futures._base", "Future"): _reduce_future,
    ("concurrent.futures.thread", "ThreadPoolExecutor"): _reduce_pool,
}
