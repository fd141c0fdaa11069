"""Runs the tasks of one fan-out over an executor: each a worker of its own, at most so many at a time.

Theory of operation
- A task is born with five descriptors: its line to us, the job (one parcel for all tasks), its item (a parcel), and
  the pipes that are its stdout and stderr. Items are encoded when their task starts, so that waiting tasks hold none.
- One loop polls the descriptors of all live tasks and of the executor. It wakes for nothing else, but once a second
  for the clock of the progress bar, and when a task's time is up.
- A task says how its body went in one datagram, with the results in a parcel beside it. It is over when the executor
  says that its process is gone; what it said and printed until then is read first. One that said nothing is Lost.
- However this ends (done, interrupt, an error of ours), the executor is closed, which kills the tasks that live, and
  every descriptor is closed. Nothing is bound here: the caller has all outcomes or none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable

import msgspec

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Executor, ExecutorLost, Exited, Invocation, Refused, Started
from lambdakernel.parallel.output import Grouped, Output
from lambdakernel.parallel.parcels import ParcelDamaged, unpack
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Lost, Outcome, Raised, Returned

TICK_S = 1.0
"""Seconds after which the loop wakes without news, for the elapsed time on the display."""
START_DEADLINE_S = 30.0
"""Seconds from asking for a task's process to its being there; a fork takes milliseconds."""
KILL_DEADLINE_S = 5.0
"""Seconds from killing a task to the news that it is gone; later it counts as gone."""
CLOSE_DEADLINE_S = 1.0
_CHUNK = 64 * 1024
_LAST_CHUNKS = 32
"""Reads of a dead task's pipe: more than a pipe holds, so that a stray process that holds it cannot keep us here."""


class Limits(msgspec.Struct, frozen=True):
    workers: int
    timeout_s: float | None = None


class _Task(msgspec.Struct):
    """A task that was asked for and is not over. Owns its descriptors."""

    index: int
    end: socket.socket
    pipes: dict[int, str]
    """Read ends still open, and the stream that each one is."""
    deadline: float
    """When the next thing must have happened: its start, its end, or after `killed` its being gone."""
    output: Output = msgspec.field(default_factory=Output)
    outcome: Outcome | None = None
    watch: int | None = None
    """A pidfd: it names this process even after its number was given to another."""
    killed: bool = False

    def close(self) -> None:
        self.end.close()
        wire.close_fds(tuple(self.pipes))
        self.pipes.clear()
        if self.watch is not None:
            os.close(self.watch)
            self.watch = None


class FanOut:
    """See the module. `item(index)` gives the descriptor of a task's packed item, which is closed here."""

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._job = job
        self._item = item
        self._limits = limits
        self._grouped = grouped
        self._watch = watch
        self._clock = clock
        self._began = clock()
        self._next = 0
        self._live: dict[int, _Task] = {}
        self._of_fd: dict[int, _Task] = {}
        self._outcomes: list[Outcome | None] = [None] * total
        self._progress = Progress(total)
        self._poller = select.poll()

    @property
    def progress(self) -> Progress:
        """Where things stand now."""
        return msgspec.structs.replace(self._progress, running=len(self._live), elapsed_s=self._clock() - self._began)

    def run(self) -> list[Outcome]:
        """The outcome of every task, in order. Call once.

        Raises:
            KeyboardInterrupt: the user stopped it; all tasks are ended, and so within a second.
        """
        self._poller.register(self._executor.fileno(), select.POLLIN)
        try:
            while self._progress.done < self._progress.total:
                self._start_some()
                self._watch(self.progress)
                for fd, _ in self._poller.poll(self._patience_ms()):
                    self._on_ready(fd)
                self._on_time()
        finally:
            self._close()
        return [outcome for outcome in self._outcomes if outcome is not None]

    def _close(self) -> None:
        self._executor.close(CLOSE_DEADLINE_S)
        for task in self._live.values():
            task.close()
        self._progress = msgspec.structs.replace(self.progress, stopped=self._progress.done < self._progress.total)
        self._live.clear()
        self._grouped.close()

    # -- starting

    def _start_some(self) -> None:
        while len(self._live) < self._limits.workers and self._next < self._progress.total:
            index, self._next = self._next, self._next + 1
            try:
                item = self._item(index)
            except Exception as e:  # the user's own __reduce__ may raise anything; it is this task's failure
                self._record(index, Raised(type(e).__name__, f"the item cannot be sent to its task: {e}", ""))
                self._grouped.ended(index, Output())
                continue
            try:
                self._start(index, item)
            finally:
                os.close(item)

    def _start(self, index: int, item: int) -> None:
        ours, theirs = wire.pair()
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        task = _Task(index, ours, {out: "stdout", err: "stderr"}, self._clock() + START_DEADLINE_S)
        self._live[index] = task
        for fd in (ours.fileno(), out, err):
            os.set_blocking(fd, False)
            self._of_fd[fd] = task
            self._poller.register(fd, select.POLLIN)
        invocation = Invocation(str(index), "task", {"index": index})
        self._executor.start(invocation, (theirs.fileno(), self._job, item, out_end, err_end))
        theirs.close()
        wire.close_fds((out_end, err_end))

    # -- what happens

    def _on_ready(self, fd: int) -> None:
        if fd == self._executor.fileno():
            for event in self._executor.events():
                self._on_event(event)
        elif (task := self._of_fd.get(fd)) is None:
            return  # its task ended in this same round
        elif fd in task.pipes:
            self._read(task, fd)
        else:
            self._hear(task)

    def _on_event(self, event: Event) -> None:
        match event:
            case Started(id, pid) if int(id) in self._live:
                self._on_started(self._live[int(id)], pid)
            case Refused(id, reason) if int(id) in self._live:
                self._end(self._live[int(id)], Lost(f"could not be started: {reason}"))
            case Exited(id=id) if int(id) in self._live:
                self._on_exited(self._live[int(id)], event)
            case ExecutorLost(reason):
                self._on_executor_lost(reason)

    def _on_started(self, task: _Task, pid: int) -> None:
        limit = self._limits.timeout_s
        task.deadline = float("inf") if limit is None else self._clock() + limit
        try:
            task.watch = os.pidfd_open(pid)
        except ProcessLookupError:  # over already; its end is among the next events
            task.deadline = self._clock() + KILL_DEADLINE_S

    def _on_exited(self, task: _Task, exited: Exited) -> None:
        self._hear(task)
        for fd in list(task.pipes):
            for _ in range(_LAST_CHUNKS):
                if not self._read(task, fd):
                    break
        self._end(task, Lost(self._late() if task.killed else exited.reason()))

    def _on_executor_lost(self, reason: str) -> None:
        """Nothing will run any more: every task that is not over is lost."""
        for task in list(self._live.values()):
            self._end(task, Lost(f"ended with the process that starts tasks: {reason}"))
        while self._next < self._progress.total:
            self._record(self._next, Lost(f"could not be started: {reason}. Run the cell again"))
            self._next += 1

    def _late(self) -> str:
        return f"took longer than --timeout {self._limits.timeout_s:g} seconds and was ended"

    def _on_time(self) -> None:
        now = self._clock()
        for task in [t for t in self._live.values() if t.deadline <= now]:
            if task.watch is not None and not task.killed:
                task.killed, task.deadline = True, now + KILL_DEADLINE_S
                _kill(task.watch)
            elif task.killed:
                self._end(task, Lost(f"{self._late()}, but it is still there"))
            else:
                self._end(task, Lost(f"did not start within {START_DEADLINE_S:g} seconds. Run the cell again"))

    def _patience_ms(self) -> float:
        first = min((task.deadline for task in self._live.values()), default=float("inf"))
        return max(0.0, min(TICK_S, first - self._clock())) * 1000 + 1

    # -- from a task

    def _read(self, task: _Task, fd: int) -> bool:
        """Keep a piece of output; False when there is no more now."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            task.output.add(task.pipes[fd], data)
            return True
        self._drop(fd)
        del task.pipes[fd]
        os.close(fd)
        return False

    def _hear(self, task: _Task) -> None:
        try:
            while (received := wire.receive(task.end)) is not None:
                message, fds = received
                try:
                    task.outcome = _outcome(str(message["said"]), fds)
                finally:
                    wire.close_fds(fds)
        except wire.PeerGone:
            self._drop(task.end.fileno())

    def _drop(self, fd: int) -> None:
        if self._of_fd.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _end(self, task: _Task, otherwise: Lost) -> None:
        """Task is over: with what it said, else with `otherwise`."""
        del self._live[task.index]
        for fd in (task.end.fileno(), *task.pipes):
            self._drop(fd)
        task.close()
        self._record(task.index, task.outcome or otherwise)
        self._grouped.ended(task.index, task.output)

    def _record(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        is_failure = not isinstance(outcome, Returned)
        self._progress = msgspec.structs.replace(
            self._progress, done=self._progress.done + 1, failed=self._progress.failed + is_failure
        )


def _outcome(said: str, fds: tuple[int, ...]) -> Outcome:
    if not fds:
        return Raised("OSError", "its result did not arrive: this process has too many open files. Close some.", "")
    try:
        parcel = unpack(fds[0])
        return Returned(parcel) if said == "returned" else Raised(**json.loads(bytes(parcel.head)))
    except (ParcelDamaged, OSError) as e:
        return Raised(type(e).__name__, f"the result cannot be read: {e}", "")


def _kill(watch: int) -> None:
    try:
        signal.pidfd_send_signal(watch, signal.SIGKILL)
    except ProcessLookupError:
        return
