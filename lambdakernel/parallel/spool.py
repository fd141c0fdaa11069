"""Files through which the parts of a shuffle go from process to process, past everybody's heap.

A spool is a temporary file that has no name: it belongs to the process that made it and is gone with that, however it
ends. Other processes of the same user open it by the descriptor's path. What is put into it is pickled, with large
buffers beside the pickle, and mapped where it is read: arrays are the file's pages, writable and nobody else's.

Memory is the system's page cache, which writes to disk what does not fit.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from cloudpickle import Pickler

_APART = 16 * 1024
"""Bytes of a buffer from which on it is kept out of the pickle."""
_ALIGN = 64
_MAP_FROM = 256 * 1024
"""Bytes of an entry from which on it is mapped and not read."""


class Span(NamedTuple):
    """Where an entry is: its pickle, then its buffers, each at a multiple of 64 bytes."""

    start: int
    lengths: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return sum(self.lengths)


class Place(NamedTuple):
    """Which file: one that is gone must not be taken for the next with its descriptor's number."""

    path: str
    mark: bytes
    """What the file begins with, and no other does; inode numbers are given again."""

    def open(self, flags: int) -> int:
        """A descriptor of it.

        Raises:
            FileNotFoundError: it was closed where it was made.
        """
        fd = os.open(self.path, flags | os.O_CLOEXEC)
        if os.pread(fd, len(self.mark), 0) != self.mark:
            os.close(fd)
            raise FileNotFoundError(f"{self.path} is another file now: the shuffle that it was for is over")
        return fd


class Spool:
    """One file, made here. Close it when nobody needs what is in it."""

    def __init__(self, directory: str | None = None) -> None:
        """Raises:
        OSError: there is no room for a file in `directory`, by default the system's for temporary files.
        """
        self._file = tempfile.TemporaryFile(prefix="lk-shuffle-", dir=directory)  # noqa: SIM115 (`close` closes it)
        self.place = Place(f"/proc/{os.getpid()}/fd/{self._file.fileno()}", b"lkspool " + os.urandom(16))
        os.pwrite(self._file.fileno(), self.place.mark, 0)

    def close(self) -> None:
        self._file.close()


class Writer:
    """Puts entries into a spool, after what is there. One process at a time."""

    def __init__(self, place: Place) -> None:
        self._fd = place.open(os.O_RDWR)
        self._at = os.fstat(self._fd).st_size

    def put(self, value: Any) -> Span:
        """Raises:
        OSError: the disk is full.
        Exception: what the value's own `__reduce__` raises.
        """
        buffers: list[memoryview] = []
        head = dumped(value, buffers)
        start = self._at = _aligned(self._at)
        for part in (memoryview(head), *buffers):
            self._at = _aligned(self._at)
            self._write(part)
        return Span(start, (len(head), *(buffer.nbytes for buffer in buffers)))

    def _write(self, part: memoryview) -> None:
        while part.nbytes:
            written = os.pwrite(self._fd, part, self._at)
            part, self._at = part[written:], self._at + written

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get(place: Place, span: Span) -> Any:
    """The value that was put there; its large arrays are private pages of the file, which stays open for them."""
    end = span.start
    for length in span.lengths:
        end = _aligned(end) + length
    fd = place.open(os.O_RDONLY)
    try:
        memory = _mapped(fd, span.start, end) if end - span.start >= _MAP_FROM else _read(fd, span.start, end)
    finally:
        os.close(fd)
    parts, at = [], 0
    for length in span.lengths:
        at = _aligned(at)
        parts.append(memory[at : at + length])
        at += length
    return pickle.loads(parts[0], buffers=parts[1:])


def _mapped(fd: int, start: int, end: int) -> memoryview:
    first = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    return memoryview(mmap.mmap(fd, end - first, access=mmap.ACCESS_COPY, offset=first))[start - first :]


def _read(fd: int, start: int, end: int) -> memoryview:
    memory = bytearray(end - start)
    os.preadv(fd, [memory], start)
    return memoryview(memory)


class _Pickler(Pickler):
    notice: Callable[[Any], None] | None = None

    def reducer_override(self, obj: Any) -> Any:
        if self.notice is not None:
            self.notice(obj)
        return super().reducer_override(obj)


def dumped(value: Any, buffers: list[memoryview] | None = None, notice: Callable[[Any], None] | None = None) -> bytes:
    """`value` pickled, functions and classes of the notebook by what they are; its large buffers go to `buffers`.
    `notice` hears of each object in it that is no plain value."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _APART or buffers is None:
            return True
        buffers.append(view)
        return False

    with io.BytesIO() as file:
        pickler = _Pickler(file, protocol=5, buffer_callback=keep)
        pickler.notice = notice
        pickler.dump(value)
        return file.getvalue()


def _aligned(at: int) -> int:
    return -(-at // _ALIGN) * _ALIGN
