"""Processes that are free, and how the next task is given to one, in place of a birth.

What a free process has is its own: its line, its pipes, its memory. A task that it takes is a new attempt in all else.
One that is kept until the next fan-out is `idle`, and gets the job of that with its first task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lambdakernel.executors import wire
from lambdakernel.executors.base import Executor
from lambdakernel.parallel.attempts import Waiting, started
from lambdakernel.parallel.memory import held
from lambdakernel.parallel.output import Output
from lambdakernel.parallel.running import Running

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
            end, pipes = started(executor, id, params, ())
            made.append(Running(id, -1, 0, end, pipes, now, math.inf, Output(), knows_job=False))
    except OSError:
        for process in made:
            process.close()
        raise
    return tuple(made)


def hand_over(
    process: Running, waiting: Waiting, attempt: int, item: int, job: int, *, now: float, deadline: float
) -> Running:
    """The attempt at the task that the free `process` takes from now on. `item` and `job` stay the caller's.

    Raises:
        wire.PeerGone: the process is gone.
    """
    knew, params = process.knows_job, {"index": waiting.index, "attempt": attempt, "is_guarded": False}
    wire.send(process.end, params, (item,) if knew else (item, job))
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
