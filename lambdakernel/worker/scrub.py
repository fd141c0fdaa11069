"""When a worker is idle, a fork of it looks at every value; what it finds is committed.

The fork is made through another that ends at once, so that no cell that waits for its own children meets ours. It
lives for `DEADLINE_S` at most, ends with the worker's process group, and says what it found on a pipe.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

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
        self._pipe = -1
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
        if self._pipe >= 0 or not self._is_idle():
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there are threads; the fork takes no lock of theirs
            pid = os.fork()
        if pid == 0:
            _go_on_alone(writer, self._examine)
        os.close(writer)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # the notebook has said that its children are nobody's business
            pass
        self._pipe, self._heard = reader, b""
        self._loop.add_reader(reader, self._hear)

    def _hear(self) -> None:
        data = os.read(self._pipe, 1 << 16)
        self._heard += data
        if data:
            return
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        if self._heard:  # else it did not come to an end: a value hung, or took its process along
            said = json.loads(self._heard)
            self._found(Findings(tuple(said["changed"]), said["untrue"], tuple(said["kinds"])))


def _go_on_alone(writer: int, examine: Callable[[], Findings]) -> NoReturn:
    """In the first fork: leave it to a second."""
    status = 1
    try:
        if os.fork() != 0:
            os._exit(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(DEADLINE_S)
        os.nice(10)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- the process ends with it
        found = examine()
        said = {"changed": found.changed, "untrue": dict(found.untrue), "kinds": found.kinds}
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(said).encode())
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)
