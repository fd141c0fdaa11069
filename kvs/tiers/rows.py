"""The rows of a lane's log: what a commit says, and what it says of one key. Bytes, whose meaning is known above."""

from __future__ import annotations

from typing import NamedTuple


class CommitRow(NamedTuple):
    n: int
    hlc: int
    context: bytes
    note: bytes
    marks: bytes
    mac: bytes


class EntryRow(NamedTuple):
    key: bytes
    n: int
    kind: int
    payload: bytes
    blobs: bytes
    mac: bytes
