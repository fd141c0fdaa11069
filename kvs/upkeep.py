"""What a replica does for the files of its space: collection, accounts, and a look at every record.

Kept apart from reading and publishing, which it serves. It changes nothing of what a replica shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kvs import records
from kvs.causal import Dot, Sibling, VersionVector
from kvs.clock import seconds
from kvs.errors import KvsError, NotAuthentic, StoreDamaged
from kvs.pins import NEVER, Pin, views
from kvs.recovery import ALL
from kvs.settings import Settings
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes
from kvs.tiers.node import CommitRow, EntryRow, LaneLog

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from kvs.replica import Commit

_CHUNK = 1000
SETTLED_NS = 100_000_000
"""Age from which a directory's time of change can be trusted to move with the next change: file systems keep time in
ticks of up to 10 ms, and two changes in one tick look like one."""


class Collected(NamedTuple):
    """What a collection freed."""

    nbytes_freed: int
    versions: int
    blobs: int


class Use(NamedTuple):
    """What a space holds: versions of keys, bytes of current ones, and bytes of what a collection may free one day."""

    versions: int
    live_nbytes: int
    dead_nbytes: int


class Lost(NamedTuple):
    """A write that was damaged; `key` is empty where not even that is known."""

    dot: Dot
    key: bytes


class Upkeep:
    """See the module. `Replica` has the state, which is named here, and is the only one to extend this."""

    _name: str
    _directory: str
    _key: bytes
    _settings: Settings
    _lock: threading.RLock
    _blobs: Blobs
    _logs: dict[int, LaneLog]
    _commits: dict[tuple[int, int], tuple[int, bytes]]
    _index: dict[bytes, tuple[Sibling[int], ...]]
    _vector: VersionVector
    _lost: dict[bytes, Lost]
    _gone: list[tuple[int, int, int]]
    _unreadable: dict[int, StoreDamaged]
    _pin: Pin

    if TYPE_CHECKING:  # what `Replica` does

        @property
        def id(self) -> int: ...
        @property
        def unreadable(self) -> tuple[StoreDamaged, ...]: ...
        @property
        def _pins(self) -> str: ...
        def sync(self) -> None: ...
        def _read_all(self) -> None: ...
        def dots(self, key: bytes) -> tuple[Dot, ...]: ...
        def log(self, *, damaged: Callable[[KvsError], object]) -> Iterator[Commit]: ...
        def _find_lanes(self) -> None: ...
        def _hold_no_longer(self) -> None: ...
        def _authentic(self, dot: Dot, row: EntryRow) -> EntryRow: ...
        def _log_path(self, lane: int) -> str: ...

    def collect(self, *, now_s: float) -> Collected:
        """Forget superseded versions of this lane beyond the retention, then blobs that no lane's row names.

        Never a current entry, nor what was current less than `retain_s` ago, nor what the view of a live replica shows,
        here or in another process, however old. A version that another lane superseded stays: only a sealed epoch can
        say that nobody will ask for it. While anything of the space is damaged, blobs stay: nobody knows which of them
        the damaged rows name. What replaced a version, and its deletion, are flushed before the next step, so that a
        power loss in between takes nothing that was current.
        """
        with self._lock:
            self._read_all()
            self._hold_no_longer()
            log = self._logs[self.id]
            self._blobs.sync()  # `superseded` folds, and that flushes rows
            versions = self._surplus(log, now_s)
            if versions:
                self.sync()
                log.delete(versions)
            freed, blobs = self._drop_unnamed_blobs(now_s)
            return Collected(freed, len(versions), blobs)

    def compact(self) -> None:
        """Give the space of what was collected back to the file system; costs a copy of this lane's log.

        Raises:
            StoreUnusable: another process reads it just now. StoreFull: no room for the copy. Nothing is changed.
        """
        with self._lock:
            self.sync()
            self._logs[self.id].compact()

    def _surplus(self, log: LaneLog, now_s: float) -> list[tuple[bytes, int]]:
        """Oldest superseded rows, down to `retain_bytes`."""
        rows = log.superseded()
        sizes = [size + sum(ref.nbytes for ref in refs_from_bytes(blobs)) for _, _, size, blobs, _ in rows]
        excess = sum(sizes) - self._settings.retain_bytes
        surplus = []
        seen_by_all = min((view.vector[self.id] for view in views(self._pins, but=self._pin.name)), default=ALL)
        for (key, n, _, _, by), size in zip(rows, sizes, strict=True):
            if excess <= 0:
                break
            replaced = self._commits.get(Dot(self.id, by))
            if by <= seen_by_all and replaced and now_s - seconds(replaced[0]) >= self._settings.retain_s:
                surplus.append((key, n))
                excess -= size
        return surplus

    def _drop_unnamed_blobs(self, now_s: float) -> tuple[int, int]:
        held_since_ns = min((view.holds_since_ns for view in views(self._pins)), default=NEVER)
        before_s = min(now_s - self._settings.retain_s, held_since_ns / 1e9 - SETTLED_NS / 1e9)
        self._blobs.delete_abandoned(before_s=before_s)
        if self._lost or self._unreadable:
            return 0, 0
        self._find_lanes()  # a lane that we have not joined yet names blobs too
        named = {
            ref.digest for log in self._logs.values() for data in log.blob_lists() for ref in refs_from_bytes(data)
        }
        old = [r for r, wanted_s in self._blobs.files() if r.digest not in named and wanted_s <= before_s]
        if self._unreadable:
            return 0, 0
        for log in self._logs.values() if old else ():
            log.sync()  # else a power loss could bring back a row that names one
        freed = [self._blobs.delete_unwanted(ref, before_s=before_s) for ref in old]
        return sum(freed), sum(map(bool, freed))

    def use(self) -> Use:
        """What this view's space holds; every row is looked at. A blob that current versions share counts once."""
        with self._lock:
            self._read_all()
            current = {(dot.replica, dot.counter, key) for key in self._index for dot in self.dots(key)}
            versions = live = dead = 0
            named: set[BlobRef] = set()
            for lane, log in self._logs.items():
                for key, n, nbytes, blobs in log.sizes():
                    versions += 1
                    if (lane, n, key) in current:
                        live += nbytes
                        named.update(refs_from_bytes(blobs))
                    else:
                        dead += nbytes
            dead += sum(ref.nbytes for ref, _ in self._blobs.files() if ref not in named)
            return Use(versions, live + sum(ref.nbytes for ref in named), dead)

    def lost(self) -> dict[bytes, tuple[Dot, bytes]]:
        """What was damaged and not written again: by the mark of its key, the commit, and the key if it is known."""
        with self._lock:
            self._read_all()
            return {mark: (lost.dot, lost.key) for mark, lost in self._lost.items()}

    def records(self) -> Iterator[tuple[int, CommitRow, list[EntryRow]]]:
        """Every commit of this view with its entries, lane by lane, oldest first; collected entries are left out.

        Raises:
            NotAuthentic, StoreDamaged: one is damaged. StoreForeign: a later version wrote it.
        """
        self._read_all()
        for error in self.unreadable:
            raise error
        for lane, log in sorted(self._logs.items()):
            commits = [row for row in log.commits() if row.n <= self._vector[lane]]
            for at in range(0, len(commits), _CHUNK):
                chunk = commits[at : at + _CHUNK]
                entries: dict[int, list[EntryRow]] = {}
                for entry in log.entries(chunk[0].n - 1, chunk[-1].n):
                    entries.setdefault(entry.n, []).append(self._authentic(Dot(lane, entry.n), entry))
                for row in chunk:
                    if not records.has_authentic_note(self._key, lane, row):
                        raise NotAuthentic(f"commit {Dot(lane, row.n)} of space {self._name!r}")
                    yield lane, row, entries.pop(row.n, [])
                for n in entries:
                    raise NotAuthentic(f"commit {Dot(lane, n)} of space {self._name!r}, which is gone")

    def check(self) -> Iterator[str]:
        """Authenticate every row and read every blob; what is damaged, one line each."""
        self._read_all()
        for lane, first, last in self._gone:
            yield f"{self._log_path(lane)} has lost its newest commits: {first} to {last}, which another lane has seen."
        for lost in self._lost.values():
            name = f"key {lost.key!r}" if lost.key else "a key"
            yield f"{name} of space {self._name!r} is lost: commit {lost.dot} wrote it, and its record is damaged."
        yield from map(str, self._unreadable.values())
        for lane, log in self._logs.items():
            try:
                for first, last in records.gaps(row.n for row in log.commits()):
                    yield f"{self._log_path(lane)} lacks commits {first} to {last}: nobody can name what they wrote."
                rows = list(log.entries())
                later = self._later_than_view(lane, log)
                for row in (row for row in rows if row.n not in later):
                    try:
                        self._authentic(Dot(lane, row.n), row)
                        for ref in refs_from_bytes(row.blobs):
                            self._blobs.verify(ref)
                    except KvsError as e:
                        yield str(e)
            except StoreDamaged as e:
                yield str(e)
        damaged: list[KvsError] = []
        for _ in self.log(damaged=damaged.append):
            pass
        yield from map(str, damaged)
        from kvs.shared import faults  # here: a worker on its way up needs none of it

        yield from map(str, faults(self._directory))

    def _later_than_view(self, lane: int, log: LaneLog) -> set[int]:
        """Commits that a live writer has added since this view was joined: nobody has looked at them yet."""
        commits = log.commits(self._vector[lane])
        return {row.n for row in commits if records.is_authentic_commit(self._key, lane, row)}
