"""What workers answer and how they end, as values and errors for the caller."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from lambdakernel.futures import line
from lambdakernel.futures.sealing import decode
from lambdakernel.futures.worker import RETURNED

_log = logging.getLogger("concurrent.futures")


class RemoteTraceback(Exception):
    """The cause of an error that a call raised: its traceback in the worker, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def initializer_failed(error: BaseException) -> BaseException:
    """What every call of the executor raises from now on; also logged, as the standard library's pools do."""
    from lambdakernel.futures.errors import InitializerFailed

    failed = InitializerFailed(
        f"the initializer raised {type(error).__name__}: {error}. No call can run; mend it and make a new Executor."
    )
    failed.__cause__ = error
    _log.critical("the initializer of a worker failed", exc_info=error)
    return failed


def value_of(how: int, head: Any, places: Any, fds: tuple[int, ...]) -> tuple[Any, BaseException | None]:
    """The value of an answer, or its error."""
    try:
        found = decode(head, places, fds)
        if how == RETURNED:
            return found, None
        error, text = found
        error.__cause__ = RemoteTraceback(text)
    except BaseException as e:  # whatever the value's own code raises: the thread must not end of it
        return None, e
    finally:
        line.close(fds)
    return None, error


def joins_error(joined: bytes | int, fds: tuple[int, ...]) -> BaseException | None:
    """Join what a call joined into live lattices; the error if that cannot be, which is then the call's."""
    from lambdakernel.futures.joins import join

    try:
        join(decode(joined, (), fds))
    except Exception as e:
        return e
    return None


def exit_code_of(pid: int) -> int | None:
    """That of a process that has ended and that its parent has not reaped yet, as `os.waitstatus_to_exitcode` gives
    it; None if it lives, was reaped, or the system does not tell (then it says 0, too)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            from_state = f.read().rpartition(b")")[2].split()
    except OSError:
        return None
    status = int(from_state[_EXIT_CODE]) if from_state[0] in (b"Z", b"X") else 0
    return os.waitstatus_to_exitcode(status) if status else None


_EXIT_CODE = 52 - 3
"""Of the fields of `/proc/PID/stat` (see proc(5)), counted from that of the state."""


def how_it_ended(code: int, stopped: bool) -> str:
    """How a worker ended, to follow `the worker`."""
    if stopped:
        return "was stopped"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with code {code}"


def task_lost(how: str) -> BaseException:
    from lambdakernel.futures.errors import TaskLost

    return TaskLost(how)


def no_workers(why: str) -> BaseException:
    from lambdakernel.futures.errors import NoWorkers

    return NoWorkers(why)
