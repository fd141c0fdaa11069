"""A replica: one frozen view of a space, joined from every lane's log, and the lane that this process writes.

Theory of operation
- A write belongs to its lane: its holder appends, nobody else does. A read joins the lanes. So there is no lock that
  one writer could hold against another, no retry and no compare-and-swap; a stopped writer stops nobody.
- The joined index is in memory: for each key the newest entry of each lane that no other entry has seen. Payloads
  are read when they are asked for, and authenticated before they are handed out.
- The view advances only in `refresh` and `publish`: between them a reader sees one causal cut.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvs import seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.causal.register import surviving
from kvs.clock import HybridClock, seconds
from kvs.errors import KvsError, NotAuthentic, ReadOnlyReplica
from kvs.settings import Settings
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes, refs_to_bytes
from kvs.tiers.node import CommitRow, EntryRow, LaneLog

_DELETED, _INLINE, _SPILLED = 0, 1, 2
_EMPTY: tuple[()] = ()


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


class Collected(NamedTuple):
    """What a collection freed."""

    nbytes_freed: int
    versions: int
    blobs: int


class Replica:
    """See the module. Safe to use from several threads; each call is atomic."""

    def __init__(
        self, name: str, directory: str, key: bytes, settings: Settings, *, lane: int | None, clock: HybridClock
    ) -> None:
        self._name, self._directory, self._key, self._settings = name, directory, key, settings
        self._lane = lane
        self._clock = clock
        self._lock = threading.RLock()
        self._blobs = Blobs(f"{directory}/blobs")
        self._logs: dict[int, LaneLog] = {}
        self._seen: dict[int, int] = {}
        self._versions: dict[int, int] = {}
        self._commits: dict[Dot, tuple[int, VersionVector]] = {}
        self._index: dict[bytes, tuple[Sibling[int], ...]] = {}
        self._vector = VersionVector()
        self._lanes_mtime = -1
        if lane is not None:
            disk = settings.durability == "disk"
            self._logs[lane] = LaneLog(self._log_path(lane), writable=True, disk=disk)
        self.refresh()

    @property
    def id(self) -> int:
        """The lane that this replica writes.

        Raises:
            ReadOnlyReplica: it is a reader.
        """
        if self._lane is None:
            raise ReadOnlyReplica
        return self._lane

    @property
    def vector(self) -> VersionVector:
        """What this replica has joined."""
        return self._vector

    @property
    def is_reader(self) -> bool:
        return self._lane is None

    # -- reading

    def refresh(self) -> frozenset[bytes]:
        """Join what other lanes published since; the keys that changed. A few microseconds when there is nothing."""
        with self._lock:
            self._find_lanes()
            changed: set[bytes] = set()
            for lane, log in self._logs.items():
                version = log.version()
                if self._versions.get(lane) != version or lane not in self._seen:
                    self._versions[lane] = version
                    changed |= self._join_lane(lane, log)
            return frozenset(changed)

    def _find_lanes(self) -> None:
        lanes = f"{self._directory}/lanes"
        mtime = os.stat(lanes).st_mtime_ns
        if mtime == self._lanes_mtime:
            return
        missing = False
        for entry in os.listdir(lanes):
            lane = int(entry)
            if lane not in self._logs:
                if os.path.exists(self._log_path(lane)):
                    self._logs[lane] = LaneLog(self._log_path(lane), writable=False)
                else:
                    missing = True  # its holder is about to create it
        self._lanes_mtime = -1 if missing else mtime

    def _join_lane(self, lane: int, log: LaneLog) -> set[bytes]:
        since = self._seen.get(lane, 0)
        commits = {row.n: row for row in log.commits(since)}
        if not commits:
            self._seen[lane] = since
            return set()
        top = max(commits)
        for n, row in commits.items():
            self._commits[Dot(lane, n)] = (row.hlc, VersionVector.from_bytes(row.context))
            self._clock.see(row.hlc)
        changed = set()
        for key, n, kind in log.newest_keys(since):
            if n <= top:
                self._add(key, Dot(lane, n), kind)
                changed.add(key)
        self._seen[lane] = top
        self._vector = self._vector.advanced(Dot(lane, top))
        return changed

    def _add(self, key: bytes, dot: Dot, kind: int) -> None:
        hlc, context = self._commits[dot]
        entry = Sibling(dot, context, hlc, kind)
        self._index[key] = surviving([*self._index.get(key, _EMPTY), entry])

    def get(self, key: bytes) -> tuple[Version, ...]:
        """The siblings of `key`, the deterministic winner first; empty if it is absent or deleted.

        Raises:
            NotAuthentic: a record of this key was damaged or planted; other keys are not concerned.
        """
        with self._lock:
            rows = ((sibling, self._row(key, sibling.dot)) for sibling in self._index.get(key, _EMPTY))
            found = [(s, self._authentic(s.dot, row)) for s, row in rows]
            return tuple(Version(s.dot, s.context, s.hlc, self._value(row)) for s, row in found if row.kind != _DELETED)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that are written and not deleted, sorted."""
        with self._lock:
            return sorted(key for key in self._index if key.startswith(prefix) and not self._is_deleted(key))

    def dots(self, key: bytes) -> tuple[Dot, ...]:
        """Which writes `get` would return, without reading them; deletions too."""
        return tuple(sibling.dot for sibling in self._index.get(key, _EMPTY))

    def _is_deleted(self, key: bytes) -> bool:
        return all(sibling.value == _DELETED for sibling in self._index[key])

    def _row(self, key: bytes, dot: Dot) -> EntryRow:
        row = self._logs[dot.replica].entry(key, dot.counter)
        if row is None:
            raise NotAuthentic(f"key {key!r} of space {self._name!r} (commit {dot}, which is gone)")
        return row

    def _value(self, row: EntryRow) -> Value:
        refs = refs_from_bytes(row.blobs)
        if row.kind == _INLINE:
            return Value(row.payload, refs)
        self._blobs.verify(refs[0])
        return Value(bytes(self._blobs.open(refs[0])), refs[1:])

    def log(self, limit: int | None = None, *, newest_first: bool = True) -> Iterator[Commit]:
        """Commits of all lanes, in an order that respects causality.

        Raises:
            NotAuthentic: a commit was damaged or planted.
        """
        with self._lock:
            rows = [
                (lane, row) for lane, log in self._logs.items() for row in log.commits() if row.n <= self._seen[lane]
            ]
        rows.sort(key=lambda r: (r[1].hlc, r[0], r[1].n), reverse=newest_first)
        for lane, row in rows[:limit]:
            if not seal.same(row.mac, self._commit_mac(lane, row.n, row.hlc, row.context, row.note)):
                raise NotAuthentic(f"commit {Dot(lane, row.n)} of space {self._name!r}")
            yield Commit(Dot(lane, row.n), row.hlc, seconds(row.hlc), row.note)

    # -- writing

    def publish(self, writes: Mapping[bytes, Value | None], note: bytes = b"") -> Dot:
        """One commit of all `writes`, visible whole or not at all; None deletes. Joins nothing from other lanes.

        Raises:
            StoreFull, StoreUnusable, StoreDamaged: nothing was published.
            ReadOnlyReplica: this is a reader.
        """
        with self._lock:
            lane = self.id
            dot = Dot(lane, self._seen.get(lane, 0) + 1)
            hlc, context = self._clock.tick(), self._vector.to_bytes()
            rows = [self._entry_row(key, dot, hlc, context, value) for key, value in writes.items()]
            if self._settings.durability == "disk":
                self._blobs.sync()
            commit_mac = self._commit_mac(lane, dot.counter, hlc, context, note)
            self._logs[lane].append(CommitRow(dot.counter, hlc, context, note, commit_mac), rows)
            self._commits[dot] = (hlc, self._vector)
            self._seen[lane] = dot.counter
            for row in rows:
                self._add(row.key, dot, row.kind)
            self._vector = self._vector.advanced(dot)
            return dot

    def _entry_row(self, key: bytes, dot: Dot, hlc: int, context: bytes, value: Value | None) -> EntryRow:
        refs: tuple[BlobRef, ...]
        if value is None:
            kind, payload, refs = _DELETED, b"", ()
        elif len(value.payload) <= self._settings.inline_limit_bytes:
            kind, payload, refs = _INLINE, value.payload, value.blobs
        else:
            kind, payload, refs = _SPILLED, b"", (self._blobs.put(value.payload), *value.blobs)
        blobs = refs_to_bytes(refs)
        return EntryRow(
            key, dot.counter, kind, payload, blobs, self._entry_mac(dot, hlc, context, key, kind, payload, blobs)
        )

    def _entry_mac(
        self, dot: Dot, hlc: int, context: bytes, key: bytes, kind: int, payload: bytes, blobs: bytes
    ) -> bytes:
        head = b"e%d.%d.%d.%d" % (dot.replica, dot.counter, hlc, kind)
        return seal.mac(self._key, (head, context, key, payload, blobs))

    def _commit_mac(self, lane: int, n: int, hlc: int, context: bytes, note: bytes) -> bytes:
        return seal.mac(self._key, (b"c%d.%d.%d" % (lane, n, hlc), context, note))

    def _authentic(self, dot: Dot, row: EntryRow) -> EntryRow:
        hlc, context = self._commits[dot]
        expected = self._entry_mac(dot, hlc, context.to_bytes(), row.key, row.kind, row.payload, row.blobs)
        if not seal.same(row.mac, expected):
            raise NotAuthentic(f"key {row.key!r} of space {self._name!r} (commit {dot})")
        return row

    def put_blob(self, data: bytes | bytearray | memoryview) -> BlobRef:
        """Store a large value; one that is already there is not written again. Name it in a `Value` that you publish.

        Raises:
            StoreFull, StoreUnusable: nothing was stored.
        """
        with self._lock:
            return self._blobs.put(data)

    def open_blob(self, ref: BlobRef) -> memoryview:
        """The bytes, mapped copy-on-write: nothing is read yet, and writing changes this process's copy only.

        Raises:
            BlobDamaged: the file is gone or has another length.
        """
        return self._blobs.open(ref)

    def sync(self) -> None:
        """Flush blobs, then the log that names them, so that a power loss takes nothing published so far."""
        self._blobs.sync()
        if self._lane is not None:
            self._logs[self._lane].sync()

    # -- garbage

    def collect(self, *, now_s: float) -> Collected:
        """Forget superseded versions of this lane beyond the retention, then blobs that no lane's row names.

        Never a current entry, nor anything younger than `retain_s`. A version that another lane superseded stays:
        only a sealed epoch can say that nobody will ask for it.
        """
        with self._lock:
            log = self._logs[self.id]
            versions = self._surplus(log, now_s)
            if versions:
                log.delete(versions)
            freed, blobs = self._drop_unnamed_blobs(now_s)
            return Collected(freed, len(versions), blobs)

    def _surplus(self, log: LaneLog, now_s: float) -> list[tuple[bytes, int]]:
        """Oldest superseded rows, down to `retain_bytes`."""
        rows = log.superseded()
        sizes = [size + sum(ref.nbytes for ref in refs_from_bytes(blobs)) for _, _, size, blobs in rows]
        excess = sum(sizes) - self._settings.retain_bytes
        surplus = []
        for (key, n, _, _), size in zip(rows, sizes, strict=True):
            hlc = self._commits[Dot(self.id, n)][0]
            if excess <= 0 or now_s - seconds(hlc) < self._settings.retain_s:
                break
            surplus.append((key, n))
            excess -= size
        return surplus

    def _drop_unnamed_blobs(self, now_s: float) -> tuple[int, int]:
        named = {
            ref.digest for log in self._logs.values() for data in log.blob_lists() for ref in refs_from_bytes(data)
        }
        old = [r for r, t in self._blobs.files() if r.digest not in named and now_s - t >= self._settings.retain_s]
        return sum(self._blobs.delete(ref) for ref in old), len(old)

    def check(self) -> Iterator[str]:
        """Authenticate every row and read every blob; what is damaged, one line each."""
        for lane, log in self._logs.items():
            for row in log.entries():
                try:
                    self._authentic(Dot(lane, row.n), row)
                    for ref in refs_from_bytes(row.blobs):
                        self._blobs.verify(ref)
                except (KvsError, KeyError) as e:
                    yield str(e)
        try:
            for _ in self.log():
                pass
        except KvsError as e:
            yield str(e)

    def _log_path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/log.sqlite"

    def close(self) -> None:
        """Close every file; a lane is released by whoever claimed it."""
        with self._lock:
            for log in self._logs.values():
                log.close()
            self._logs.clear()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
