"""An executor's end of the conversation with its nursery: starts it, orders workers, hears of their ends."""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
from typing import Any

from lambdakernel.futures import line
from lambdakernel.futures.nursery import CONTROL

_START = "import sys; sys.path[:] = {path!r}; from lambdakernel.futures.nursery import main; main({pid})"
_END_S = 10.0
_LOWEST = 10  # descriptors of ours are above what `posix_spawn` replaces in the child


class NurseryGone(Exception):
    """The nursery has ended, and every worker with it."""


class Nursery:
    """One nursery process and the conversation with it."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: the system has no process, memory or descriptor for it.
        """
        self._end, theirs = line.pair()
        try:
            self.pid = _spawn(theirs)
            self._watch = os.pidfd_open(self.pid)
        except BaseException:
            self._end.close()
            raise
        finally:
            theirs.close()

    def fileno(self) -> int:
        return self._end.fileno()

    def order(self, number: int, inbox: line.End) -> None:
        """Have worker `number` forked, on the end `inbox` of its line, which stays open here too.

        Raises:
            NurseryGone
        """
        self._say(("fork", number), (inbox.fileno(),))

    def warm(self, modules: list[str]) -> None:
        """Have `modules` imported when there is time, so that later workers are born with them.

        Raises:
            NurseryGone
        """
        self._say(("warm", modules))

    def kill(self, number: int) -> None:
        """Kill worker `number`, which is then heard of as exited; one that has ended already is no error.

        Raises:
            NurseryGone
        """
        self._say(("kill", number))

    def hear(self) -> tuple[Any, ...] | None:
        """The next thing it says (see `nursery`), or None for now.

        Raises:
            NurseryGone
        """
        message = line.take(self._end)
        if message is None:
            return None
        if not message[0]:
            raise NurseryGone
        said: tuple[Any, ...] = marshal.loads(message[0])
        return said

    def close(self, *, kill: bool = False) -> None:
        """End it and every worker that is left; with `kill` without leaving it the time to reap them itself."""
        line.hang_up(self._end)
        self._end.close()
        self._signal(signal.SIGTERM)  # it may be importing a module, and need not bring that to an end
        poller = select.poll()
        poller.register(self._watch, select.POLLIN)
        if kill or not poller.poll(_END_S * 1000):
            self._signal(signal.SIGKILL)
        os.close(self._watch)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:  # the program waits for any child, and this one was among them
            return

    def _signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._watch, number)
        except ProcessLookupError:
            return

    def _say(self, order: tuple[Any, ...], fds: tuple[int, ...] = ()) -> None:
        """Never waits: a nursery with 200 KB of orders that it has not read is stuck, and ended."""
        try:
            if line.put(self._end, marshal.dumps(order), fds):
                return
        except OSError:
            pass
        raise NurseryGone


def _spawn(end: line.End) -> int:
    """The process id of a nursery at the other side of `end`: a session of its own, with no input and no files open."""
    if not sys.executable:
        raise OSError(0, "sys.executable does not say which Python runs this program")
    command = [sys.executable, *_flags(), "-c", _START.format(path=sys.path, pid=os.getpid())]
    import fcntl

    high = fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    try:
        return os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, high, CONTROL),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM],
        )
    finally:
        os.close(high)


def _flags() -> list[str]:
    """The options that this Python was started with, as `subprocess` finds them; it is loaded only if there are any."""
    flags = sys.flags
    if not (sys.warnoptions or sys._xoptions or flags.optimize or flags.isolated or flags.no_site or flags.dev_mode):
        return ["-B"] if sys.dont_write_bytecode else []
    import subprocess

    return list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]
