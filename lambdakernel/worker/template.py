"""A fork server for the tasks of one fan-out: it has loaded what their body reaches, and each is born with that.

Theory of operation
- The zygote forks it like a worker. Its first descriptor is a conversation in which it is asked for tasks as the zygote
  would be; when that closes, it kills its tasks and ends.
- It forks once more, and that process loads: attaches to the session, imports, loads values. Then it serves the
  conversation, and ours waits for its end. A fork after that costs what any fork costs, and shares all that was loaded.
- Where that cannot be (loading raises, crashes, starts a thread, or takes longer than `LOAD_S`), ours serves the
  conversation itself: each task then loads on its own, and says itself what is wrong.
- What loading prints is not shown: each task would have, and none does.
- It may be made before there is a job: then the process that loads gets ready for any, and waits for its own.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from lambdakernel.executors import wire
from lambdakernel.executors.birth import end_with

T = TypeVar("T")

LOAD_S = 10.0
"""Seconds for loading; what takes longer is loaded by each task, as it would be without this process."""
_UNFIT = 75
_HAS_JOB, _IS_READY = b"j", b"r"
"""What the process that loads says to ours."""


def become(
    fds: tuple[int, ...],
    get_ready: Callable[[], object],
    load: Callable[[int], T],
    serve: Callable[[socket.socket], bool],
) -> T | None:
    """Be the fork server behind the conversation `fds[0]`, with what `load(fds[1])` gives; with one descriptor, after
    `get_ready()`, with what it gives for the job that comes by the conversation. Returns in a forked task only, with
    what was loaded.

    `serve(conversation)` answers it: True in a forked task, False when the conversation is over.
    """
    asked, is_spare = wire.adopt(fds[0]), len(fds) == 1
    told, tell = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    loader = os.fork()
    if loader == 0:
        os.close(told)
        _become_loader(parent)
        if is_spare:
            get_ready()
        job = _job_of(asked) if is_spare else fds[1]
        os.write(tell, _HAS_JOB)
        loaded = _load(load, job)
        os.close(job)
        os.write(tell, _IS_READY)
        os.close(tell)
        return loaded if serve(asked) else _leave()
    os.close(tell)
    is_ready = _is_ready(told, asked)
    os.close(told)
    if is_ready:
        asked.close()  # the loader has it
    else:
        os.kill(loader, signal.SIGKILL)
    os.waitpid(loader, 0)
    return None if not is_ready and serve(asked) else _leave()


def _become_loader(parent: int) -> None:
    end_with(parent)
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def _load(load: Callable[[int], T], job: int) -> T:
    try:
        loaded = load(job)
    except BaseException:  # each task meets it again, and says so
        os._exit(_UNFIT)
    gc.freeze()  # a collection in a task would write to all that it shares with the others
    return loaded


def _job_of(asked: socket.socket) -> int:
    """The job, when it comes."""
    try:
        _, (job,) = wire.receive(asked, wait=True) or ({}, ())
    except wire.PeerGone:  # it was a spare that nobody needed
        _leave()
    return job


def _is_ready(told: int, asked: socket.socket) -> bool:
    """Whether the loader is; False too if nobody wants to know any more. It has `LOAD_S` from when there is a job."""
    poller = select.poll()
    poller.register(told, select.POLLIN)
    poller.register(asked.fileno(), select.POLLIN)
    poller.poll()
    poller.modify(asked.fileno(), 0)  # its end is told unasked
    end = time.monotonic() + LOAD_S
    while (left := end - time.monotonic()) > 0:
        ready = [fd for fd, _ in poller.poll(left * 1000)]
        if told in ready:
            if (said := os.read(told, 1)) != _HAS_JOB:
                return said == _IS_READY
        elif ready:
            return False
    return False


def _leave() -> NoReturn:
    os._exit(0)  # exit handlers are the zygote's
