"""Keeps the second attempt at a task from doing anything outside its process.

Before such an attempt is made, its body was looked at (`effects`). This is for what a look at names cannot see: Python
says to an audit hook what it is about to do, and an attempt that is about to write, connect or start something ends
itself before it does. The first attempt goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OUTSIDE = frozenset(
    "os.chmod os.chown os.exec os.fork os.forkpty os.kill os.killpg os.link os.lockf os.mkdir os.posix_spawn os.remove"
    " os.removexattr os.rename os.rmdir os.setxattr os.spawn os.symlink os.system os.truncate os.utime pty.spawn"
    " signal.pthread_kill socket.bind socket.connect socket.sendto sqlite3.connect subprocess.Popen syslog.syslog"
    " webbrowser.open".split()
)


@contextmanager
def guarded(give_up: Callable[[str], NoReturn] | None) -> Iterator[None]:
    """Inside, `give_up(what)` is called before this process does anything outside. None: no guard."""
    if give_up is None:
        yield
        return
    is_on, keeps = True, sys.dont_write_bytecode
    sys.dont_write_bytecode = True

    def hook(event: str, args: tuple[Any, ...]) -> None:  # stays as long as its process
        if is_on and (event in _OUTSIDE or (event == "open" and _is_written(*args))):
            give_up(" ".join([event, *map(repr, args[:1])]))

    sys.addaudithook(hook)
    try:
        yield
    finally:
        is_on, sys.dont_write_bytecode = False, keeps


def _is_written(path: object, mode: object, flags: int) -> bool:
    return bool(flags & _WRITES) and path != os.devnull
