"""A fork server that waits for its job: made when one fan-out ends, so that the next need not wait for it.

Half of what a fork server takes until its first task does not depend on the job: two forks, and what Python and the
store do a first time in a process. There is one spare at most. It is given up when it has waited for `KEEP_S`, and
when the session has come to use modules that it was not born with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lambdakernel.executors.local import ForkServer, LocalExecutor, connect, fork_server

KEEP_S = 300.0
"""Seconds that a spare waits for a job."""
_CLOSE_S = 1.0


class _Spare(NamedTuple):
    server: ForkServer
    born_with: int


class Spares:
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
        self._spare: _Spare | None = None

    def connect(self, job: int | None) -> LocalExecutor:
        """For the tasks of the job in that descriptor; None: for tasks that load what they need themselves.

        Raises:
            OSError: the kernel's zygote is gone.
        """
        if job is None:
            return connect(self._directory)
        spare = self._take()
        if spare is not None:
            if spare.born_with == self._modules() and spare.server.give(job):
                return spare.server
            spare.server.close(_CLOSE_S)
        return fork_server(connect(self._directory), self._params, job)

    def get_ready(self) -> None:
        """Have a spare for the next job. Returns at once; that there is none is found out by who needs it."""
        with self._lock:
            if self._spare is not None:
                return
            try:
                server = fork_server(connect(self._directory), self._params)
            except OSError:
                return
            spare = self._spare = _Spare(server, self._modules())
        self._later(KEEP_S, lambda: self._give_up(spare))

    def close(self) -> None:
        spare = self._take()
        if spare is not None:
            spare.server.close(_CLOSE_S)

    def _take(self) -> _Spare | None:
        with self._lock:
            spare, self._spare = self._spare, None
        return spare

    def _give_up(self, spare: _Spare) -> None:
        with self._lock:
            if self._spare is not spare:
                return
            self._spare = None
        spare.server.close(_CLOSE_S)
