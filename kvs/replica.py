"""A replica: one frozen view of a space, joined from every lane's log, and the lane that this process writes.

Theory of operation
- A write belongs to its lane: its holder appends, nobody else does. A read joins the lanes. So there is no lock that
  one writer could hold against another, no retry and no compare-and-swap; a stopped writer stops nobody.
- What was read is kept, authenticated and decoded, until a write of its key is joined; up to a limit of bytes. Joining
  is told of in `kvs.joining`.
- The view advances only in `refresh` and `publish`: between them a reader sees one causal cut. A pin tells
  collectors what that is.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvs import records, seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.clock import HybridClock
from kvs.errors import LaneLost, NotAuthentic, ReadOnlyReplica, StoreDamaged
from kvs.folding import Folding
from kvs.joining import Joining
from kvs.key_index import Head, KeyIndex
from kvs.pins import NEVER, Pin
from kvs.recalling import Recalling
from kvs.records import DELETED, INLINE, SPILLED
from kvs.recovery import ALL, SyncMark
from kvs.settings import Settings
from kvs.syncing import Syncing
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes, refs_to_bytes
from kvs.tiers.news import News
from kvs.tiers.node import CommitRow, EntryRow, LaneLog
from kvs.upkeep import Lost, Upkeep
from kvs.verbs import Verbs
from kvs.version import Commit, Value, Version

if TYPE_CHECKING:
    from weakref import WeakSet

    from kvs.mirror import Mirror
    from kvs.shared import SharedMap
    from kvs.tiers.protocol import Tier
    from kvs.watch import Watch

__all__ = ["Commit", "Replica", "Value", "Version"]

_EMPTY: tuple[()] = ()
_SHOWN_NBYTES = 16 << 20
"""Of payloads that are kept, authenticated, for the next read; where there are more, all are read again."""
_SHOWN_COST = 500
"""Bytes that a version takes besides its payload."""


class Replica(Joining, Recalling, Syncing, Upkeep, Verbs):
    """See the module. Safe to use from several threads; each call is atomic."""

    def __init__(
        self,
        name: str,
        directory: str,
        key: bytes,
        settings: Settings,
        *,
        lane: int | None,
        clock: HybridClock,
        cold: Tier | None = None,
    ) -> None:
        self._name, self._directory, self._key, self._settings = name, directory, key, settings
        self._lane = lane
        self._pid = os.getpid()
        self._clock = clock
        self._lock = threading.RLock()
        self._blobs = Blobs(f"{directory}/blobs", cold.get_blob if cold is not None else None)
        self._cold = cold
        self._mirror: Mirror | None = None
        self._logs: dict[int, LaneLog] = {}
        self._seen: dict[int, int] = {}
        self._followed: set[int] = set()
        """Lanes that were joined since their logs were opened."""
        self._commits: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._index: dict[bytes, tuple[Sibling[int], ...]] = {}
        self._shown: dict[bytes, tuple[Version, ...]] = {}
        self._outdated: dict[bytes, tuple[Version, ...]] = {}
        self._kept: dict[bytes, int] = {}
        """Bytes that the versions of a key were counted with when they were kept last."""
        self._shown_nbytes = 0
        self._vector = VersionVector()
        self._needed = VersionVector()
        self._lost: dict[bytes, Lost] = {}
        self._gone: list[tuple[int, int, int]] = []
        self._unreadable: dict[int, StoreDamaged] = {}
        self._lanes_mtime = -1
        self._is_new = True
        self._unread: dict[int, KeyIndex] = {}
        self._found: set[bytes] = set()
        self._looked_up: dict[Dot, EntryRow] = {}
        """Rows of the key that was looked for last in lanes that are not read."""
        self._unsealed: dict[bytes, int] | None = {}
        self._sealed: Head | None = None
        self._is_placed = False
        self._unpublished_ns = NEVER
        self._watches: WeakSet[Watch] | None = None
        self._maps: WeakSet[SharedMap] | None = None
        self._news = News(f"{directory}/lanes/news")
        self._folding = Folding(self.sync)
        self._pin = Pin(self._pins)
        try:
            if lane is not None:
                disk = settings.durability == "disk"
                self._logs[lane] = LaneLog(self._log_path(lane), writable=True, disk=disk)
                self._mark = SyncMark(f"{directory}/lanes/{lane}/synced")
                if disk:
                    self._sync_place()
            self.refresh()
            if lane is not None:
                self._doubt_from_now()
        except BaseException:
            self._close_files()
            raise

    def _doubt_from_now(self) -> None:
        """Of what this replica will publish, only what it flushed is sure to be whole after a power loss."""
        if self._settings.durability == "disk":
            self._mark.write(ALL)
        elif self._mark.read() == ALL:
            self._mark.write(self._seen.get(self.id, 0), flush=True)

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

    @property
    def unreadable(self) -> tuple[StoreDamaged, ...]:
        """The lanes that were left out because their files cannot be read, each as the error that names it."""
        return tuple(self._unreadable.values())

    # -- reading

    def get(self, key: bytes) -> tuple[Version, ...]:
        """The siblings of `key`, the deterministic winner first; empty if it is absent or deleted.

        Raises:
            NotAuthentic: a record of this key was damaged or planted; other keys are not concerned.
            StoreDamaged: the lane that has it cannot be read, or may have it.
            StoreForeign: a later version wrote it.
        """
        found = self._shown.get(key)
        return found if found is not None else self._read(key)

    def _read(self, key: bytes) -> tuple[Version, ...]:
        with self._lock:
            siblings = self._siblings(key)
            self._refuse_lost(key)
            if self._unreadable and not siblings:
                self._refuse_unreadable(min(self._unreadable))
            before = self._outdated.pop(key, _EMPTY)
            known = {version[0]: version for version in before} if before else None
            versions, is_small = [], True
            for dot, context, hlc, _ in siblings:
                version = known.get(dot) if known else None
                if version is None:
                    row = self._authentic(dot, self._row(key, dot))
                    if row.kind == DELETED:
                        continue
                    is_small = is_small and row.kind != SPILLED
                    version = Version(dot, context, hlc, self._value(row))
                versions.append(version)
            found = tuple(versions)
            if found and is_small:
                self._keep(key, found)
            return found

    def _keep(self, key: bytes, versions: tuple[Version, ...]) -> None:
        """For the next read. Who joins a write of the key drops it before the lock is free, so a cut stays one."""
        nbytes = _SHOWN_COST * len(versions)
        for _, _, _, value in versions:
            nbytes += len(value[0])
        self._shown_nbytes += nbytes - self._kept.get(key, 0)
        if self._shown_nbytes > _SHOWN_NBYTES:
            for kept in (self._shown, self._outdated, self._kept):
                kept.clear()
            self._shown_nbytes = nbytes
        self._shown[key], self._kept[key] = versions, nbytes

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that are written and not deleted, sorted; damaged ones, which `get` refuses, are among them."""
        with self._lock:
            self._read_all()
            found = {
                key
                for key, siblings in self._index.items()
                if key.startswith(prefix) and (siblings[0].value != DELETED or not _are_deleted(siblings))
            }
            found |= {lost.key for lost in self._lost.values() if lost.key and lost.key.startswith(prefix)}
            return sorted(found)

    def dots(self, key: bytes) -> tuple[Dot, ...]:
        """Which writes `get` would return, without reading them; deletions too."""
        return tuple(sibling.dot for sibling in self._siblings(key))

    def _row(self, key: bytes, dot: Dot) -> EntryRow:
        lane, n = dot
        if self._unreadable:
            self._refuse_unreadable(lane)
        row = self._looked_up.get(dot)  # was found just now
        if row is None or row.key != key:
            row = self._logs[lane].entry(key, n)
        if row is None:
            raise NotAuthentic(f"key {key!r} of space {self._name!r} (commit {dot}, which is gone)")
        return row

    def _value(self, row: EntryRow) -> Value:
        refs = refs_from_bytes(row.blobs) if row.blobs else _EMPTY
        if row.kind == INLINE:
            return Value(row.payload, refs)
        return Value(self._blobs.read(refs[0]), refs[1:])

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No other thread acts on this replica inside: what was read is not collected before it is published anew."""
        with self._lock:
            yield

    # -- writing

    def publish(self, writes: Mapping[bytes, Value | None], note: bytes = b"") -> Dot:
        """One commit of all `writes`, visible whole or not at all; None deletes. Joins nothing from other lanes.

        Raises:
            StoreFull, StoreUnusable, StoreDamaged: nothing was published.
            LaneLost: this is a fork of the process that holds the lane, or another wrote it; nothing was published.
            ReadOnlyReplica: this is a reader.
        """
        with self._lock:
            lane = self.id
            if os.getpid() != self._pid:
                raise LaneLost(self._log_path(lane), f"process {self._pid} holds it, and this is a fork of that")
            if self._logs[lane].is_checkpoint_overdue:
                self._folding.begin(is_urgent=self._logs[lane].is_checkpoint_urgent)
            dot = Dot(lane, self._seen.get(lane, 0) + 1)
            hlc, vector = self._clock.tick(), self._vector
            context = vector.to_bytes()
            limit = self._settings.inline_limit_bytes
            stored = [
                (key, INLINE, value[0], b"")
                if value is not None and not value[1] and len(value[0]) <= limit
                else (key, *self._stored(value))
                for key, value in writes.items()
            ]
            rows = records.sealed_entries(self._key, dot, hlc, context, stored)
            if self._settings.durability == "disk":
                self._blobs.sync()
            marks = list(map(seal.known_mark, writes))
            commit = CommitRow(dot.counter, hlc, context, note, b"".join(marks), b"")
            self._logs[lane].append(records.sealed(self._key, lane, commit), rows)
            self._commits[lane, dot.counter] = (hlc, context)
            self._seen[lane] = dot.counter
            self._replace(rows, dot, vector, hlc)
            if self._unsealed is not None:
                self._unsealed.update(dict.fromkeys(marks, dot.counter))
            self._vector = vector.advanced(dot)
            self._logs[lane].tell(self._news)
            self._unpublished_ns = NEVER
            return dot

    def _stored(self, value: Value | None) -> tuple[int, bytes, bytes]:
        """The kind, the payload and the blobs of the row that says so."""
        if value is None:
            return DELETED, b"", b""
        payload, refs = value
        if len(payload) <= self._settings.inline_limit_bytes:
            return INLINE, payload, refs_to_bytes(refs)
        return SPILLED, b"", refs_to_bytes((self.put_blob(payload), *refs))

    def _authentic(self, dot: Dot, row: EntryRow) -> EntryRow:
        known = self._commits.get(dot)
        if known is None or not records.is_authentic_entry_of(self._key, dot, *known, row):
            raise NotAuthentic(f"key {row.key!r} of space {self._name!r} (commit {dot})")
        if not DELETED <= row.kind <= SPILLED:
            records.refuse_newer(f"key {row.key!r} of space {self._name!r} (commit {dot})", row.kind)
        return row

    def put_blob(self, data: bytes | bytearray | memoryview) -> BlobRef:
        """Store a large value; one that is already there is not written again. Name it in a `Value` that you publish.

        Raises:
            StoreFull, StoreUnusable: nothing was stored.
        """
        with self._lock:
            if self._unpublished_ns == NEVER:
                self._unpublished_ns = time.time_ns()
                self._pin.hold(self._unpublished_ns)  # before it is there, so that nobody deletes it
            return self._blobs.put(data)

    def open_blob(self, ref: BlobRef) -> memoryview:
        """The bytes, mapped copy-on-write: nothing is read yet, and writing changes this process's copy only.

        Raises:
            BlobDamaged: the file is gone or has another length.
        """
        return self._blobs.open(ref)

    def read_blob(self, ref: BlobRef) -> bytes:
        """A copy of the bytes, verified.

        Raises:
            BlobDamaged: the file is gone, or is not what its name says.
        """
        return self._blobs.read(ref)

    @property
    def _pins(self) -> str:
        return f"{self._directory}/pins"

    def _log_path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/log.sqlite"

    def close(self) -> None:
        """Close every file; a lane is released by whoever claimed it.

        Raises:
            StoreUnusable: what was published could not be flushed; everything is closed all the same.
        """
        self._end_watches()
        try:
            if self._lane in self._logs and os.getpid() == self._pid:
                self._folding.end()
                with self._lock:
                    self._blobs.sync()  # the last one to close a log checkpoints it, and that flushes rows
                    self._seal_at_close(self._logs[self._lane])
        finally:
            with self._lock:
                self._close_files()

    def _close_files(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._close_unread()
        self._shown.clear()
        self._outdated.clear()
        self._news.close()
        self._pin.drop()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _are_deleted(siblings: tuple[Sibling[int], ...]) -> bool:
    return all(sibling.value == DELETED for sibling in siblings)
