"""What the encoding of a value may cost: time in the value's own code, and bytes.

Theory of operation
- `__reduce__`, `__getstate__` and their like are code of the notebook or of a library that runs within a commit. It
  runs in a *window*: only there may it be stopped, so that a commit itself is never torn.
- A thread looks now and then, in a commit that reaches such code, whether one call of it goes on and on. It then sends
  the main thread the signal of an interrupt, whose handler raises `Stopped` in that code; also out of a sleep or a wait
  for a lock, which an exception that is set from another thread would not end. No timer of the process is used.
- An interrupt by the user stops the call that runs, and every later one that lasts, in the same way.
- Code that catches `Stopped` is stopped again, as long as its window is open.
"""

from __future__ import annotations

import _thread
import ctypes
import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
GRACE_S = 0.5
"""Seconds that a call may take although the user interrupts: what is as quick as that is not what they wait for."""
UNSEEN_S = 2.0
"""The same where no code in Python runs: it may be a call of code in C, or a large value that is being written out."""
_IMPATIENT = 10
"""After a call that was stopped, the others of the same commit have this part of the time: the search for the part to
blame calls what hangs again."""
_AGAIN_S = 0.2
_OURS = (str(Path(__file__).parent), f"{os.sep}cloudpickle{os.sep}")


class Stopped(BaseException):
    """Raised in code of a value that takes too long; no exception that such code is used to catching."""


class TooLarge(Exception):
    """A value has more bytes than a value may have."""


class Bounds:
    """See the module. One a namespace, used by one thread at a time; its own thread ends with `close`.

    `call_s`: seconds that one call of a value's code may take, 0 for no end. `value_nbytes`: most bytes of one value, 0
    for no end.
    """

    def __init__(self, call_s: float = 0.0, value_nbytes: int = 0) -> None:
        self.call_s, self.value_nbytes = call_s, value_nbytes
        self.stopped: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        """Types whose own code was stopped for its time, and why: not called again as long as they live."""
        self.interrupted: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        """The same of this commit, for an interrupt."""
        self._window: _Window | None = None
        self._under_way = self._is_asked = self._has_stopped = self._closed = self._asleep = False
        self._is_ours = False
        """A signal that this sent was not handled yet."""
        self._wake, self._sending = _thread.allocate_lock(), _thread.allocate_lock()
        self._wake.acquire()
        self._pid = 0

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """For the length of a commit: an interrupt stops what hangs in it, and nothing else. Whoever would have had it
        has it afterwards: a cell that commits on its way (`%%parallel`, `%undo`) ends then."""
        handles = self._handle_interrupts()
        token = _CURRENT.set(self)
        self._begin()
        try:
            yield
        finally:
            self._under_way = False
            _CURRENT.reset(token)
            if handles is not _NOT_MAIN:
                with self._sending:  # no signal of ours is on its way when another handler comes back
                    pass
                _set_handler(_SIGINT, handles if handles is not None else 0)
                if self._is_asked and callable(handles):
                    signal.raise_signal(signal.SIGINT)

    def _handle_interrupts(self) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return _NOT_MAIN
        return _set_handler(_SIGINT, self._on_interrupt)

    def _begin(self) -> None:
        self._is_asked = self._has_stopped = False
        self.interrupted.clear()
        self._under_way = True

    def arm(self) -> None:
        """Code of a value may run from here on, until the commit ends."""
        is_wanted = self.call_s > 0 or self._is_asked
        if is_wanted and self._pid != os.getpid():  # also in a fork, which has no thread but one
            self._pid, self._asleep = os.getpid(), False
            try:
                _thread.start_new_thread(self._watch, ())  # unknown to `threading`, whose threads the user counts
            except RuntimeError:  # no memory for one, under a limit that a cell set: the next call tries again
                self._pid = 0
        elif self._asleep and self._wake.locked():
            self._wake.release()

    def close(self) -> None:
        self._closed = True
        if self._wake.locked():
            self._wake.release()

    # -- windows

    def run(self, work: Callable[[], T], last: Callable[[], object] = lambda: None) -> T:
        """What `work` returns. `last` says which object's code it runs now.

        Raises:
            Halted: it was stopped; says why.
            BaseException: what it raised.
        """
        window, outer = _Window(last), self._window
        try:
            try:
                self._window = window
                return work()
            finally:
                self._window = outer
        except BaseException as e:
            if not window.why:
                raise
            raise Halted(window.why) from (None if isinstance(e, Stopped) else e)
        finally:
            if window.thread is not None and window.why:
                _raise_in(window.thread, None)

    def _on_interrupt(self, _number: int, frame: FrameType | None) -> None:
        """On the main thread; its own signals have set the window's verdict."""
        window, is_ours, self._is_ours = self._window, self._is_ours, False
        if window is not None and window.why:
            raise Stopped
        if is_ours:  # what it was to stop has ended meanwhile
            return
        self._is_asked = True
        self.arm()
        if window is not None and time.monotonic() - window.opened >= GRACE_S:
            self._judge(window, frame, "was interrupted")
            raise Stopped

    def _judge(self, window: _Window, frame: FrameType | None, what: str) -> None:
        call = _outermost_call(frame)
        name = call.f_code.co_name if call is not None else "own code"
        window.why = f"its {name} {what}"
        self._has_stopped = True
        last = window.last()
        if call is not None and last is not None and _first_argument(call) is last:
            known = self.interrupted if self._is_asked else self.stopped
            known[type(last)] = window.why

    # -- the thread that looks

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # an interrupt must wake the main thread
        seen: object = None
        since = 0.0
        while not self._closed:
            self._asleep = True
            if not self._under_way:
                self._wake.acquire()
                seen = None
            self._asleep = False
            self._wake.acquire(timeout=self._look_every_s())
            window = self._window
            frame = sys._current_frames().get(window.ident) if window is not None else None
            is_call = _outermost_call(frame) is not None
            if window is None or not (is_call or self._is_asked):
                seen = None
            elif seen != (step := (window.opened, id(window.last()))):
                seen, since = step, time.monotonic()
            elif time.monotonic() - since >= (self._may_take_s() if is_call else UNSEEN_S):
                self._stop(window, frame)
            frame = None

    def _may_take_s(self) -> float:
        if self._is_asked:
            return GRACE_S
        call_s = self.call_s or math.inf
        return max(call_s / _IMPATIENT, min(GRACE_S, call_s)) if self._has_stopped else call_s

    def _look_every_s(self) -> float:
        window = self._window
        if self._is_asked or (window is not None and window.why):
            return _AGAIN_S
        return min(max(self._may_take_s() / 8, 0.02), GRACE_S)

    def _stop(self, window: _Window, frame: FrameType | None) -> None:
        with self._sending:
            if self._window is not window:
                return
            if not window.why:
                what = "was interrupted" if self._is_asked else f"did not return in {self._may_take_s():g} s"
                self._judge(window, frame, what)
            if window.thread is None:
                self._is_ours = True
                signal.pthread_kill(window.ident, signal.SIGINT)
            else:
                _raise_in(window.thread, Stopped)


class Halted(Exception):
    """Code of a value was stopped; the text says why."""


class _Window:
    """One span in which code of values runs."""

    __slots__ = ("ident", "last", "opened", "thread", "why")

    def __init__(self, last: Callable[[], object]) -> None:
        self.last, self.opened, self.why = last, time.monotonic(), ""
        self.ident = threading.get_ident()
        self.thread = None if self.ident == threading.main_thread().ident else self.ident
        """The thread, if no signal reaches it."""


_NOT_MAIN = object()
_set_handler: Any = import_module("_signal").signal  # what is in `signal` takes ten times as long, to make enumerations
_SIGINT = int(signal.SIGINT)
_CURRENT: ContextVar[Bounds | None] = ContextVar("lambdakernel_bounds", default=None)


def current() -> Bounds | None:
    """Those in force; outside a commit there are none."""
    return _CURRENT.get()


def value_nbytes() -> int:
    """Most bytes of one value; 0 for no end."""
    bounds = current()
    return 0 if bounds is None else bounds.value_nbytes


def too_large(limit: int) -> str:
    return f"larger than max_value_bytes ({limit:,}); raise that setting, or keep it in a file"


def why_stopped(kind: type) -> str:
    """Why the code of objects of that type is not run again; empty if it may be, and then it is watched."""
    bounds = current()
    if bounds is None:
        return ""
    bounds.arm()
    why = bounds.stopped.get(kind) or bounds.interrupted.get(kind) or ""
    return why and f"not picklable ({why})"


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))


def _outermost_call(frame: FrameType | None) -> FrameType | None:
    """The first call, from below, of code that is not ours; None if none runs."""
    found = None
    while frame is not None and not _is_ours(frame):
        found, frame = frame, frame.f_back
    return found


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_OURS[0]) or _OURS[1] in name


def _first_argument(frame: FrameType) -> object:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names and frame.f_code.co_argcount else None


def run(work: Callable[[], T], last: Callable[[], object]) -> T:
    """What `work`, which may run code of values, returns, within the bounds in force.

    Raises:
        Halted: such code was stopped, or it raised what would end the process or the cell; says which.
        Exception: what it raised.
        KeyboardInterrupt: the user's, outside a commit.
    """
    bounds = current()
    try:
        return work() if bounds is None else bounds.run(work, last)
    except Exception:
        raise
    except BaseException as e:
        if bounds is None and isinstance(e, KeyboardInterrupt):
            raise
        raise Halted(f"its own code raised {type(e).__name__}") from e


class Stream(io.BytesIO):
    """Where an encoder writes to: an error as soon as it is more than a value may have."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, data: Any) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        return super().write(data)
