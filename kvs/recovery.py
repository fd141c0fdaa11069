"""After a power loss: every lane is brought back to commits whose blobs are whole.

Theory of operation
- A lane's rows reach the disk in order, but a row may reach it before a blob that it names, unless somebody flushed.
  Each lane's `synced` file says up to which commit everything was flushed. It is flushed when it is made, and later
  needs no flush itself: an older number only means that more is looked at.
- A space remembers in `boot` during which run of the machine it was last opened. In another run, its free lanes are
  looked at once: the first commit beyond the mark that names a blob which is not whole, and every later one of its
  lane, become void. They keep their numbers, which others may have seen, and lose their keys and notes.
- Frames of the tail reach the disk in any order. From the first on that is not whole and lies beyond the mark, all are
  cut off first, as if they had never been published.
- So what is left is a prefix of what was published, never shorter than what was flushed. A process that dies alone
  leaves the system's cache as it is: none of this happens, and none of it costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from kvs import records, seal
from kvs.errors import BlobDamaged, StoreDamaged
from kvs.tiers.blobs import BlobRef, Blobs, Fetch, refs_from_bytes
from kvs.tiers.files import read
from kvs.tiers.node import LaneLog, sync_folder, translated

ALL = (1 << 63) - 1
"""The mark of a lane that flushes in every commit."""


class SyncMark:
    """The `synced` file of one lane, written by its holder."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, n: int, *, flush: bool = False) -> None:
        """Remember that commits up to `n`, with their blobs, are on the disk."""
        data = n.to_bytes(8, "big")
        translated(self._path, lambda: _overwrite(self._path, data + seal.key_mark(data), flush=flush))

    def read(self) -> int:
        """The mark; where it was never written or is damaged, nothing of the lane is doubted."""
        try:
            data = read(self._path)
        except FileNotFoundError:
            return ALL
        n, code = data[:8], data[8:]
        return int.from_bytes(n, "big") if code and seal.same(code, seal.key_mark(n)) else ALL


def boot_id() -> bytes:
    """Names this run of the machine; empty where the system does not say."""
    try:
        return read("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return b""


def was_opened_since_boot(space: str) -> bool:
    try:
        return read(f"{space}/boot") == boot_id()  # a system that does not name its runs has one
    except FileNotFoundError:
        return False


def remember_boot(space: str) -> None:
    translated(space, lambda: _overwrite(f"{space}/boot", boot_id(), flush=False))


def _overwrite(path: str, data: bytes, *, flush: bool) -> None:
    """In place, so that nothing needs room after the first time."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        if flush:
            os.fsync(fd)
            sync_folder(os.path.dirname(path))
    finally:
        os.close(fd)


def void_torn_tail(space: str, lane: int, key: bytes, fetch: Fetch | None = None) -> int:
    """Make void what a power loss tore in a lane that the caller has claimed; how many commits.

    A lane that is damaged otherwise is left as it is, to be named by whoever reads it. `fetch` is asked for a blob that
    is not whole here, since a copy may be elsewhere; what it raises because it cannot be asked, this raises too.
    """
    path, since = f"{space}/lanes/{lane}/log.sqlite", SyncMark(f"{space}/lanes/{lane}/synced").read()
    if not os.path.exists(path):
        return 0
    try:
        log = LaneLog(path, writable=True)
    except StoreDamaged:
        return 0
    try:
        log.drop_torn(None if since == ALL else since)
        if since == ALL:
            return 0
        commits = log.commits(since)
        if not all(records.is_authentic_commit(key, lane, row) for row in commits):
            return 0
        torn = _first_torn(log, since, Blobs(f"{space}/blobs", fetch))
        void = [records.sealed(key, lane, row._replace(note=b"", marks=b"")) for row in commits if row.n >= torn]
        if void:
            log.replace(void, [])
        return len(void)
    except StoreDamaged:
        return 0
    finally:
        log.close()


def _first_torn(log: LaneLog, since: int, blobs: Blobs) -> int:
    """The first commit after `since` that names a blob which is not whole; `ALL` if there is none."""
    whole: set[bytes] = set()
    for row in log.entries(since):
        for ref in refs_from_bytes(row.blobs) if isinstance(row.blobs, bytes) else ():
            if ref.digest not in whole:
                if not _is_whole(blobs, ref):
                    blobs.discard(ref)  # so that it is fetched, or written again by the next who has it
                    if not _is_whole(blobs, ref):
                        return row.n
                whole.add(ref.digest)
    return ALL


def _is_whole(blobs: Blobs, ref: BlobRef) -> bool:
    try:
        blobs.verify(ref)
    except BlobDamaged:
        return False
    return True


def drop_torn_blobs(space: str, lanes: Iterable[int]) -> None:
    """Delete blobs that no row names and that are not whole: a later `put` would take one for what it puts."""
    blobs, named = Blobs(f"{space}/blobs"), set()
    try:
        for path in filter(os.path.exists, (f"{space}/lanes/{lane}/log.sqlite" for lane in lanes)):
            log = LaneLog(path, writable=False)
            try:
                named |= {ref.digest for data in log.blob_lists() for ref in refs_from_bytes(data)}
            finally:
                log.close()
    except StoreDamaged:  # nobody knows what its rows name
        return
    for ref, _ in blobs.files():
        if ref.digest not in named and not _is_whole(blobs, ref):
            blobs.discard(ref)
