"""What a worker started, in memory that it shares with the front: no system call to write, readable after its death.

A cell that had started is never run again, so the front must know, whatever killed the worker and whenever. A message
would say it as well, but would wake the front in every cell to tell it what matters after a death only.
"""

from __future__ import annotations

import mmap
import os

SLOTS = 32
"""Requests that are kept: more than can be running at once, one a shell."""
SLOT_NBYTES = 256
_COUNT_NBYTES = 8


class Journal:
    """The last requests that were started. One process notes, one reads."""

    def __init__(self, fd: int) -> None:
        """Map the journal behind `fd`, which may be closed afterwards."""
        self._map = mmap.mmap(fd, _COUNT_NBYTES + SLOTS * SLOT_NBYTES)
        self._count = 0

    @staticmethod
    def create() -> int:
        """A descriptor of an empty one; it is gone when its last map is."""
        fd = os.memfd_create("lambdakernel-journal", os.MFD_CLOEXEC)
        os.ftruncate(fd, _COUNT_NBYTES + SLOTS * SLOT_NBYTES)
        return fd

    def note(self, request: str) -> bool:
        """Whether `request` was noted: one whose name is too long for a slot must be told in another way."""
        data = request.encode()
        if len(data) > SLOT_NBYTES - 2:
            return False
        at = _COUNT_NBYTES + self._count % SLOTS * SLOT_NBYTES
        self._map[at : at + 2 + len(data)] = len(data).to_bytes(2, "little") + data
        self._count += 1
        self._map[:_COUNT_NBYTES] = self._count.to_bytes(_COUNT_NBYTES, "little")
        return True

    def notes(self) -> list[str]:
        """What was noted last, oldest first. A slot that was being written when its writer died is not among it."""
        count = int.from_bytes(self._map[:_COUNT_NBYTES], "little")
        found = []
        for number in range(max(0, count - SLOTS), count):
            at = _COUNT_NBYTES + number % SLOTS * SLOT_NBYTES
            size = int.from_bytes(self._map[at : at + 2], "little")
            found.append(self._map[at + 2 : at + 2 + size].decode(errors="replace"))
        return found

    def close(self) -> None:
        self._map.close()
