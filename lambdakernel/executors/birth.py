"""What a process that was just forked says to the system: its name, and that it ends with its parent."""

from __future__ import annotations

import ctypes
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
