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
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from kvs import key_index, seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.errors import KvsError, StoreDamaged
from kvs.key_index import Head, KeyIndex
from kvs.tiers.node import CommitRow, EntryRow, LaneLog, translated

if TYPE_CHECKING:
    import threading

    from kvs.clock import HybridClock

_EMPTY: tuple[()] = ()
NAME = "keys"
"""Of the file, beside a lane's log."""
SEAL_FROM = 256
"""Keys that a lane wrote since it was sealed, or commits, from which it is done again; so many are read in 3 ms."""
SEAL_PART = 4
"""And the part of all its keys that they must be, so that sealing costs each write the same however many there are."""
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
    _looked_up: dict[Dot, EntryRow]
    _unsealed: dict[bytes, int] | None
    _sealed: Head | None

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
        head, is_there = index.head, False
        try:
            is_there = log.last_folded() >= head.last
        finally:
            if not is_there:
                index.close()
        if not is_there:
            return
        self._unread[lane] = index
        if lane == self._lane:
            self._sealed = head
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
        self._looked_up.clear()
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
        if n and any(n <= sibling.context[lane] for sibling in self._index.get(key, _EMPTY)):
            return None  # replaced since: it may have been collected
        entry = log.folded_write(key, index.head.last)
        if (entry.n if entry is not None else 0) != n:
            raise _OtherThanSealedError
        if entry is None:
            return None
        dot = Dot(lane, n)
        self._looked_up[dot] = entry
        if dot not in self._commits:
            row = log.folded_commit(n)
            if row is None or not self._is_authentic(lane, row):
                raise _OtherThanSealedError
            self._commits[lane, n] = (row.hlc, row.context)
        hlc, context = self._commits[dot]
        return Sibling(dot, VersionVector.from_bytes(context), hlc, entry.kind)

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
            self._looked_up.clear()

    def _close_unread(self) -> None:
        for index in self._unread.values():
            index.close()
        self._unread.clear()
        self._found.clear()
        self._looked_up.clear()

    def _remember(self, marks: dict[bytes, int], *, is_whole: bool) -> None:
        """What this lane has that is not sealed, as it was found; with damage in it, it is sealed no more."""
        self._unsealed = dict(marks) if is_whole else None

    def _take_unsealed(self, part: int) -> tuple[int, dict[bytes, int]] | None:
        """What is to be sealed, if it is the `part`-th of the lane or more, and the commit up to which it goes.

        Who takes it seals it, or gives it back; a writer may go on meanwhile.
        """
        with self._lock:
            if self._lane is None or self._unsealed is None:
                return None
            last = self._seen.get(self._lane, 0)
            before, keys = (self._sealed.last, self._sealed.keys) if self._sealed is not None else (0, 0)
            new = max(len(self._unsealed), last - before)
            if new < SEAL_FROM or new * part < keys or not self._unsealed:
                return None
            taken, self._unsealed = self._unsealed, {}
            return last, taken

    def _seal_after(self, move: Callable[[], object], part: int, *, only_if_due: bool = False) -> None:
        """Do `move`, which moves this lane to its database, and then write its index anew if that is due.

        An index that cannot be written is tried again next time: who opens the lane meanwhile reads more of it.
        """
        due, head = self._take_unsealed(part), None
        if due is None and only_if_due:
            return
        try:
            move()
            if due is not None:
                head = self._written_index(*due)
        finally:
            with self._lock:
                if head is not None:
                    self._sealed = head
                elif due is not None and self._unsealed is not None:
                    self._unsealed = due[1] | self._unsealed

    def _seal_at_close(self, log: LaneLog) -> None:
        try:
            self._seal_after(log.fold, SEAL_PART_AT_CLOSE, only_if_due=True)
        except KvsError:  # nothing is lost: the tail is read as it is, and folded by the next holder
            return

    def _written_index(self, last: int, newest: dict[bytes, int]) -> Head | None:
        """None if it could not be written."""
        lane = self._lane or 0
        path, said = _path(self._log_path(lane)), self._commits[lane, last]
        try:
            return translated(path, lambda: sealed_keys(path, self._key, self._sealed, lane, last, newest, said))
        except KvsError:
            return None


def sealed_keys(
    path: str, key: bytes, base: Head | None, lane: int, last: int, newest: dict[bytes, int], said: tuple[int, bytes]
) -> Head | None:
    """Seal what the commits of a lane since `base` up to `last` wrote, besides what was sealed before, if anything was.

    `said` are the time and the context of that commit. None if what was sealed before is damaged or gone.

    Raises:
        OSError: it could not be written; what was sealed before is still there.
    """
    before = _entries(path, key, base) if base is not None else {}
    if before is None:
        return None
    before.update(newest)
    head = Head(lane, last, len(before), *said)
    key_index.write(path, key, head, before)
    return head


def _entries(path: str, key: bytes, base: Head) -> dict[bytes, int] | None:
    """What was sealed with `base`; None if it is damaged or gone."""
    index = KeyIndex.opened(path, key, base.lane)
    if index is None:
        return None
    with closing(index):
        return index.entries() if index.head == base else None


def _path(log_path: str) -> str:
    return f"{os.path.dirname(log_path)}/{NAME}"
