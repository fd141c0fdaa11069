"""Runs the tasks of one fan-out over an executor: each in a process, at most so many at a time.

Theory of operation
- A task is born with five descriptors: its line to us, the job (one parcel for all tasks), its item (a parcel), and
  the pipes that are its stdout and stderr. Which task has which process, and when, is for `processes` to say. A few are
  born at a time: each says when its body begins, and then the next is asked for.
- One loop polls the descriptors of all live tasks and of the executor. It wakes for nothing else, but once a second
  for the clock of the progress bar and the memory of tasks, and when a task's time is up.
- A task says how its body went in one datagram, with the results in a parcel beside it. It is over when the executor
  says that its process is gone; what it said and printed until then is read first. One that said nothing is Lost.
- A process that is as it was born says that too (`further`): then its task is over, and it takes another, which it may
  have already (`handover`). Second attempts beside a first have processes of their own.
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
import signal
from collections.abc import Callable

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, ExecutorLost, Exited, Refused, Started
from lambdakernel.parallel.attempts import START_DEADLINE_S
from lambdakernel.parallel.joins import Joins
from lambdakernel.parallel.memory import size
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.processes import Plan, Processes
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Lost, Outcome, Raised, Returned
from lambdakernel.parallel.running import Running, Waiting, kill
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
    """See the module."""

    def __init__(self, plan: Plan, grouped: Grouped, watch: Callable[[Progress], None], *, price: float = 0.0) -> None:
        self.executor = plan.executor
        self._limits, self._clock = plan.limits, plan.clock
        self._grouped = grouped
        self._watch = watch
        self._looked = plan.clock()
        self._stragglers = Stragglers(plan.total)
        self._unwanted: set[int] = set()
        """Attempts that were dropped before their process was there."""
        self._tally = Tally(plan.total, price, plan.clock)
        self._waited = Waited(plan.executor.fileno())
        self._processes = Processes(plan, self._waited, self._on_unsent)
        self._live, self._attempts = self._processes.live, self._processes.attempts
        self.kept: tuple[Running, ...] = ()
        """Free processes that go on, and the executor with them; whoever takes them ends them."""
        self._stopping = False

    @property
    def joins(self) -> Joins:
        """What tasks join into live lattices."""
        return self._processes.joins

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
                self._processes.start_some()
                for _ in range(self._processes.start_beside(self._stragglers)):
                    self._tally.ran_twice()
                self._watch(self.progress)
                for fd in self._waited.ready(self._patience_ms()):
                    self._on_ready(fd)
                self.joins.relay()
                if self._stopping:
                    raise Stopped
                self._on_time()
            if not self._live and not self._unwanted:  # news of these would be another fan-out's
                self.kept = self._processes.kept()
        finally:
            self._close()
        return self._tally.outcomes()

    def stop(self) -> None:
        """End it soon; from any thread, while `run` runs or before."""
        self._stopping = True
        self._waited.ring()

    def _close(self) -> None:
        for task in self._live.values():
            task.look()
            self._tally.took(task, task.now.resident)
        if not self.kept:
            self.executor.close(CLOSE_DEADLINE_S)
        self._processes.close()
        self._waited.close()
        self._tally.close(self._live.values())
        self._live.clear()
        self._grouped.close()

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
            case Exited(id=id):
                self._processes.lost_free(int(id))
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

    def _on_unsent(self, waiting: Waiting, failure: Raised) -> None:
        self._tally.record(waiting.index, failure)
        self._grouped.ended(waiting.index, waiting.output)

    def _on_free(self, task: Running) -> None:
        """The task is over, and its process takes another."""
        self._count(task, task.peak_nbytes)
        self._over(task, Lost("said nothing"))

    def _count(self, task: Running, peak_nbytes: int) -> None:
        self._tally.held(max(task.taken_nbytes, peak_nbytes - task.born.resident))
        self._tally.took(task, peak_nbytes)

    def _on_exited(self, task: Running, exited: Exited) -> None:
        self._listen(task)
        self._processes.reclaim(task)
        if task.is_free and task.ahead is not None and not task.ended_for:  # it had gone on to that
            self._on_free(task)
            task = self._live[task.id]
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
        is_no_attempt = task.was_not_taken or (task.was_idle and not task.has_begun)
        if is_no_attempt and task.outcome is None and not task.ended_for:  # its process died as one that waits
            self._processes.forget(task)
            self._attempts.back(task.index, task.output)
            return
        outcome = task.outcome or otherwise
        if self._beside(task) or not self._is_lost(outcome) or self._attempts.made(task.index) > self._limits.retries:
            self._end(task, otherwise)
            return
        self._processes.forget(task)
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
        self._processes.forget(task)
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
        self._processes.forget(task)


def _how(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Lost) else f"raised {getattr(outcome, 'ename', 'an error')}"
