"""What a worker does: take a call, run it, put its result on the line; until the line's other end is closed.

A worker takes one call at a time. What it has not taken stays on the line, where the executor can take it back.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _pickle import PicklingError, dumps, loads

from lambdakernel.futures import line
from lambdakernel.futures.maps import KEEP_MS, Maps
from lambdakernel.futures.sealing import Sealed, decode, is_plain, seal, seal_extra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

CALL, CHUNK, INITIALIZE, PLACE = 0, 1, 2, 3
"""What a message asks for: a call; calls of one function, for a list of results; to begin, with the initializer; to
take on the executor's surroundings, which has no answer."""
RETURNED, RAISED, UNKNOWN, READY, BROKEN = 0, 1, 2, 3, 4
"""What a message answers: a value; an error; the function was not sent; the worker is ready; its initializer failed.
What calls joined into live lattices goes with it."""
_MOST_FUNCTIONS = 512


def run(end: line.End) -> NoReturn:
    """Serve the line until it is closed, then leave the process, without exit handlers, which are another's."""
    code = 0
    try:
        _serve(end)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    _flush()
    os._exit(code)


def _serve(end: line.End) -> None:
    functions: dict[int, Callable[..., Any]] = {}
    maps = Maps()
    poller = select.poll()
    poller.register(end.fileno(), select.POLLIN)
    while True:
        if maps and not poller.poll(KEEP_MS):
            maps.clear()
        message = line.take(end, wait=True)
        if message is None or not message[0]:
            return
        answer, sealed = _answer(*message, functions, maps)
        _flush()
        try:
            if answer is not None:
                _tell(end, answer, sealed)
        except OSError:  # nobody wants it
            return
        if answer is not None and answer[1] == BROKEN:
            return
        del message, answer, sealed  # what the call was given must not wait for the next one
        maps.settle()


def _answer(
    data: bytes, fds: tuple[int, ...], functions: dict[int, Callable[..., Any]], maps: Maps
) -> tuple[tuple[int, int, int] | None, Sealed]:
    """(call, how it went, nanoseconds it took, or who is ready), and its value or error."""
    call, kind, number, definition, head, places, news = loads(data)
    began = time.perf_counter_ns()
    try:
        if kind == PLACE:
            _settle(*decode(head, places, fds))
            return None, Sealed(b"")
        if definition:
            if len(functions) >= _MOST_FUNCTIONS:
                functions.clear()
            functions[number] = loads(definition)
        elif number and number not in functions:
            return (call, UNKNOWN, 0), Sealed(b"")
        if news != b"":
            sys.modules["lambdakernel.futures.joins"].hear(decode(news, (), fds))
        value = _work(kind, functions.get(number), decode(head, places, fds, maps))
        if kind == INITIALIZE:
            return (call, READY, os.getpid()), Sealed(b"")
        return (call, RETURNED, time.perf_counter_ns() - began), _sealed(value)
    except BaseException as e:  # SystemExit and KeyboardInterrupt of a call are its errors too
        spent = time.perf_counter_ns() - began
        return (call, BROKEN if kind == INITIALIZE else RAISED, spent), _error(e)
    finally:
        line.close(fds)


def _tell(end: line.End, answer: tuple[int, int, int], sealed: Sealed) -> None:
    joined = seal_extra(_joins(), sealed)
    message = dumps((*answer, sealed.head, sealed.places, joined.head), 5)
    line.put(end, message, sealed.fds + joined.fds, wait=True)


def _joins() -> bytes:
    """What calls joined into live lattices since the last answer."""
    joins = sys.modules.get("lambdakernel.futures.joins")
    return dumps(news, 5) if joins is not None and (news := joins.taken()) else b""


def _work(kind: int, function: Callable[..., Any] | None, arguments: tuple[Any, dict[str, Any]]) -> Any:
    args, kwargs = arguments
    if function is None:
        function, *args = args
    if kind == CHUNK:
        return [function(*each) for each in args[0]]
    return function(*args, **kwargs)


def _sealed(value: Any) -> Sealed:
    if is_plain(value):
        return seal(dumps(value, 5), [])
    from lambdakernel.futures.encoding import encode  # late: most of what it loads is of no use to plain values

    return seal(*encode(value, is_result=True))


def _error(error: BaseException) -> Sealed:
    """The error and its traceback as text; where it cannot be sent, the reason why in its place."""
    import traceback

    from lambdakernel.futures.encoding import encode

    text = "".join(traceback.format_exception(error))
    try:
        return seal(*encode((error, text), is_result=True))
    except Exception as e:
        instead = PicklingError(f"the call's error ({type(error).__name__}) cannot be sent: {e}")
        return seal(*encode((instead, text)))


def _settle(path: list[str], directory: str, environ: dict[str, str]) -> None:
    """Take on the executor's surroundings as they are now: module path, directory, environment."""
    sys.path[:] = path
    if environ != dict(os.environ):
        os.environ.clear()
        os.environ.update(environ)
    try:
        os.chdir(directory)
    except OSError:  # it was removed; the nursery's is as good
        return


def _flush() -> None:
    """What a call printed is seen before its result is."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a call closed or replaced it
            continue
