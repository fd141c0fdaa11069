"""Digests and keyed authentication codes: the one module that knows BLAKE3.

A store has one master key, in a file beside it. Each space has a key derived from it, so that a record of one space
is not authentic in another. Every record that is ever handed out was authenticated with its space's key first.
"""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache

from blake3 import blake3

DIGEST_SIZE = 32
MARK_SIZE = 8
_CONTEXT = "lambdakernel kvs 2026 space key"
_ARCHIVE_CONTEXT = "lambdakernel kvs 2026 archive key"
_PARALLEL_FROM = 1 << 20
_STEP = 1 << 20


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The name of a blob: 32 bytes. Large data is hashed on several processors."""
    view = memoryview(data).cast("B")
    threads = blake3.AUTO if len(view) >= _PARALLEL_FROM and _pool.is_usable() else 1
    return blake3(view, max_threads=threads).digest()


class _Pool:
    """Which process started BLAKE3's threads. A fork of it lacks the threads, and would wait for ever."""

    def __init__(self) -> None:
        self._owner = 0

    def is_usable(self) -> bool:
        self._owner = self._owner or os.getpid()
        return self._owner == os.getpid()


_pool = _Pool()


class Digesting:
    """The digest of a large value, found by a thread of its own while the caller does something with the same bytes.

    `with` ends the thread however the block ends. It uses no threads of BLAKE3's own, so a fork may do it too.
    """

    def __init__(self, data: memoryview) -> None:
        self._data, self._hasher = data, blake3(max_threads=1)
        self._is_stopped, self._is_done = False, False
        self._thread = threading.Thread(target=self._run, name="kvs digest", daemon=True)

    def _run(self) -> None:
        for at in range(0, len(self._data), _STEP):
            if self._is_stopped:
                return
            self._hasher.update(self._data[at : at + _STEP])
        self._is_done = True

    def digest(self) -> bytes:
        """What `digest` says of all the data; waits for the rest."""
        self._thread.join()
        if not self._is_done:
            raise RuntimeError("the thread that hashes a value has died; its own error was printed")
        return self._hasher.digest()

    def __enter__(self) -> Digesting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = True
        self._thread.join()


def name_bytes(name: str) -> bytes:
    """A text of any kind as bytes: names come from file names too, which need not be valid Unicode."""
    return name.encode("utf-8", "surrogatepass")


def name_hash(name: str) -> str:
    """A file name for a text of any kind."""
    return blake3(name_bytes(name)).hexdigest()[:40]


def space_key(master: bytes, name: str) -> bytes:
    return blake3(master + name_bytes(name), derive_key_context=_CONTEXT).digest()


def archive_key(master: bytes) -> bytes:
    """Says that an archive was written by who holds the master key, and of no use for anything else."""
    return blake3(master, derive_key_context=_ARCHIVE_CONTEXT).digest()


def key_mark(key: bytes) -> bytes:
    """8 bytes that stand for a key in the list of what a commit wrote."""
    return blake3(key).digest(length=MARK_SIZE)


known_mark = lru_cache(1 << 13)(key_mark)
"""The same for keys that come again and again, as those of a notebook do."""


def first_of_digest(data: bytes, nbytes: int) -> bytes:
    """The first bytes of `digest(data)`, for data that is not large."""
    return blake3(data).digest(length=nbytes)


def mac(key: bytes, parts: Iterable[bytes]) -> bytes:
    """An authentication code over `parts`, each with its length, so that no two lists of parts look alike."""
    return blake3(b"".join([joined(part) for part in parts]), key=key).digest()


@lru_cache(32)
def begun(key: bytes) -> blake3:
    """Where `mac` begins: a copy of it that takes in the `joined` parts gives the same code in less time."""
    return blake3(key=key)


def joined(part: bytes) -> bytes:
    """A part as `mac` takes it: after its length."""
    return len(part).to_bytes(8, "little") + part


same: Callable[[bytes, bytes], bool] = hmac.compare_digest
"""Equality in constant time."""
