"""Who writes a lane: an exclusive lock on a file, which the system releases when its holder dies, however it dies.

So a crash leaves nothing behind that would hinder the next writer, and no lane ever has two.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakSet


class LaneInfo(NamedTuple):
    """A lane, whether a live process holds it, and what its last holder said of itself."""

    id: int
    held: bool
    owner: Mapping[str, str | int]


class Claim:
    """An exclusive lock on a lane, held by this process alone: a forked child drops its copy."""

    def __init__(self, fd: int, lane: int) -> None:
        self._fd = fd
        self.lane = lane
        _CLAIMS.add(self)

    @classmethod
    def attempt(cls, path: str, lane: int) -> Claim | None:
        """The lock, or None if another holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd, lane)

    def tell(self, owner: Mapping[str, str | int]) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(dict(owner)).encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_CLAIMS: WeakSet[Claim] = WeakSet()


def _drop_claims_in_child() -> None:
    """A lock lives as long as any copy of its descriptor; a cell's own forks must not keep a dead worker's."""
    for claim in list(_CLAIMS):
        claim.release()


os.register_at_fork(after_in_child=_drop_claims_in_child)


def lane_info(path: str, lane: int) -> LaneInfo:
    """What the file at `path` says of the lane."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return LaneInfo(lane, False, {})
    try:
        return LaneInfo(lane, _is_locked(fd), _owner(os.pread(fd, 65536, 0)))
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _owner(data: bytes) -> Mapping[str, str | int]:
    """What the holder said; a half-written line says nothing."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
