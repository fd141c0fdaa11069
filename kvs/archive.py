"""Spaces in one file, to carry to another machine: `write_archive`, and `Archive` to read one.

Layout (numbers big-endian)
- 12 bytes of magic, 4 bytes of format version.
- Frames: 1 byte kind, 8 bytes length, the body, 32 bytes: the BLAKE3 digest of all of the file before them. So a frame
  that is changed, moved, left out or added makes every later digest wrong.
- Kinds: `S` a space (its name); `B` a blob (its digest, its bytes); `C` a commit, `E` an entry of the last commit; `Z`
  the end: how many frames, and a code by the key of the store that wrote it. A field of a body has its length first.
- Records are here without their codes: a store makes them authentic with its own key when it takes them in. So the
  file holds no key; whose it is, is for the code at its end to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from kvs import seal
from kvs.errors import KvsError, StoreForeign
from kvs.tiers.node import CommitRow, EntryRow

MAGIC = b"kvs archive\n"
FORMAT = 1
SPACE, BLOB, COMMIT, ENTRY, END = b"S", b"B", b"C", b"E", b"Z"
_HEAD = len(MAGIC) + 4
_DIGEST = 32
_COPY = 1 << 22


class ArchiveDamaged(KvsError):
    """An archive is cut off or was changed; nothing was taken from it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"archive {path} cannot be imported: {why}. Nothing was changed; export it again, or copy it"
                         " again from where it is whole.")  # fmt: skip
        self.path = path


class ArchiveUntrusted(KvsError):
    """An archive was written by a store with another key."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"archive {path} was not written by a store with this key, and whoever wrote it can have code run where its"
            " values are loaded. Give the key file of the store that wrote it (--key FILE), or --trust if you know who"
            " made it. Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its kind, and where its body lies in the file."""

    kind: bytes
    at: int
    nbytes: int


class Writer:
    """Writes frames to an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hasher, self._frames = file, blake3(), 0
        self._put(MAGIC + FORMAT.to_bytes(4, "big"))

    def add(self, kind: bytes, *parts: bytes | memoryview) -> None:
        self._put(kind + sum(len(part) for part in parts).to_bytes(8, "big"))
        for part in parts:
            for at in range(0, len(part), _COPY):
                self._put(part[at : at + _COPY])
        self._file.write(self._hasher.digest())
        self._hasher.update(self._hasher.digest())
        self._frames += kind != END

    def end(self, key: bytes) -> None:
        count = self._frames.to_bytes(8, "big")
        self.add(END, count, seal.mac(key, (count, self._hasher.digest())))

    def _put(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        self._file.write(data)


class Archive:
    """A whole archive, verified when it is opened; it owns its file."""

    def __init__(self, path: str) -> None:
        """Read all of it.

        Raises:
            StoreForeign: it is no archive, or of a later format. ArchiveDamaged: it is not whole.
            OSError: it cannot be read.
        """
        self._path = path
        self._file = open(path, "rb")  # noqa: SIM115 (closed by `close`)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._frames = list(self._verified())
        except BaseException:
            self._file.close()
            raise

    def is_by(self, key: bytes) -> bool:
        """Whether a store with this archive key wrote it."""
        return seal.same(self._code, seal.mac(key, (self._count, self._before_end)))

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def frames(self) -> Iterable[Frame]:
        """All but the end, in order."""
        return self._frames

    def body(self, frame: Frame) -> bytes:
        self._file.seek(frame.at)
        return self._file.read(frame.nbytes)

    def _verified(self) -> Iterator[Frame]:
        head = self._file.read(_HEAD)
        if head[: len(MAGIC)] != MAGIC:
            raise StoreForeign(self._path, "it is no archive; give a file that `python -m kvs export` wrote")
        version = int.from_bytes(head[len(MAGIC) :], "big")
        hasher = blake3(head)
        if len(head) != _HEAD or version < 1:
            raise ArchiveDamaged(self._path, "it is cut off")
        if version > FORMAT:
            raise StoreForeign.newer(self._path, version, FORMAT)
        count = 0
        while True:
            before, at = hasher.digest(), self._file.tell()
            start = self._file.read(9)
            nbytes = int.from_bytes(start[1:], "big")
            if len(start) != 9 or at + 9 + nbytes + _DIGEST > self._size:
                raise ArchiveDamaged(self._path, f"it is cut off, or damaged, at byte {at}")
            frame = Frame(start[:1], at + 9, nbytes)
            hasher.update(start)
            for _ in range(0, nbytes, _COPY):
                hasher.update(self._file.read(min(_COPY, frame.at + nbytes - self._file.tell())))
            digest = hasher.digest()
            if not seal.same(self._file.read(_DIGEST), digest):
                raise ArchiveDamaged(self._path, f"it is damaged between bytes {at} and {self._file.tell()}")
            hasher.update(digest)
            if frame.kind == END:
                break
            count += 1
            yield frame
        end = self.body(frame)
        self._count, self._code, self._before_end = end[:8], end[8:], before
        if int.from_bytes(self._count, "big") != count or frame.at + nbytes + _DIGEST != self._size:
            raise ArchiveDamaged(self._path, "it has more or less than its end says")


# -- bodies


def packed(*fields: bytes | int) -> bytes:
    """Fields, each with its length."""
    data = bytearray()
    for field in fields:
        part = field.to_bytes(8, "big", signed=True) if isinstance(field, int) else field
        data += len(part).to_bytes(8, "big") + part
    return bytes(data)


def unpacked(body: bytes) -> list[bytes]:
    fields, at = [], 0
    while at < len(body):
        end = at + 8 + int.from_bytes(body[at : at + 8], "big")
        fields.append(body[at + 8 : end])
        at = end
    return fields


def commit_body(lane: int, row: CommitRow) -> bytes:
    return packed(lane, row.n, row.hlc, row.context, row.note, row.marks)


def commit_of(body: bytes) -> tuple[int, CommitRow]:
    lane, n, hlc, context, note, marks = unpacked(body)
    return _number(lane), CommitRow(_number(n), _number(hlc), context, note, marks, b"")


def entry_body(row: EntryRow) -> bytes:
    return packed(row.key, row.n, row.kind, row.payload, row.blobs)


def entry_of(body: bytes) -> EntryRow:
    key, n, kind, payload, blobs = unpacked(body)
    return EntryRow(key, _number(n), _number(kind), payload, blobs, b"")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
