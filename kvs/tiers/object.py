"""The object tier: segments of lanes, and blobs, as objects of a bucket.

Layout, below the prefix
- `key-mark`: the mark of the key that the records need.
- `spaces/<space>/owners/<lane>`: whose lane it is.
- `spaces/<space>/lanes/<lane>/<first>.seg`: the segment that begins with commit `first`, in 20 digits so that a listing
  is in order. The name has only where it begins: two writers that disagree on where it ends want the same name, and the
  condition of the second one fails. With the end in the name both would be stored.
- `spaces/<space>/blobs/<digest>`, or `<digest>.<epoch>` once epochs were sealed (`kvs.tiers.epochs`): a blob that is
  put again gets a new name, so that whoever deletes the old one, however late, deletes nothing else.

What a segment says of its commits never changes. Rows in it that the lane's owner has collected are left out when it is
written anew in its place; a reader gets the one or the other, whole.

An append is one conditional put. If there is an object already, its records say what happened: they are ours (a retry
of what had succeeded, maybe with fewer records), or another writer's (`LaneLost`). The store is strongly consistent, so
what was put is listed and read from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kvs import seal
from kvs.errors import BlobDamaged, StoreUnusable
from kvs.tiers import segment
from kvs.tiers.blobs import BlobRef
from kvs.tiers.epochs import DIGITS as EPOCH_DIGITS
from kvs.tiers.epochs import Epochs
from kvs.tiers.failures import TierDamaged
from kvs.tiers.protocol import Record, checked, missing, verified
from kvs.tiers.s3 import PART_BYTES, Absent, Bucket, Listed

_DIGITS = 20
SEGMENT_BYTES = 4 << 20
"""A segment is closed at this size: small enough to be tried again, large enough that a request costs little."""


class BlobObject(NamedTuple):
    """An object that holds a blob: its name below `blobs/`, the blob, and the epoch under which it was put."""

    name: str
    ref: BlobRef
    epoch: int


class SegmentObject(NamedTuple):
    """A segment as a listing has it; `etag` changes with what it holds."""

    lane: int
    first: int
    nbytes: int
    etag: str


class ObjectPlace:
    """See `Place`: a prefix of a bucket."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    @property
    def name(self) -> str:
        return f"{self._bucket.name}/{self._prefix}".rstrip("/")

    def space(self, name: str) -> ObjectTier:
        return ObjectTier(self._bucket, f"{self._prefix}spaces/{name}/")

    def key_mark(self) -> bytes | None:
        return self._bucket.get(f"{self._prefix}key-mark")

    def set_key_mark(self, mark: bytes) -> bytes:
        return _put_or_get(self._bucket, f"{self._prefix}key-mark", mark)


def place_at(url: str) -> ObjectPlace:
    """The place that `s3://bucket/prefix` names; nothing is asked of it yet.

    Raises:
        StoreUnusable: it is no such URL.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise StoreUnusable(url, "it is no place for a cold tier", "Give a URL like s3://bucket/prefix.")
    return ObjectPlace(Bucket(bucket), prefix.strip("/"))


class ObjectTier:
    """See the module, and `Tier`."""

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        ends: _Ends | None = None,
        epoch: int = 0,
        doomed: frozenset[str] = frozenset(),
    ) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._ends = ends or _Ends()
        self._epoch, self._doomed = epoch, doomed

    @property
    def name(self) -> str:
        return f"{self._bucket.name}/{self._prefix}".rstrip("/")

    def until(self, end_s: float) -> ObjectTier:
        return ObjectTier(self._bucket.until(end_s), self._prefix, self._ends, self._epoch, self._doomed)

    def passed(self, epoch: int, doomed: Iterable[str]) -> ObjectTier:
        """The same place for a machine that has passed `epoch`: blobs are put under it, and the objects of blobs that
        are `doomed` are not counted as there (they are read as ever)."""
        return ObjectTier(self._bucket, self._prefix, self._ends, epoch, frozenset(doomed))

    def lanes(self) -> list[int]:
        names = self._bucket.list_folders(f"{self._prefix}lanes/")
        return sorted(int(name) for name in names if name.isdecimal())

    def claim(self, lane: int, owner: bytes) -> bytes:
        return _put_or_get(self._bucket, f"{self._prefix}owners/{lane}", owner)

    def last(self, lane: int) -> Record | None:
        firsts = self._firsts(lane)
        if not firsts:
            return None
        found = self._segment(lane, firsts[-1])
        self._ends.set(lane, found.last)
        return found.records[-1]

    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        where = f"{self.name}/lanes/{lane}"
        end = self._ends.get(lane)
        if end is None or after > end:
            newest = self.last(lane)
            end = newest.n if newest else 0
        checked(where, records, after=after, last=end)
        if after < end:
            records = missing(where, self.read(lane, after), records)
        while records:
            chunk = _closed(records)
            if self._bucket.put_new(self._key(lane, end + 1), segment.to_bytes(lane, chunk, first=end + 1)):
                end, records = chunk[-1].n, records[len(chunk) :]
            else:
                found = self._segment(lane, end + 1)
                records = missing(f"{self._bucket.name}/{self._key(lane, end + 1)}", found.records, records)
                end = found.last
            self._ends.set(lane, end)

    def read(self, lane: int, after: int = 0) -> Iterator[Record]:
        firsts = self._firsts(lane)
        if not firsts:
            return
        start = max((at for at, first in enumerate(firsts) if first <= after + 1), default=0)
        expected = firsts[start] if start else 1
        for first in firsts[start:]:
            if first != expected:
                raise TierDamaged(f"{self.name}/lanes/{lane}", f"the segment from commit {expected} on is missing")
            found = self._segment(lane, first)
            yield from (record for record in found.records if record.n > after)
            expected = found.last + 1

    def put_blob(self, ref: BlobRef, data: memoryview) -> None:
        if (seal.digest(data), data.nbytes) != ref:
            raise ValueError(f"the data is not what blob {ref.digest.hex()} names")
        if (self._epoch or ref.nbytes > PART_BYTES) and self.has_blob(ref):
            return
        key = f"{self._blob_key(ref)}.{self._epoch:0{EPOCH_DIGITS}}" if self._epoch else self._blob_key(ref)
        if ref.nbytes <= PART_BYTES:
            self._bucket.put_new(key, bytes(data))
        else:
            self._bucket.upload_new(key, data)

    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        return verified(ref, self._pieces(ref), f"{self._bucket.name}/{self._blob_key(ref)}")

    def _pieces(self, ref: BlobRef) -> Iterator[bytes]:
        key, size = self._where(ref)
        at = 0
        while at < size:
            try:
                piece = self._bucket.get_range(key, at, min(size, at + PART_BYTES))
            except Absent:
                key, size = self._where(ref)  # it was doomed, and has been put again under another name
                continue
            yield piece
            at += len(piece)

    def _where(self, ref: BlobRef) -> tuple[str, int]:
        """An object that holds the blob, and its length."""
        key = self._blob_key(ref)
        if (size := self._bucket.size(key)) is not None:
            return key, size
        for item in self._bucket.list(f"{key}."):
            return item.key, item.nbytes
        raise BlobDamaged(f"{self._bucket.name}/{key}", "is missing")

    def has_blob(self, ref: BlobRef) -> bool:
        found = self._bucket.list(self._blob_key(ref))
        return any(item.nbytes == ref.nbytes and self._object_name(item) not in self._doomed for item in found)

    def blobs(self) -> list[BlobRef]:
        return sorted({found.ref for found in self.blob_objects()})

    def blob_objects(self) -> list[BlobObject]:
        """Every object that holds a blob; one that is put again may have two for a while."""
        found = []
        for item in self._bucket.list(f"{self._prefix}blobs/"):
            name = self._object_name(item)
            digest, _, epoch = name.partition(".")
            if _is_digest(digest) and (epoch.isdecimal() or digest == name):
                found.append(BlobObject(name, BlobRef(bytes.fromhex(digest), item.nbytes), int(epoch or 0)))
        return found

    def delete_objects(self, names: Iterable[str]) -> None:
        """Delete objects of blobs, by their names."""
        self._bucket.delete_all([f"{self._prefix}blobs/{name}" for name in names])

    def delete_blob(self, ref: BlobRef) -> None:
        self._bucket.delete_all([item.key for item in self._bucket.list(self._blob_key(ref))])

    def epochs(self, key: bytes) -> Epochs:
        """What is said there of epochs, by and to who holds the space's key."""
        return Epochs(self._bucket, self._prefix, key)

    # -- segments

    def segment_objects(self) -> list[SegmentObject]:
        """Every segment of every lane, in order."""
        prefix, found = f"{self._prefix}lanes/", []
        for item in self._bucket.list(prefix):
            lane, _, name = item.key[len(prefix) :].partition("/")
            if lane.isdecimal() and (first := _first_of(name)) is not None:
                found.append(SegmentObject(int(lane), first, item.nbytes, item.etag))
        return sorted(found)

    def segment_records(self, there: SegmentObject) -> Sequence[Record]:
        """The commits of a segment, with the rows that it has.

        Raises:
            TierDamaged: it is torn, changed or missing. StoreForeign: a later version wrote it.
        """
        return self._segment(there.lane, there.first).records

    def replace_segment(self, there: SegmentObject, records: Sequence[Record]) -> int:
        """Put the commits of a segment, with fewer rows, in its place; its length now, 0 if another is there."""
        data = segment.to_bytes(there.lane, records, first=there.first)
        return len(data) if self._bucket.replace(self._key(there.lane, there.first), data, there.etag) else 0

    def news(self) -> bytes:
        names = "\n".join(item.key for item in self._bucket.list(f"{self._prefix}lanes/"))
        return seal.digest(names.encode())

    def _key(self, lane: int, first: int) -> str:
        return f"{self._prefix}lanes/{lane}/{first:0{_DIGITS}}.seg"

    def _blob_key(self, ref: BlobRef) -> str:
        return f"{self._prefix}blobs/{ref.digest.hex()}"

    def _object_name(self, item: Listed) -> str:
        return item.key[len(self._prefix) + len("blobs/") :]

    def _firsts(self, lane: int) -> list[int]:
        """Where each segment of a lane begins, in order; objects of any other name are not ours."""
        prefix = f"{self._prefix}lanes/{lane}/"
        found = (_first_of(item.key[len(prefix) :]) for item in self._bucket.list(prefix))
        return [first for first in found if first is not None]

    def _segment(self, lane: int, first: int) -> segment.Segment:
        key = self._key(lane, first)
        data = self._bucket.get(key)
        if data is None:
            raise TierDamaged(f"{self._bucket.name}/{key}", "it is missing")
        return segment.from_bytes(data, f"{self._bucket.name}/{key}", lane=lane, first=first)


def _first_of(name: str) -> int | None:
    first = name.removesuffix(".seg")
    return int(first) if first != name and len(first) == _DIGITS and first.isdecimal() else None


class _Ends:
    """Where each lane ended when it was last looked at: always the end of a segment, so always a place to append."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, int] = {}

    def get(self, lane: int) -> int | None:
        with self._lock:
            return self._ends.get(lane)

    def set(self, lane: int, end: int) -> None:
        with self._lock:
            self._ends[lane] = max(end, self._ends.get(lane, 0))


def _closed(records: Sequence[Record]) -> Sequence[Record]:
    """The first of `records` that fill a segment; at least one."""
    nbytes = 0
    for at, record in enumerate(records):
        nbytes += record.nbytes
        if nbytes >= SEGMENT_BYTES:
            return records[: at + 1]
    return records


def _is_digest(name: str) -> bool:
    return len(name) == 2 * seal.DIGEST_SIZE and not set(name) - set("0123456789abcdef")


def _put_or_get(bucket: Bucket, key: str, data: bytes) -> bytes:
    """`data` put where there was nothing, or what was there."""
    if bucket.put_new(key, data):
        return data
    found = bucket.get(key)
    if found is None:
        raise TierDamaged(f"{bucket.name}/{key}", "it was there, and is gone")
    return found
