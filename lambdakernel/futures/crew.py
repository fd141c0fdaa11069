"""Workers as their executor sees them, the calls that each of them has, and how many it may have.

A worker is ordered, gets the executor's surroundings and initializer when it enters service (`begin`), says that it is
`ready`, has calls, and leaves: dismissed (it ends when it has nothing left to do) or killed. A spare is one that has
not entered service. Only the owner's thread touches these.
"""

from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lambdakernel.futures import line
from lambdakernel.futures.sealing import Kept, seal, seal_extra
from lambdakernel.futures.steady import Steady
from lambdakernel.futures.worker import INITIALIZE, PLACE

DEEPEST = 32
"""Most calls that a worker has on its line."""
AHEAD_NS = 2_000_000.0
"""Nanoseconds of work that a worker may have on its line, as long as it is more than one call."""
_STARTING = 0
"""The number of what is no call."""


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way; it keeps its arguments until its future is done."""

    id: int
    kind: int
    future: Future[Any]
    kept: Kept
    function: Steady | None
    running: bool = False
    unwanted: bool = False
    """It was stopped: it must not be given to a worker again."""

    def begin(self) -> bool:
        """Whether it is still wanted; from now on it cannot be cancelled."""
        if not self.running:
            self.running = self.future.set_running_or_notify_cancel()
        return self.running

    def cancel(self) -> bool:
        """End it, if it has not begun; False if it has."""
        if self.running:
            return False
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
        self.release()
        return True

    def release(self) -> None:
        self.kept = Kept(b"")


@dataclass(slots=True, eq=False)
class Worker:
    """One worker: our end of its line, and the other end, by which we take back what it has not begun."""

    id: int
    end: line.End
    inbox: line.End
    since: float
    """When it was ordered, or last began or finished something; when it was told to leave."""
    calls: dict[int, Call] = field(default_factory=dict)
    functions: set[int] = field(default_factory=set)
    told: dict[str, Any] = field(default_factory=dict)
    """By its identity, the value that each `Live` of these functions surely has there."""
    sent: int = 0
    pid: int = 0
    ready: bool = False
    leaving: bool = False
    watch: int = -1
    """The descriptor that tells of its end, once it is ready."""
    ended: float = 0.0
    """When it was seen to have ended, on the monotonic clock; 0: it has not."""
    how: str = "ended"
    """How, as far as the system tells who is not its parent."""
    stopped: bool = False
    """It was told to end at once: it takes no call, and what it ran was stopped."""

    @property
    def serves(self) -> bool:
        """Whether it may be given calls, now or when it is ready."""
        return not (self.leaving or self.stopped or self.ended)

    def room(self, usual_ns: float, share: int | None) -> int:
        """How many more calls it may have, if one takes `usual_ns` and it may begin `share` of them in all."""
        if not self.serves:
            return 0
        ahead = max(1, min(DEEPEST, int(AHEAD_NS / max(usual_ns, 1.0)))) if self.ready else 1
        left = ahead - len(self.calls)
        return left if share is None else min(left, share - self.sent)

    def begin(self, first: Kept, now: float) -> None:
        """Enter service: take on our surroundings, then run the initializer, and say that it is ready."""
        self.since = now
        self._put(PLACE, Kept(pickle.dumps((sys.path, _directory(), dict(os.environ)), 5)))
        self._put(INITIALIZE, first)

    def send(self, call: Call) -> bool:
        """Put `call` on the line; False if there is no room on it now, but there is once the worker has answered.

        Raises:
            OSError: the system has no memory or descriptor for its arguments.
        """
        known = call.function
        number, definition = (known.number, known.data) if known else (0, b"")
        if number in self.functions:
            definition = b""
        news, told = self._news(known, bool(definition)) if known and known.lives else (b"", {})
        sealed = seal(call.kept.head, call.kept.parts)
        extra = seal_extra(news, sealed)
        message = pickle.dumps((call.id, call.kind, number, definition, sealed.head, sealed.places, extra.head), 5)
        if not line.put(self.end, message, sealed.fds + extra.fds):
            return False
        if number:
            self.functions.add(number)
            self.told.update(told)
        self.calls[call.id] = call
        self.sent += 1
        return True

    def _news(self, function: Steady, is_new: bool) -> tuple[bytes, dict[str, Any]]:
        """What it has to hear for `function` to have what was joined until now, and what it was told then."""
        from lambdakernel.futures.joins import lacking

        told = dict(function.began) if is_new else self.told
        news, now = lacking(function.lives, told)
        return pickle.dumps(news, 5) if news else b"", {**(told if is_new else {}), **now}

    def take_back(self) -> list[Call]:
        """The calls that it has not begun, in order; they are not its any more."""
        found = []
        while (message := line.take(self.inbox)) is not None and message[0]:
            data, fds = message
            line.close(fds)
            call = self.calls.pop(pickle.loads(data)[0], None)
            if call is not None:
                found.append(call)
        self.sent -= len(found)
        self.functions.clear()  # a definition may have been among them, and so what goes with it
        return found

    def dismiss(self, now: float) -> None:
        """Let it leave when it has nothing left to do."""
        self.leaving, self.since = True, now
        line.hang_up(self.end)

    def close(self) -> None:
        self.end.close()
        self.inbox.close()

    def _put(self, kind: int, kept: Kept) -> None:
        sealed = seal(kept.head, kept.parts)
        line.put(self.end, pickle.dumps((_STARTING, kind, 0, b"", sealed.head, sealed.places, b""), 5), sealed.fds)


def new_worker(number: int, now: float) -> Worker:
    """A worker's line, before there is a worker on it.

    Raises:
        OSError: no descriptor is left.
    """
    return Worker(number, *line.pair(), now)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "/"
