"""The process that forks an executor's workers: one thread, few modules, nothing open, so that a fork is safe and fast.

The executor's own process is not forked: it may have threads, locks and connections. The nursery is started afresh, and
ends when the executor hangs up or its process ends, however it ends; all workers end with it, with what they started in
their process groups. Should the nursery itself be killed, the system kills its workers: each of them watches a pipe
whose other end only the nursery holds.

What the executor says and hears are marshalled tuples, a word first:
("fork", number) with the worker's end of its line; ("kill", number); ("warm", modules);
("born", number, pid), ("refused", number, why), ("exited", number, exit code).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enumerations of it, which takes milliseconds
import fcntl
import gc
import marshal
import os
import select
import sys

from lambdakernel.futures import line, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTROL = 3
"""The descriptor of the conversation with the executor."""
_WARM_AFTER_MS = 50
"""Milliseconds without an order before a module is imported ahead of need."""
_SIGKILL, _SIGTERM = 9, 15
_PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve the process `parent`; in a forked worker, run that."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > CONTROL:
            _close_if_open(fd)  # the list has the descriptor that it was read by
    try:
        watch = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() != parent:
        return
    _name("lk-nursery")
    gc.freeze()
    born = _Nursery(line.adopt(CONTROL), watch).serve()
    if born is not None:
        worker.run(born)


class _Nursery:
    """The loop's state. `children` maps a descriptor that tells of a worker's end to its number and process."""

    def __init__(self, control: line.End, parent: int) -> None:
        self._control, self._parent = control, parent
        self._children: dict[int, tuple[int, int]] = {}
        self._wanted: list[str] = []
        self._life = os.pipe()
        self._poller = select.poll()
        for fd in (control.fileno(), parent):
            self._poller.register(fd, select.POLLIN)
        self._pid, self._ends, self._is_guarded = os.getpid(), False, False
        _signal.signal(_SIGTERM, self._end_now)

    def serve(self) -> line.End | None:
        """Until the executor is gone: None. In a forked worker: its line."""
        while True:
            ready = self._poller.poll(_WARM_AFTER_MS if self._wanted else None)
            if not ready:
                self._guard()
                _warm(self._wanted.pop(0))
            for fd, _ in ready:
                if fd in self._children:
                    self._bury(fd)
                    continue
                message = None if fd == self._parent else line.take(self._control)
                if message is None or not message[0]:
                    self._end()
                    return None
                born = self._obey(marshal.loads(message[0]), message[1])
                if born is not None:
                    return born

    def _end(self) -> None:
        self._ends = True
        for watch, (_, pid) in list(self._children.items()):
            os.kill(pid, _SIGKILL)
            self._bury(watch)

    def _guard(self) -> None:
        """Have SIGTERM when the executor's process dies: in the middle of an import nobody hears the hang-up."""
        if not self._is_guarded:
            import ctypes  # late: it takes milliseconds

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGTERM, 0, 0, 0)
            self._is_guarded = True

    def _end_now(self, *_: object) -> None:
        """End in the middle of an import: the executor is through, and waits for us."""
        if os.getpid() == self._pid and not self._ends:
            self._end()
            os._exit(0)

    def _obey(self, order: tuple[Any, ...], fds: tuple[int, ...]) -> line.End | None:
        match order[0]:
            case "warm":
                self._wanted += order[1]
            case "kill":
                for number, pid in self._children.values():
                    if number == order[1]:
                        os.kill(pid, _SIGKILL)
            case "fork":
                return self._fork(order[1], fds[0])
        return None

    def _fork(self, number: int, fd: int) -> line.End | None:
        try:
            pid = os.fork()
        except OSError as e:
            os.close(fd)
            self._tell("refused", number, f"the system refused to fork ({e.strerror})")
            return None
        if pid == 0:
            self._become_worker()
            return line.adopt(fd)
        os.close(fd)
        watch = os.pidfd_open(pid)
        self._children[watch] = number, pid
        self._poller.register(watch, select.POLLIN)
        self._tell("born", number, pid)
        return None

    def _become_worker(self) -> None:
        end_with(self._life)
        _signal.signal(_SIGTERM, _signal.SIG_DFL)
        os.setsid()
        _name("lk-future")
        self._control.close()
        line.close((self._parent, *self._children))
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:  # two workers must not draw the same numbers; `random` sees to itself at a fork
            numpy_random.seed()

    def _bury(self, watch: int) -> None:
        """Reap one worker with what is left of its process group, and report it."""
        number, pid = self._children.pop(watch)
        self._poller.unregister(watch)
        os.close(watch)
        _, status = os.waitpid(pid, 0)
        try:
            os.killpg(pid, _SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._tell("exited", number, os.waitstatus_to_exitcode(status))

    def _tell(self, *said: str | int) -> None:
        try:
            line.put(self._control, marshal.dumps(said), wait=True)
        except OSError:
            return  # the executor is gone; the next poll says so too


def end_with(life: tuple[int, int]) -> None:
    """Have the system kill this process when the last writer of the pipe `life` is gone, and be none ourselves.

    The pipe is opened anew: who is signalled belongs to an open file, which workers else share.
    """
    reader = os.open(f"/proc/self/fd/{life[0]}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, fcntl.F_SETSIG, _SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    line.close(life)
    poller = select.poll()
    poller.register(reader, 0)
    if poller.poll(0):  # it died before the lines above
        os._exit(1)


def _name(name: str) -> None:
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def _close_if_open(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def _warm(name: str) -> None:
    """Import a module that calls are likely to need, so that the next worker is born with it."""
    try:
        __import__(name)
    except Exception:  # a call's own import will show the error where it belongs
        return
    gc.freeze()
