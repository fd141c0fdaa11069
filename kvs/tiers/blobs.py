"""Large values as immutable files, named by their digest and mapped to be read.

A blob is written under a temporary name and renamed to its own, which is new: a reader sees all of it or nothing. A
mapping is private: whoever holds it may write to it and nobody else sees that; unlinking the file does not hurt it.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import NamedTuple

from kvs.errors import BlobDamaged, StoreFull, StoreUnusable
from kvs.seal import DIGEST_SIZE, digest

_CHUNK = 1 << 24


class BlobRef(NamedTuple):
    """The name of a blob: what it holds, and how much."""

    digest: bytes
    nbytes: int

    def to_bytes(self) -> bytes:
        return self.digest + self.nbytes.to_bytes(8, "big")


def refs_to_bytes(refs: tuple[BlobRef, ...]) -> bytes:
    return b"".join(ref.to_bytes() for ref in refs)


def refs_from_bytes(data: bytes) -> tuple[BlobRef, ...]:
    size = DIGEST_SIZE + 8
    return tuple(
        BlobRef(data[i : i + DIGEST_SIZE], int.from_bytes(data[i + DIGEST_SIZE : i + size], "big"))
        for i in range(0, len(data), size)
    )


class Blobs:
    """The blob files under one directory (0700)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._unsynced: list[str] = []

    def path(self, ref: BlobRef) -> str:
        name = ref.digest.hex()
        return f"{self._directory}/{name[:2]}/{name[2:]}"

    def put(self, data: bytes | bytearray | memoryview) -> BlobRef:
        """Store `data`; one that is already there is not written again.

        Raises:
            StoreFull, StoreUnusable: nothing was stored.
        """
        view = memoryview(data).cast("B")
        ref = BlobRef(digest(view), view.nbytes)
        path = self.path(ref)
        try:
            if os.path.getsize(path) == ref.nbytes:
                os.utime(path)  # it is wanted again: not old enough to be collected
                return ref
        except FileNotFoundError:
            pass
        try:
            self._write(path, view)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(self._directory) from e
            raise StoreUnusable(self._directory, str(e), "Give its owner write permission, or check the disk.") from e
        self._unsynced.append(path)
        return ref

    def _write(self, path: str, view: memoryview) -> None:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        temporary = f"{self._directory}/tmp-{os.getpid()}-{os.urandom(6).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                at = 0
                while at < view.nbytes:
                    at += os.write(fd, view[at : at + _CHUNK])
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def open(self, ref: BlobRef) -> memoryview:
        """The bytes, mapped: nothing is read yet, and writing to them changes this process's copy only.

        Raises:
            BlobDamaged: the file is gone or has another length; it was not mapped.
        """
        path = self.path(ref)
        if ref.nbytes == 0:
            return memoryview(bytearray())
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobDamaged(path, "is missing") from None
        try:
            found = os.fstat(fd).st_size
            if found != ref.nbytes:
                raise BlobDamaged(path, f"has {found} bytes instead of {ref.nbytes}")
            return memoryview(mmap.mmap(fd, ref.nbytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        finally:
            os.close(fd)

    def verify(self, ref: BlobRef) -> None:
        """Read all of it.

        Raises:
            BlobDamaged: it is not what its name says.
        """
        if digest(self.open(ref)) != ref.digest:
            raise BlobDamaged(self.path(ref), "does not hold what its name says")

    def files(self) -> list[tuple[BlobRef, float]]:
        """Every blob there is, with the time it was last wanted."""
        found = []
        for folder in os.scandir(self._directory):
            if folder.is_dir():
                for entry in os.scandir(folder.path):
                    stat = entry.stat()
                    found.append((BlobRef(bytes.fromhex(folder.name + entry.name), stat.st_size), stat.st_mtime))
        return found

    def delete(self, ref: BlobRef) -> int:
        """Bytes freed; a mapping of it stays good."""
        try:
            os.unlink(self.path(ref))
        except FileNotFoundError:
            return 0
        return ref.nbytes

    def sync(self) -> None:
        """Flush what was put since the last call."""
        paths, self._unsynced = self._unsynced, []
        for path in [*paths, *{os.path.dirname(p) for p in paths}]:
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # collected meanwhile
                continue
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
