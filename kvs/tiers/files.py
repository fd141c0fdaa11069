"""Files and directories that are on the disk when a call returns."""

from __future__ import annotations

import errno
import os

from kvs.errors import StoreUnusable

_READ_NBYTES = 1 << 14


def read(path: str) -> bytes:
    """All of a small file.

    Raises:
        FileNotFoundError, OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _READ_NBYTES)
        while more := os.read(fd, _READ_NBYTES):
            data += more
        return data
    finally:
        os.close(fd)


def write_private(path: str, data: bytes) -> None:
    """A new file that only its owner may read, whole on disk before this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(fd: int, data: bytes) -> None:
    """Write at the beginning of a file.

    Raises:
        OSError: not all of it found room.
    """
    if os.pwrite(fd, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync_file(path: str) -> bool:
    """Flush a file or the names in a directory; whether there is one.

    Raises:
        StoreUnusable: it could not be flushed.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.fsync(fd)
    except OSError as e:
        raise StoreUnusable(path, f"it cannot be flushed ({e})", "Check the disk, then try again.") from e
    finally:
        os.close(fd)
    return True


def sync_folder(path: str) -> None:
    """Flush the names in a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
