"""A task's line to its cell: what it shows, what it joins into live lattices, and how it ends.

Theory of operation
- What is joined is collected and sent at most once in `EVERY_S`, as the join of all since; what came too soon is sent
  by a timer, so that a body which computes for long after its last write keeps nothing back.
- The cell sends what others joined, one message at a time: it sends no second one before the first was read. So a body
  that never looks at its live lattices fills no buffer.
- The line is read where the body touches a `Live`, or waits for something: no thread of ours runs beside it.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import Any

from kvs.lattices import Lattice
from lambdakernel import live
from lambdakernel.executors import wire
from lambdakernel.parallel.deltas import packed, unpacked
from lambdakernel.parallel.parcels import pack

EVERY_S = 0.02
"""Seconds between two messages with joins, at least."""
_GONE_S = 0.01
LOOK_S = 0.001
"""Seconds between two looks at the line, at least: a look is a system call."""


class Line:
    """See the module. `task` names the task for live lattices. Implements `live.Outlet`. From any thread."""

    is_task = True

    def __init__(self, end: socket.socket, task: str, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        self._end = end
        self._pid = os.getpid()
        self._reading, self._asking, self._joining = threading.Lock(), threading.Lock(), threading.Lock()
        self._heard = 0
        self.has_missed = False
        """A further task came while this one waited for something else: this process takes none."""
        self._looked = self._sent = 0.0
        self._news: dict[str, Lattice] = {}
        self._timer: threading.Timer | None = None
        self._last_timer: threading.Timer | None = None
        """That one, or the one before: its thread may still be there."""
        self._threads = _threads()

    def begin(self, joins: tuple[dict[str, Any], tuple[int, ...]] | None) -> None:
        """With what others have joined so far.

        Raises:
            BadJoins: that cannot be read here.
        """
        if joins is not None:
            for uid, delta in unpacked(*joins).items():
                live.take(uid, delta)

    # -- saying

    def say(self, said: str, fds: tuple[int, ...] = (), **more: object) -> None:
        """Raises:
        wire.PeerGone: the cell was interrupted.
        """
        wire.send(self._end, {"said": said, **more}, fds)

    def ask(self, said: str, data: bytes) -> None:
        """Send `data`, and wait until it was heard: what is printed next must not overtake it.

        Raises:
            wire.PeerGone: the cell was interrupted.
        """
        parcel = pack(data)
        with self._asking:
            wanted = self._heard + 1
            try:
                self.say(said, (parcel,))
            finally:
                os.close(parcel)
            with self._reading:
                while self._heard < wanted:
                    self._take(wire.receive(self._end, wait=True))

    # -- live lattices

    def wrote(self, uid: str, delta: Lattice) -> None:
        """Raises:
        wire.PeerGone: the cell was interrupted.
        """
        if os.getpid() != self._pid:  # a process that the body forked: it may end without a word
            self._send({uid: delta})
            return
        with self._joining:
            known = self._news.get(uid)
            self._news[uid] = delta if known is None else known.join(delta)
            if self._timer is not None:
                return
            left = self._sent + EVERY_S - time.monotonic()
            if left > 0:
                self._timer = self._last_timer = threading.Timer(left, self._on_time)
                self._timer.daemon = True
                self._timer.start()
                return
        self.flush()

    def _on_time(self) -> None:
        try:
            self.flush()
        except wire.PeerGone:  # this process is being ended
            return

    def flush(self) -> None:
        """Send what was joined and not sent.

        Raises:
            wire.PeerGone: the cell was interrupted.
        """
        with self._joining:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            news, self._news = self._news, {}
            self._sent = time.monotonic()
        if news:
            self._send(news)

    def end(self) -> None:
        """As `flush`; of this line nothing runs any more.

        Raises:
            wire.PeerGone: the cell was interrupted.
        """
        self.flush()
        if self._last_timer is not None:
            self._last_timer.join()
            until = time.monotonic() + _GONE_S
            while _threads() > self._threads and time.monotonic() < until:
                time.sleep(0.0002)  # the system sees the end of a thread a little after Python does

    def _send(self, news: dict[str, Lattice]) -> None:
        message, fds = packed(news)
        try:
            self.say("joins", fds, **message)
        finally:
            wire.close_fds(fds)

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S or os.getpid() != self._pid:
            return
        self._looked = now
        if not self._reading.acquire(blocking=False):
            return  # who reads sees to it
        try:
            while (received := wire.receive(self._end)) is not None:
                self._take(received)
        finally:
            self._reading.release()

    def wait(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._end.fileno(), select.POLLIN)
        poller.poll(seconds * 1000)
        self._looked = 0.0

    def _take(self, received: tuple[dict[str, Any], tuple[int, ...]] | None) -> None:
        """Raises:
        BadJoins: what others joined cannot be read here.
        """
        message, fds = received or ({}, ())
        if "index" in message:
            wire.close_fds(fds)
            self.has_missed = True
            self.say("missed")
            return
        if "heard" in message:
            self._heard += 1
            return
        try:
            self.say("caught up")
            for uid, delta in unpacked(message, fds).items():
                live.take(uid, delta)
        finally:
            wire.close_fds(fds)


def _threads() -> int:
    """Of this process, as the system counts them."""
    return os.stat("/proc/self/task").st_nlink
