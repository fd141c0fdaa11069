"""The lanes of a space in the object tier: which blobs their segments name, and the rows that can go from our own.

Theory of operation
- A segment that was seen is remembered by its etag, with what it names (`cold-names`, which costs nothing but requests
  if it is lost). So a look at all lanes is one listing, and a request for each segment that is new.
- A row of a lane that this machine writes is left out of its segment if it is gone here, and a later commit of the lane
  wrote its key, and that is here and authentic, and in the tier too: so it was collected, nothing else became of it,
  and who has nothing but the tier has what replaced it. Commits stay: they say what came before what. The segment is
  written anew in its place, if nobody has done so since it was listed.
- What another machine writes, that machine collects.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import msgspec

from kvs import records, seal
from kvs.restore import RESTORED
from kvs.tiers.blobs import refs_from_bytes
from kvs.tiers.files import read, write_private
from kvs.tiers.node import LaneLog, translated
from kvs.tiers.object import ObjectTier, SegmentObject
from kvs.tiers.protocol import Record

FILE = "cold-names"
_WORTH = 2
"""A segment is written anew when it would become this many times shorter, or when a blob that it names can go."""
_LEAST_NBYTES = 4096


class _Seen(NamedTuple):
    """What a segment had when it had that etag: its last commit, and the blobs that it names."""

    etag: str
    last: int
    digests: list[bytes]


_Known = dict[str, _Seen]


class ColdLanes:
    """See the module. `names` and `shrink` look at the tier; each segment that is new to us is one request."""

    def __init__(self, directory: str, key: bytes, tier: ObjectTier) -> None:
        self._directory, self._key, self._tier = directory, key, tier

    def names(self) -> set[bytes]:
        """The digests of all blobs that a row in the tier names.

        Raises:
            TierDamaged, StoreForeign: a segment cannot be read, so nobody knows.
        """
        return {digest for seen in self._look(self._tier.segment_objects()).values() for digest in seen.digests}

    def shrink(self) -> tuple[int, int]:
        """Leave out of our own lanes in the tier what was collected here: how many segments, and the bytes freed."""
        there = self._tier.segment_objects()
        known = self._look(there)
        by_lane = defaultdict[int, list[SegmentObject]](list)
        for item in there:
            by_lane[item.lane].append(item)
        count = freed = 0
        for lane, items in by_lane.items():
            path = f"{self._directory}/lanes/{lane}/log.sqlite"
            if os.path.exists(path) and not os.path.exists(f"{os.path.dirname(path)}/{RESTORED}"):
                end = known[_place(items[-1])].last
                with closing(LaneLog(path, writable=False)) as log:
                    for item in _worth(log, items, known):
                        if saved := self._shrunk(log, item, end):
                            count, freed = count + 1, freed + saved
        return count, freed

    def _shrunk(self, log: LaneLog, item: SegmentObject, end: int) -> int:
        """The bytes that went from a segment of a lane that ends with commit `end` in the tier."""
        found = self._tier.segment_records(item)
        kept = [self._without_collected(log, item.lane, record, end) for record in found]
        if kept == list(found):
            return 0
        nbytes = self._tier.replace_segment(item, kept)
        return item.nbytes - nbytes if nbytes else 0

    def _without_collected(self, log: LaneLog, lane: int, record: Record, end: int) -> Record:
        own = {row.key for row in log.entries(record.n - 1, record.n)}
        rows = [
            row for row in record.rows if row.key in own or not self._is_replaced(log, lane, row.key, record.n, end)
        ]
        return record._replace(rows=tuple(rows)) if len(rows) < len(record.rows) else record

    def _is_replaced(self, log: LaneLog, lane: int, key: bytes, n: int, end: int) -> bool:
        """Whether a later commit of the lane, up to `end`, wrote the key, and is here whole."""
        row = log.folded_write(key, end)
        commit = log.folded_commit(row.n) if row is not None else None
        if row is None or commit is None or row.n <= n:
            return False
        return records.is_authentic_commit(self._key, lane, commit) and records.is_authentic_entry(
            self._key, lane, commit, row
        )

    def _look(self, there: list[SegmentObject]) -> _Known:
        """What each segment names, by its place; with the etag that it had."""
        before, now, is_new = self._remembered(), _Known(), False
        for item in there:
            place = _place(item)
            known = before.get(place)
            if known is None or known.etag != item.etag:
                known, is_new = self._read(item), True
            now[place] = known
        if is_new or len(before) != len(now):
            self._remember(now)
        return now

    def _read(self, item: SegmentObject) -> _Seen:
        found = self._tier.segment_records(item)
        named = {ref.digest for record in found for row in record.rows for ref in refs_from_bytes(row.blobs)}
        return _Seen(item.etag, found[-1].n, sorted(named))

    def _remembered(self) -> _Known:
        try:
            data = read(f"{self._directory}/{FILE}")
            if not seal.same(data[: seal.DIGEST_SIZE], seal.digest(data[seal.DIGEST_SIZE :])):
                return {}
            return msgspec.msgpack.decode(data[seal.DIGEST_SIZE :], type=_Known)
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _remember(self, known: _Known) -> None:
        path, data = f"{self._directory}/{FILE}", msgspec.msgpack.encode(known)
        temporary = f"{path}-{os.getpid()}"
        translated(path, lambda: write_private(temporary, seal.digest(data) + data))
        os.rename(temporary, path)


def _place(item: SegmentObject) -> str:
    return f"{item.lane}/{item.first}"


def _worth(log: LaneLog, items: list[SegmentObject], known: _Known) -> Iterator[SegmentObject]:
    """Of the segments of a lane, in order, those of which much can go, by what is left of them here."""
    nbytes, named = defaultdict[int, int](int), defaultdict[int, set[bytes]](set)
    firsts = [item.first for item in items]
    at = 0
    rows = sorted(log.sizes(), key=lambda row: row[1])
    for _, n, size, blobs in rows:
        while at + 1 < len(firsts) and n >= firsts[at + 1]:
            at += 1
        nbytes[at] += size
        named[at].update(ref.digest for ref in refs_from_bytes(blobs))
    for at, item in enumerate(items):
        left = nbytes[at] + _LEAST_NBYTES
        if item.nbytes > _WORTH * left or set(known[_place(item)].digests) - named[at]:
            yield item
