"""Datagrams of JSON, with file descriptors, between processes on one machine.

A `SOCK_SEQPACKET` pair keeps message boundaries, keeps order, and what a process sent before it was killed stays
readable until end of file. That is what makes it the journal of a worker as well as the order book of the zygote.
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any

LIMIT = 180_000
"""Bytes of the largest datagram: below the kernel's default send buffer of 208 KiB."""

_FD = array.array("i").itemsize


class PeerGone(Exception):
    """The other end is closed: its process ended, or gave us up."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; neither is inherited over exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message whole, with `fds` duplicated into the receiver.

    Raises:
        PeerGone: nobody will read it.
        BlockingIOError: the receiver is stuck and its buffer is full (only on a non-blocking end).
        ValueError: it is larger than `LIMIT`; nothing was sent.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise ValueError(f"a message of {len(data)} bytes does not fit; the limit is {LIMIT}: hand a descriptor")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        end.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError) as e:
        raise PeerGone from e


def receive(end: socket.socket, *, wait: bool = False) -> tuple[dict[str, Any], tuple[int, ...]] | None:
    """The next message and the descriptors that came with it, or None if there is none yet.

    Raises:
        PeerGone: end of file, after every message was read.
    """
    try:
        data, ancillary, _, _ = end.recvmsg(
            LIMIT, socket.CMSG_SPACE(8 * _FD), socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        )
    except BlockingIOError:
        return None
    except ConnectionResetError:  # said once, if it left something unread; what it sent before is still to be read
        return receive(end, wait=wait)
    if not data:
        raise PeerGone
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _FD])
    return json.loads(data), tuple(fds)


def adopt(fd: int) -> socket.socket:
    """The end behind a descriptor that was handed to this process."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)


def close_fds(fds: tuple[int, ...]) -> None:
    """Close descriptors; ones already closed are no error."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue
