"""What a process that was just forked says to the system: its name, that it ends with its parent, what it will open."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def name_process(name: bytes) -> None:
    """As `ps` and `%workers` show it; 15 bytes at most."""
    _prctl(_PR_SET_NAME, name, 0, 0, 0)


def end_with(parent: int) -> None:
    """Be killed when `parent`, whose fork this is, ends; at once, if it has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def expect_descriptors(count: int) -> None:
    """Have the system's table of descriptors so large, while this process has one thread.

    It grows when it must. But in a process of several threads whoever opens one then waits for all processors, some
    milliseconds.
    """
    try:
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, count - 1))
    except OSError:  # the limit is lower, or there is no 0: it grows when it must
        return
