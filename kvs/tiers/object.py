"""The object tier: segments of lanes, and blobs, as objects of a bucket that are written once and never changed.

Layout, below the prefix
- `key-mark`: the mark of the key that the records need.
- `spaces/<space>/owners/<lane>`: whose lane it is.
- `spaces/<space>/lanes/<lane>/<first>.seg`: the segment that begins with commit `first`, in 20 digits so that a listing
  is in order. The name has only where it begins: two writers that disagree on where it ends want the same name, and the
  condition of the second one fails. With the end in the name both would be stored.
- `spaces/<space>/blobs/<digest>`.

An append is one conditional put. If there is an object already, its records say what happened: they are ours (a retry
of what had succeeded, maybe with fewer records), or another writer's (`LaneLost`). The store is strongly consistent, so
what was put is listed and read from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from kvs import seal
from kvs.errors import BlobDamaged, StoreUnusable
from kvs.tiers import segment
from kvs.tiers.blobs import BlobRef
from kvs.tiers.failures import TierDamaged
from kvs.tiers.protocol import Record, checked, missing, verified
from kvs.tiers.s3 import PART_BYTES, Absent, Bucket

_DIGITS = 20
SEGMENT_BYTES = 4 << 20
"""A segment is closed at this size: small enough to be tried again, large enough that a request costs little."""


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

    def __init__(self, bucket: Bucket, prefix: str, ends: _Ends | None = None) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._ends = ends or _Ends()

    @property
    def name(self) -> str:
        return f"{self._bucket.name}/{self._prefix}".rstrip("/")

    def until(self, end_s: float) -> ObjectTier:
        return ObjectTier(self._bucket.until(end_s), self._prefix, self._ends)

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
        if ref.nbytes <= PART_BYTES:
            self._bucket.put_new(self._blob_key(ref), bytes(data))
        elif not self.has_blob(ref):
            self._bucket.upload_new(self._blob_key(ref), data)

    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        return verified(ref, self._pieces(ref), f"{self._bucket.name}/{self._blob_key(ref)}")

    def _pieces(self, ref: BlobRef) -> Iterator[bytes]:
        key = self._blob_key(ref)
        size = self._bucket.size(key)
        if size is None:
            raise BlobDamaged(f"{self._bucket.name}/{key}", "is missing")
        for at in range(0, size, PART_BYTES):
            try:
                yield self._bucket.get_range(key, at, min(size, at + PART_BYTES))
            except Absent:
                raise BlobDamaged(f"{self._bucket.name}/{key}", "was deleted while it was read") from None

    def has_blob(self, ref: BlobRef) -> bool:
        return self._bucket.size(self._blob_key(ref)) == ref.nbytes

    def blobs(self) -> list[BlobRef]:
        prefix = f"{self._prefix}blobs/"
        found = ((item.key[len(prefix) :], item.nbytes) for item in self._bucket.list(prefix))
        return sorted(BlobRef(bytes.fromhex(name), nbytes) for name, nbytes in found if _is_digest(name))

    def delete_blob(self, ref: BlobRef) -> None:
        self._bucket.delete(self._blob_key(ref))

    def news(self) -> bytes:
        names = "\n".join(item.key for item in self._bucket.list(f"{self._prefix}lanes/"))
        return seal.digest(names.encode())

    def _key(self, lane: int, first: int) -> str:
        return f"{self._prefix}lanes/{lane}/{first:0{_DIGITS}}.seg"

    def _blob_key(self, ref: BlobRef) -> str:
        return f"{self._prefix}blobs/{ref.digest.hex()}"

    def _firsts(self, lane: int) -> list[int]:
        """Where each segment of a lane begins, in order; objects of any other name are not ours."""
        prefix = f"{self._prefix}lanes/{lane}/"
        names = (item.key[len(prefix) :] for item in self._bucket.list(prefix))
        return [int(name[:_DIGITS]) for name in names if name[_DIGITS:] == ".seg" and name[:_DIGITS].isdecimal()]

    def _segment(self, lane: int, first: int) -> segment.Segment:
        key = self._key(lane, first)
        data = self._bucket.get(key)
        if data is None:
            raise TierDamaged(f"{self._bucket.name}/{key}", "it is missing")
        return segment.from_bytes(data, f"{self._bucket.name}/{key}", lane=lane, first=first)


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
