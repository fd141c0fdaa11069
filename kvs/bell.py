"""Waits until somebody may have published in a space, without asking again and again.

Theory of operation
- A publish writes to a file below `lanes/N`, and a new lane is a new directory in `lanes`. The system tells whoever
  watches a directory of both (inotify). So a writer does nothing for a watcher, and does not know of any.
- A bell says "look", not what there is: one ring for many commits and a ring for nothing are both harmless. What
  was written between two looks is found by the second, since directories are watched before each look.
- Where the system cannot tell (no inotify, or no watch of it left), a wait ends every `POLL_S` to look.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from functools import cache

from kvs.tiers.node import translated

POLL_S = 0.05
"""Of a wait that nobody can end: a look costs microseconds, so this is a few thousandths of one processor."""
_MODIFY, _MOVED_TO, _CREATE, _ONLY_DIRECTORY = 0x2, 0x80, 0x100, 0x01000000
_MASK = _MODIFY | _MOVED_TO | _CREATE | _ONLY_DIRECTORY
_EVENT = struct.Struct("iIII")
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM, errno.ENOSYS)


class Bell:
    """One waiter on one space; it owns two or three descriptors. `ring` may be called from any thread."""

    def __init__(self, lanes: str, *, but: int | None = None) -> None:
        """`lanes` is the directory that holds the lanes; lane `but` is the waiter's own, and not listened to."""
        self._lanes, self._but = lanes, but
        self._known: dict[int, str] = {}
        self._ringing = threading.Lock()
        self._fd = translated(lanes, _notifier)
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        for fd in (self._wake, self._fd):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    @property
    def is_told(self) -> bool:
        """Whether the system tells; else waits are short."""
        return self._fd >= 0

    def arm(self) -> None:
        """From now on, what is written in any lane ends the next wait; look after this, then wait.

        Raises:
            FileNotFoundError: the space is gone.
        """
        names = [name for name in os.listdir(self._lanes) if name.isdecimal() and int(name) != self._but]
        folders = [self._lanes, *(f"{self._lanes}/{name}" for name in names)]
        for folder in set(folders).difference(self._known.values()) if self._fd >= 0 else ():
            watch = _watched(self._fd, folder)
            if watch is None:
                self._stop_listening()
                return
            self._known[watch] = folder

    def wait(self, timeout_s: float) -> bool:
        """Whether somebody rang within `timeout_s`; without help of the system, whether it is time to look."""
        short = self._fd < 0 and timeout_s > POLL_S
        ready = self._poll.poll((POLL_S if short else timeout_s) * 1000)
        for fd, _ in ready:
            data = os.read(fd, 1 << 16)  # what is left after that ends the next wait
            if fd == self._fd:
                self._forget_gone(data)
        return bool(ready) or short

    def _forget_gone(self, data: bytes) -> None:
        """A directory that is deleted takes its watch with it, and its name may come back."""
        at = 0
        while at < len(data):
            watch, mask, _, nbytes = _EVENT.unpack_from(data, at)
            if mask & 0x8000:  # IN_IGNORED
                self._known.pop(watch, None)
            at += _EVENT.size + nbytes

    def ring(self) -> None:
        """End a wait of another thread, or the next one."""
        with self._ringing:
            if self._waker >= 0:
                try:
                    os.write(self._waker, b"!")
                except BlockingIOError:  # it rings already
                    return

    def _stop_listening(self) -> None:
        self._poll.unregister(self._fd)
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        with self._ringing:
            for fd in (self._fd, self._wake, self._waker):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._wake = self._waker = -1


def _notifier() -> int:
    """A descriptor of inotify; -1 where there is none, or none left for this user."""
    make = getattr(_libc(), "inotify_init1", None)
    if make is None:
        return -1
    fd = int(make(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd >= 0 or ctypes.get_errno() in _NONE_LEFT:
        return fd
    raise _error("inotify")


def _watched(fd: int, folder: str) -> int | None:
    """The number of the watch on a directory; None if there are no more of them. -1: it is gone meanwhile."""
    watch = int(_libc().inotify_add_watch(fd, os.fsencode(folder), _MASK))
    if watch >= 0:
        return watch
    if ctypes.get_errno() == errno.ENOENT:
        return -1
    if ctypes.get_errno() in _NONE_LEFT:
        return None
    raise _error(folder)


def _error(where: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), where)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
