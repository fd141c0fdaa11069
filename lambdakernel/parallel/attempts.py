"""Attempts at the tasks of a fan-out: whose turn it is, how often each was tried, and how one begins."""

from __future__ import annotations

import math
import os
import resource
import socket
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from lambdakernel.executors import wire
from lambdakernel.executors.base import Executor, Invocation
from lambdakernel.parallel.output import Output
from lambdakernel.parallel.running import Running

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
_DESCRIPTORS = 5
"""Of ours for each running task, one to spare."""
_SPARE = 64
"""Descriptors left to the notebook and its libraries."""


def most_at_once() -> int:
    """How many tasks may run so that descriptors do not run out; one at least."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    return max(1, (limit - len(os.listdir("/proc/self/fd")) - _SPARE) // _DESCRIPTORS)


def has_room(live: Collection[Running], *, limit: int, is_born: bool, now: float) -> bool:
    """Whether one more task may run beside those that are `live`, at most `limit` of them; `is_born`: in a process that
    must be made first."""
    at_work = sum(task.outcome is None or task.is_free for task in live)
    if not is_born:
        return at_work < limit
    if len(live) - at_work >= AT_LEAVE:
        return False
    if at_work < min(limit, AT_BIRTH):
        return True
    births = sum(not task.has_begun and task.asked > now - BIRTH_S for task in live)
    return at_work < limit and births < AT_BIRTH


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


class Waiting(msgspec.Struct):
    """A task whose next attempt is to be started."""

    index: int
    output: Output = msgspec.field(default_factory=Output)
    """With what earlier attempts printed."""
    is_beside: bool = False
    """Another attempt at it runs, and goes on."""


class Attempts:
    """Counts attempts; those that are tried again come before those that were not tried yet."""

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
        self._again.append(Waiting(index, output))

    def back(self, index: int, output: Output) -> None:
        """The last attempt at the task was none: its turn comes again."""
        self._made[index] -= 1
        self.again(index, output)

    def count(self, index: int) -> int:
        """One more, even if it cannot be made; its number."""
        self._made[index] += 1
        return self._made[index]

    def begin(
        self, waiting: Waiting, executor: Executor, job: int, item: int, *, now: float, is_guarded: bool
    ) -> Running:
        """Ask for the process of the next attempt. `job` and `item` stay the caller's; its descriptors do not block."""
        attempt = self.count(waiting.index)
        self._ids += 1
        params = {"index": waiting.index, "attempt": attempt, "is_guarded": is_guarded, "fan": self._fan}
        end, pipes = started(executor, self._ids, params, (job, item))
        return Running(self._ids, waiting.index, attempt, end, pipes, now, now + START_DEADLINE_S, waiting.output)


def started(
    executor: Executor, id: int, params: Mapping[str, Any], given: tuple[int, ...]
) -> tuple[socket.socket, dict[int, str]]:
    """Ask for a task's process: our end of its line, and our ends of its pipes by stream; none of them blocks."""
    ours, theirs = wire.pair()
    out, out_end = os.pipe2(os.O_CLOEXEC)
    err, err_end = os.pipe2(os.O_CLOEXEC)
    for fd in (ours.fileno(), out, err):
        os.set_blocking(fd, False)
    executor.start(Invocation(str(id), "task", params), (theirs.fileno(), *given, out_end, err_end))
    theirs.close()
    wire.close_fds((out_end, err_end))
    return ours, {out: "stdout", err: "stderr"}
