"""One attempt at one task that was asked for and is not over: its descriptors, and what came through them."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lambdakernel.executors import wire
from lambdakernel.parallel.memory import Held, cpu_seconds, held
from lambdakernel.parallel.output import Output
from lambdakernel.parallel.parcels import ParcelDamaged, Sealed, unpack
from lambdakernel.parallel.results import Outcome, Raised, Returned
from lambdakernel.parallel.rich import Display

_CHUNK = 64 * 1024
_LAST_CHUNKS = 32
"""Reads of a dead task's pipe: more than a pipe holds, so that a stray process that holds it cannot keep us here."""


class Waiting(msgspec.Struct):
    """A task whose next attempt is to be started."""

    index: int
    output: Output = msgspec.field(default_factory=Output)
    """With what earlier attempts printed."""
    is_beside: bool = False
    """Another attempt at it runs, and goes on."""


class Running(msgspec.Struct):
    """See the module. Owns its descriptors."""

    id: int
    """Of this attempt, among all of the fan-out."""
    index: int
    """Of its task."""
    attempt: int
    """From 1."""
    end: socket.socket
    pipes: dict[int, str]
    """Read ends still open, and the stream that each one is."""
    asked: float
    """When its process was asked for."""
    deadline: float
    """When the next thing must have happened: its start, its end, or after it was ended its being gone."""
    output: Output
    inbox: socket.socket | None = None
    """The other end of its line, where its process may stay: what that has not begun is taken back there."""
    other_pipes: dict[int, str] = msgspec.field(default_factory=dict)
    """Those of the task that its process takes after it."""
    lane: int = 0
    """Which of its process's two pairs of pipes are `pipes`."""
    ahead: Waiting | None = None
    """The task that was sent to its process already, to be the next."""
    has_missed: bool = False
    """Its process has met that while it waited for something else, and takes no other."""
    outcome: Outcome | None = None
    pid: int = 0
    watch: int | None = None
    """A pidfd: it names this process even after its number was given to another."""
    joins: Callable[[dict[str, object], tuple[int, ...]], str] | None = None
    """Takes in what it says of live lattices; gives the reason why that cannot be."""
    refused: str = ""
    """That reason."""
    born: Held = Held()
    """Memory that it was born with."""
    was_idle: bool = False
    """Its process waited for this fan-out, and this is its first task of it."""
    was_not_taken: bool = False
    """Its process has ended before it took it."""
    has_begun: bool = False
    """Its body has."""
    body: Held | None = None
    """While its body runs, the memory that it had when that began."""
    now: Held = Held()
    """Memory when it was last looked at."""
    began: float = float("inf")
    """When its process was there."""
    cpu_s: float = 0.0
    """Seconds of processors that it has taken, as it said, or when it was last looked at."""
    cpu_before_s: float = 0.0
    """Those that its process had taken before it, for other tasks."""
    knows_job: bool = True
    """Its process was born for this fan-out, or has had a task of it."""
    is_free: bool = False
    """It is over, and its process waits for another task."""
    peak_nbytes: int = 0
    """The most memory that its process has held, then."""
    ended_for: str = ""
    """Why we ended it."""
    ended_pipes: set[int] = msgspec.field(default_factory=set)
    """Those of `pipes` that nothing will come through any more."""

    @property
    def taken_nbytes(self) -> int:
        """Memory that it has taken since it was born."""
        return max(0, self.now.own - self.born.own)

    def born_as(self, pid: int) -> None:
        """It is process `pid` now.

        Raises:
            ProcessLookupError: it is over already; that it ended is among the next events.
        """
        self.pid, self.born = pid, held(pid)
        if self.has_begun:  # it said so before this was told
            self.body = self.born
        self.watch = os.pidfd_open(pid)

    def look(self) -> None:
        """See how much memory it holds, and what it has computed."""
        if self.pid:
            self.now = held(self.pid)
            self.cpu_s = max(self.cpu_s, cpu_seconds(self.pid) - self.cpu_before_s)

    def close(self) -> None:
        self.end.close()
        if self.inbox is not None:
            self.inbox.close()
        wire.close_fds((*self.pipes, *self.other_pipes))
        self.pipes.clear()
        self.other_pipes.clear()
        if self.watch is not None:
            os.close(self.watch)
            self.watch = None

    def kill(self, why: str) -> None:
        """End it; that it is gone is among the next events."""
        self.ended_for = why
        if self.watch is None:
            return
        try:
            signal.pidfd_send_signal(self.watch, signal.SIGKILL)
        except ProcessLookupError:
            return

    def read(self, fd: int) -> bool:
        """Keep a piece of output from a pipe; False when there is no more now."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.ended_pipes.add(fd)
            return False
        self.output.add(self.pipes[fd], data)
        return True

    def drain(self) -> None:
        """Read what its pipes hold now."""
        for fd in self.pipes.keys() - self.ended_pipes:
            for _ in range(_LAST_CHUNKS):
                if not self.read(fd):
                    break

    def hear(self) -> None:
        """Take in what it said. A display comes after what was printed before it. What comes after the word that its
        process is free is of another.

        Raises:
            wire.PeerGone: it will say no more.
        """
        while not self.is_free and (received := wire.receive(self.end)) is not None:
            message, fds = received
            try:
                self._take(message, fds)
            finally:
                wire.close_fds(fds)

    def _take(self, message: dict[str, object], fds: tuple[int, ...]) -> None:
        match message:
            case {"said": "display"}:
                self.drain()
                self.output.show(_display(fds))
                self._answer()
            case {"said": "clear"}:
                self.drain()
                self.output.clear()
                self._answer()
            case {"said": "begins"}:
                self.has_begun = True
                self.body = held(self.pid) if self.pid else None
            case {"said": "missed"}:
                self.has_missed = True
            case {"said": "ends"}:
                self.body = None
            case {"said": "joins" | "caught up"} if self.joins is not None:
                self.refused = self.joins(message, fds) or self.refused
            case {"said": "gives up", "what": what}:
                self.ended_for = f"gave up its second attempt, which was about to act outside ({what})"
            case {"said": said, "cpu_s": float(cpu_s), **more}:
                self.cpu_s = cpu_s - self.cpu_before_s
                self.outcome = Raised("BadJoins", self.refused, "") if self.refused else _outcome(str(said), more, fds)
                if "peak" in more:
                    self.drain()  # what the next task prints is not its
                    self.is_free, self.peak_nbytes = True, int(str(more["peak"]))

    def _answer(self) -> None:
        """It waits for this before it prints more, so that the order of what it shows is known."""
        try:
            wire.send(self.end, {"heard": True})
        except wire.PeerGone:  # its end is among the next events
            return


def kill(pid: int) -> None:
    """End a process of a task; one that is gone is no error."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _display(fds: tuple[int, ...]) -> Display:
    if not fds:
        return Display({"text/plain": "<a display that did not arrive: this process has too many open files>"})
    try:
        return Display(**json.loads(bytes(unpack(fds[0]).head)))
    except (ParcelDamaged, OSError) as e:
        return Display({"text/plain": f"<a display that cannot be read: {e}>"})


def _outcome(said: str, message: Mapping[str, Any], fds: tuple[int, ...]) -> Outcome:
    try:
        parcel = Sealed.from_message(message, fds).opened()
        return Returned(parcel) if said == "returned" else Raised(**json.loads(bytes(parcel.head)))
    except (ParcelDamaged, OSError) as e:
        return Raised(type(e).__name__, f"the result cannot be read: {e}", "")
