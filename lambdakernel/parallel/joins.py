"""The live lattices of one fan-out, at its cell: what a task joins goes into the notebook's variable and to the others.

Theory of operation
- What a task sends is joined into the variable at once, and logged for the others. Each is sent the join of what came
  since its last message; one that begins later is first sent all that was joined so far, with its item where its
  process has run another before.
- A task is sent one message at a time, and none within `line.EVERY_S` of the one before: what comes meanwhile is joined
  into the next. One that does not read costs nothing.
- Joins stay, however their task ends: they only ever add. What a second attempt joins again changes nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from kvs.errors import KvsError
from kvs.lattices import Lattice
from lambdakernel import live
from lambdakernel.executors import wire
from lambdakernel.parallel.deltas import BadJoins, packed, unpacked
from lambdakernel.parallel.line import EVERY_S

Message = tuple[dict[str, Any], tuple[int, ...]]
"""What is sent, and the descriptors with it."""


KEPT = 256
"""Entries of the log that wait for a task that does not read."""


class _Listener(msgspec.Struct):
    """One running attempt."""

    end: socket.socket
    known: int = -1
    """How much of the log it was sent; -1: nothing yet, and it is to begin with all that was joined."""
    is_reading: bool = False
    """A message is under way to it."""
    due: float = 0.0


class _Entry(NamedTuple):
    """What an attempt joined."""

    attempt: int
    uid: str
    delta: Lattice


class Joins:
    """See the module. Used by the thread that runs the fan-out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: dict[str, Lattice] = {}
        self._log: list[_Entry] = []
        """What some task was not sent yet; a listener's `known` counts from the first that ever was."""
        self._dropped = 0
        """Entries before the log."""
        self._listeners: dict[int, _Listener] = {}
        self._left: set[str] = set()
        """Identities that this process had no object of."""

    def begin(self, id: int, end: socket.socket, *, knows_all: bool = False) -> None:
        """The attempt `id` at a task has this line; if it `knows_all`, it was given `so_far`."""
        self._listeners[id] = _Listener(end, -1 if self._all and not knows_all else self._logged)

    def so_far(self) -> Message | None:
        """All that was joined, for one that begins now; None if that is nothing. The caller closes the descriptors."""
        return packed(self._all) if self._all else None

    def end(self, id: int) -> None:
        """It is over."""
        self._listeners.pop(id, None)
        self._forget()

    def hear(self, id: int, message: dict[str, Any], fds: tuple[int, ...]) -> str:
        """Take in what a task said of live lattices; why that cannot be, or nothing."""
        if message["said"] == "caught up":
            if id in self._listeners:
                self._listeners[id].is_reading = False
            return ""
        live.count_message()
        try:
            for uid, delta in unpacked(message, fds).items():
                self._take(_Entry(id, uid, delta))
        except (BadJoins, KvsError) as e:
            return str(e)
        return ""

    def _take(self, entry: _Entry) -> None:
        uid, delta = entry.uid, entry.delta
        known = self._all.get(uid)
        if known is not None and delta.leq(known):
            return
        joined = delta if known is None else known.join(delta)
        if not live.take(uid, delta):
            self._left.add(uid)
        self._all[uid] = joined
        self._log.append(entry)

    def relay(self) -> None:
        """Send each task what is due to it."""
        if not self._all:  # nothing was joined yet
            return
        now, made = self._clock(), dict[int, Message]()
        try:
            for id, listener in self._listeners.items():
                if not listener.is_reading and listener.due <= now:
                    if not self._has_news(id, listener):
                        listener.known = self._logged
                        continue
                    if listener.known not in made:
                        made[listener.known] = packed(self._news(listener.known))
                    self._send(listener, made[listener.known], now)
        finally:
            for _, fds in made.values():
                wire.close_fds(fds)
        if self._log:
            self._forget()

    def _has_news(self, id: int, listener: _Listener) -> bool:
        """What it joined itself is none."""
        if listener.known < 0:
            return bool(self._all)
        return any(entry.attempt != id for entry in self._log[listener.known - self._dropped :])

    def _news(self, known: int) -> dict[str, Lattice]:
        if known < 0:
            return self._all
        news: dict[str, Lattice] = {}
        for _, uid, delta in self._log[known - self._dropped :]:
            news[uid] = news[uid].join(delta) if uid in news else delta
        return news

    def _send(self, listener: _Listener, message: Message, now: float) -> None:
        try:
            wire.send(listener.end, *message)
        except (wire.PeerGone, BlockingIOError):  # it is over, or does not take what it was told before
            listener.due = now + 1.0
            return
        live.count_message()
        listener.known, listener.is_reading, listener.due = self._logged, True, now + EVERY_S

    @property
    def _logged(self) -> int:
        return self._dropped + len(self._log)

    def _forget(self) -> None:
        """Drop what every running attempt was sent. One that begins gets all, as does one that is far behind."""
        for listener in self._listeners.values():
            if listener.known < self._logged - KEPT:
                listener.known = -1
        first = min((one.known for one in self._listeners.values() if one.known >= 0), default=None)
        count = len(self._log) if first is None else first - self._dropped
        del self._log[:count]
        self._dropped += count

    def next_due(self) -> float:
        """When `relay` has something to do, by the clock; inf for not before something is heard."""
        if not self._all:
            return float("inf")
        waiting = [x.due for i, x in self._listeners.items() if not x.is_reading and self._has_news(i, x)]
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
