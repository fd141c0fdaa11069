"""Large values as immutable files, named by their digest and mapped to be read.

A blob is written under a temporary name and renamed to its own, which is new: a reader sees all of it or nothing. A
mapping is private: whoever holds it may write to it and nobody else sees that; unlinking the file does not hurt it.
A large value is hashed while it is written, so that its name costs no second pass; unless it begins as one that was put
before, for which it is hashed first, since it may be the same.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kvs.errors import BlobDamaged, StoreFull, StoreUnusable
from kvs.seal import DIGEST_SIZE, Digesting, digest
from kvs.tiers.files import sync_file

_CHUNK = 1 << 20
"""Of what is written at once: what is hashed beside it is still in the cache of the processor."""
_AT_ONCE_FROM = 1 << 22
_HEAD = 1 << 14
_HEADS = 4096


class BlobRef(NamedTuple):
    """The name of a blob: what it holds, and how much."""

    digest: bytes
    nbytes: int

    def to_bytes(self) -> bytes:
        return self.digest + self.nbytes.to_bytes(8, "big")


Fetch = Callable[[BlobRef], Iterator[bytes]]
"""The pieces of a blob from elsewhere; `BlobDamaged` before the end if they are not what it names."""


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

    def __init__(self, directory: str, fetch: Fetch | None = None) -> None:
        """`fetch` is asked for a blob that is not here."""
        self._directory = directory
        self._fetch = fetch
        self._unsynced: list[str] = []
        self._heads: dict[tuple[int, bytes], None] = {}
        self._syncing = threading.Lock()

    def path(self, ref: BlobRef) -> str:
        name = ref.digest.hex()
        return f"{self._directory}/{name[:2]}/{name[2:]}"

    def put(self, data: bytes | bytearray | memoryview) -> BlobRef:
        """Store `data`; one that is already there is not written again.

        Raises:
            StoreFull, StoreUnusable: nothing was stored.
        """
        view = memoryview(data).cast("B")
        try:
            ref = self._put_at_once(view) if self._looks_new(view) else self._put_by_name(view)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(self._directory) from e
            raise StoreUnusable(self._directory, str(e), "Give its owner write permission, or check the disk.") from e
        self._unsynced.append(self.path(ref))  # one that was there too: another process may not have flushed it
        return ref

    def _looks_new(self, view: memoryview) -> bool:
        """Whether no large value that was put here before begins like this one."""
        if view.nbytes < _AT_ONCE_FROM:
            return False
        head = (view.nbytes, digest(view[:_HEAD]))
        is_new = self._heads.pop(head, self) is self
        self._heads[head] = None
        if len(self._heads) > _HEADS:
            del self._heads[next(iter(self._heads))]
        return is_new

    def _put_by_name(self, view: memoryview) -> BlobRef:
        ref = BlobRef(digest(view), view.nbytes)
        if not self._is_there(self.path(ref), ref):
            with self._aside() as (fd, temporary):
                _write_all(fd, view)
                self._name(temporary, ref)
        return ref

    def _put_at_once(self, view: memoryview) -> BlobRef:
        with self._aside() as (fd, temporary), Digesting(view) as digesting:
            _write_all(fd, view)
            ref = BlobRef(digesting.digest(), view.nbytes)
            if not self._is_there(self.path(ref), ref):
                self._name(temporary, ref)
        return ref

    @contextmanager
    def _aside(self) -> Iterator[tuple[int, str]]:
        """A new file and its path, which is gone at the end if it was not given a name."""
        temporary = f"{self._directory}/tmp-{os.getpid()}-{os.urandom(6).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield fd, temporary
        finally:
            os.close(fd)
            if os.path.exists(temporary):
                os.unlink(temporary)

    def _name(self, temporary: str, ref: BlobRef) -> None:
        path = self.path(ref)
        try:
            os.rename(temporary, path)
        except FileNotFoundError:  # the first of its folder
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.rename(temporary, path)

    def _is_there(self, path: str, ref: BlobRef) -> bool:
        """Whether it need not be written. It is wanted again then: not old enough to be collected."""
        for _ in range(2):
            try:
                if os.path.getsize(path) == ref.nbytes:
                    os.utime(path)
                    return True
                return False
            except FileNotFoundError:
                if not self._brought_back(ref):
                    return False
        return False

    def _take(self, ref: BlobRef, pieces: Iterator[bytes]) -> None:
        """Store a blob that comes in pieces, which say at their end whether they were whole; flushed."""
        try:
            with self._aside() as (fd, temporary):
                for piece in pieces:
                    _write_all(fd, memoryview(piece))
                os.fsync(fd)
                self._name(temporary, ref)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(self._directory) from e
            raise StoreUnusable(self._directory, str(e), "Give its owner write permission, or check the disk.") from e

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
            if not self._brought_back(ref):
                if self._fetch is None:
                    raise BlobDamaged(path, "is missing") from None
                self._take(ref, self._fetch(ref))
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
        with self.open(ref) as data:
            if digest(data) != ref.digest:
                raise BlobDamaged(self.path(ref), "does not hold what its name says")

    def read(self, ref: BlobRef) -> bytes:
        """A copy, verified: the bytes that were checked are the bytes that are handed out.

        Raises:
            BlobDamaged: it is not what its name says.
        """
        with self.open(ref) as mapped:
            data = bytes(mapped)
        if digest(data) != ref.digest:
            raise BlobDamaged(self.path(ref), "does not hold what its name says")
        return data

    def files(self) -> list[tuple[BlobRef, float]]:
        """Every blob there is, with the time it was last wanted; files of any other name are not ours to touch."""
        found = []
        for folder in os.scandir(self._directory):
            for entry in os.scandir(folder.path) if folder.is_dir() else ():
                name = folder.name + entry.name
                if len(name) == 2 * DIGEST_SIZE and not set(name) - set("0123456789abcdef"):
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:  # another lane collects too
                        continue
                    found.append((BlobRef(bytes.fromhex(name), stat.st_size), stat.st_mtime))
        return found

    def delete_unwanted(self, ref: BlobRef, *, before_s: float) -> int:
        """Bytes freed: none if it was wanted again at `before_s` or later. A mapping of it stays good.

        It is first given the name of one that is doomed, and then looked at again. So whoever wants it meanwhile finds
        it gone, or brings it back, and never sees it deleted afterwards; a crash in between leaves it to be found.
        """
        doomed = self._doomed(ref)
        try:
            os.rename(self.path(ref), doomed)
            if os.stat(doomed).st_mtime > before_s:
                os.rename(doomed, self.path(ref))
                return 0
            os.unlink(doomed)
        except FileNotFoundError:
            return 0
        return ref.nbytes

    def _doomed(self, ref: BlobRef) -> str:
        return f"{self._directory}/tmp-doomed-{ref.digest.hex()}"

    def _brought_back(self, ref: BlobRef) -> bool:
        """Whether a collector was about to delete it, or died over that; it is back in its place then."""
        try:
            os.rename(self._doomed(ref), self.path(ref))
        except FileNotFoundError:
            return False
        return True

    def discard(self, ref: BlobRef) -> None:
        """Delete it whatever it holds."""
        try:
            os.unlink(self.path(ref))
        except FileNotFoundError:  # another process was faster
            pass

    def delete_abandoned(self, *, before_s: float) -> None:
        """Delete temporary files whose writers died, or have not written since `before_s`, and what is doomed."""
        for entry in os.scandir(self._directory):
            if entry.name.startswith("tmp-"):
                try:
                    if entry.stat().st_mtime <= before_s:
                        os.unlink(entry.path)
                except FileNotFoundError:  # its writer finished, or another lane collects too
                    continue

    def sync(self) -> None:
        """Flush what was put before this call. What could not be flushed is tried again by the next call.

        Calls wait for each other: when one returns, no other is still flushing something older.
        """
        with self._syncing:
            paths = list(self._unsynced)  # a put of another thread may append meanwhile
            folders = {os.path.dirname(path) for path in paths} | ({self._directory} if paths else set())
            for path in [*dict.fromkeys(paths), *folders]:
                sync_file(path)  # one that is not there was collected meanwhile
            del self._unsynced[: len(paths)]


def _write_all(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view[:_CHUNK]) :]
