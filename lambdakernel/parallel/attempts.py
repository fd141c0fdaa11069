"""Attempts at the tasks of a fan-out: whose turn it is, how often each was tried, and how one begins."""

from __future__ import annotations

import bisect
import math
import os
import resource
import socket
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from lambdakernel.executors import wire
from lambdakernel.executors.base import Executor, Invocation
from lambdakernel.parallel.output import Output
from lambdakernel.parallel.running import Running, Waiting

AT_BIRTH = 2 * len(os.sched_getaffinity(0))
"""Tasks that are asked for and whose bodies have not begun, at most: a birth keeps a processor busy for some 20 ms, so
more at once would all begin late, where these begin one after another."""
AT_LEAVE = AT_BIRTH
"""Tasks that have said how they ended and whose processes are not gone, at most: others begin in their place, for the
end of a process takes milliseconds."""
BIRTH_S = 2.0
"""Seconds after which a birth that hangs, or that loads much, keeps no other back."""
START_DEADLINE_S = 30.0
"""Seconds from asking for a task's process to its being there; a fork takes milliseconds."""
_DESCRIPTORS, _WHERE_IT_STAYS = 5, 3
"""Of ours for each running task, one to spare; and the more where its process may take others."""
_SPARE = 64
"""Descriptors left to the notebook and its libraries."""


def most_at_once(*, stays: bool) -> int:
    """How many tasks may run so that descriptors do not run out; one at least. `stays`: their processes may."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    return max(1, (limit - len(os.listdir("/proc/self/fd")) - _SPARE) // (_DESCRIPTORS + stays * _WHERE_IT_STAYS))


def at_work(live: Collection[Running]) -> int:
    """How many have not said how they ended, or would go on."""
    return sum(task.outcome is None or task.is_free for task in live)


def has_room(live: Collection[Running], *, limit: int, is_born: bool, now: float) -> bool:
    """Whether one more task may run beside those that are `live`, at most `limit` of them; `is_born`: in a process that
    must be made first."""
    running = at_work(live)
    if not is_born:
        return running < limit
    if len(live) - running >= AT_LEAVE:
        return False
    if running < min(limit, AT_BIRTH):
        return True
    births = sum(not task.has_begun and task.asked > now - BIRTH_S for task in live)
    return running < limit and births < AT_BIRTH


class Limits(msgspec.Struct, frozen=True):
    """Of one fan-out; None: no limit."""

    workers: int
    timeout_s: float | None = None
    memory_nbytes: int | None = None
    retries: int = 0
    retry_errors: bool = False

    def time_is_up(self, began: float) -> float:
        """For a task that began then; inf: never."""
        return math.inf if self.timeout_s is None else began + self.timeout_s


class Attempts:
    """Counts attempts; those that are tried again come before those that were not tried yet, each in order."""

    def __init__(self, total: int, fan: str = "", *, ids_from: int = 0) -> None:
        """Of `total` tasks of the fan-out named `fan`; the executor has used ids up to `ids_from`."""
        self._made = [0] * total
        self._fan = fan
        self._next, self._ids = 0, ids_from
        self._again: list[Waiting] = []

    def made(self, index: int) -> int:
        """At the task, until now."""
        return self._made[index]

    @property
    def are_waiting(self) -> bool:
        """Whether a task waits for its turn."""
        return bool(self._again) or self._next < len(self._made)

    def next(self) -> Waiting | None:
        """The task whose turn it is."""
        if self._again:
            return self._again.pop(0)
        if self._next >= len(self._made):
            return None
        self._next += 1
        return Waiting(self._next - 1)

    def again(self, index: int, output: Output) -> None:
        """The task is tried once more."""
        bisect.insort(self._again, Waiting(index, output), key=lambda waiting: waiting.index)

    def back(self, index: int, output: Output) -> None:
        """The last attempt at the task was none: its turn comes again."""
        self.uncount(index)
        self.again(index, output)

    def uncount(self, index: int) -> None:
        self._made[index] -= 1

    def count(self, index: int) -> int:
        """One more, even if it cannot be made; its number."""
        self._made[index] += 1
        return self._made[index]

    def begin(
        self, waiting: Waiting, executor: Executor, given: tuple[int, int], *, now: float, is_guarded: bool, stays: bool
    ) -> Running:
        """Ask for the process of the next attempt, which may stay for others if it `stays`. It is `given` job and item,
        which stay the caller's; its own descriptors do not block."""
        attempt = self.count(waiting.index)
        self._ids += 1
        params = {"index": waiting.index, "attempt": attempt, "is_guarded": is_guarded, "fan": self._fan}
        lines = started(executor, self._ids, params, given, stays=stays)
        return lines.running(self._ids, waiting.index, attempt, now, now + START_DEADLINE_S, waiting.output)


class Lines(NamedTuple):
    """What leads to a task's process; none of it blocks."""

    end: socket.socket
    inbox: socket.socket | None
    pipes: tuple[dict[int, str], ...]
    """Read ends, and the stream that each one is: one pair, or two where the process may stay."""

    def running(self, id: int, index: int, attempt: int, asked: float, deadline: float, output: Output) -> Running:
        pipes, *more = self.pipes
        other = more[0] if more else {}
        return Running(id, index, attempt, self.end, pipes, asked, deadline, output, self.inbox, other)


def started(executor: Executor, id: int, params: Mapping[str, Any], given: tuple[int, ...], *, stays: bool) -> Lines:
    """Ask for a task's process.

    Raises:
        OSError: no descriptors are left.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        end, inbox = wire.pair()
        ours.callback(end.close)
        (ours if stays else theirs).callback(inbox.close)
        end.setblocking(False)
        found, handed = [], list[int]()
        for _ in range(2 if stays else 1):
            pair = {}
            for stream in ("stdout", "stderr"):
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.callback(os.close, read)
                theirs.callback(os.close, write)
                os.set_blocking(read, False)
                pair[read] = stream
                handed.append(write)
            found.append(pair)
        executor.start(Invocation(str(id), "task", params), (inbox.fileno(), *given, *handed))
        ours.pop_all()
        return Lines(end, inbox if stays else None, tuple(found))
