"""What a replica shows of lanes that it has not read: keys are looked for when they are asked for.

Theory of operation
- A new replica does not read a lane up to where its holder has sealed which commit wrote which key (`kvs.key_index`).
  It counts as joined: the newest of those commits has seen all that the others have.
- A key is then looked for in each such lane by two looks into indexes, and authenticated as ever.
- Whatever is not as it was sealed (a page of the file, a row, a commit) has all of these lanes read at once: so damage
  is named by the same code that names it elsewhere. So do `keys` and all that wants every key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvs import key_index, records, seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.errors import KvsError, StoreDamaged
from kvs.key_index import Head, KeyIndex
from kvs.tiers.node import CommitRow, LaneLog, translated

if TYPE_CHECKING:
    import threading

    from kvs.clock import HybridClock

_EMPTY: tuple[()] = ()
NAME = "keys"
"""Of the file, beside a lane's log."""
SEAL_FROM = 256
"""Keys that a lane wrote since it was sealed, from which that is done again; so many are read in 3 ms."""
SEAL_PART = 4
"""And of all its keys the part that they must be, so that sealing costs each write the same however many there are."""
SEAL_PART_AT_CLOSE = 32
"""The same for a holder that goes: nobody waits for it, and whoever comes next does."""


class _OtherThanSealedError(Exception):
    """A lane does not hold what its index says."""


class Unread:
    """See the module. `Replica` has the state, which is named here, and is the only one to extend this."""

    _key: bytes
    _lane: int | None
    _lock: threading.RLock
    _logs: dict[int, LaneLog]
    _seen: dict[int, int]
    _commits: dict[tuple[int, int], tuple[int, bytes]]
    _index: dict[bytes, tuple[Sibling[int], ...]]
    _clock: HybridClock
    _vector: VersionVector
    _needed: VersionVector
    _unread: dict[int, KeyIndex]
    _found: set[bytes]
    _unsealed: int

    if TYPE_CHECKING:  # what `Replica` does

        def _log_path(self, lane: int) -> str: ...
        def _add(self, key: bytes, entry: Sibling[int]) -> None: ...
        def _take(
            self, lane: int, since: int, commits: list[CommitRow], rows: list[tuple[bytes, int, int]]
        ) -> object: ...
        def _is_authentic(self, lane: int, row: CommitRow) -> bool: ...
        def _leave_out(self, lane: int, error: StoreDamaged) -> None: ...

    def _pass_over(self, lane: int, log: LaneLog) -> None:
        """Count what was sealed of a lane as joined, if it was."""
        index = KeyIndex.opened(_path(self._log_path(lane)), self._key, lane)
        if index is None:
            return
        head = index.head
        if log.last_folded() < head.last:
            index.close()
            return
        self._unread[lane] = index
        self._commits[lane, head.last] = (head.hlc, head.context)
        self._clock.see(head.hlc)
        self._needed = self._needed.join(VersionVector.from_bytes(head.context))
        self._seen[lane] = head.last
        self._vector = self._vector.advanced(Dot(lane, head.last))

    def _siblings(self, key: bytes) -> tuple[Sibling[int], ...]:
        """The writes of `key` that no other has replaced."""
        if self._unread and key not in self._found:
            with self._lock:
                self._look_for(key)
        return self._index.get(key, _EMPTY)

    def _look_for(self, key: bytes) -> None:
        mark = seal.key_mark(key)
        try:
            found = [self._sealed_write(lane, index, key, mark) for lane, index in self._unread.items()]
        except (_OtherThanSealedError, StoreDamaged):
            self._read_all()
            return
        for write in found:
            if write is not None:
                self._add(key, write)
        self._found.add(key)

    def _sealed_write(self, lane: int, index: KeyIndex, key: bytes, mark: bytes) -> Sibling[int] | None:
        log, n = self._logs[lane], index.find(mark)
        there, kind = log.folded_write(key, index.head.last)
        if there != n:
            raise _OtherThanSealedError
        if n == 0:
            return None
        dot = Dot(lane, n)
        if dot not in self._commits:
            row = log.folded_commit(n)
            if row is None or not self._is_authentic(lane, row):
                raise _OtherThanSealedError
            self._commits[lane, n] = (row.hlc, row.context)
        hlc, context = self._commits[dot]
        return Sibling(dot, VersionVector.from_bytes(context), hlc, kind)

    def _read_all(self) -> None:
        """Join what is counted as joined, and was not read.

        Raises:
            StoreDamaged: the lane that this replica writes cannot be read.
        """
        with self._lock:
            while self._unread:
                lane, index = self._unread.popitem()
                try:
                    self._take(lane, 0, *self._logs[lane].folded_until(index.head.last))
                except StoreDamaged as e:
                    if lane == self._lane:
                        self._unread[lane] = index
                        raise
                    self._leave_out(lane, e)
                index.close()
            self._found.clear()

    def _close_unread(self) -> None:
        for index in self._unread.values():
            index.close()
        self._unread.clear()
        self._found.clear()

    def _seal_keys(self, part: int, *, is_last: bool = False) -> None:
        """Seal what this lane's database says, if the `part`-th of its keys or more were written since.

        With `is_last` nothing is written any more, and all of it is moved to the database first.
        """
        if self._lane is None or self._unsealed < SEAL_FROM:
            return
        path, lane, most = self._log_path(self._lane), self._lane, self._unsealed * part
        try:
            if is_last:
                self._logs[lane].fold()
            if translated(path, lambda: sealed_keys(path, self._key, lane, most)):
                self._unsealed = 0
        except KvsError:  # nothing is lost: whoever opens the lane reads more of it
            return


def sealed_keys(log_path: str, key: bytes, lane: int, most: int) -> bool:
    """Seal which commit wrote which key of a lane, unless it has more than `most` keys; for its holder.

    A lane that lacks a commit, or has a damaged one, is not sealed. False if it was not.

    Raises:
        StoreDamaged, StoreUnusable, OSError: it could not be read or written; what was sealed before is still there.
    """
    path = _path(log_path)
    log, old = LaneLog(log_path, writable=False), KeyIndex.opened(path, key, lane)
    try:
        if old is not None and old.head.keys > most:
            return False
        last = log.last_folded()
        newest = old.entries() if old is not None and old.head.last <= last else None
        since = old.head.last if old is not None and newest is not None else 0
        newest = newest or {}
        expected, row = since, None
        for row in log.folded_commits(since, last):
            expected += 1
            if row.n != expected or not records.is_authentic_commit(key, lane, row):
                return False
            newest.update(dict.fromkeys(records.split_marks(row.marks), row.n))
        if row is None or expected != last or not newest:
            return False
        key_index.write(path, key, Head(lane, last, len(newest), row.hlc, row.context), newest)
        return True
    finally:
        log.close()
        if old is not None:
            old.close()


def _path(log_path: str) -> str:
    return f"{os.path.dirname(log_path)}/{NAME}"
