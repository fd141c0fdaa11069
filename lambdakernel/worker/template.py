"""A fork server for the tasks of one fan-out: it has loaded what their body reaches, and each is born with that.

Theory of operation
- The zygote forks it like a worker. Its first descriptor is a conversation in which it is asked for tasks as the zygote
  would be; when that closes, it kills its tasks and ends.
- It forks once more, and that process loads: attaches to the session, imports, loads values. Then it serves the
  conversation, and ours waits for its end. A fork after that costs what any fork costs, and shares all that was loaded.
- Where that cannot be (loading raises, crashes, starts a thread, or takes longer than `LOAD_S`), ours serves the
  conversation itself: each task then loads on its own, and says itself what is wrong.
- What loading prints is not shown: each task would have, and none does.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from lambdakernel.executors import wire
from lambdakernel.executors.birth import end_with

T = TypeVar("T")

LOAD_S = 10.0
"""Seconds for loading; what takes longer is loaded by each task, as it would be without this process."""
_UNFIT = 75


def become(fds: tuple[int, ...], load: Callable[[int], T], serve: Callable[[socket.socket], bool]) -> T | None:
    """Be the fork server behind the conversation `fds[0]`, with what `load(fds[1])` gives; returns in a forked task
    only, with what was loaded.

    `serve(conversation)` answers it: True in a forked task, False when the conversation is over.
    """
    asked, job = wire.adopt(fds[0]), fds[1]
    told, tell = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    loader = os.fork()
    if loader == 0:
        os.close(told)
        _become_loader(parent)
        loaded = _load(load, job)
        os.close(job)
        os.write(tell, b"r")
        os.close(tell)
        return loaded if serve(asked) else _leave()
    os.close(tell)
    is_ready = _is_ready(told, asked)
    os.close(told)
    if is_ready:
        asked.close()
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


def _is_ready(told: int, asked: socket.socket) -> bool:
    """Whether the loader is; False too if nobody wants to know any more."""
    poller = select.poll()
    poller.register(told, select.POLLIN)
    poller.register(asked.fileno(), 0)  # its end is told unasked
    poller.poll(LOAD_S * 1000)
    os.set_blocking(told, False)
    try:
        return bool(os.read(told, 1))
    except BlockingIOError:
        return False


def _leave() -> NoReturn:
    os._exit(0)  # exit handlers are the zygote's
