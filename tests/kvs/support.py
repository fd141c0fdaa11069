"""What the tests of kvs share: processes that end with their test, and a view of a space for comparing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import kvs

DEADLINE_S = 20.0
_fork = multiprocessing.get_context("fork")


def values(replica: kvs.Replica) -> dict[bytes, bytes]:
    """The winner of every key."""
    return {key: replica.get(key)[0].value.payload for key in replica.keys(b"")}


@contextmanager
def child(run: Callable[..., None], *arguments: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that does `run(connection, *arguments)`, killed at the end if it still is there."""
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=run, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        kill(process)
        ours.close()
        process.close()


def kill(process: BaseProcess) -> None:
    """End it with SIGKILL, and wait until it is gone."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join(DEADLINE_S)
    assert process.exitcode is not None


def received(connection: Connection) -> Any:
    """The next message; an exception of the other side is raised here."""
    assert connection.poll(DEADLINE_S), "the other process said nothing in time"
    message = connection.recv()
    if isinstance(message, BaseException):
        raise message
    return message


def everything(connection: Connection) -> list[Any]:
    """All messages up to the end of a process that is gone."""
    messages = []
    try:
        while connection.poll(0):
            messages.append(connection.recv())
    except (EOFError, ConnectionResetError):
        pass
    return messages
