"""Several frames of one message in one, so that sending it is a single step that a signal cannot tear.

Layout, little-endian: one byte that says where the message goes, a count of frames, the length of each, their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

DELIMITER = b"<IDS|MSG>"
"""The frame of a Jupyter message that comes before its signature and its header, after the identities of its sender."""
OUTPUT = 0
"""For everyone who listens: iopub."""
REPLY = 1
"""For the client that asked on the shell channel."""

_HEAD = struct.Struct("<BI")
_HEAD_NBYTES = _HEAD.size


def pack(where: int, frames: Sequence[bytes | memoryview]) -> bytes:
    """One frame that holds `frames`, for `OUTPUT` or `REPLY`. Copies each once."""
    lengths = [len(frame) if isinstance(frame, bytes) else memoryview(frame).nbytes for frame in frames]
    return b"".join((_HEAD.pack(where, len(frames)), struct.pack(f"<{len(frames)}Q", *lengths), *frames))


def unpack(packed: bytes) -> tuple[int, list[bytes]]:
    """Where the message goes, and its frames.

    Raises:
        ValueError: `packed` was not made by `pack`.
    """
    try:
        where, count = _HEAD.unpack_from(packed)
        at = _HEAD_NBYTES + 8 * count
        lengths = struct.unpack_from(f"<{count}Q", packed, _HEAD_NBYTES)
    except struct.error as e:
        raise ValueError("not a packed message") from e
    if at + sum(lengths) != len(packed):
        raise ValueError("not a packed message: its length is not the sum of its frames")
    return where, list(_cut(packed, at, lengths))


def _cut(packed: bytes, at: int, lengths: Iterable[int]) -> Iterable[bytes]:
    for length in lengths:
        yield packed[at : at + length]
        at += length
