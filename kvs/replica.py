"""A replica: one frozen view of a space, joined from every lane's log, and the lane that this process writes.

Theory of operation
- A write belongs to its lane: its holder appends, nobody else does. A read joins the lanes. So there is no lock that
  one writer could hold against another, no retry and no compare-and-swap; a stopped writer stops nobody.
- The joined index is in memory: for each key the newest entry of each lane that no other entry has seen. Payloads
  are read when they are asked for, and authenticated before they are handed out.
- A commit is authenticated when it is joined, and lists a mark of each key that it wrote. The marks are compared with
  the rows that are there: a row that went missing, or whose commit was damaged, makes its key *lost*. Reading a lost
  key is an error until somebody writes it again, never the older value that lies below.
- The view advances only in `refresh` and `publish`: between them a reader sees one causal cut. A pin tells
  collectors what that is.
- A lane whose file cannot be read is left out with a warning. A key that no other lane has is then refused, since the
  unreadable one may have it.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvs import records, seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.causal.register import surviving
from kvs.clock import HybridClock, seconds
from kvs.errors import (
    DamageWarning,
    KvsError,
    LaneLost,
    NotAuthentic,
    ReadOnlyReplica,
    StoreDamaged,
    StoreUnusable,
)
from kvs.history import History, lane_history
from kvs.pins import NEVER, Pin
from kvs.records import DELETED, INLINE, SPILLED
from kvs.recovery import ALL, SyncMark
from kvs.settings import Settings
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes, refs_to_bytes
from kvs.tiers.node import CommitRow, EntryRow, LaneLog, sync_folder, translated
from kvs.upkeep import SETTLED_NS, Lost, Upkeep

if TYPE_CHECKING:
    from kvs.mirror import Mirror
    from kvs.tiers.protocol import Tier

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


class Replica(Upkeep):
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
        self._versions: dict[int, int] = {}
        self._commits: dict[Dot, tuple[int, VersionVector]] = {}
        self._index: dict[bytes, tuple[Sibling[int], ...]] = {}
        self._vector = VersionVector()
        self._needed = VersionVector()
        self._lost: dict[bytes, Lost] = {}
        self._gone: list[tuple[int, int, int]] = []
        self._unreadable: dict[int, StoreDamaged] = {}
        self._lanes_mtime = -1
        self._is_placed = False
        self._unpublished_ns = NEVER
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

    def refresh(self) -> frozenset[bytes]:
        """Join what other lanes published since; the keys that changed. A few microseconds when there is nothing."""
        with self._lock:
            changed = self._join_lanes()
            while not self._needed.leq(self._vector):  # a lane that was read early moved on before one read late
                before = self._vector
                changed |= self._join_lanes()
                if self._vector == before:
                    self._give_up_tails()
            self._pin.move(self._vector)
            return frozenset(changed)

    def _join_lanes(self) -> set[bytes]:
        self._find_lanes()
        changed: set[bytes] = set()
        for lane, log in list(self._logs.items()):
            if lane == self._lane and lane in self._seen:
                continue  # nobody else writes it
            try:
                version = log.version()
                if self._versions.get(lane) != version or lane not in self._seen:
                    changed |= self._join_lane(lane, log)
                    self._versions[lane] = version
            except StoreDamaged as e:
                if lane == self._lane:
                    raise
                self._leave_out(lane, e)
        return changed

    def _leave_out(self, lane: int, error: StoreDamaged) -> None:
        self._unreadable[lane] = error
        if (log := self._logs.pop(lane, None)) is not None:
            log.close()
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
        since = self._seen.setdefault(lane, 0)
        with log.snapshot():  # else a commit in between could replace rows of the commits that were read before it
            commits, rows = log.commits(since), log.newest_keys(since)
        if not commits and not rows:
            return set()
        marks = self._learn(lane, commits)
        top = _highest(since, commits, rows, {dot.counter for dot in self._commits if dot.replica == lane})
        changed = set()
        for key, n, kind in rows:
            mark = seal.key_mark(key)
            written = marks.pop(mark, None)
            if written == n:
                self._add(key, Dot(lane, n), kind)
            else:
                self._lose(mark, Lost(Dot(lane, max(written or 0, min(n, top))), key))
            changed.add(key)
        for mark, n in marks.items():
            self._lose(mark, Lost(Dot(lane, n), b""))
        self._seen[lane] = top
        self._vector = self._vector.advanced(Dot(lane, top))
        return changed

    def _learn(self, lane: int, commits: list[CommitRow]) -> dict[bytes, int]:
        """Take in the authentic ones of `commits`; for each mark of a key, the newest of them that wrote it."""
        newest: dict[bytes, int] = {}
        context = VersionVector()
        for row in commits:
            if self._is_authentic(lane, row):
                context = VersionVector.from_bytes(row.context)
                self._commits[Dot(lane, row.n)] = (row.hlc, context)
                self._clock.see(row.hlc)
                for at in range(0, len(row.marks), seal.MARK_SIZE):
                    newest[row.marks[at : at + seal.MARK_SIZE]] = row.n
        self._needed = self._needed.join(context)  # a later context holds every earlier one of its lane
        return newest

    def _is_authentic(self, lane: int, row: CommitRow) -> bool:
        return records.is_authentic_commit(self._key, lane, row)

    def _lose(self, mark: bytes, lost: Lost) -> None:
        """Remember that a write is damaged, unless one that we know has replaced it."""
        keys = [lost.key] if lost.key else [key for key in self._index if seal.key_mark(key) == mark]
        if not any(lost.dot in sibling.context for key in keys for sibling in self._index.get(key, _EMPTY)):
            self._lost[mark] = Lost(lost.dot, keys[0] if keys else b"")

    def _add(self, key: bytes, dot: Dot, kind: int) -> None:
        hlc, context = self._commits[dot]
        entry = Sibling(dot, context, hlc, kind)
        known = self._index.get(key)
        self._index[key] = surviving([*known, entry]) if known else (entry,)
        if self._lost:
            mark = seal.key_mark(key)
            if mark in self._lost and self._lost[mark].dot in context:
                del self._lost[mark]

    def _refuse_lost(self, key: bytes) -> None:
        if self._lost and (lost := self._lost.get(seal.key_mark(key))):
            raise NotAuthentic(f"key {key!r} of space {self._name!r} (commit {lost.dot})")

    def _refuse_unreadable(self, lane: int) -> None:
        if lane in self._unreadable:
            error = self._unreadable[lane]
            raise StoreDamaged(error.path, error.why)

    def get(self, key: bytes) -> tuple[Version, ...]:
        """The siblings of `key`, the deterministic winner first; empty if it is absent or deleted.

        Raises:
            NotAuthentic: a record of this key was damaged or planted; other keys are not concerned.
            StoreDamaged: the lane that has it cannot be read, or may have it.
            StoreForeign: a later version wrote it.
        """
        with self._lock:
            self._refuse_lost(key)
            if self._unreadable and key not in self._index:
                self._refuse_unreadable(min(self._unreadable))
            rows = ((sibling, self._row(key, sibling.dot)) for sibling in self._index.get(key, _EMPTY))
            found = [(s, self._authentic(s.dot, row)) for s, row in rows]
            return tuple(Version(s.dot, s.context, s.hlc, self._value(row)) for s, row in found if row.kind != DELETED)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that are written and not deleted, sorted; damaged ones, which `get` refuses, are among them."""
        with self._lock:
            found = {key for key in self._index if key.startswith(prefix) and not self._is_deleted(key)}
            found |= {lost.key for lost in self._lost.values() if lost.key and lost.key.startswith(prefix)}
            return sorted(found)

    def dots(self, key: bytes) -> tuple[Dot, ...]:
        """Which writes `get` would return, without reading them; deletions too."""
        return tuple(sibling.dot for sibling in self._index.get(key, _EMPTY))

    def _is_deleted(self, key: bytes) -> bool:
        return all(sibling.value == DELETED for sibling in self._index[key])

    def _row(self, key: bytes, dot: Dot) -> EntryRow:
        self._refuse_unreadable(dot.replica)
        row = self._logs[dot.replica].entry(key, dot.counter)
        if row is None:
            raise NotAuthentic(f"key {key!r} of space {self._name!r} (commit {dot}, which is gone)")
        return row

    def _value(self, row: EntryRow) -> Value:
        refs = refs_from_bytes(row.blobs)
        if row.kind == INLINE:
            return Value(row.payload, refs)
        return Value(self._blobs.read(refs[0]), refs[1:])

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
            lanes = [lane_history(lane, log, self._seen[lane], self._is_authentic) for lane, log in self._logs.items()]
            return History(lanes, self._version, self.open_blob, self.read_blob)

    def _version(self, key: bytes, dot: Dot) -> Version | None:
        with self._lock:
            self._refuse_unreadable(dot.replica)
            row = self._logs[dot.replica].entry(key, dot.counter)
            if row is None:
                raise LookupError(key)
            row, (hlc, context) = self._authentic(dot, row), self._commits[dot]
            return None if row.kind == DELETED else Version(dot, context, hlc, self._value(row))

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
            if self._logs[lane].is_checkpoint_due:
                self.sync()  # a checkpoint flushes rows, and what they name goes first
                self._logs[lane].checkpoint()
            dot = Dot(lane, self._seen.get(lane, 0) + 1)
            hlc, context = self._clock.tick(), self._vector.to_bytes()
            rows = [self._entry_row(key, dot, hlc, context, value) for key, value in writes.items()]
            if self._settings.durability == "disk":
                self._blobs.sync()
            marks = b"".join(map(seal.key_mark, writes))
            commit = CommitRow(dot.counter, hlc, context, note, marks, b"")
            self._logs[lane].append(records.sealed(self._key, lane, commit), rows)
            self._commits[dot] = (hlc, self._vector)
            self._seen[lane] = dot.counter
            for row in rows:
                self._add(row.key, dot, row.kind)
            self._vector = self._vector.advanced(dot)
            self._unpublished_ns = NEVER
            return dot

    def _entry_row(self, key: bytes, dot: Dot, hlc: int, context: bytes, value: Value | None) -> EntryRow:
        refs: tuple[BlobRef, ...]
        if value is None:
            kind, payload, refs = DELETED, b"", ()
        elif len(value.payload) <= self._settings.inline_limit_bytes:
            kind, payload, refs = INLINE, value.payload, value.blobs
        else:
            kind, payload, refs = SPILLED, b"", (self.put_blob(value.payload), *value.blobs)
        blobs = refs_to_bytes(refs)
        code = records.entry_mac(self._key, dot, hlc, context, EntryRow(key, dot.counter, kind, payload, blobs, b""))
        return EntryRow(key, dot.counter, kind, payload, blobs, code)

    def _authentic(self, dot: Dot, row: EntryRow) -> EntryRow:
        what = f"key {row.key!r} of space {self._name!r} (commit {dot})"
        known = self._commits.get(dot)
        if known and records.is_authentic_entry_of(self._key, dot, known[0], known[1].to_bytes(), row):
            records.refuse_newer(what, row.kind)
            return row
        raise NotAuthentic(what)

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

    def sync(self, level: str = "disk", *, deadline_s: float = 60.0) -> None:
        """Bring what was published so far to a level: `disk` (a power loss takes nothing) or `object` (all that this
        machine published to the space is in the store's cold tier too, so the loss of the machine takes nothing).

        At `disk`, blobs are flushed, then the log that names them. Only `object` has a deadline.

        Raises:
            StoreUnusable: it could not be flushed, call it again; or the store has no cold tier.
            TierUnreachable: the deadline came first. TierRefused, LaneLost: see `Mirror.push`.
            ValueError: there is no such level.
        """
        if level not in ("disk", "object"):
            raise ValueError(f"level is {level!r}. Give 'disk' or 'object'.")
        if level == "object" and self._cold is None:
            raise StoreUnusable(
                self._directory, "it has no cold tier", 'Open the store with cold="s3://bucket/prefix".'
            )
        last = self._seen.get(self._lane, 0) if self._lane is not None else 0
        self._blobs.sync()
        self._hold_no_longer()
        if self._lane is not None:
            self._sync_place()
            self._logs[self._lane].sync()
            if self._settings.durability != "disk":
                self._mark.write(last)
        if level == "object" and self._cold is not None:
            from kvs.mirror import Mirror  # here: only a store with a cold tier needs it

            with self._lock:
                self._mirror = self._mirror or Mirror(self._directory, self._key, self._cold)
            self._mirror.push(deadline_s=deadline_s)

    def _hold_no_longer(self) -> None:
        """Let collectors have what was put, if it was published. Not in every publish, of which it would be a part."""
        with self._lock:
            if self._unpublished_ns == NEVER:
                self._pin.hold(NEVER)

    def _sync_place(self) -> None:
        """Flush the names of the directories that lead to this lane, once."""
        if not self._is_placed:
            space = self._directory
            for folder in (f"{space}/lanes/{self._lane}", f"{space}/lanes", f"{space}/blobs", space):
                translated(folder, partial(sync_folder, folder))
            translated(space, partial(sync_folder, os.path.dirname(space)))
            self._is_placed = True

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
        with self._lock:
            try:
                if self._lane in self._logs and os.getpid() == self._pid:
                    self._blobs.sync()  # the last one to close a log checkpoints it, and that flushes rows
            finally:
                self._close_files()

    def _close_files(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._pin.drop()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _highest(since: int, commits: list[CommitRow], rows: list[tuple[bytes, int, int]], good: set[int]) -> int:
    """The newest commit of a lane, damaged ones included, so that no number is ever given twice.

    A damaged row may show any number: those that the count of damaged rows cannot explain are not believed.
    """
    top = max((n for n in good if n > since), default=since)
    limit = top + sum(row.n not in good for row in commits)
    return max([top, *(row.n for row in commits if row.n <= limit), *(n for _, n, _ in rows if n <= limit)])
