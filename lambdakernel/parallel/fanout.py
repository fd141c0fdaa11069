"""Runs the tasks of one fan-out over an executor: each in a process, at most so many at a time.

Theory of operation
- A task is born with five descriptors: its line to us, the job (one parcel for all tasks), its item (a parcel), and
  the pipes that are its stdout and stderr. Items are encoded when their task starts, so that waiting tasks hold none.
  A few are born at a time: each says when its body begins, and then the next is asked for.
- One loop polls the descriptors of all live tasks and of the executor. It wakes for nothing else, but once a second
  for the clock of the progress bar and the memory of tasks, and when a task's time is up.
- A task says how its body went in one datagram, with the results in a parcel beside it. It is over when the executor
  says that its process is gone; what it said and printed until then is read first. One that said nothing is Lost.
- A process that is as it was born says that too (`further`): then its task is over, and the next task that waits is
  given to it (`handover`) in place of a birth. Second attempts beside a first have processes of their own.
- When all is over, the processes that are free, and the executor, can be kept for another fan-out (`kept`).
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
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Executor, ExecutorLost, Exited, Refused, Started
from lambdakernel.parallel.again import NEVER, Again
from lambdakernel.parallel.attempts import (
    START_DEADLINE_S,
    Attempts,
    Limits,
    Waiting,
    has_room,
    most_at_once,
)
from lambdakernel.parallel.handover import Free, hand_over, idle
from lambdakernel.parallel.joins import Joins
from lambdakernel.parallel.memory import size
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Lost, Outcome, Raised, Returned
from lambdakernel.parallel.running import Running, kill
from lambdakernel.parallel.stragglers import Stragglers
from lambdakernel.parallel.tally import Tally
from lambdakernel.parallel.waited import Waited

TICK_S = 1.0
"""Seconds after which the loop wakes without news, for the elapsed time on the display."""
KILL_DEADLINE_S = 5.0
"""Seconds from killing a task to the news that it is gone; later it counts as gone."""
CLOSE_DEADLINE_S = 1.0


class Stopped(Exception):
    """The fan-out was ended by `stop`."""


class FanOut:
    """See the module. `item(index)` gives the descriptor of a task's packed item, which is closed here. `share` says
    how many tasks this fan-out may run now, beside others. `free` are processes of the executor that another fan-out
    has kept, and `keeps` says how many are to be kept of this one, which is named `fan`."""

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
        fan: str = "",
        free: Sequence[Running] = (),
        keeps: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.executor = executor
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
        self._looked = clock()
        self._attempts = Attempts(total, fan, ids_from=max((process.id for process in free), default=0))
        self._most = min(limits.workers, most_at_once())
        self._stragglers = Stragglers(total)
        self._live: dict[int, Running] = {}
        self._free = Free()
        self._keeps = keeps
        self.kept: tuple[Running, ...] = ()
        """Free processes that go on, and the executor with them; whoever takes them ends them."""
        self._unwanted: set[int] = set()
        """Attempts that were dropped before their process was there."""
        self._tally = Tally(total, price, clock)
        self._waited = Waited(executor.fileno())
        self._stopping = False
        for process in free:
            self._free.keep(process)
            self._waited.add(process)

    @property
    def progress(self) -> Progress:
        """Where things stand now."""
        return self._tally.progress(self._live.values())

    def run(self) -> list[Outcome]:
        """The outcome of every task, in order. Call once.

        Raises:
            KeyboardInterrupt: the user stopped it; all tasks are ended, and so within a second.
            Stopped: `stop` was called; the same.
        """
        try:
            while not self._tally.is_over:
                self._start_some()
                self._start_again()
                self._watch(self.progress)
                for fd in self._waited.ready(self._patience_ms()):
                    self._on_ready(fd)
                self.joins.relay()
                if self._stopping:
                    raise Stopped
                self._on_time()
            self._keep()
        finally:
            self._close()
        return self._tally.outcomes()

    def stop(self) -> None:
        """End it soon; from any thread, while `run` runs or before."""
        self._stopping = True
        self._waited.ring()

    def _keep(self) -> None:
        found = self._free.take_all()
        for process in found:
            self._waited.forget(process)
        most = 0 if self._live or self._unwanted else self._keeps  # news of these would be another fan-out's
        self.kept = tuple(map(idle, found[:most]))
        for process in found[most:]:
            process.close()

    def _close(self) -> None:
        for task in self._live.values():
            task.look()
            self._tally.took(task, task.now.resident)
        if not self.kept:
            self.executor.close(CLOSE_DEADLINE_S)
        for task in [*self._live.values(), *self._free.take_all()]:
            task.close()
        self._waited.close()
        self._tally.close(self._live.values())
        self._live.clear()
        self._grouped.close()

    # -- starting

    def _start_some(self) -> None:
        while self._has_room() and (task := self._attempts.next()) is not None:
            self._start_with_item(task)
        if not self._attempts.are_waiting and not self._keeps:
            self._waited.let_go(*self._free.take_all())  # they end, then

    def _start_again(self) -> None:
        """Second attempts at tasks that are late, while workers are idle."""
        if not self._has_room(beside=True) or self._stragglers.limit_s == math.inf:
            return
        alone = [t for t in self._live.values() if self._attempts.made(t.index) == 1 and not t.ended_for]
        for index in self._stragglers.late(((task.index, task.began) for task in alone), self._clock()):
            if self._has_room(beside=True) and self._again.is_allowed:
                self._tally.ran_twice()
                self._start_with_item(Waiting(index, is_beside=True))

    def _has_room(self, *, beside: bool = False) -> bool:
        """For a task, which is born in any case if it is one `beside` another."""
        limit = self._most if self._share is None else min(self._most, self._share())
        is_born = beside or not len(self._free)
        return has_room(self._live.values(), limit=limit, is_born=is_born, now=self._clock())

    def _start_with_item(self, task: Waiting) -> None:
        try:
            item = self._item(task.index)
        except Exception as e:  # the user's own __reduce__ may raise anything; it is this task's failure
            if task.is_beside:
                self._attempts.count(task.index)  # the first attempt goes on, and nothing beside it is tried again
                return
            self._tally.record(task.index, Raised(type(e).__name__, f"the item cannot be sent to its task: {e}", ""))
            self._grouped.ended(task.index, task.output)
            return
        try:
            if task.is_beside or not self._hand_over(task, item):
                self._start(task, item)
        finally:
            os.close(item)

    def _hand_over(self, waiting: Waiting, item: int) -> bool:
        """Give the task to a process that is free; False if there is none."""
        while len(self._free):
            process, attempt, now = self._free.take(), self._attempts.made(waiting.index) + 1, self._clock()
            try:
                deadline = self._limits.time_is_up(now) if process.pid else now + START_DEADLINE_S  # it is to be born
                task = hand_over(process, waiting, attempt, item, self._job, now=now, deadline=deadline)
            except (wire.PeerGone, BlockingIOError):
                self._waited.let_go(process)
                continue
            self._attempts.count(waiting.index)
            self._enter(task)
            return True
        return False

    def _start(self, waiting: Waiting, item: int) -> None:
        guarded, now = waiting.is_beside and self._again.is_guarded, self._clock()
        self._enter(self._attempts.begin(waiting, self.executor, self._job, item, now=now, is_guarded=guarded))

    def _enter(self, task: Running) -> None:
        task.joins = partial(self.joins.hear, task.id)
        self.joins.begin(task.id, task.end)
        self._live[task.id] = task
        self._waited.add(task)

    # -- what happens

    def _on_ready(self, fd: int) -> None:
        if fd == self.executor.fileno():
            for event in self.executor.events():
                self._on_event(event)
        elif (task := self._waited.task_of(fd)) is None:
            return  # its task ended in this same round, or this is the bell
        elif fd in task.pipes:
            task.read(fd)
            self._waited.sweep(task)
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
            case Exited(id=id) if (process := self._free.pop(int(id))) is not None:
                self._waited.let_go(process)
            case ExecutorLost(reason):
                self._on_executor_lost(reason)

    def _on_started(self, task: Running, pid: int) -> None:
        task.began = self._clock()
        task.deadline = self._limits.time_is_up(task.began)
        try:
            task.born_as(pid)
        except ProcessLookupError:
            task.deadline = self._clock() + KILL_DEADLINE_S
            return
        if task.is_free:  # it said so before this was told
            self._on_free(task)

    def _on_free(self, task: Running) -> None:
        """The task is over, and its process takes another."""
        self._count(task, task.peak_nbytes)
        self._over(task, Lost("said nothing"))

    def _count(self, task: Running, peak_nbytes: int) -> None:
        self._tally.held(max(task.taken_nbytes, peak_nbytes - task.born.resident))
        self._tally.took(task, peak_nbytes)

    def _on_exited(self, task: Running, exited: Exited) -> None:
        self._listen(task)
        task.drain()
        task.is_free = False
        self._count(task, exited.peak_nbytes)
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
            self._tally.record(waiting.index, Lost(f"could not be started: {reason}. Run the cell again"))
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
        if self._listen(task) and task.is_free and task.watch is not None:
            self._on_free(task)

    def _listen(self, task: Running) -> bool:
        """Take in what it has said; whether it is there to say more."""
        try:
            task.hear()
            return True
        except wire.PeerGone:
            self._waited.drop(task.end.fileno())
            return False
        finally:
            self._waited.sweep(task)

    def _over(self, task: Running, otherwise: Lost) -> None:
        """The process of the task is surely gone: try again, or end it."""
        if task.was_idle and not task.has_begun and task.outcome is None and not task.ended_for:
            self._forget(task)  # it died as one that waits
            self._attempts.back(task.index, task.output)
            return
        outcome = task.outcome or otherwise
        if self._beside(task) or not self._is_lost(outcome) or self._attempts.made(task.index) > self._limits.retries:
            self._end(task, otherwise)
            return
        self._forget(task)
        task.output.mark(f"attempt {task.attempt} of task {task.index} {_how(outcome)}; it runs again")
        self._attempts.again(task.index, task.output)
        self._tally.retried()

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
        self._tally.record(task.index, outcome)
        self._grouped.ended(task.index, task.output)

    def _dismiss(self, task: Running) -> None:
        """End an attempt that was not first."""
        if task.watch is None:
            self._unwanted.add(task.id)
        else:
            task.look()
            self._tally.took(task, task.now.resident)
            task.kill("another attempt was first")
        self._forget(task)

    def _forget(self, task: Running) -> None:
        del self._live[task.id]
        self.joins.end(task.id)
        if task.is_free and task.watch is not None and not task.ended_for:
            self._free.keep(task)
        else:
            self._waited.let_go(task)


def _how(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Lost) else f"raised {getattr(outcome, 'ename', 'an error')}"
