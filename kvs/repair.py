"""Repair of one space whose lanes the caller has claimed: what is damaged is moved aside, and what is lost is named.

Theory of operation
- A lane with damage is written anew from the rows that are authentic, into a new file that takes the old one's place in
  one step. The old files are first copied to `quarantine/`, so nothing is ever destroyed; blobs that are not what their
  names say are moved there.
- What a damaged commit wrote must not be forgotten, or an older value would show in its place. So the commit keeps its
  number and the marks of its keys, and those keys stay lost: reading one is an error until it is written again, or
  until `forget` deletes it.
- A lane whose file was unreadable is retired. It is read, and nobody writes it any more: which numbers were given in it
  cannot be known.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from kvs import records, salvage, seal, shared
from kvs.errors import BlobDamaged, StoreDamaged
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes
from kvs.tiers.node import CommitRow, EntryRow, LaneLog, sync_folder
from kvs.tiers.tail import SUFFIX

Marks = frozenset[bytes]
_FILL = 1_000_000
"""Numbers that are gone are given to empty commits, so that they are said to be gone once; not beyond this many."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was `moved` aside, and what is `lost`, a line each."""

    moved: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lane:
    """The rows of one lane, judged: what it will hold, and what is wrong with what it held."""

    commits: dict[int, CommitRow]
    entries: list[EntryRow]
    faults: list[str]
    retired: bool


@dataclass(frozen=True, slots=True)
class Bench:
    """The space under repair."""

    name: str
    directory: str
    key: bytes
    moved: list[str] = field(default_factory=list)
    _stamp: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}")

    def repair(self, lanes: Iterable[int], *, forget: dict[int, Marks] | None = None) -> None:
        """Mend every lane, then the blobs; with `forget`, rows that name a missing blob and those marks go too."""
        paths = {lane: f"{self.directory}/lanes/{lane}/log.sqlite" for lane in lanes}
        paths = {lane: path for lane, path in paths.items() if os.path.exists(path)}
        for path in paths.values():
            _tidy(os.path.dirname(path))
        judged = {lane: self._judge(lane, path) for lane, path in paths.items()}
        bad = self._bad_blobs(row for lane in judged.values() for row in lane.entries)
        for lane, rows in judged.items():
            if forget is not None:
                rows = _without(rows, bad, forget.get(lane, frozenset()), self.key, lane)
            if rows.faults or rows.retired:
                self._rewrite(lane, paths[lane], rows)
        for ref in bad:
            self._move_blob(ref)
        for fault in list(shared.faults(self.directory)):
            self._move_shared(fault)

    def _judge(self, lane: int, path: str) -> _Lane:
        is_sound = salvage.is_sound(path)
        if is_sound:
            log = LaneLog(path, writable=False)
            try:
                commits, entries = log.commits(-(1 << 62)), list(log.entries())
            finally:
                log.close()
        else:
            commits, entries = salvage.salvaged(path)
        return _judged(self.key, lane, commits, entries, retired=not is_sound)

    def _bad_blobs(self, entries: Iterable[EntryRow]) -> set[BlobRef]:
        blobs = Blobs(f"{self.directory}/blobs")
        bad = set()
        for ref in {ref for row in entries for ref in refs_from_bytes(row.blobs)}:
            try:
                blobs.verify(ref)
            except BlobDamaged:
                bad.add(ref)
        return bad

    def _move_blob(self, ref: BlobRef) -> None:
        source = Blobs(f"{self.directory}/blobs").path(ref)
        if os.path.exists(source):
            target = f"{self._quarantine('blobs')}/{ref.digest.hex()}"
            os.rename(source, target)
            self.moved.append(f"{source} does not hold what its name says; moved to {target}")

    def _move_shared(self, fault: StoreDamaged) -> None:
        """A shared map is read without the file; one that lost its table gets another when it is opened."""
        folder, name = os.path.split(fault.path)
        target = f"{self._quarantine('shared')}/{os.path.basename(folder)}-{name}"
        os.rename(fault.path, target)
        self.moved.append(f"{fault.path} is damaged: {fault.why}; moved to {target}")

    def _rewrite(self, lane: int, path: str, rows: _Lane) -> None:
        """The old files are copied, then replaced in one step: a crash leaves the lane as it was, or repaired."""
        folder, kept = os.path.dirname(path), self._quarantine(f"lane-{lane}")
        for suffix in ("", "-wal", SUFFIX):
            if os.path.exists(path + suffix):
                shutil.copy2(path + suffix, kept)
        sync_folder(kept)
        made = f"{folder}/repaired.sqlite"
        log = LaneLog(made, writable=True, disk=True)
        try:
            log.replace(rows.commits.values(), rows.entries)
        finally:
            log.close()
        if rows.retired:
            os.close(os.open(f"{folder}/retired", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        else:
            log = LaneLog(path, writable=True)
            log.empty_wal()
            log.close()
        for suffix in ("-wal", "-shm"):
            _remove(path + suffix)
        os.rename(made, path)
        sync_folder(folder)
        _remove(path + SUFFIX)  # after it, so that a crash in between leaves frames that the new log has too
        self.moved.extend(f"lane {lane}: {fault}" for fault in rows.faults)
        state = "written anew, and retired" if rows.retired else "written anew"
        self.moved.append(f"lane {lane}: {len(rows.commits)} commits, {len(rows.entries)} records {state}; was: {kept}")

    def _quarantine(self, name: str) -> str:
        path = f"{self.directory}/quarantine/{self._stamp}/{name}"
        os.makedirs(path, 0o700, exist_ok=True)
        return path


def _judged(key: bytes, lane: int, commits: list[CommitRow], entries: list[EntryRow], *, retired: bool) -> _Lane:
    """Keep what is authentic; what is not stays as marks of lost keys."""
    good: dict[int, CommitRow] = {}
    for row in commits:
        if row.n not in good and records.is_authentic_commit(key, lane, row):
            good[row.n] = row
    bad = [row for row in commits if row.n not in good]
    faults = ["its file could not be read whole"] if retired else []
    faults += [f"commit {lane}.{row.n!r} is not authentic" for row in bad]
    for n, row in good.items():
        if not records.has_authentic_note(key, lane, row):
            faults.append(f"the note of commit {lane}.{n} is not authentic")
            good[n] = records.sealed(key, lane, row._replace(note=b""))
    top = max(good, default=0) + len(bad)  # as many numbers as there are damaged rows may be beyond the good ones
    kept, lost = [], {row.n: _marks_of(row) for row in bad if isinstance(row.n, int) and 0 < row.n <= top}
    top = max([0, *good, *lost])
    for entry in entries:
        commit = good.get(entry.n)
        if commit is not None and records.is_authentic_entry(key, lane, commit, entry):
            kept.append(entry)
            continue
        faults.append(f"key {entry.key!r} of commit {lane}.{entry.n!r} is not authentic")
        if commit is None and isinstance(entry.key, bytes) and isinstance(entry.n, int) and top:
            n = max(1, min(entry.n, top))
            lost[n] = lost.get(n, frozenset()) | {seal.key_mark(entry.key)}
    for n, marks in sorted(lost.items()):
        good[n] = _with_marks(key, lane, n, good, marks)
    for first, last in list(records.gaps(good)) if max(good, default=0) <= 2 * len(commits) + _FILL else ():
        faults.append(f"commits {first} to {last} are gone, and with them what they wrote")
        good |= {n: _with_marks(key, lane, n, good, frozenset()) for n in range(first, last + 1)}
    return _Lane(dict(sorted(good.items())), kept, faults, retired)


def _marks_of(row: CommitRow) -> Marks:
    is_list = isinstance(row.marks, bytes) and len(row.marks) % seal.MARK_SIZE == 0
    return frozenset(records.split_marks(row.marks)) if is_list else frozenset()


def _with_marks(key: bytes, lane: int, n: int, good: dict[int, CommitRow], marks: Marks) -> CommitRow:
    """Commit `n` with these marks too; one that is not there knows what the one before it knew."""
    row = good.get(n)
    if row is None:
        before = max((m for m in good if m < n), default=0)
        hlc, context = (good[before].hlc, good[before].context) if before else (0, b"")
        row = CommitRow(n, hlc, context, b"", b"", b"")
    return records.sealed(key, lane, row._replace(marks=row.marks + b"".join(sorted(marks - _marks_of(row)))))


def _without(rows: _Lane, bad: set[BlobRef], marks: Marks, key: bytes, lane: int) -> _Lane:
    """Leave out rows that name a blob which is gone, and the marks of keys that nobody can name."""
    entries = [row for row in rows.entries if not bad.intersection(refs_from_bytes(row.blobs))]
    faults = list(rows.faults)
    faults += [f"key {row.key!r} of commit {lane}.{row.n} names a blob that is gone" for row in rows.entries
               if row not in entries]  # fmt: skip
    commits = dict(rows.commits)
    for n, row in rows.commits.items():
        if marks.intersection(found := records.split_marks(row.marks)):
            left = b"".join(mark for mark in found if mark not in marks)
            commits[n] = records.sealed(key, lane, row._replace(marks=left))
            faults.append(f"a key that commit {lane}.{n} wrote, and that nothing names any more, is forgotten")
    return _Lane(commits, entries, faults, rows.retired)


def _tidy(folder: str) -> None:
    """Take away what a repair that was killed left in a lane's folder."""
    for name in os.listdir(folder):
        if name.startswith("repaired.sqlite"):
            os.unlink(f"{folder}/{name}")
        elif name.startswith(salvage.PREFIX):
            shutil.rmtree(f"{folder}/{name}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
