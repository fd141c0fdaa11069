"""Copies what this machine wrote to a colder tier, while the node tier stays the place of work.

Theory of operation
- A mirror reads the logs as any reader does and stalls nobody. It remembers nothing on disk: where a lane ends in the
  tier is asked once, and then known. So it may be killed anywhere; the next one goes on from what is there.
- First everything is flushed here, so that the tier never has what a power loss takes from us. Then the blobs that a
  range of records names, then the records: what names a blob is never there without it.
- Every record is authenticated before it goes. Damage stays here.
- A lane that ends otherwise in the tier than here was written by two: that is `LaneLost`, and nothing is overwritten.
  Lanes that were restored from the tier are not ours to push.
- Any number of mirrors of one space may run at once: they put the same, once.
- What is doomed in the tier does not count as there: which that is, is looked up after records were read and before
  their blobs are (`kvs.cold.collector` says why).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from kvs import records, seal
from kvs.causal import Dot
from kvs.cold.membership import Mark, as_passed, enter, read_mark
from kvs.errors import BlobDamaged, KvsError, LaneLost, NotAuthentic, StoreDamaged
from kvs.restore import RESTORED
from kvs.settings import Settings
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes
from kvs.tiers.failures import TierUnreachable
from kvs.tiers.files import sync_file
from kvs.tiers.local import records_of
from kvs.tiers.node import LaneLog, sync_folder
from kvs.tiers.protocol import Record, Tier, is_same

_RANGE_RECORDS, _RANGE_BYTES = 1000, 4 << 20


class Pushed(NamedTuple):
    """What a push copied: commits and blobs that were not known to be in the tier, and their bytes."""

    commits: int
    blobs: int
    nbytes: int


class Mirror:
    """See the module. `push` may be called from any thread, one push runs at a time."""

    def __init__(self, directory: str, key: bytes, tier: Tier, *, lease_s: float = Settings().cold_lease_s) -> None:
        self._directory, self._key, self._tier, self._lease_s = directory, key, tier, lease_s
        self._blobs = Blobs(f"{directory}/blobs", tier.get_blob)
        self._pushing = threading.Lock()
        self._ends: dict[int, int] = {}
        self._there: set[BlobRef] = set()
        self._mark: Mark | None = None

    def push(self, *, deadline_s: float = 60.0) -> Pushed:
        """Copy everything published here so far; when it returns, all of it is in the tier.

        Raises:
            TierUnreachable: the deadline came first; call it again, it goes on from there.
            TierRefused: settings are wrong. LaneLost: another machine writes one of our lanes.
            NotAuthentic, BlobDamaged, StoreDamaged: something here is damaged; nothing of its range of commits was
            copied. After one of the last four, all other lanes are in the tier.
        """
        end_s = time.monotonic() + deadline_s
        if not self._pushing.acquire(timeout=deadline_s):
            raise TierUnreachable(self._tier.name, deadline_s, "another push of this mirror is not finished")
        try:
            tier, done = self._tier.until(end_s), Pushed(0, 0, 0)
            if lanes := self._lanes():
                enter(self._directory, self._key, tier, now_s=time.time(), lease_s=self._lease_s, end_s=end_s)
            failures: list[KvsError] = []
            for lane in lanes:
                try:
                    for part in self._push_lane(lane, tier, end_s):
                        done = Pushed(*(a + b for a, b in zip(done, part, strict=True)))
                except (LaneLost, NotAuthentic, BlobDamaged, StoreDamaged) as e:
                    failures.append(e)
            if failures:
                raise failures[0]
            return done
        finally:
            self._pushing.release()

    def _lanes(self) -> list[int]:
        folder = f"{self._directory}/lanes"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:  # nothing was written yet
            return []
        lanes = sorted(int(name) for name in names if name.isdecimal())
        return [n for n in lanes if os.path.exists(self._path(n)) and not os.path.exists(f"{folder}/{n}/{RESTORED}")]

    def _push_lane(self, lane: int, tier: Tier, end_s: float) -> Iterator[Pushed]:
        log = LaneLog(self._path(lane), writable=False)
        try:
            if log.last() == self._ends.get(lane, 0):
                return
            if lane not in self._ends:
                self._ends[lane] = self._end_of(lane, log, tier)
            for part in _ranges(records_of(log, self._ends[lane])):
                for record in part:
                    self._check(lane, record)
                sent: list[int] = []
                tier = self._as_passed(tier)
                part = [self._with_blobs(record, log, tier, end_s, sent) for record in part]
                _check_time(tier.name, end_s)
                log.sync()
                tier.append(lane, part, after=self._ends[lane])
                self._ends[lane] = part[-1].n
                yield Pushed(len(part), len(sent), sum(sent) + sum(record.nbytes for record in part))
        finally:
            log.close()

    def _as_passed(self, tier: Tier) -> Tier:
        """The tier without what is doomed by now; what was known to be there is asked again when that has changed."""
        mark = read_mark(self._directory)
        if mark != self._mark:
            self._mark = mark
            self._there.clear()
        return as_passed(tier, mark)

    def _with_blobs(self, record: Record, log: LaneLog, tier: Tier, end_s: float, sent: list[int]) -> Record:
        """The record, with all that its rows name in the tier; the bytes of each blob that went there join `sent`."""
        rows = []
        for row in record.rows:
            try:
                for ref in refs_from_bytes(row.blobs):
                    sent += self._push_blob(ref, tier, end_s)
            except BlobDamaged:
                if log.entry(row.key, row.n) is not None:
                    raise
                continue  # it was superseded, and collected since we read it
            rows.append(row)
        return record._replace(rows=tuple(rows))

    def _end_of(self, lane: int, log: LaneLog, tier: Tier) -> int:
        """Where the lane ends in the tier, which is a commit that we have too."""
        newest = tier.last(lane)
        if newest is None:
            return 0
        own = next(records_of(log, newest.n - 1), None)
        if own is None or not is_same(own, newest):
            raise LaneLost(
                f"lane {lane} in {tier.name}", f"commit {newest.n} there is not ours: another machine, or a store that"
                " was restored without cold=, has written it",
            )  # fmt: skip
        return newest.n

    def _check(self, lane: int, record: Record) -> None:
        """Do nothing if the record is authentic."""
        commit = record.commit
        if not records.has_authentic_note(self._key, lane, commit):
            raise NotAuthentic(f"commit {Dot(lane, commit.n)} of {self._directory}")
        for row in record.rows:
            if not records.is_authentic_entry(self._key, lane, commit, row):
                raise NotAuthentic(f"key {row.key!r} (commit {Dot(lane, commit.n)} of {self._directory})")

    def _push_blob(self, ref: BlobRef, tier: Tier, end_s: float) -> list[int]:
        """Its bytes if it was put, nothing if it is known to be there."""
        path = self._blobs.path(ref)
        if is_here := sync_file(path):
            sync_folder(os.path.dirname(path))
        if ref in self._there:
            return []
        _check_time(tier.name, end_s)
        if not is_here and tier.has_blob(ref):  # restored, and not fetched yet; else it is fetched now
            self._there.add(ref)
            return []
        with self._blobs.open(ref) as data:
            if seal.digest(data) != ref.digest:
                raise BlobDamaged(self._blobs.path(ref), "does not hold what its name says")
            tier.put_blob(ref, data)
        self._there.add(ref)
        return [ref.nbytes]

    def _path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/log.sqlite"


def _check_time(where: str, end_s: float) -> None:
    if time.monotonic() >= end_s:
        raise TierUnreachable(where, 0.0, "the deadline came before everything was copied")


def _ranges(found: Iterator[Record]) -> Iterator[list[Record]]:
    """Records in ranges of a size to send at once."""
    part: list[Record] = []
    nbytes = 0
    for record in found:
        part.append(record)
        nbytes += record.nbytes
        if len(part) >= _RANGE_RECORDS or nbytes >= _RANGE_BYTES:
            yield part
            part, nbytes = [], 0
    if part:
        yield part
