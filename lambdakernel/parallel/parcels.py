"""Values on their way between processes of one machine: a head and its buffers in one sealed memory file.

The sender copies each buffer once, into the file; the receiver maps the file privately, so that what it gets is
writable and nobody else's, and no page is copied until it is written. A parcel is sealed before it is sent: it
cannot shrink under the receiver's map, which would kill the receiver.

The map is made by `mmap(2)` itself, not by the `mmap` module, which keeps a descriptor open for each map: a thousand
large results would use up a process's descriptors.

Layout: magic, number of parts, length of each part; then the parts, each at a multiple of 64 bytes. The first part is
the head.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import weakref
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lambdakernel.errors import LambdaKernelError

_MAGIC = b"lkparcel"
_ALIGN = 64
READ_BELOW = 256 * 1024
"""Bytes below which a parcel is read and not mapped: a map costs a page fault for every page that is touched."""

SMALL_NBYTES = 4096
"""Bytes of a head that travels in the message itself: a file of its own takes eight system calls to make and read."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PROT_READ_WRITE = 1 | 2
_MAP_PRIVATE = 2
_MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class ParcelDamaged(LambdaKernelError):
    """A memory file that is no parcel, or not a whole one."""


class Parcel(msgspec.Struct, frozen=True):
    """What arrived: writable memory that lives as long as something refers to it."""

    head: memoryview
    buffers: tuple[memoryview, ...]


class Sealed(msgspec.Struct, frozen=True):
    """A parcel on its way: its descriptor, which whoever has it closes; or its head, if that is small and all of it."""

    fd: int | None
    head: bytes = b""

    @classmethod
    def of(cls, head: bytes, buffers: Sequence[Any] = ()) -> Sealed:
        """Raises:
        OSError: the system has no memory or no descriptor for it.
        """
        return cls(None, bytes(head)) if not buffers and len(head) <= SMALL_NBYTES else cls(pack(head, buffers))

    @classmethod
    def from_message(cls, message: Mapping[str, Any], fds: Sequence[int]) -> Sealed:
        """What a message came with, as `in_message` put it there; its descriptor is the first of `fds`.

        Raises:
            ParcelDamaged: nothing of it arrived.
        """
        if "small" in message:
            return cls(None, b64decode(message["small"]))
        if not fds:
            raise ParcelDamaged("a parcel did not arrive: this process has too many open files. Close some.")
        return cls(fds[0])

    def in_message(self) -> tuple[dict[str, str], tuple[int, ...]]:
        """What to put into a message, and the descriptors to send with it."""
        return ({"small": b64encode(self.head).decode()}, ()) if self.fd is None else ({}, (self.fd,))

    @property
    def nbytes(self) -> int:
        return len(self.head) if self.fd is None else os.fstat(self.fd).st_size

    def opened(self) -> Parcel:
        """Raises:
        ParcelDamaged: it is none.
        OSError: the system has no room to map it.
        """
        return Parcel(memoryview(bytearray(self.head)), ()) if self.fd is None else unpack(self.fd)

    def descriptor(self) -> int:
        """The same for who takes nothing but a descriptor, which the caller closes."""
        return pack(self.head) if self.fd is None else os.dup(self.fd)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)


def pack(head: Any, buffers: Sequence[Any] = ()) -> int:
    """A descriptor of a sealed memory file with `head` and `buffers` (bytes-like, contiguous); the caller closes it.

    Raises:
        OSError: the system has no memory or no descriptor for it; nothing stays behind.
    """
    parts = [memoryview(part).cast("B") for part in (head, *buffers)]
    index = _MAGIC + struct.pack(f"<{1 + len(parts)}Q", len(parts), *(part.nbytes for part in parts))
    fd = os.memfd_create("lk-parcel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        at = _write(fd, memoryview(index), 0)
        for part in parts:
            at = _write(fd, part, _aligned(at) if part.nbytes else at)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def content(fd: int) -> bytes:
    """The bytes of the parcel behind `fd`, for one that must wait and hold no descriptor."""
    size, parts, at = os.fstat(fd).st_size, [], 0
    while at < size:
        parts.append(os.pread(fd, size - at, at))
        at += len(parts[-1])
    return b"".join(parts)


def with_content(data: bytes) -> int:
    """The descriptor of a parcel that has the content of an earlier one; the caller closes it."""
    fd = os.memfd_create("lk-parcel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(fd, memoryview(data), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unpack(fd: int) -> Parcel:
    """The parcel behind `fd`, which stays the caller's to close; may be called by any number of processes.

    Raises:
        ParcelDamaged: it is none.
        OSError: the system has no room to map it.
    """
    nbytes = os.fstat(fd).st_size
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise ParcelDamaged("a parcel arrived that is not sealed; it was not opened. Run the cell again.")
    memory = _read(fd, nbytes) if nbytes < READ_BELOW else _map(fd, nbytes)
    return _split(memory)


def _aligned(at: int) -> int:
    return -(-at // _ALIGN) * _ALIGN


def _write(fd: int, part: memoryview, at: int) -> int:
    """Write all of `part` at `at`; where it ends. One call writes 2 GiB at most."""
    while part.nbytes:
        written = os.pwrite(fd, part, at)
        part, at = part[written:], at + written
    return at


def _read(fd: int, nbytes: int) -> memoryview:
    memory = bytearray(nbytes)
    os.preadv(fd, [memory], 0)
    return memoryview(memory)


def _map(fd: int, nbytes: int) -> memoryview:
    address = _libc.mmap(None, nbytes, _PROT_READ_WRITE, _MAP_PRIVATE, fd, 0)
    if address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot map {nbytes} bytes of a task's values: {os.strerror(code)}")
    owner = (ctypes.c_char * nbytes).from_address(address)
    weakref.finalize(owner, _libc.munmap, address, nbytes).atexit = False
    return memoryview(owner).cast("B")


def _split(memory: memoryview) -> Parcel:
    try:
        if memory[:8] != _MAGIC:
            raise ValueError("magic")
        (count,) = struct.unpack_from("<Q", memory, 8)
        if not 1 <= count <= memory.nbytes // 8:
            raise ValueError("count")
        lengths = struct.unpack_from(f"<{count}Q", memory, 16)
        at, parts = 16 + 8 * count, []
        for length in lengths:
            start = _aligned(at) if length else at
            at = start + length
            if at > memory.nbytes:
                raise ValueError("length")
            parts.append(memory[start:at])
    except (ValueError, struct.error) as e:
        raise ParcelDamaged(f"a parcel arrived whose {e} is wrong; it was not opened. Run the cell again.") from None
    return Parcel(parts[0], tuple(parts[1:]))
