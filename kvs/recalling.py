"""What a replica tells of the past: the log of commits, and every version that was not collected.

Kept apart from reading what is current. It changes nothing of what a replica shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvs import records
from kvs.causal import Dot, VersionVector
from kvs.clock import seconds
from kvs.errors import KvsError, NotAuthentic
from kvs.history import History, lane_history
from kvs.records import DELETED
from kvs.tiers.node import CommitRow, EntryRow, LaneLog
from kvs.version import Commit, Value, Version

if TYPE_CHECKING:
    import threading

    from kvs.tiers.blobs import BlobRef


class Recalling:
    """See the module. `Replica` has the state, which is named here, and is the only one to extend this."""

    _name: str
    _key: bytes
    _lock: threading.RLock
    _logs: dict[int, LaneLog]
    _seen: dict[int, int]
    _commits: dict[tuple[int, int], tuple[int, bytes]]

    if TYPE_CHECKING:  # what `Replica` does

        def open_blob(self, ref: BlobRef) -> memoryview: ...
        def read_blob(self, ref: BlobRef) -> bytes: ...
        def _read_all(self) -> None: ...
        def _is_authentic(self, lane: int, row: CommitRow) -> bool: ...
        def _refuse_unreadable(self, lane: int) -> None: ...
        def _authentic(self, dot: Dot, row: EntryRow) -> EntryRow: ...
        def _value(self, row: EntryRow) -> Value: ...

    def log(
        self,
        limit: int | None = None,
        *,
        newest_first: bool = True,
        damaged: Callable[[KvsError], object] | None = None,
    ) -> Iterator[Commit]:
        """Commits of all lanes, in an order that respects causality.

        A commit that was damaged or planted is left out, and `damaged` is told of each before the first is given.

        Raises:
            NotAuthentic: there is one, and no `damaged` was given; raised after all others were given.
        """
        with self._lock:
            rows = [
                (lane, row) for lane, log in self._logs.items() for row in log.commits() if row.n <= self._seen[lane]
            ]
        good: list[tuple[int, CommitRow]] = []
        errors: list[KvsError] = []
        for lane, row in rows:
            if records.has_authentic_note(self._key, lane, row):
                good.append((lane, row))
            else:
                errors.append(NotAuthentic(f"commit {Dot(lane, row.n)} of space {self._name!r}"))
        if damaged is not None:
            for error in errors:
                damaged(error)
        good.sort(key=lambda r: (r[1].hlc, r[0], r[1].n), reverse=newest_first)
        for lane, row in good[:limit]:
            yield Commit(Dot(lane, row.n), row.hlc, seconds(row.hlc), row.note)
        if errors and damaged is None and (limit is None or limit > len(good)):
            raise errors[0]

    def history(self) -> History:
        """Every version that this replica has joined and that was not collected, by the commit that wrote it."""
        with self._lock:
            self._read_all()
            lanes = [lane_history(lane, log, self._seen[lane], self._is_authentic) for lane, log in self._logs.items()]
            return History(lanes, self._version, self.open_blob, self.read_blob)

    def _version(self, key: bytes, dot: Dot) -> Version | None:
        with self._lock:
            self._refuse_unreadable(dot.replica)
            row = self._logs[dot.replica].entry(key, dot.counter)
            if row is None:
                raise LookupError(key)
            row, (hlc, context) = self._authentic(dot, row), self._commits[dot]
            if row.kind == DELETED:
                return None
            return Version(dot, VersionVector.from_bytes(context), hlc, self._value(row))
