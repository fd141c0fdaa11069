"""The live lattices of one fan-out, at its cell: what a task joins goes into the notebook's variable and to the others.

Theory of operation
- What a task sends is joined into the variable at once, and into what each other task has not been sent yet. A task
  that begins later is first sent all that was joined so far.
- A task is sent one message at a time, and none within `line.EVERY_S` of the one before: what comes meanwhile is joined
  into the next. One that does not read costs nothing.
- Joins stay, however their task ends: they only ever add. What a second attempt joins again changes nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from kvs.errors import KvsError
from kvs.lattices import Lattice
from lambdakernel import live
from lambdakernel.executors import wire
from lambdakernel.parallel.deltas import BadJoins, packed, unpacked
from lambdakernel.parallel.line import EVERY_S


class _Listener(msgspec.Struct):
    """One running attempt."""

    end: socket.socket
    news: dict[str, Lattice]
    """What was not sent to it yet."""
    is_reading: bool = False
    """A message is under way to it."""
    due: float = 0.0


class Joins:
    """See the module. Used by the thread that runs the fan-out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: dict[str, Lattice] = {}
        self._listeners: dict[int, _Listener] = {}
        self._left: set[str] = set()
        """Identities that this process had no object of."""

    def begin(self, index: int, end: socket.socket) -> None:
        """An attempt at a task has this line."""
        self._listeners[index] = _Listener(end, dict(self._all))

    def end(self, index: int) -> None:
        """It is over."""
        self._listeners.pop(index, None)

    def hear(self, index: int, message: dict[str, Any], fds: tuple[int, ...]) -> str:
        """Take in what a task said of live lattices; why that cannot be, or nothing."""
        if message["said"] == "caught up":
            if index in self._listeners:
                self._listeners[index].is_reading = False
            return ""
        try:
            for uid, delta in unpacked(message, fds).items():
                self._take(index, uid, delta)
        except (BadJoins, KvsError) as e:
            return str(e)
        return ""

    def _take(self, index: int, uid: str, delta: Lattice) -> None:
        known = self._all.get(uid)
        if known is not None and delta.leq(known):
            return
        self._all[uid] = delta if known is None else known.join(delta)
        if not live.take(uid, delta):
            self._left.add(uid)
        for other, listener in self._listeners.items():
            if other != index:
                waiting = listener.news.get(uid)
                listener.news[uid] = delta if waiting is None else waiting.join(delta)

    def relay(self) -> None:
        """Send each task what is due to it."""
        now = self._clock()
        for listener in self._listeners.values():
            if listener.news and not listener.is_reading and listener.due <= now:
                self._send(listener, now)

    def _send(self, listener: _Listener, now: float) -> None:
        message, fds = packed(listener.news)
        try:
            wire.send(listener.end, message, fds)
        except (wire.PeerGone, BlockingIOError):  # it is over, or does not take what it was told before
            listener.due = now + 1.0
            return
        finally:
            wire.close_fds(fds)
        listener.news, listener.is_reading, listener.due = {}, True, now + EVERY_S

    def next_due(self) -> float:
        """When `relay` has something to do, by the clock; inf for not before something is heard."""
        waiting = [one.due for one in self._listeners.values() if one.news and not one.is_reading]
        return min(waiting, default=float("inf"))

    def settle(self, namespace: Any) -> None:
        """When it is over, or was stopped: what was joined is to be committed. On the namespace's thread."""
        if self._left:
            namespace.load_all()  # a task may reach what the text of its cell does not show
        for uid in list(self._left):
            if live.take(uid, self._all[uid]):
                self._left.discard(uid)
        if self._all:
            namespace.touch_all()
