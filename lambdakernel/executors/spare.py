"""What waits for the next fan-out, so that this need not wait for it.

- Kept: processes of the last fan-out. They have loaded what that fan-out needed, and join what was committed since.
- A spare, where none could be kept: a fork server without a job. Half of what a fork server takes until its first task
  does not depend on that: two forks, what Python and the store do a first time in a process, and imports.

There is one of the two at most. It is given up when it has waited for `KEEP_S`, and when it lacks what is needed: a
spare, any module that the session has come to use; processes, one that the next fan-out uses, or what else they cannot
join (`mark`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from lambdakernel.executors.base import Executor, ExecutorLost, Exited, Refused, Started
from lambdakernel.executors.local import ForkServer, LocalExecutor, connect, fork_server

KEEP_S = 300.0
"""Seconds that something waits for a job."""
_CLOSE_S = 1.0


class Process(Protocol):
    """One that waits. Its `id` is that of the invocation that started it."""

    id: int

    def born_as(self, pid: int) -> None:
        """It is process `pid`.

        Raises:
            ProcessLookupError: it has ended; that is among the next events.
        """

    def close(self) -> None:
        """Let it end."""


P = TypeVar("P", bound=Process)


class Kept(NamedTuple, Generic[P]):
    """Processes of a fan-out that is over, and the executor that has started them. `mark`: what they are fit for;
    `modules`: those of libraries that they have."""

    executor: Executor
    processes: tuple[P, ...]
    mark: object
    modules: frozenset[str]

    def close(self) -> None:
        for process in self.processes:
            process.close()
        self.executor.close(_CLOSE_S)

    def alive(self) -> Kept[P] | None:
        """What is left of it now; None, and closed, if that is nothing."""
        events = self.executor.events()
        for event in events:
            if isinstance(event, Started):
                self._tell(event)
        gone = {event.id for event in events if isinstance(event, Exited | Refused)}
        for process in self.processes:
            if str(process.id) in gone:
                process.close()
        left = tuple(process for process in self.processes if str(process.id) not in gone)
        found = self._replace(processes=left)
        if left and not any(isinstance(event, ExecutorLost) for event in events):
            return found
        found.close()
        return None

    def _tell(self, started: Started) -> None:
        for process in self.processes:
            if str(process.id) == started.id:
                with suppress(ProcessLookupError):
                    process.born_as(started.pid)


class _Spare(NamedTuple):
    server: ForkServer

    def close(self) -> None:
        self.server.close(_CLOSE_S)


class Spares(Generic[P]):
    """The executors of a worker's fan-outs; from any thread.

    `params` are those of a fork server, `modules` says how many modules the session was seen to use, and
    `later(seconds, call)` calls on some thread.
    """

    def __init__(
        self,
        directory: str,
        params: Mapping[str, Any],
        modules: Callable[[], int],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._directory, self._params, self._modules, self._later = directory, params, modules, later
        self._lock = threading.Lock()
        self._waiting: _Spare | Kept[P] | None = None
        self._born_with = 0
        """How many modules the session used when that came to wait."""

    def connect(self, job: int | None, modules: Sequence[str] = ()) -> LocalExecutor:
        """For the tasks of the job in that descriptor; None: for tasks that load what they need themselves. All are
        born with `modules`, for which the first of them waits if nothing was born with these yet.

        Raises:
            OSError: the kernel's zygote is gone.
        """
        if job is not None:
            self._give_up_outdated()
            spare = self._take(_Spare)
            if isinstance(spare, _Spare):
                if spare.server.give(job):
                    return spare.server
                spare.close()
        zygote = connect(self._directory)
        if modules:
            zygote.warm(tuple(modules), now=True)
        return zygote if job is None else fork_server(zygote, self._params, job)

    def kept(self, mark: object, modules: Set[str]) -> Kept[P] | None:
        """What was kept, if it is fit for a fan-out of that mark, which uses these modules. Whoever takes it ends it,
        or has it kept again."""
        kept = self._take(Kept)
        if not isinstance(kept, Kept):
            return None
        if kept.mark == mark and modules <= kept.modules:
            return kept.alive()
        kept.close()
        return None

    def keep(self, executor: Executor, processes: tuple[P, ...], mark: object, modules: frozenset[str]) -> None:
        """Have these for the next fan-out, in place of what waits. `mark` is of theirs, and `modules` they have."""
        self._wait(Kept(executor, processes, mark, modules))

    def get_ready(self, modules: Sequence[str] = ()) -> None:
        """Have a spare for the next job, if nothing waits, which imports `modules` meanwhile. Returns at once; that
        there is none is found out by who needs it."""
        if self._waiting is None:
            try:
                server = fork_server(connect(self._directory), {**self._params, "modules": list(modules)})
            except OSError:
                return
            self._wait(_Spare(server))

    def close(self) -> None:
        waiting = self._take()
        if waiting is not None:
            waiting.close()

    def _wait(self, what: _Spare | Kept[P]) -> None:
        with self._lock:
            before, self._waiting, self._born_with = self._waiting, what, self._modules()
        if before is not None:
            before.close()
        self._later(KEEP_S, lambda: self._give_up(what))

    def _take(self, kind: type = object) -> _Spare | Kept[P] | None:
        with self._lock:
            found = self._waiting
            if not isinstance(found, kind):
                return None
            self._waiting = None
        return found

    def _give_up_outdated(self) -> None:
        with self._lock:
            what = self._waiting if self._born_with != self._modules() else None
        if isinstance(what, _Spare):
            self._give_up(what)

    def _give_up(self, what: _Spare | Kept[P]) -> None:
        with self._lock:
            if self._waiting is not what:
                return
            self._waiting = None
        what.close()
