"""Large buffers in memory files, one file for a buffer that goes to many calls.

A buffer that is sent again is known by its address and length, and by the hash of its content, which is taken each time
(a fifth of the time that copying takes): a change in place is always seen.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass

from lambdakernel.futures.line import Descriptor

KEEP_S = 2.0
"""Seconds for which a file that no call uses any more is kept for the next."""
MOST = 128
"""Most files at a time, of the 1,024 that a process may usually have open."""
_Key = tuple[int, int]


@dataclass(slots=True)
class _File:
    descriptor: Descriptor
    digest: bytes
    used: float


class SharedBuffers:
    """Files of buffers that were sent lately. Any thread may call; none holds another up while it copies."""

    def __init__(self) -> None:
        self._files: dict[_Key, _File] = {}
        self._open: weakref.WeakSet[Descriptor] = weakref.WeakSet()
        self._mutex = threading.Lock()

    def share(self, view: memoryview) -> Descriptor | None:
        """A sealed file with the content of `view` now; None if as many as may be are open already.

        Raises:
            OSError: the system has no memory for the file.
        """
        import xxhash

        from lambdakernel.parallel.parcels import pack

        key = (_address(view), view.nbytes)
        digest = xxhash.xxh3_128_digest(view)
        with self._mutex:
            known = self._files.get(key)
            if known is not None and known.digest == digest:
                known.used = time.monotonic()
                return known.descriptor
            if len(self._open) >= MOST:
                return None
        descriptor = Descriptor(pack(view))
        with self._mutex:
            self._files[key] = _File(descriptor, digest, time.monotonic())
            self._open.add(descriptor)
        return descriptor

    def expire(self, now: float) -> bool:
        """Let go of what was not used for `KEEP_S` seconds; whether anything is left."""
        if not self._files:
            return False
        with self._mutex:
            for key in [k for k, f in self._files.items() if now - f.used >= KEEP_S]:
                del self._files[key]
            return bool(self._files)

    def close(self) -> None:
        with self._mutex:
            self._files.clear()


def _address(view: memoryview) -> int:
    import ctypes

    if view.readonly:  # ctypes takes writable memory only; the length and the hash tell these apart
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
