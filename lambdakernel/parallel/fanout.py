"""Runs the tasks of one fan-out over an executor: each a worker of its own, at most so many at a time.

Theory of operation
- A task is born with five descriptors: its line to us, the job (one parcel for all tasks), its item (a parcel), and
  the pipes that are its stdout and stderr. Items are encoded when their task starts, so that waiting tasks hold none.
  A few are born at a time: each says when its body begins, and then the next is asked for.
- One loop polls the descriptors of all live tasks and of the executor. It wakes for nothing else, but once a second
  for the clock of the progress bar and the memory of tasks, and when a task's time is up.
- A task says how its body went in one datagram, with the results in a parcel beside it. It is over when the executor
  says that its process is gone; what it said and printed until then is read first. One that said nothing is Lost.
- A lost task is tried again as often as the limits allow, once its process is surely gone. What the lost attempt
  printed is kept, and marked.
- A task that is late (`stragglers`) has a second attempt beside the first, where it may (`again`). The first result is
  the task's, with the output of its attempt; the other attempt is killed, and what it said is dropped.
- However this ends (done, interrupt, `stop`, an error of ours), the executor is closed, which kills the tasks that
  live, and every descriptor is closed. Nothing is bound here: the caller has all outcomes or none.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Executor, ExecutorLost, Exited, Refused, Started
from lambdakernel.parallel.again import NEVER, Again
from lambdakernel.parallel.attempts import (
    AT_BIRTH,
    AT_LEAVE,
    BIRTH_S,
    START_DEADLINE_S,
    Attempts,
    Limits,
    Waiting,
    most_at_once,
)
from lambdakernel.parallel.joins import Joins
from lambdakernel.parallel.memory import size
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Lost, Outcome, Raised, Returned
from lambdakernel.parallel.running import Running, kill
from lambdakernel.parallel.stragglers import Stragglers

TICK_S = 1.0
"""Seconds after which the loop wakes without news, for the elapsed time on the display."""
KILL_DEADLINE_S = 5.0
"""Seconds from killing a task to the news that it is gone; later it counts as gone."""
CLOSE_DEADLINE_S = 1.0


class Stopped(Exception):
    """The fan-out was ended by `stop`."""


class FanOut:
    """See the module. `item(index)` gives the descriptor of a task's packed item, which is closed here. `share` says
    how many tasks this fan-out may run now, beside others."""

    def __init__(
        self,
        executor: Executor,
        *,
        job: int,
        total: int,
        item: Callable[[int], int],
        limits: Limits,
        grouped: Grouped,
        watch: Callable[[Progress], None],
        share: Callable[[], int] | None = None,
        again: Again = NEVER,
        price: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._job = job
        self._item = item
        self._limits = limits
        self._grouped = grouped
        self._watch = watch
        self._share = share
        self._again = again
        self.joins = Joins()
        """What tasks join into live lattices."""
        self._clock = clock
        self._began = clock()
        self._looked = self._began
        self._attempts = Attempts(total)
        self._most = min(limits.workers, most_at_once())
        self._stragglers = Stragglers(total)
        self._live: dict[int, Running] = {}
        self._unwanted: set[int] = set()
        """Attempts that were dropped before their process was there."""
        self._of_fd: dict[int, Running] = {}
        self._outcomes: list[Outcome | None] = [None] * total
        self._progress = Progress(total, price=price)
        self._poller = select.poll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._bell_lock = threading.Lock()
        self._stopping = False

    @property
    def progress(self) -> Progress:
        """Where things stand now."""
        return msgspec.structs.replace(
            self._progress,
            running=len({task.index for task in self._live.values() if task.outcome is None}),
            elapsed_s=self._clock() - self._began,
            memory_nbytes=sum(task.taken_nbytes for task in self._live.values()),
        )

    def run(self) -> list[Outcome]:
        """The outcome of every task, in order. Call once.

        Raises:
            KeyboardInterrupt: the user stopped it; all tasks are ended, and so within a second.
            Stopped: `stop` was called; the same.
        """
        self._poller.register(self._executor.fileno(), select.POLLIN)
        self._poller.register(self._bell, select.POLLIN)
        try:
            while self._progress.done < self._progress.total:
                self._start_some()
                self._start_again()
                self._watch(self.progress)
                for fd, _ in self._poller.poll(self._patience_ms()):
                    self._on_ready(fd)
                self.joins.relay()
                if self._stopping:
                    raise Stopped
                self._on_time()
        finally:
            self._close()
        return [outcome for outcome in self._outcomes if outcome is not None]

    def stop(self) -> None:
        """End it soon; from any thread, while `run` runs or before."""
        self._stopping = True
        with self._bell_lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _close(self) -> None:
        for task in self._live.values():
            task.look()
            self._add_cost(task, task.now.resident)
        self._executor.close(CLOSE_DEADLINE_S)
        for task in self._live.values():
            task.close()
        with self._bell_lock:
            os.close(self._bell)
            self._bell = -1
        self._progress = msgspec.structs.replace(self.progress, stopped=self._progress.done < self._progress.total)
        self._live.clear()
        self._grouped.close()

    # -- starting

    def _start_some(self) -> None:
        while self._has_room() and (task := self._attempts.next()) is not None:
            self._start_with_item(task)

    def _start_again(self) -> None:
        """Second attempts at tasks that are late, while workers are idle."""
        if not self._has_room() or self._stragglers.limit_s == math.inf:
            return
        alone = [t for t in self._live.values() if self._attempts.made(t.index) == 1 and not t.ended_for]
        for index in self._stragglers.late(((task.index, task.began) for task in alone), self._clock()):
            if self._has_room() and self._again.is_allowed:
                self._progress = msgspec.structs.replace(self._progress, twice=self._progress.twice + 1)
                self._start_with_item(Waiting(index, is_beside=True))

    def _has_room(self) -> bool:
        limit = self._most if self._share is None else min(self._most, self._share())
        at_work = sum(task.outcome is None for task in self._live.values())
        if len(self._live) - at_work >= AT_LEAVE:
            return False
        if at_work < min(limit, AT_BIRTH):
            return True
        lately = self._clock() - BIRTH_S
        births = sum(not task.has_begun and task.asked > lately for task in self._live.values())
        return at_work < limit and births < AT_BIRTH

    def _start_with_item(self, task: Waiting) -> None:
        try:
            item = self._item(task.index)
        except Exception as e:  # the user's own __reduce__ may raise anything; it is this task's failure
            if task.is_beside:
                self._attempts.skip(task.index)  # the first attempt goes on, and nothing beside it is tried again
                return
            self._record(task.index, Raised(type(e).__name__, f"the item cannot be sent to its task: {e}", ""))
            self._grouped.ended(task.index, task.output)
            return
        try:
            self._start(task, item)
        finally:
            os.close(item)

    def _start(self, waiting: Waiting, item: int) -> None:
        is_guarded = waiting.is_beside and self._again.is_guarded
        task = self._attempts.begin(waiting, self._executor, self._job, item, now=self._clock(), is_guarded=is_guarded)
        task.joins = partial(self.joins.hear, task.id)
        self.joins.begin(task.id, task.end)
        self._live[task.id] = task
        for fd in (task.end.fileno(), *task.pipes):
            self._of_fd[fd] = task
            self._poller.register(fd, select.POLLIN)

    # -- what happens

    def _on_ready(self, fd: int) -> None:
        if fd == self._executor.fileno():
            for event in self._executor.events():
                self._on_event(event)
        elif (task := self._of_fd.get(fd)) is None:
            return  # its task ended in this same round, or this is the bell
        elif fd in task.pipes:
            task.read(fd)
            self._sweep(task)
        else:
            self._hear(task)

    def _on_event(self, event: Event) -> None:
        match event:
            case Started(id, pid) if int(id) in self._live:
                self._on_started(self._live[int(id)], pid)
            case Started(id, pid) if int(id) in self._unwanted:
                kill(pid)
            case Refused(id, reason) if int(id) in self._live:
                self._over(self._live[int(id)], Lost(f"could not be started: {reason}"))
            case Exited(id=id) if int(id) in self._live:
                self._on_exited(self._live[int(id)], event)
            case ExecutorLost(reason):
                self._on_executor_lost(reason)

    def _on_started(self, task: Running, pid: int) -> None:
        limit = self._limits.timeout_s
        task.began = self._clock()
        task.deadline = math.inf if limit is None else task.began + limit
        try:
            task.born_as(pid)
        except ProcessLookupError:
            task.deadline = self._clock() + KILL_DEADLINE_S

    def _on_exited(self, task: Running, exited: Exited) -> None:
        self._hear(task)
        task.drain()
        taken = max(task.taken_nbytes, exited.peak_nbytes - task.born.resident)
        self._progress = msgspec.structs.replace(self._progress, peak_nbytes=max(taken, self._progress.peak_nbytes))
        self._add_cost(task, exited.peak_nbytes)
        self._over(task, Lost(task.ended_for or exited.reason() + self._hint(exited)))

    def _hint(self, exited: Exited) -> str:
        """Code in C that is refused memory may end its process, where Python raises."""
        if self._limits.memory_nbytes is None or exited.code not in (-signal.SIGABRT, -signal.SIGSEGV):
            return ""
        return f" (--memory {size(self._limits.memory_nbytes)} may be too little for it)"

    def _on_executor_lost(self, reason: str) -> None:
        """Nothing will run any more: every task that is not over is lost."""
        for task in list(self._live.values()):
            if task.id in self._live:
                self._end(task, Lost(f"ended with the process that starts tasks: {reason}"))
        while (waiting := self._attempts.next()) is not None:
            self._record(waiting.index, Lost(f"could not be started: {reason}. Run the cell again"))
            self._grouped.ended(waiting.index, waiting.output)

    def _on_time(self) -> None:
        now = self._clock()
        if now - self._looked >= TICK_S:
            self._looked = now
            for task in self._live.values():
                self._look_at_memory(task, now)
        for task in [t for t in self._live.values() if t.deadline <= now]:
            if task.id not in self._live:
                continue  # another attempt was first, in this same round
            if task.watch is not None and not task.ended_for:
                self._kill(task, f"took longer than --timeout {self._limits.timeout_s:g} seconds and was ended", now)
            elif task.ended_for:
                self._end(task, Lost(f"{task.ended_for}, but it is still there"))
            else:
                self._end(task, Lost(f"did not start within {START_DEADLINE_S:g} seconds. Run the cell again"))

    def _look_at_memory(self, task: Running, now: float) -> None:
        task.look()
        limit = self._limits.memory_nbytes
        if limit is None or task.body is None or task.ended_for:
            return
        if (taken := task.now.own - task.body.own) > limit:
            self._kill(task, f"took {size(taken)}, more than --memory {size(limit)}, and was ended", now)

    def _kill(self, task: Running, why: str, now: float) -> None:
        task.deadline = now + KILL_DEADLINE_S
        task.kill(why)

    def _patience_ms(self) -> float:
        first = min((task.deadline for task in self._live.values()), default=math.inf)
        first = min(first, self.joins.next_due())
        return max(0.0, min(TICK_S, first - self._clock())) * 1000 + 1

    # -- from a task

    def _hear(self, task: Running) -> None:
        try:
            task.hear()
        except wire.PeerGone:
            self._drop(task.end.fileno())
        self._sweep(task)

    def _sweep(self, task: Running) -> None:
        """Close the pipes that ended."""
        for fd in task.ended_pipes:
            self._drop(fd)
            del task.pipes[fd]
            os.close(fd)
        task.ended_pipes.clear()

    def _drop(self, fd: int) -> None:
        if self._of_fd.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _over(self, task: Running, otherwise: Lost) -> None:
        """The process of the task is surely gone: try again, or end it."""
        outcome = task.outcome or otherwise
        if self._beside(task) or not self._is_lost(outcome) or self._attempts.made(task.index) > self._limits.retries:
            self._end(task, otherwise)
            return
        self._forget(task)
        task.output.mark(f"attempt {task.attempt} of task {task.index} {_how(outcome)}; it runs again")
        self._attempts.again(task.index, task.output)
        self._progress = msgspec.structs.replace(self._progress, retried=self._progress.retried + 1)

    def _is_lost(self, outcome: Outcome) -> bool:
        """Whether another attempt may do better."""
        return isinstance(outcome, Lost) or (self._limits.retry_errors and isinstance(outcome, Raised))

    def _beside(self, task: Running) -> list[Running]:
        """Other attempts at the same task that run."""
        if self._attempts.made(task.index) == 1:
            return []
        return [other for other in self._live.values() if other.index == task.index and other is not task]

    def _end(self, task: Running, otherwise: Lost) -> None:
        """Task is over: with what it said, else with `otherwise`. Unless another attempt at it goes on."""
        self._forget(task)
        outcome, others = task.outcome or otherwise, self._beside(task)
        if others and self._is_lost(outcome):
            return
        for other in others:
            self._dismiss(other)
        if isinstance(outcome, Returned):
            self._stragglers.ended(self._clock() - task.began)
        if (made := self._attempts.made(task.index)) > 1 and isinstance(outcome, Lost):
            outcome = Lost(f"{outcome.reason} (attempt {made} of {max(made, self._limits.retries + 1)})")
        self._record(task.index, outcome)
        self._grouped.ended(task.index, task.output)

    def _dismiss(self, task: Running) -> None:
        """End an attempt that was not first."""
        if task.watch is None:
            self._unwanted.add(task.id)
        else:
            task.look()
            self._add_cost(task, task.now.resident)
            task.kill("another attempt was first")
        self._forget(task)

    def _forget(self, task: Running) -> None:
        del self._live[task.id]
        self.joins.end(task.id)
        for fd in (task.end.fileno(), *task.pipes):
            self._drop(fd)
        task.close()

    def _add_cost(self, task: Running, nbytes: int) -> None:
        cost = self._progress.cost.plus(task.cpu_s, max(0.0, self._clock() - task.began), nbytes)
        self._progress = msgspec.structs.replace(self._progress, cost=cost)

    def _record(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        is_failure = not isinstance(outcome, Returned)
        self._progress = msgspec.structs.replace(
            self._progress, done=self._progress.done + 1, failed=self._progress.failed + is_failure
        )


def _how(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Lost) else f"raised {getattr(outcome, 'ename', 'an error')}"
