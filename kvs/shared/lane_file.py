"""The file in which one writer holds its part of a shared map: mapped by all, written by its lane's holder alone.

Layout (numbers little-endian, which is how the machine has them; others are refused)
- Head, 64 bytes: magic, version, slots of an entry, entries that there is room for, bytes for names, the writer's
  number, the kind, and a CRC-32 of these. Then how many entries there are, at byte 64, and the slots from byte 128.
- Behind the slots the names of the entries, in their order: length, CRC-32, bytes.

Theory of operation
- A number is raised by one store of 8 aligned bytes. A new entry has its name and its number written before it is
  counted. So a writer that is killed leaves each join whole or not there, and a reader never sees part of one.
- When it is full, a copy of twice the size takes its place under the same name; whoever maps the old one learns of it
  from the table of the map (`kvs.shared.table`).
- All of the file is written when it is made: a full disk is an error then, and no store can meet one later.
- The writer's number is drawn when its file is made. What is published names it, so that a file that was lost and made
  anew is another writer, and nothing is counted twice or for another.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence

from kvs.errors import StoreDamaged, StoreForeign
from kvs.lattices import BadEncoding, wire
from kvs.lattices.domain import ident
from kvs.shared.kinds import Kind
from kvs.shared.rows import Row
from kvs.tiers.files import write_whole

_MAGIC, _VERSION = b"kvsm", 1
_HEAD = struct.Struct("<4sHHIIQ16s")
_CRC = struct.Struct("<I")
_NAME = struct.Struct("<II")
_COUNT_AT, _SLOTS_AT = 8, 16
"""In units of 8 bytes."""
_FIRST_ENTRIES, _FIRST_NAMES_NBYTES = 64, 3 << 10
MOST_NAME_NBYTES = 1 << 16


class LaneFile:
    """See the module. One thread at a time. For its writer, `slots` holds what it has said itself."""

    def __init__(self, path: str, kind: Kind, mapping: mmap.mmap) -> None:
        self.path, self._kind, self._mapping = path, kind, mapping
        self._view = memoryview(mapping)
        width, self._entries, self._names_nbytes, self.writer = _read_head(path, kind, bytes(self._view[:64]))
        if len(self._view) < _size(width, self._entries, self._names_nbytes):
            raise StoreDamaged(path, "it is too short for what it says")
        self.words = self._view.cast("Q")
        self._width = width
        self._names_start = 8 * (_SLOTS_AT + width * self._entries)
        self._names_end = self._names_start
        self.names: list[bytes] = []
        self.at: dict[object, int] = {}
        """By key (as `domain.ident` has it), the word where its slots begin."""
        self.learn()

    @classmethod
    def opened(cls, path: str, kind: Kind) -> LaneFile:
        """To read.

        Raises:
            FileNotFoundError. StoreDamaged, StoreForeign: it is none of ours, or of a later version.
        """
        return _mapped(path, kind, os.O_RDONLY, mmap.PROT_READ)

    @classmethod
    def held(cls, path: str, kind: Kind) -> LaneFile:
        """To write; made if it is not there.

        Raises:
            OSError: there is no room. StoreDamaged, StoreForeign.
        """
        if not os.path.exists(path):
            writer = int.from_bytes(os.urandom(8), "little") >> 1
            _make(path, kind, writer, _FIRST_ENTRIES, _FIRST_NAMES_NBYTES, [], [])
        return _mapped(path, kind, os.O_RDWR, mmap.PROT_READ | mmap.PROT_WRITE)

    # -- reading

    @property
    def has_more(self) -> bool:
        """Whether there are entries that `learn` has not seen."""
        return self.words[_COUNT_AT] != len(self.names)

    def learn(self) -> None:
        """Take in the names that were added.

        Raises:
            StoreDamaged: one is not what its sum says.
        """
        count = self.words[_COUNT_AT]
        if count > self._entries:
            raise StoreDamaged(self.path, f"it says that it has {count} entries, and there is room for {self._entries}")
        while len(self.names) < count:
            name = self._name_at(self._names_end)
            try:
                key = ident(wire.unpacked(name))
            except BadEncoding as e:
                raise StoreDamaged(self.path, f"a name in it cannot be read ({e})") from e
            self.at[key] = _SLOTS_AT + self._width * len(self.names)
            self.names.append(name)
            self._names_end += _NAME.size + len(name)

    def _name_at(self, start: int) -> bytes:
        end = self._names_start + self._names_nbytes
        if start + _NAME.size <= end:
            nbytes, crc = _NAME.unpack_from(self._view, start)
            name = bytes(self._view[start + _NAME.size : start + _NAME.size + nbytes])
            if start + _NAME.size + nbytes <= end and zlib.crc32(name) == crc:
                return name
        raise StoreDamaged(self.path, f"the name of entry {len(self.names)} is not what its sum says")

    def half(self, at: int, most: int) -> memoryview:
        """The slot `at` of the first `most` entries. Release it before anything else is done."""
        return self._slots()[at : most * self._width : self._width]

    def _slots(self) -> memoryview:
        return self.words[_SLOTS_AT : _SLOTS_AT + self._width * len(self.names)]

    # -- writing

    def add(self, key: object, name: bytes, slots: Sequence[int]) -> None:
        """A new entry, for which there is room."""
        start = self._names_end
        _NAME.pack_into(self._mapping, start, len(name), zlib.crc32(name))
        self._view[start + _NAME.size : start + _NAME.size + len(name)] = name
        at = _SLOTS_AT + self._width * len(self.names)
        for n, slot in enumerate(slots):
            self.words[at + n] = slot
        self.words[_COUNT_AT] = len(self.names) + 1  # from now on it is there
        self._names_end = start + _NAME.size + len(name)
        self.names.append(name)
        self.at[key] = at

    def has_room(self, name: bytes) -> bool:
        """For one more entry, of that name."""
        end = self._names_start + self._names_nbytes
        return len(self.names) < self._entries and self._names_end + _NAME.size + len(name) <= end

    def grown(self, name: bytes) -> LaneFile:
        """The same with twice the room, and some for `name`, in the place of this one, which is closed.

        Raises:
            OSError: there is no room on the disk; this one is as it was.
        """
        _make(
            self.path, self._kind, self.writer, 2 * self._entries, 2 * self._names_nbytes + _NAME.size + len(name),
            self.names, self._slots().tolist(),
        )  # fmt: skip
        new = LaneFile.held(self.path, self._kind)
        self.close()
        return new

    def close(self) -> None:
        self.words.release()
        self._view.release()
        self._mapping.close()


def _mapped(path: str, kind: Kind, flags: int, protection: int) -> LaneFile:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size < 8 * _SLOTS_AT:
            raise StoreDamaged(path, "it is too short to be one")
        mapping = mmap.mmap(fd, size - size % 8, flags=mmap.MAP_SHARED, prot=protection)
    finally:
        os.close(fd)
    return LaneFile(path, kind, mapping)


def _size(width: int, entries: int, names_nbytes: int) -> int:
    return 8 * (_SLOTS_AT + width * entries) + names_nbytes


def _read_head(path: str, kind: Kind, head: bytes) -> tuple[int, int, int, int]:
    """Slots of an entry, entries, bytes for names, and the writer."""
    magic, version, width, entries, names_nbytes, writer, name = _HEAD.unpack_from(head)
    if magic != _MAGIC or _CRC.unpack_from(head, _HEAD.size) != (zlib.crc32(head[: _HEAD.size]),):
        raise StoreDamaged(path, "it does not begin as one")
    if version > _VERSION:
        raise StoreForeign.newer(path, version, _VERSION)
    if name.rstrip(b"\0") != kind.name.encode() or width != kind.width:
        raise StoreDamaged(path, f"it is of another kind than its map, which is of {kind.name}")
    return width, entries, names_nbytes, writer


def _make(
    path: str, kind: Kind, writer: int, entries: int, names_nbytes: int, names: Sequence[bytes], row: Row
) -> None:
    """A whole file in the place of the one at `path`, if there is one."""
    if sys.byteorder != "little":
        raise OSError("shared maps need a machine that has the low byte first")
    names_nbytes += -names_nbytes % 8
    head = _HEAD.pack(_MAGIC, _VERSION, kind.width, entries, names_nbytes, writer, kind.name.encode())
    made = f"{path}-{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        slots = struct.pack(f"<{len(row)}Q", *row).ljust(8 * kind.width * entries, b"\0")
        count = struct.pack("<Q", len(names)).ljust(8 * (_SLOTS_AT - _COUNT_AT), b"\0")
        said = (head + _CRC.pack(zlib.crc32(head))).ljust(8 * _COUNT_AT, b"\0")
        write_whole(fd, b"".join((said, count, slots, b"".join(_framed(names)).ljust(names_nbytes, b"\0"))))
        os.rename(made, path)
    except BaseException:
        os.unlink(made)
        raise
    finally:
        os.close(fd)


def _framed(names: Sequence[bytes]) -> Iterator[bytes]:
    for name in names:
        yield _NAME.pack(len(name), zlib.crc32(name))
        yield name
