"""Which pages of memory were written since a moment: asked of the system, so that no byte has to be read.

Theory of operation
- A range is *armed*: write-protected by userfaultfd in its asynchronous mode, in which the system itself resolves the
  fault of a first write and takes a note of it. PAGEMAP_SCAN reads the notes and arms those pages anew, in one step.
  Writes by threads, by C code, by `read(2)`, through views are all seen; only the first write to a page is slowed.
- A private mapping of a file needs no arming: a page that was written is not a page of the file any more.
- The answer is None if the system cannot say: the memory was unmapped or moved, the descriptor was closed by a cell,
  the kernel is too old (both calls need Linux 6.7). Whoever asks must then look at the bytes.

Source: the Linux kernel's documentation, admin-guide/mm/userfaultfd and admin-guide/mm/pagemap.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import mmap
import os
import platform
import struct

PAGE = mmap.PAGESIZE
Run = tuple[int, int]
"""Start and end of a piece, in bytes from the start of its range."""

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API = 0xAA
_FEATURES = (1 << 0) | (1 << 13) | (1 << 15)
"""UFFD_FEATURE_PAGEFAULT_FLAG_WP, WP_UNPOPULATED, WP_ASYNC."""
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_REGISTER_WP, _PROTECT = 2, 1
_PAGEMAP_SCAN = 0xC0606610
_WP_MATCHING, _CHECK_WPASYNC = 1, 2
_WRITTEN, _FILE, _PRESENT, _SWAPPED = 1 << 1, 1 << 2, 1 << 3, 1 << 4
_REGIONS = 1024
_SCAN = struct.Struct("12Q")


class Pages:
    """Watches memory of the process that made it. Owns two descriptors from its first use on; `close` ends them."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._uffd, self._pagemap = -1, -1
        self._is_open = False

    @property
    def works(self) -> bool:
        """Whether the system can watch at all; without it, `arm` and `written` know nothing."""
        if not self._is_open and self._pid == os.getpid():
            self._is_open = True
            self._uffd, self._pagemap = _open()
        return self._uffd >= 0 and self._pid == os.getpid()

    def arm(self, address: int, nbytes: int) -> bool:
        """Watch a range from now on; False if that cannot be done. Costs 0.3 to 10 ms a GB.

        Only writes by this process are seen: see `is_ours`.
        """
        if not self.works:
            return False
        start, end = _span(address, nbytes)
        try:
            fcntl.ioctl(self._uffd, _UFFDIO_REGISTER, bytearray(struct.pack("4Q", start, end - start, _REGISTER_WP, 0)))
            fcntl.ioctl(self._uffd, _UFFDIO_WRITEPROTECT, bytearray(struct.pack("3Q", start, end - start, _PROTECT)))
        except OSError:
            return False
        return True

    def written(self, address: int, nbytes: int) -> list[Run] | None:
        """Pieces of an armed range that were written since it was armed or last asked about; None: nobody knows."""
        return self._scan(address, nbytes, _WP_MATCHING | _CHECK_WPASYNC, mask=_WRITTEN)

    def private(self, address: int, nbytes: int, *, is_armed: bool = False) -> list[Run] | None:
        """Pieces of a private mapping of a file that are the file's no more; None: nobody knows.

        In an armed one, pages that were never touched look as if they were swapped out: there, those are not told.
        """
        state = _PRESENT if is_armed else _PRESENT | _SWAPPED
        return self._scan(address, nbytes, 0, mask=_FILE, inverted=_FILE, anyof=state)

    def _scan(
        self, address: int, nbytes: int, flags: int, *, mask: int, inverted: int = 0, anyof: int = 0
    ) -> list[Run] | None:
        if not self.works:
            return None
        at, end = _span(address, nbytes)
        regions = array.array("Q", bytes(24 * _REGIONS))
        where, _ = regions.buffer_info()
        found: list[Run] = []
        while at < end:
            request = bytearray(
                _SCAN.pack(_SCAN.size, flags, at, end, 0, where, _REGIONS, 0, inverted, mask, anyof, mask | anyof)
            )
            try:
                count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, request)
            except OSError:
                return None
            for n in range(count):
                found.append((max(regions[3 * n] - address, 0), min(regions[3 * n + 1] - address, nbytes)))
            if count < _REGIONS:  # all was walked; where the walk ended is not told in that case
                break
            at = _SCAN.unpack(request)[4]
        return found

    def is_ours(self, address: int, nbytes: int, immutable: tuple[str, ...] = ()) -> bool:
        """Whether nobody but this process can change what is read in a range: memory that is shared with another
        process, or a mapped file, would change unseen. Files whose path has one of `immutable` in it are trusted."""
        start, end = _span(address, nbytes)
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
                for line in maps:
                    span, permissions, _, _, inode, *path = line.split(maxsplit=5)
                    low, _, high = span.partition("-")
                    if int(high, 16) <= start:
                        continue
                    if int(low, 16) >= end:
                        break
                    trusted = inode == "0" or any(part in "".join(path) for part in immutable)
                    if permissions[3] != "p" or not trusted:
                        return False
        except OSError:
            return False
        return True

    def close(self) -> None:
        for fd in (self._uffd, self._pagemap):
            if fd >= 0 and self._pid == os.getpid():
                os.close(fd)
        self._uffd = self._pagemap = -1
        self._is_open = True  # for good


def _open() -> tuple[int, int]:
    """Descriptors to arm and to ask, or a pair of -1 if this system has not both."""
    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        return -1, -1
    uffd = ctypes.CDLL(None, use_errno=True).syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if uffd < 0:
        return -1, -1
    try:
        fcntl.ioctl(uffd, _UFFDIO_API, bytearray(struct.pack("3Q", _API, _FEATURES, 0)))
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(uffd)
        return -1, -1
    return uffd, pagemap


def _span(address: int, nbytes: int) -> Run:
    """The whole pages that a range lies on."""
    return address // PAGE * PAGE, -(-(address + nbytes) // PAGE) * PAGE


def merged(runs: list[Run]) -> list[Run]:
    """The same bytes as sorted runs that do not touch each other."""
    found: list[Run] = []
    for start, end in sorted(runs):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def size(runs: list[Run]) -> int:
    return sum(end - start for start, end in runs)
