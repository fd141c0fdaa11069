"""What a replica gives: values of keys, each with the write that it comes from, and entries of the log."""

from __future__ import annotations

from typing import NamedTuple

from kvs.causal import Dot, VersionVector
from kvs.tiers.blobs import BlobRef


class Value(NamedTuple):
    """What a key holds: bytes, and the blobs that those bytes name."""

    payload: bytes
    blobs: tuple[BlobRef, ...] = ()


class Version(NamedTuple):
    """One write of a key, authenticated."""

    dot: Dot
    context: VersionVector
    hlc: int
    value: Value


class Commit(NamedTuple):
    """One entry of the log."""

    dot: Dot
    hlc: int
    wall_time_s: float
    note: bytes
