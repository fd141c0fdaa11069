"""Messages between an executor, its nursery and its workers: datagrams of bytes with file descriptors.

A `SOCK_SEQPACKET` pair. Of a worker's line the executor keeps both ends: what the worker has not yet taken can so be
taken back. The system decides, for each message, who has it. That is how calls move to a free worker without a lock,
and how it is known which calls a dead worker never began.

One thread reads an end at a time, and none of them blocks but the worker, in `take(wait=True)` and `put(wait=True)`.
Workers and the nursery load this module before their first call: it imports what is compiled in, and no more.
"""

from __future__ import annotations

import _socket
import os
import sys

LIMIT = 160_000
"""Bytes of the largest message: below the kernel's default send buffer of 208 KiB. More goes into memory files."""
FDS = 8
"""Most descriptors of one message."""

End = _socket.socket
_FD = 4  # bytes of a C int, which a descriptor is
_SPACE = _socket.CMSG_SPACE(FDS * _FD)


def pair() -> tuple[End, End]:
    """Two connected ends; neither is inherited over exec.

    Raises:
        OSError: no descriptor is left.
    """
    one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return one, other


def adopt(fd: int) -> End:
    """The end behind a descriptor that was handed to this process."""
    return End(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def put(end: End, message: bytes, fds: tuple[int, ...] = (), *, wait: bool = False) -> bool:
    """Send one message whole; False if the other end has no room for it now.

    Raises:
        OSError: the other end is closed.
    """
    flags = _socket.MSG_NOSIGNAL | (0 if wait else _socket.MSG_DONTWAIT)
    try:
        if fds:
            packed = b"".join(fd.to_bytes(_FD, sys.byteorder) for fd in fds)
            end.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], flags)
        else:
            end.send(message, flags)
    except BlockingIOError:
        return False
    return True


def take(end: End, *, wait: bool = False) -> tuple[bytes, tuple[int, ...]] | None:
    """The next message and its descriptors; an empty one is end of file. None: there is none now."""
    flags = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
    try:
        data, ancillary, _, _ = end.recvmsg(LIMIT + 4096, _SPACE, flags)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b"", ()
    if not ancillary:
        return data, ()
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % _FD
            fds += (int.from_bytes(payload[at : at + _FD], sys.byteorder) for at in range(0, whole, _FD))
    return data, tuple(fds)


def hang_up(end: End) -> None:
    """Let the other end see end of file, also where a fork of this process still holds this end."""
    try:
        end.shutdown(_socket.SHUT_WR)
    except OSError:  # it is closed already
        return


class Descriptor:
    """A file descriptor that is closed with the last reference to this object."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


def close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
