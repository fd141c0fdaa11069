"""Maps of memory files that a worker keeps for its next calls: to map 100 MB anew takes longer than to read them.

A map is private: what a call writes is its own copy of a page. When nothing of the call refers to the map any more, it
is free for the next call, should that be given the same file; it is given up if not. The pages that were written are
found in the kernel's page map and, if there are any, are dropped: the file's own are there again.

Source: Documentation/admin-guide/mm/pagemap.rst of Linux (bits 61 to 63 of an entry); madvise(2), MADV_DONTNEED.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEEP_MS = 2000
"""Milliseconds without a call after which free maps are given up; their files then go, too, if nobody else has them."""
_MADV_DONTNEED = 4
_PAGE = os.sysconf("SC_PAGE_SIZE")
_IS_OWN = bytes((byte & 0xC0 != 0) and not byte & 0x20 for byte in range(256))
"""By the highest byte of an entry: whether the page is there, or swapped, and is not the file's."""
_Key = tuple[int, int]


class Maps:
    """The maps of one worker, by the file that they are of."""

    def __init__(self) -> None:
        self._free: dict[_Key, memoryview] = {}
        self._used: set[_Key] = set()
        """By the call that runs."""

    def get(self, fd: int) -> memoryview:
        """The head of the parcel behind `fd`, as it was sealed: writable, and nobody else's while it is referred to.

        Raises:
            ParcelDamaged: it is none.
            OSError: the system has no room to map it.
        """
        import ctypes
        import weakref

        file = os.fstat(fd)
        key = file.st_dev, file.st_ino  # the map keeps the file, so no other has its number
        self._used.add(key)
        whole = self._free.pop(key, None)
        if whole is None:
            from lambdakernel.parallel.parcels import unpack

            whole = unpack(fd).head
        elif was_written(whole):
            _restore(whole)
        lent = (ctypes.c_char * whole.nbytes).from_buffer(whole)
        weakref.finalize(lent, self._free.__setitem__, key, whole).atexit = False
        return memoryview(lent).cast("B")

    def __bool__(self) -> bool:
        """Whether there are free ones."""
        return bool(self._free)

    def settle(self) -> None:
        """A call is over: give up what it did not use."""
        for key in self._free.keys() - self._used:
            del self._free[key]
        self._used.clear()

    def clear(self) -> None:
        """Give up what is free."""
        self._free.clear()


def was_written(memory: memoryview) -> bool:
    """Whether a page of this private map of a file is a copy; also if the system does not tell."""
    start, nbytes = _pages(memory)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            entries = os.pread(file.fileno(), nbytes // _PAGE * 8, start // _PAGE * 8)
    except OSError:
        return True
    return len(entries) < nbytes // _PAGE * 8 or any(entries[7::8].translate(_IS_OWN))


def _restore(memory: memoryview) -> None:
    import ctypes

    start, nbytes = _pages(memory)
    if ctypes.CDLL(None, use_errno=True).madvise(ctypes.c_void_p(start), ctypes.c_size_t(nbytes), _MADV_DONTNEED):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot give a call its arguments anew: {os.strerror(code)}")


def _pages(memory: memoryview) -> tuple[int, int]:
    """Start and length of the pages that `memory` is in."""
    import ctypes

    first: Any = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    start = address // _PAGE * _PAGE
    return start, -(-(address + memory.nbytes - start) // _PAGE) * _PAGE
