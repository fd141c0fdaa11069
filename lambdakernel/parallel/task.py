"""A worker that runs a task of a fan-out, and further ones while it is as it was born (`further`).

Called in a process that was just forked for it, by the zygote or by a fork server of its own fan-out. It attaches to
the session as a reader, so that it sees the notebook's variables and can publish none, and loads what the body reaches,
unless it was born with that; binds the item; runs the body; and sends back what is collected, or how it failed, in one
datagram with one parcel. In the end it leaves without exit handlers, which are the zygote's.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from lambdakernel.executors import wire
from lambdakernel.executors.birth import name_process
from lambdakernel.parallel.further import Turn, next_turn
from lambdakernel.parallel.loading import Loaded, attached, job_of
from lambdakernel.parallel.loading import get_ready as get_ready  # for the fork server, which is one of ours
from lambdakernel.parallel.loading import load as load
from lambdakernel.parallel.parcels import Sealed
from lambdakernel.parallel.work import Work

_AT_WORK, _IDLE = b"lk-task", b"lk-idle"
"""What the system calls the process; it is born with the first."""


def run(params: dict[str, Any], fds: tuple[int, ...], loaded: Loaded | None = None) -> NoReturn:
    """Be the task `params["index"]`, and further ones, and leave the process. `fds`: line to the parent, job, item, and
    a pair of stdout and stderr, or two. Without job and item, it waits for those; then `params` are the store and the
    session."""
    line, *more = fds
    given = more[:2] if "index" in params else []
    lanes = _Lanes(more[len(given) :])
    _become_task()
    end = wire.adopt(line)
    try:
        if given:
            job, item = given
            turn, is_fork = Turn.of(params, Sealed(item)), loaded is not None
            told = loaded.job if loaded and loaded.job.fan == params["fan"] else job_of(job)
        else:
            name_process(_IDLE)
            loaded, is_fork = attached(params["store"], params["session"]), False
            turn = _next_turn(end)
            lanes.use(turn.lane)
            told = job_of(turn.job)
        work = Work(told, loaded, is_fork=is_fork)
        while work.take(turn, end):
            name_process(_IDLE)
            turn = _next_turn(end)
            lanes.use(turn.lane)
            if turn.job is not None:
                work.goes_on(job_of(turn.job))
        code = 0
    except wire.PeerGone:  # the cell was interrupted, or has no further item; nobody wants a result
        code = 0
    except BaseException as e:
        # ours, or no memory even to report: stderr is the task's, so the user sees it
        os.write(2, f"the task cannot report: {type(e).__name__}: {e}\n".encode())
        code = 70
    os._exit(code)


def _next_turn(end: socket.socket) -> Turn:
    """Wait for it.

    Raises:
        wire.PeerGone: there is none.
    """
    turn = next_turn(end)
    name_process(_AT_WORK)
    return turn


# -- the process


class _Lanes:
    """Where this process prints: the pairs of pipes, of which a task has one. It begins with the first."""

    def __init__(self, fds: list[int]) -> None:
        self._pairs = [tuple(fds[at : at + 2]) for at in range(0, len(fds), 2)]
        self._used = -1
        self.use(0)
        if len(self._pairs) == 1:
            wire.close_fds(self._pairs[0])

    def use(self, lane: int) -> None:
        if lane != self._used:
            self._used = lane
            for fd, number in zip(self._pairs[lane], (1, 2), strict=True):
                os.dup2(fd, number)


def _become_task() -> None:
    """Give this process the streams and the manners of a task."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)


def _stream(fd: int) -> io.TextIOWrapper:
    """A text stream that loses no whole line, however the process ends."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
