"""The local executor: workers are processes forked from a warm zygote.

A zygote is a process that has imported what a worker needs and does nothing but fork (see
`lambdakernel.worker.zygote`); a fork takes milliseconds where a new interpreter takes half a second. We speak to it
by datagrams. Whoever asked for a worker owns it: when our end of the conversation closes, for whatever reason, the
zygote kills what we asked for. So no worker outlives us, not even if we are killed.

The first zygote is forked from the calling process, which must be young: one thread, nothing opened, little
imported. That spares an interpreter start and shares the interpreter's memory. Later ones (after a zygote was
killed) are started afresh.
"""

from __future__ import annotations

import importlib
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, ExecutorLost, Exited, Invocation, Refused, Started

ZYGOTE_MODULE = "lambdakernel.worker.zygote"
"""Entry point by name: an executor knows how to start a worker, not what is in one."""
_SAID_MS = 100
"""For the zygote to say why it has closed something."""


def fork_zygote(directory: str) -> LocalExecutor:
    """A zygote forked from this process. `directory` (0700, ours) is where it puts its socket.

    The child never returns from here: it leaves by SystemExit, which the caller must let pass.
    """
    ours, theirs = wire.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        # Leaves through the caller's frames, so that a worker ends as an interpreter does: exit handlers, threads.
        raise SystemExit(importlib.import_module(ZYGOTE_MODULE).main(theirs.detach(), directory))
    theirs.close()
    return LocalExecutor(ours, pid)


def spawn_zygote(directory: str) -> LocalExecutor:
    """A zygote in a fresh interpreter: used when this process is no longer fit to be forked."""
    ours, theirs = wire.pair()
    os.set_inheritable(theirs.fileno(), True)
    argv = [sys.executable, "-m", ZYGOTE_MODULE, str(theirs.fileno()), directory]
    try:
        pid = os.posix_spawn(sys.executable, argv, os.environ)
    finally:
        theirs.close()
    return LocalExecutor(ours, pid)


def connect(directory: str) -> LocalExecutor:
    """The executor of a kernel, for one of its own workers: what it starts ends when it ends.

    Raises:
        OSError: the kernel's zygote is gone.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(5.0)
    try:
        end.connect(zygote_address(directory))
    except OSError:
        end.close()
        raise
    return LocalExecutor(end, None)


def fork_server(zygote: LocalExecutor, params: Mapping[str, Any], job: int | None = None) -> ForkServer:
    """An executor for the tasks of the job in that descriptor, or in one that it is given later. They are born with
    what their body reaches (`lambdakernel.worker.template`). Owns `zygote`, a conversation of nobody else.

    Raises:
        OSError: no descriptor is left.
    """
    try:
        ours, theirs = wire.pair()
    except OSError:
        zygote.close(0.0)
        raise
    zygote.start(Invocation("0", "template", params), (theirs.fileno(), *([] if job is None else [job])))
    theirs.close()
    return ForkServer(ours, zygote)


def zygote_address(directory: str) -> str:
    return directory + "/zygote"


class LocalExecutor:
    """See the module. Implements `Executor`."""

    def __init__(self, end: socket.socket, zygote_pid: int | None) -> None:
        end.setblocking(False)
        self._end = end
        self._zygote_pid = zygote_pid
        self._lost: ExecutorLost | None = None

    def fileno(self) -> int:
        return self._end.fileno()

    def start(self, invocation: Invocation, fds: tuple[int, ...] = ()) -> None:
        order = {
            "op": "fork",
            "id": invocation.id,
            "role": invocation.role,
            "params": dict(invocation.params),
        }
        self._send(order, fds)

    def warm(self, modules: tuple[str, ...], *, now: bool = False) -> None:
        self._send({"op": "warm", "modules": list(modules), "now": now})

    def _send(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            wire.send(self._end, order, fds)
        except (wire.PeerGone, BlockingIOError) as e:
            self._lost = ExecutorLost(f"the zygote does not answer ({type(e).__name__})")

    def events(self) -> list[Event]:
        found: list[Event] = []
        try:
            while (received := wire.receive(self._end)) is not None:
                found.append(_event(received[0]))
        except wire.PeerGone:
            self._lost = ExecutorLost("the zygote ended")
        if self._lost is not None:
            found.append(self._lost)
        return found

    def release(self) -> None:
        """End an idle zygote; its directory stays, for the next one."""
        self._send({"op": "end"})
        self.close(2.0)

    def close(self, deadline_s: float) -> None:
        """End all workers that were started here; where the zygote is ours, end it too and reap it."""
        self._end.close()
        if self._zygote_pid is not None:
            _reap(self._zygote_pid, deadline_s)


class ForkServer(LocalExecutor):
    """See `fork_server`."""

    def __init__(self, end: socket.socket, zygote: LocalExecutor) -> None:
        super().__init__(end, None)
        self._zygote = zygote

    def give(self, job: int) -> bool:
        """Give its job to one that has none; False if it is gone."""
        if any(not isinstance(event, Started) for event in self._zygote.events()):  # it has ended, or was not forked
            return False
        try:
            wire.send(self._end, {"op": "job"}, (job,))
        except (wire.PeerGone, BlockingIOError):
            return False
        return True

    def events(self) -> list[Event]:
        found = super().events()
        if self._lost is not None and (why := self._refused()):
            found[-1] = ExecutorLost(why)
        return found

    def _refused(self) -> str:
        """Why the zygote has not forked it, if that is so."""
        poller = select.poll()
        poller.register(self._zygote.fileno(), select.POLLIN)
        poller.poll(_SAID_MS)
        return next((event.reason for event in self._zygote.events() if isinstance(event, Refused)), "")

    def close(self, deadline_s: float) -> None:
        """As of any: it kills what it has started, and ends."""
        self._end.close()
        self._zygote.close(deadline_s)


def _event(message: dict[str, object]) -> Event:
    match message:
        case {"op": "started", "id": str(id), "pid": int(pid)}:
            return Started(id, pid)
        case {"op": "refused", "id": str(id), "reason": str(reason)}:
            return Refused(id, reason)
        case {
            "op": "exited",
            "id": str(id),
            "pid": int(pid),
            "code": int(code),
            "oom": bool(oom),
            "peak": int(peak),
        }:
            return Exited(id, pid, code, oom, peak)
        case {"op": "broken", "reason": str(reason)}:
            return ExecutorLost(reason)
        case _:
            return ExecutorLost(f"the zygote said something unknown: {message!r:.200}")


def _reap(pid: int, deadline_s: float) -> None:
    """Wait for our child `pid`; past the deadline it is killed. A child already reaped is no error."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(watch, select.POLLIN)
        end = time.monotonic() + deadline_s
        if not poller.poll(max(0.0, end - time.monotonic()) * 1000):
            os.kill(pid, 9)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        return
    finally:
        os.close(watch)
