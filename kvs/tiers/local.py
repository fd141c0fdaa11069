"""The node tier's files, spoken to as any other tier: for tools that copy spaces, and for the conformance kit.

A replica works with the same files directly, since it reads single rows of them. An append takes the lane's
lock as a replica does, for its own time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvs.errors import LaneLost
from kvs.seal import digest
from kvs.tiers.blobs import BlobRef, Blobs
from kvs.tiers.node import EntryRow, LaneLog
from kvs.tiers.protocol import Record, checked, missing, verified

_PIECE = 1 << 22
_CHUNK = 1000


class NodeTier:
    """See `Tier`: the lanes and blobs below the directory of a space, which exists."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        for folder in ("lanes", "blobs"):
            os.makedirs(f"{directory}/{folder}", 0o700, exist_ok=True)
        self._blobs = Blobs(f"{directory}/blobs")

    @property
    def name(self) -> str:
        return self._directory

    def until(self, end_s: float) -> NodeTier:
        return self  # SQLite's own wait for another process is 2 s

    def lanes(self) -> list[int]:
        names = os.listdir(f"{self._directory}/lanes")
        found = sorted(int(name) for name in names if name.isdecimal() and os.path.exists(self._log_path(int(name))))
        return [lane for lane in found if self._last_number(lane)]

    def claim(self, lane: int, owner: bytes) -> bytes:
        path = f"{self._make_lane(lane)}/tier-owner"
        made = f"{path}-{os.getpid()}-{os.urandom(4).hex()}"
        with open(made, "xb") as file:
            file.write(owner)
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(made)
        with open(path, "rb") as file:
            return file.read()

    def last(self, lane: int) -> Record | None:
        n = self._last_number(lane)
        return next(self.read(lane, n - 1)) if n else None

    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        if not records:
            return
        with self._held(lane):
            self._append(lane, records, after)

    def _append(self, lane: int, records: Sequence[Record], after: int) -> None:
        where = self._log_path(lane)
        checked(where, records, after=after, last=self._last_number(lane))
        new = missing(where, self.read(lane, after), records)
        with self._log(lane, writable=True) as log:
            for record in new:
                log.insert(record.commit, record.rows)

    @contextmanager
    def _held(self, lane: int) -> Iterator[None]:
        """The lock that a replica holds on the lane it writes."""
        fd = os.open(f"{self._make_lane(lane)}/owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise LaneLost(self._log_path(lane), "another writer holds it") from None
        finally:
            os.close(fd)

    def read(self, lane: int, after: int = 0) -> Iterator[Record]:
        if not os.path.exists(self._log_path(lane)):
            return
        with self._log(lane) as log:
            yield from records_of(log, after)

    def put_blob(self, ref: BlobRef, data: memoryview) -> None:
        if (digest(data), data.nbytes) != ref:
            raise ValueError(f"the data is not what blob {ref.digest.hex()} names")
        self._blobs.put(data)

    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        path = self._blobs.path(ref)
        with self._blobs.open(ref) as data:
            yield from verified(ref, (bytes(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)), path)

    def has_blob(self, ref: BlobRef) -> bool:
        try:
            return os.path.getsize(self._blobs.path(ref)) == ref.nbytes
        except FileNotFoundError:
            return False

    def blobs(self) -> list[BlobRef]:
        return sorted(ref for ref, _ in self._blobs.files())

    def delete_blob(self, ref: BlobRef) -> None:
        self._blobs.discard(ref)

    def news(self) -> bytes:
        return repr([(lane, self._last_number(lane)) for lane in self.lanes()]).encode()

    def _log_path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/log.sqlite"

    def _make_lane(self, lane: int) -> str:
        folder = f"{self._directory}/lanes/{lane}"
        os.makedirs(folder, 0o700, exist_ok=True)
        return folder

    def _last_number(self, lane: int) -> int:
        if not os.path.exists(self._log_path(lane)):
            return 0
        with self._log(lane) as log:
            return log.last()

    @contextmanager
    def _log(self, lane: int, *, writable: bool = False) -> Iterator[LaneLog]:
        log = LaneLog(self._log_path(lane), writable=writable)
        try:
            yield log
        finally:
            log.close()


def records_of(log: LaneLog, after: int = 0) -> Iterator[Record]:
    """The records of an open log above `after`, oldest first; rows are read for a thousand commits at a time."""
    commits = log.commits(after)
    for at in range(0, len(commits), _CHUNK):
        chunk = commits[at : at + _CHUNK]
        rows: dict[int, list[EntryRow]] = {}
        for row in log.entries(after, chunk[-1].n):
            rows.setdefault(row.n, []).append(row)
        for commit in chunk:
            yield Record(commit, tuple(rows.get(commit.n, ())))
        after = chunk[-1].n
