"""How a replica's view grows: the logs of all lanes, joined as far as they were read.

Theory of operation
- The joined index is in memory: for each key the newest entry of each lane that no other entry has seen. Payloads
  are read when they are asked for, and authenticated before they are handed out.
- A commit is authenticated when it is joined, and lists a mark of each key that it wrote. The marks are compared with
  the rows that are there: a row that went missing, or whose commit was damaged, makes its key *lost*. Reading a lost
  key is an error until somebody writes it again, never the older value that lies below.
- Whoever commits says so in the news of the space. While there are none of a lane, nothing is asked of it.
- Of a lane that is large, a new replica reads the newest part only (`kvs.unread`).
- A lane whose file cannot be read is left out with a warning. A key that no other lane has is then refused, since the
  unreadable one may have it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING

from kvs import records, seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.causal.register import with_write
from kvs.errors import DamageWarning, NotAuthentic, StoreDamaged
from kvs.tiers.news import News
from kvs.tiers.node import CommitRow, EntryRow, LaneLog
from kvs.unread import Unread
from kvs.upkeep import SETTLED_NS, Lost

if TYPE_CHECKING:
    import threading

    from kvs.clock import HybridClock
    from kvs.pins import Pin
    from kvs.version import Version

_EMPTY: tuple[()] = ()
_NOTHING: frozenset[bytes] = frozenset()
_vector = lru_cache(256)(VersionVector.from_bytes)
"""Vectors are immutable, and one is asked for again while its commit is joined."""
_MANY = 1000
"""Of keys in one join: each of them is likely to come once."""


class Joining(Unread):
    """See the module. `Replica` has the state, which is named here, and is the only one to extend this."""

    _name: str
    _directory: str
    _key: bytes
    _lane: int | None
    _clock: HybridClock
    _lock: threading.RLock
    _news: News
    _logs: dict[int, LaneLog]
    _seen: dict[int, int]
    _followed: set[int]
    _commits: dict[tuple[int, int], tuple[int, bytes]]
    _index: dict[bytes, tuple[Sibling[int], ...]]
    _shown: dict[bytes, tuple[Version, ...]]
    _outdated: dict[bytes, tuple[Version, ...]]
    _vector: VersionVector
    _needed: VersionVector
    _lost: dict[bytes, Lost]
    _gone: list[tuple[int, int, int]]
    _unreadable: dict[int, StoreDamaged]
    _lanes_mtime: int
    _is_new: bool
    _pin: Pin

    if TYPE_CHECKING:  # what `Replica` does

        def _log_path(self, lane: int) -> str: ...
        def _tell(self, changed: Collection[bytes]) -> None: ...

    def refresh(self) -> frozenset[bytes]:
        """Join what other lanes published since; the keys that changed.

        Costs a comparison of 256 bytes when nobody has begun to publish, else some microseconds a lane of which there
        are news and what the new commits wrote, however much there is besides.
        """
        news = self._news
        if news.table[:] == news.known:  # in full here: a call would cost as much again
            return _NOTHING
        with self._lock:
            look = news.look()
            changed = self._join_lanes(look)
            while not self._needed.leq(self._vector):  # a lane that was read early moved on before one read late
                before = self._vector
                changed |= self._join_lanes()
                if self._vector == before:
                    self._give_up_tails()
            self._is_new = False
            self._pin.move(self._vector)
            news.heard(look)
            self._tell(changed)
            return frozenset(changed)

    def _join_lanes(self, look: bytes = b"") -> set[bytes]:
        """Join what is new in all lanes; with a `look` at the news, in those of which there are some."""
        self._find_lanes()
        changed: set[bytes] = set()
        for lane, log in list(self._logs.items()):
            if lane == self._lane and lane in self._seen:
                continue  # nobody else writes it
            if lane in self._followed and self._news.is_still(lane, look):
                continue
            try:
                changed |= self._join_lane(lane, log)
                self._followed.add(lane)
            except StoreDamaged as e:
                if lane == self._lane:
                    raise
                self._leave_out(lane, e)
        return changed

    def _leave_out(self, lane: int, error: StoreDamaged) -> None:
        self._unreadable[lane] = error
        self._shown.clear()
        self._outdated.clear()
        if (index := self._unread.pop(lane, None)) is not None:
            index.close()
        if (log := self._logs.pop(lane, None)) is not None:
            log.close()
        self._followed.discard(lane)
        warnings.warn(f"space {self._name!r} is read without lane {lane}: {error}", DamageWarning, stacklevel=2)

    def _give_up_tails(self) -> None:
        """Commits that others have seen are in no log any more (a power loss, a damaged file): count them as known.

        So their numbers are never given again, and what has seen them is still newer than what has not.
        """
        for lane, count in self._needed:
            if count > self._vector[lane]:
                if lane not in self._unreadable:
                    self._gone.append((lane, self._vector[lane] + 1, count))
                self._seen[lane] = count
                if lane == self._lane:
                    self._unsealed = None
        self._vector = self._vector.join(self._needed)

    def _find_lanes(self) -> None:
        lanes = f"{self._directory}/lanes"
        mtime = os.stat(lanes).st_mtime_ns
        if mtime == self._lanes_mtime:
            return
        missing = False
        for entry in os.listdir(lanes):
            if entry.isdecimal() and (lane := int(entry)) not in self._logs and lane not in self._unreadable:
                if os.path.exists(self._log_path(lane)):
                    try:
                        self._logs[lane] = LaneLog(self._log_path(lane), writable=False)
                    except StoreDamaged as e:
                        self._leave_out(lane, e)
                else:
                    missing = True  # its holder is about to create it
        settled = time.time_ns() - mtime > SETTLED_NS
        self._lanes_mtime = mtime if settled and not missing else -1

    def _join_lane(self, lane: int, log: LaneLog) -> set[bytes]:
        if self._is_new and lane not in self._seen:
            self._pass_over(lane, log)
        since = self._seen.setdefault(lane, 0)
        commits, rows = log.since(since)
        if not commits and not rows:
            return set()
        changed, top = self._take(lane, since, commits, rows)
        self._seen[lane] = top
        self._vector = self._vector.advanced(Dot(lane, top))
        return changed

    def _take(
        self, lane: int, since: int, commits: list[CommitRow], rows: list[tuple[bytes, int, int]]
    ) -> tuple[set[bytes], int]:
        """Join the commits of a lane that come after `since`: the keys that changed, and the newest of the commits."""
        marks, writes = self._learn(lane, commits)
        if lane == self._lane and since >= self._seen[lane]:
            self._remember(marks, is_whole=[*writes] == list(range(since + 1, since + 1 + len(commits))))
        top = _highest(since, commits, rows, writes.keys())
        mark_of = seal.known_mark if len(rows) < _MANY else seal.key_mark
        changed = set()
        index, at = self._index, 0
        by_kind: dict[int, tuple[Sibling[int]]] = {}  # of one commit
        for key, n, kind in rows:
            mark = mark_of(key)
            written = marks.pop(mark, None)
            if written == n:
                if n != at:
                    at, commit, dot = n, writes[n], Dot(lane, n)
                    hlc, context = commit.hlc, _vector(commit.context)
                    by_kind.clear()
                if (entry := by_kind.get(kind)) is None:
                    entry = by_kind[kind] = (Sibling(dot, context, hlc, kind),)
                if key in index or self._lost:
                    self._add(key, entry[0])
                else:
                    index[key] = entry
            else:
                self._lose(mark, Lost(Dot(lane, max(written or 0, min(n, top))), key))
            changed.add(key)
        for mark, n in marks.items():
            self._lose(mark, Lost(Dot(lane, n), b""))
        return changed, top

    def _learn(self, lane: int, commits: list[CommitRow]) -> tuple[dict[bytes, int], dict[int, CommitRow]]:
        """Take in the authentic of `commits`; for each mark of a key the newest that wrote it, and all of them."""
        newest: dict[bytes, int] = {}
        good: dict[int, CommitRow] = {}
        known, size = self._commits, seal.MARK_SIZE
        last, top = None, 0
        for last in records.authentic_commits(self._key, lane, commits):
            n, hlc, context, _, marks, _ = last
            good[n] = last
            known[lane, n] = (hlc, context)
            top = hlc if hlc > top else top
            if len(marks) == size:
                newest[marks] = n
            else:
                newest.update(dict.fromkeys(records.split_marks(marks), n))
        if last is not None:
            self._clock.see(top)
            self._needed = self._needed.join(_vector(last.context))  # which holds all earlier ones
        return newest, good

    def _is_authentic(self, lane: int, row: CommitRow) -> bool:
        return records.is_authentic_commit(self._key, lane, row)

    def _lose(self, mark: bytes, lost: Lost) -> None:
        """Remember that a write is damaged, unless one that we know has replaced it."""
        self._read_all()  # it may be one of any lane
        keys = [lost.key] if lost.key else [key for key in self._index if seal.key_mark(key) == mark]
        for key in keys:
            self._shown.pop(key, None)
        if not any(lost.dot in sibling.context for key in keys for sibling in self._index.get(key, _EMPTY)):
            self._lost[mark] = Lost(lost.dot, keys[0] if keys else b"")

    def _add(self, key: bytes, entry: Sibling[int]) -> None:
        known = self._index.get(key)
        if known is None:
            self._index[key] = (entry,)
        else:
            if (versions := self._shown.pop(key, None)) is not None:  # not all any more, but may be part of it
                self._outdated[key] = versions
            self._index[key] = with_write(known, entry)
        if self._lost:
            self._find_again(key, entry)

    def _find_again(self, key: bytes, entry: Sibling[int]) -> None:
        """What was lost of `key` counts no more if `entry` has replaced it."""
        mark = seal.key_mark(key)
        if mark in self._lost and self._lost[mark].dot in entry.context:
            del self._lost[mark]

    def _replace(self, rows: list[EntryRow], dot: Dot, context: VersionVector, hlc: int) -> None:
        """Take in what this replica wrote itself, which has seen all that there is."""
        index, shown = self._index, self._shown
        by_kind: dict[int, tuple[Sibling[int]]] = {}
        for row in rows:
            key, kind = row.key, row.kind
            if kind not in by_kind:
                by_kind[kind] = (Sibling(dot, context, hlc, kind),)
            index[key] = by_kind[kind]
            shown.pop(key, None)
        for row in rows if self._lost else ():
            self._find_again(row.key, by_kind[row.kind][0])

    def _refuse_lost(self, key: bytes) -> None:
        if self._lost and (lost := self._lost.get(seal.key_mark(key))):
            raise NotAuthentic(f"key {key!r} of space {self._name!r} (commit {lost.dot})")

    def _refuse_unreadable(self, lane: int) -> None:
        if lane in self._unreadable:
            error = self._unreadable[lane]
            raise StoreDamaged(error.path, error.why)


def _highest(since: int, commits: list[CommitRow], rows: list[tuple[bytes, int, int]], good: Collection[int]) -> int:
    """The newest commit of a lane, damaged ones included, so that no number is ever given twice.

    A damaged row may show any number: those that the count of damaged rows cannot explain are not believed.
    """
    top = max(since, max(good, default=since))
    if len(good) == len(commits):
        return top
    limit = top + sum(row.n not in good for row in commits)
    return max([top, *(row.n for row in commits if row.n <= limit), *(n for _, n, _ in rows if n <= limit)])
