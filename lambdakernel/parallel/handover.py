"""Processes that are free, or will be soon, and how the next task is given to one, in place of a birth.

- What a free process has is its own: its line, its pipes, its memory. A task that it takes is a new attempt in all
  else. One that is kept until the next fan-out is `idle`, and gets the job of that with its first task.
- While a process is at work, its next task is sent ahead to it, so that it need not wait for us in between. It prints
  that to its other pair of pipes: of two tasks nothing is mixed up, however late we hear that the first is over.
- What was sent ahead binds nobody. We hold the other end of the line, too, and take back what the process has not: the
  system decides who has it. A process that does not say that it is free has begun no other task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lambdakernel.executors import wire
from lambdakernel.executors.base import Executor
from lambdakernel.parallel.attempts import started
from lambdakernel.parallel.deltas import DELTAS
from lambdakernel.parallel.joins import Message
from lambdakernel.parallel.memory import held
from lambdakernel.parallel.output import Output
from lambdakernel.parallel.parcels import Sealed
from lambdakernel.parallel.running import Running, Waiting

MOST_ITEMS = 500
"""Items that one process takes: what nobody thought of does not add up for ever."""


class Free:
    """Processes that wait for a task, each as the attempt that it was last."""

    def __init__(self) -> None:
        self._waiting: dict[int, Running] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, task: Running) -> None:
        """The task is over, and its process is free."""
        self._waiting[task.id] = task

    def take(self) -> Running:
        """The process that came last: its memory is still in the processor's cache."""
        return self._waiting.popitem()[1]

    def take_all(self) -> list[Running]:
        found = [*self._waiting.values()]
        self._waiting.clear()
        return found

    def pop(self, id: int) -> Running | None:
        """The process of that number, if it is one of these."""
        return self._waiting.pop(id, None)


def idle(process: Running) -> Running:
    """A free process as one that waits for another fan-out: nothing of this one is left with it."""
    return Running(
        process.id,
        -1,
        0,
        process.end,
        process.pipes,
        process.asked,
        math.inf,
        Output(),
        process.inbox,
        process.other_pipes,
        process.lane,
        pid=process.pid,
        watch=process.watch,
        cpu_before_s=process.cpu_before_s + process.cpu_s,
        knows_job=False,
    )


def born_idle(executor: Executor, count: int, params: Mapping[str, Any], now: float) -> tuple[Running, ...]:
    """So many processes that wait for a fan-out, and attach to the session meanwhile: `params` are the store and the
    session.

    Raises:
        OSError: no descriptors are left; there are none.
    """
    made: list[Running] = []
    try:
        for id in range(1, count + 1):
            lines = started(executor, id, params, (), stays=True)
            process = lines.running(id, -1, 0, now, math.inf, Output())
            process.knows_job = False
            made.append(process)
    except OSError:
        for process in made:
            process.close()
        raise
    return tuple(made)


def hand_over(
    process: Running,
    waiting: Waiting,
    attempt: int,
    item: Sealed,
    job: int,
    *,
    now: float,
    deadline: float,
    joins: Message | None = None,
) -> Running:
    """The attempt at the task that the free `process` takes from now on. `item`, `job` and `joins`, which tasks have
    joined so far, stay the caller's.

    Raises:
        wire.PeerGone: the process is gone.
    """
    knew = process.knows_job
    _send(process, process.lane, waiting, attempt, item, () if knew else (job,), joins)
    born = process.born if knew else held(process.pid)
    return Running(
        process.id,
        waiting.index,
        attempt,
        process.end,
        process.pipes,
        now,
        deadline,
        waiting.output,
        process.inbox,
        process.other_pipes,
        process.lane,
        pid=process.pid,
        watch=process.watch,
        born=born,
        was_idle=not knew,
        has_begun=knew,
        body=process.body,
        now=process.now if knew else born,
        began=now,
        cpu_before_s=process.cpu_before_s + process.cpu_s,
    )


def _send(
    process: Running,
    lane: int,
    waiting: Waiting,
    attempt: int,
    item: Sealed,
    job: tuple[int, ...] = (),
    joins: Message | None = None,
) -> None:
    more, fds = item.in_message()
    joined, parcel = joins or ({}, ())
    turn = {"index": waiting.index, "attempt": attempt, "is_guarded": False, "lane": lane, **more, **joined}
    wire.send(process.end, turn, fds + job + parcel)


# -- ahead


def takes_more(task: Running) -> bool:
    """Whether the next task may be sent to its process now."""
    is_at_work = task.watch is not None and task.has_begun and task.outcome is None and not task.ended_for
    return is_at_work and task.inbox is not None and task.ahead is None and not task.has_missed


def send_ahead(task: Running, waiting: Waiting, attempt: int, item: Sealed) -> None:
    """Let `waiting` be what the process of `task` takes next. `item` stays the caller's.

    Raises:
        wire.PeerGone: the process is gone.
        BlockingIOError: there is no room for it now.
    """
    _send(task, 1 - task.lane, waiting, attempt, item)
    task.ahead = waiting


def take_back(task: Running) -> int | None:
    """What the process of `task` would take next, which it will not have: the index of that, be it `task` or what was
    sent ahead. None if it has taken all."""
    while task.inbox is not None and (received := wire.receive(task.inbox)) is not None:
        message, fds = received
        if "index" in message or DELTAS not in message:
            break
        wire.close_fds(fds)  # joins that came when its task was over
    else:
        return None
    try:
        if "index" not in message:  # an answer, which it waits for
            wire.send(task.end, message, fds)
            return None
    finally:
        wire.close_fds(fds)
    return int(message["index"])


def gone_on(task: Running, waiting: Waiting, attempt: int, *, now: float, deadline: float) -> Running:
    """The attempt at what was sent ahead, which the process has begun since `task` is over."""
    return Running(
        task.id,
        waiting.index,
        attempt,
        task.end,
        task.other_pipes,
        now,
        deadline,
        waiting.output,
        task.inbox,
        task.pipes,
        1 - task.lane,
        pid=task.pid,
        watch=task.watch,
        born=task.born,
        has_begun=True,
        body=task.body,
        now=task.now,
        began=now,
        cpu_before_s=task.cpu_before_s + task.cpu_s,
    )
