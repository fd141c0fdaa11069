"""The table of a shared map: what kind it is of, and a number a lane that tells when its file is another one.

Layout: a head of 64 bytes (magic, version, bytes of the key, the kind, CRC-32 of these and of the key), then a number
of 4 bytes for each lane, then the key. The head and the key are written once, by whoever makes the map: its file gets
its name when it is whole, and of several makers the first one's stays. So a map has one kind, whoever asks first.

Each holder of a lane raises its own number, after its file has taken its place; a reader compares them all with those
it has seen, which is a comparison of 4 KB. Whoever has the map open holds a shared lock on the table: a map that is
locked is not deleted.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import struct
import time
import zlib

from kvs.errors import StoreDamaged, StoreForeign, StoreUnusable
from kvs.tiers.files import write_whole

NAME = "table"
LANES = 1024
_ATTEMPTS, _PAUSE_S = 20, 0.05
_MAGIC, _VERSION = b"kvst", 1
_HEAD = struct.Struct("<4sHxxI16s")
_CRC = struct.Struct("<I")
_START, _END = 64, 64 + 4 * LANES


class Table:
    """See the module; one thread at a time."""

    def __init__(self, fd: int, path: str) -> None:
        """Owns `fd`.

        Raises:
            StoreDamaged, StoreForeign: it is none of ours, or of a later version.
        """
        self._fd, self._path = fd, path
        self._mapping: mmap.mmap | None = None
        try:
            head = os.pread(fd, _START, 0)
            magic, version, nbytes, name = _HEAD.unpack_from(head.ljust(_START, b"\0"))
            key = os.pread(fd, nbytes, _END) if magic == _MAGIC else b""
            if magic != _MAGIC or _CRC.unpack_from(head, _HEAD.size) != (_sum(head[: _HEAD.size], key),):
                raise StoreDamaged(path, "it does not begin as the table of a shared map")
            if version > _VERSION:
                raise StoreForeign.newer(path, version, _VERSION)
            self.kind_name = name.rstrip(b"\0").decode("ascii")
            if os.fstat(fd).st_size < _END:
                raise StoreDamaged(path, "it is too short for its lanes")
            self._mapping = mmap.mmap(fd, _END)
            self._view = memoryview(self._mapping)
        except BaseException:
            self.close()
            raise

    @classmethod
    def opened(cls, path: str, key: bytes, kind_name: str) -> Table:
        """The table at `path`, of that kind if there is none yet.

        Raises:
            OSError: there is no room. StoreUnusable: it is deleted as fast as it is made.
            StoreDamaged, StoreForeign.
        """
        for _ in range(_ATTEMPTS):
            if not os.path.exists(path):
                _make(path, key, kind_name)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:  # deleted meanwhile
                continue
            if _is_locked(fd, fcntl.LOCK_SH) and os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(fd)):
                return cls(fd, path)
            os.close(fd)
            time.sleep(_PAUSE_S)  # whoever deletes it is about to take its name away
        raise StoreUnusable(path, "another process is deleting it", "Try again when that has ended.")

    @classmethod
    def at(cls, path: str) -> Table:
        """The table at `path`.

        Raises:
            FileNotFoundError. StoreDamaged, StoreForeign.
        """
        return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), path)

    def look(self) -> bytes:
        """The numbers of all lanes, 4 bytes each."""
        return self._mapping[_START:_END] if self._mapping is not None else b""

    def raise_own(self, lane: int) -> None:
        """Say that the file of `lane` is another one.

        Raises:
            StoreUnusable: there is no place for the lane.
        """
        if lane >= LANES:
            raise StoreUnusable(self._path, f"lane {lane} is beyond {LANES}", "Close replicas that are not needed.")
        with self._view[_START:_END].cast("I") as numbers:
            numbers[lane] = (numbers[lane] + 1) % (1 << 32) or 1

    def let_go(self) -> None:
        """In a fork of who has it open: reading goes on, and the lock is the parent's alone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        if self._mapping is not None:
            self._view.release()
            self._mapping.close()
            self._mapping = None
        self.let_go()

    def __del__(self) -> None:
        if hasattr(self, "_mapping"):
            self.close()


def lanes_at(directory: str) -> list[int]:
    """Those that have a file in the directory of a map."""
    numbers = (int(name) for name in os.listdir(directory) if name.isdecimal())
    return sorted(lane for lane in numbers if lane < LANES)


def delete(directory: str) -> bool:
    """Remove a map with all that was not published of it; False if there is none.

    Raises:
        StoreUnusable: somebody has it open; nothing was removed.
    """
    path = f"{directory}/{NAME}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not _is_locked(fd, fcntl.LOCK_EX):
            raise StoreUnusable(path, "a live process has the map open", "Close it there first.")
        gone = f"{directory}.gone-{os.getpid()}-{os.urandom(4).hex()}"
        os.rename(directory, gone)  # whoever opens it from now on makes a new one
        shutil.rmtree(gone)
        return True
    finally:
        os.close(fd)


def _is_locked(fd: int, how: int) -> bool:
    """Whether it is now, by us."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sum(head: bytes, key: bytes) -> int:
    return zlib.crc32(key, zlib.crc32(head))


def _make(path: str, key: bytes, kind_name: str) -> None:
    head = _HEAD.pack(_MAGIC, _VERSION, len(key), kind_name.encode())
    made = f"{path}-{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        said = bytearray((head + _CRC.pack(_sum(head, key))).ljust(_END, b"\0") + key)
        for lane in lanes_at(os.path.dirname(path)):  # of a map whose table was lost
            struct.pack_into("<I", said, _START + 4 * lane, 1)
        write_whole(fd, bytes(said))
        os.link(made, path)
    except FileExistsError:  # another was faster
        pass
    finally:
        os.close(fd)
        os.unlink(made)
