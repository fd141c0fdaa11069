"""A tier in the memory of this process: what a test and a short-lived store stack under themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from kvs import seal
from kvs.errors import BlobDamaged
from kvs.tiers.blobs import BlobRef
from kvs.tiers.protocol import Record, checked, missing, verified

_PIECE = 1 << 20


class MemoryTier:
    """See `Tier`. It ends with the last reference to it."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._lanes: dict[int, list[Record]] = {}
        self._owners: dict[int, bytes] = {}
        self._blobs: dict[BlobRef, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    def until(self, end_s: float) -> MemoryTier:
        return self  # it waits for nobody

    def lanes(self) -> list[int]:
        with self._lock:
            return sorted(self._lanes)

    def claim(self, lane: int, owner: bytes) -> bytes:
        with self._lock:
            return self._owners.setdefault(lane, owner)

    def last(self, lane: int) -> Record | None:
        with self._lock:
            return self._lanes[lane][-1] if lane in self._lanes else None

    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        where = f"{self._name}, lane {lane}"
        with self._lock:
            known = self._lanes.get(lane, [])
            checked(where, records, after=after, last=known[-1].n if known else 0)
            new = missing(where, (record for record in known if record.n > after), records)
            if new:
                self._lanes[lane] = [*known, *new]  # a new list: whoever reads the old one is not disturbed

    def read(self, lane: int, after: int = 0) -> Iterator[Record]:
        with self._lock:
            known = self._lanes.get(lane, [])
        return (record for record in known if record.n > after)

    def put_blob(self, ref: BlobRef, data: memoryview) -> None:
        copy = bytes(data)
        if (seal.digest(copy), len(copy)) != ref:
            raise ValueError(f"the data is not what blob {ref.digest.hex()} names")
        with self._lock:
            self._blobs[ref] = copy

    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        with self._lock:
            data = self._blobs.get(ref)
        if data is None:
            raise BlobDamaged(f"{ref.digest.hex()} in {self._name}", "is missing")
        pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        return verified(ref, pieces, f"{ref.digest.hex()} in {self._name}")

    def has_blob(self, ref: BlobRef) -> bool:
        with self._lock:
            return ref in self._blobs

    def blobs(self) -> list[BlobRef]:
        with self._lock:
            return sorted(self._blobs)

    def delete_blob(self, ref: BlobRef) -> None:
        with self._lock:
            self._blobs.pop(ref, None)

    def news(self) -> bytes:
        with self._lock:
            heads = sorted((lane, records[-1].n) for lane, records in self._lanes.items())
        return repr(heads).encode()


class MemoryPlace:
    """See `Place`: a memory tier for each space."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._tiers: dict[str, MemoryTier] = {}
        self._mark: bytes | None = None

    @property
    def name(self) -> str:
        return self._name

    def space(self, name: str) -> MemoryTier:
        with self._lock:
            return self._tiers.setdefault(name, MemoryTier(f"{self._name}/{name}"))

    def key_mark(self) -> bytes | None:
        return self._mark

    def set_key_mark(self, mark: bytes) -> bytes:
        with self._lock:
            if self._mark is None:
                self._mark = mark
            return self._mark
