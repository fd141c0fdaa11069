"""When a worker is idle, a fork of it looks at every value; what it finds is committed.

The fork is made through another that ends at once, so that no cell that waits for its own children meets ours. It
lives for `DEADLINE_S` at most and ends with its worker, however that ends: a socket between the two has no other end
then. On that it says what it found.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from posix import fork  # a debugger replaces that of `os`, to attach to what is forked
from typing import NoReturn

from lambdakernel.executors.birth import name_process
from lambdakernel.state import Findings

DEADLINE_S = 60


class Scrub:
    """Runs `examine` in a fork once the worker was idle for `after_s` seconds. Used on the main thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        after_s: float,
        is_idle: Callable[[], bool],
        examine: Callable[[], Findings],
        found: Callable[[Findings], None],
    ) -> None:
        self._loop, self._after_s = loop, after_s
        self._is_idle, self._examine, self._found = is_idle, examine, found
        self._timer: asyncio.TimerHandle | None = None
        self._end: socket.socket | None = None
        self._heard = b""

    def later(self) -> None:
        """A cell has run: look at everything once it is quiet. From any thread."""
        if self._after_s > 0:
            self._loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._after_s, self._start)

    def _start(self) -> None:
        if self._end is not None or not self._is_idle():
            return
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there are threads; the fork takes no lock of theirs
            pid = fork()
        if pid == 0:
            ours.close()
            _go_on_alone(theirs, self._examine)
        theirs.close()
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # the notebook has said that its children are nobody's business
            pass
        self._end, self._heard = ours, b""
        self._loop.add_reader(ours, self._hear)

    def _hear(self) -> None:
        assert self._end is not None
        data = self._end.recv(1 << 16)
        self._heard += data
        if data:
            return
        self._loop.remove_reader(self._end)
        self._end.close()
        self._end = None
        if self._heard:  # else it did not come to an end: a value hung, or took its process along
            said = json.loads(self._heard)
            self._found(Findings(tuple(said["changed"]), said["untrue"], tuple(said["kinds"])))


def _go_on_alone(end: socket.socket, examine: Callable[[], Findings]) -> NoReturn:
    """In the first fork: leave it to a second."""
    status = 1
    try:
        name_process(b"lk-scrub")
        if fork() != 0:
            os._exit(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(DEADLINE_S)
        os.nice(10)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- the process ends with it
        threading.Thread(target=_end_with_worker, args=(end,), daemon=True).start()
        found = examine()
        said = {"changed": found.changed, "untrue": dict(found.untrue), "kinds": found.kinds}
        end.sendall(json.dumps(said).encode())
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def _end_with_worker(end: socket.socket) -> None:
    """Nothing is ever sent to the fork: what comes is the end of its worker."""
    end.recv(1)
    os._exit(1)
