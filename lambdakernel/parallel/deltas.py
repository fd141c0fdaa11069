"""Deltas of live lattices as one message of a task's line: bytes of their own form, no pickle."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from kvs.errors import KvsError
from kvs.lattices import Lattice, decode
from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.parcels import ParcelDamaged, pack, unpack

INLINE_NBYTES = 32 * 1024
"""Bytes above which deltas go as a parcel."""


class BadJoins(LambdaKernelError):
    """What a task joined into live lattices cannot be read."""


def packed(news: Mapping[str, Lattice]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What to send, and the descriptor to send with it, which the caller closes."""
    bodies = [delta.encode() for delta in news.values()]
    if sum(map(len, bodies)) <= INLINE_NBYTES and len(bodies) < 256:
        return {"of": list(news), "deltas": [base64.b64encode(body).decode() for body in bodies]}, ()
    return {"parcel": True}, (pack(json.dumps(list(news)).encode(), bodies),)


def unpacked(message: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Lattice]:
    """By the identity of their `Live`, the deltas of a message; `fds` stay the caller's.

    Raises:
        BadJoins: they did not arrive, or hold a lattice that nothing here defines.
    """
    try:
        if "parcel" not in message:
            return dict(zip(message["of"], map(decode, map(base64.b64decode, message["deltas"])), strict=True))
        if not fds:
            raise OSError("this process has too many open files")
        parcel = unpack(fds[0])
        return dict(zip(json.loads(bytes(parcel.head)), map(decode, map(bytes, parcel.buffers)), strict=True))
    except (OSError, ParcelDamaged, KvsError, ValueError, KeyError) as e:
        raise BadJoins(f"what a task joined into a live lattice cannot be read: {e}") from e
