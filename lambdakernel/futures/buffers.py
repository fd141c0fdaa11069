"""Large buffers in memory files, one file for a buffer that goes to many calls.

A buffer that is sent again is known by its address and length, and by the hash of its content: a change in place is
always seen. To hash takes a fifth of the time that copying takes. One that was found unchanged is watched from then on
(`lambdakernel.pages`): while the system says that nobody has written to it, it is not read again. Where the state of a
notebook lives in this process, it is not: that watches memory itself, and a page has one watcher.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from dataclasses import dataclass

from lambdakernel.futures.line import Descriptor
from lambdakernel.pages import PAGE, Pages, size

KEEP_S = 2.0
"""Seconds for which a file that no call uses any more is kept for the next."""
MOST = 128
"""Most files at a time, of the 1,024 that a process may usually have open."""
WATCH_NBYTES = 1 << 20
"""Bytes from which a buffer is watched; to hash a smaller one costs less than 0.1 ms."""
_OTHER_WATCHER = "lambdakernel.state.namespace"
_Key = tuple[int, int]


@dataclass(slots=True)
class _File:
    descriptor: Descriptor
    digest: bytes
    used: float
    is_watched: bool = False
    """Since before it was hashed last."""


class SharedBuffers:
    """Files of buffers that were sent lately. Any thread may call; none holds another up while it copies."""

    def __init__(self) -> None:
        self._files: dict[_Key, _File] = {}
        self._open: weakref.WeakSet[Descriptor] = weakref.WeakSet()
        self._mutex = threading.Lock()
        self._pages = Pages()
        self._looks: dict[_Key, int] = {}
        """How often each was hashed, or what is noted of it was used up: who hashes it meanwhile cannot rely on it."""

    def share(self, view: memoryview) -> Descriptor | None:
        """A sealed file with the content of `view` now; None if as many as may be are open already.

        Raises:
            OSError: the system has no memory for the file.
        """
        import xxhash

        from lambdakernel.parallel.parcels import pack

        key = (_address(view), view.nbytes)
        with self._mutex:
            known, is_watched = self._files.get(key), False
            if known is not None and known.is_watched:
                written = self._pages.written(*key)
                if written == []:
                    known.used = time.monotonic()
                    return known.descriptor
                known.is_watched = False  # whoever asks next must hash, too
                self._doubt(key)
                is_watched = written is not None and 2 * size(written) < view.nbytes
            elif known is not None:
                is_watched = self._watch(key)
            look = self._looks[key] = self._looks.get(key, 0) + 1
        digest = xxhash.xxh3_128_digest(view)
        with self._mutex:
            known = self._files.get(key)
            if known is not None and known.digest == digest:
                known.used, known.is_watched = time.monotonic(), is_watched and self._looks.get(key) == look
                return known.descriptor
            if len(self._open) >= MOST:
                self._looks.pop(key, None)
                return None
        descriptor = Descriptor(pack(view))
        with self._mutex:
            is_watched = is_watched and self._looks.get(key) == look
            self._files[key] = _File(descriptor, digest, time.monotonic(), is_watched)
            self._open.add(descriptor)
        return descriptor

    def _watch(self, key: _Key) -> bool:
        """From now on, if that can be: not before a buffer is sent again, for the first write to a page that is watched
        takes longer."""
        address, nbytes = key
        if not address or nbytes < WATCH_NBYTES or _OTHER_WATCHER in sys.modules:
            return False
        if not self._pages.is_ours(address, nbytes):
            return False
        self._doubt(key)
        return self._pages.arm(address, nbytes)

    def _doubt(self, key: _Key) -> None:
        """What the system has noted of writes there is used up: others that share a page are watched no more."""
        first, last = _pages(key)
        for other in self._looks.keys() - {key}:
            start, end = _pages(other)
            if start <= last and first <= end:
                self._looks[other] += 1
                if other in self._files:
                    self._files[other].is_watched = False

    def expire(self, now: float) -> bool:
        """Let go of what was not used for `KEEP_S` seconds; whether anything is left."""
        if not self._files:
            return False
        with self._mutex:
            for key in [k for k, f in self._files.items() if now - f.used >= KEEP_S]:
                del self._files[key]
                self._looks.pop(key, None)
            return bool(self._files)

    def close(self) -> None:
        with self._mutex:
            self._files.clear()
            self._pages.close()


def _pages(key: _Key) -> tuple[int, int]:
    """The first and the last page of a buffer."""
    address, nbytes = key
    return address // PAGE, (address + nbytes - 1) // PAGE


def _address(view: memoryview) -> int:
    import ctypes

    if view.readonly:  # ctypes takes writable memory only; the length and the hash tell these apart
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
