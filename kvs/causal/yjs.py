"""Whether bytes are an edit of a text, in the form that Yjs calls update version 1.

The decoder that reads updates is native code, and not every version of it survives every input. So bytes that came from
outside are read here first, and only the few kinds of content that an insertion or a deletion in one text makes are let
through: letters of one client, placed by neighbours or in the text's root, and runs of deleted letters.
Source: https://github.com/yjs/yjs, `src/utils/encoding.js` and `src/structs/Item.js`.
"""

from __future__ import annotations

MAX_CLIENT = (1 << 53) - 1
_MAX_CLOCK = (1 << 31) - 1
_HAS_LEFT, _HAS_RIGHT, _CONTENT = 0x80, 0x40, 0x1F
_DELETED, _LETTERS = 1, 4


class _Reader:
    """Bytes, read from the front. Every method raises ValueError at what it cannot read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self, limit: int) -> int:
        value, shift = 0, 0
        while shift < 63:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > limit:
                    raise ValueError(f"{value} is beyond {limit}")
                return value
            shift += 7
        raise ValueError("a number that does not end")

    def text(self) -> str:
        return self._take(self.number(len(self._data))).decode()

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("it is cut off")
        self._at += size
        return taken

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("it goes on after its end")


def check_edit(update: bytes, client: int, root: str) -> None:
    """Return if `update` is an edit by `client` of the text that is called `root`.

    Raises:
        ValueError: it is not; the text says why.
    """
    reader = _Reader(update)
    if reader.number(1):
        structs = reader.number(len(update))
        if reader.number(MAX_CLIENT) != client:
            raise ValueError("it is another replica's")
        clock = reader.number(_MAX_CLOCK)
        for _ in range(structs):
            clock += _struct(reader, root)
        if clock > _MAX_CLOCK or not structs:
            raise ValueError("it has too many letters, or none")
    for _ in range(reader.number(len(update))):
        reader.number(MAX_CLIENT)
        for _ in range(reader.number(len(update))):
            first, count = reader.number(_MAX_CLOCK), reader.number(_MAX_CLOCK)
            if not count or first + count > _MAX_CLOCK:
                raise ValueError("a deletion of nothing, or of too much")
    reader.end()


def _struct(reader: _Reader, root: str) -> int:
    """Read one insertion; how many clock ticks it takes (UTF-16 units)."""
    info = reader.byte()
    if info & _CONTENT not in (_LETTERS, _DELETED) or info & 0x20:
        raise ValueError(f"content of kind {info & _CONTENT}")
    for flag in (_HAS_LEFT, _HAS_RIGHT):
        if info & flag:
            reader.number(MAX_CLIENT)
            reader.number(_MAX_CLOCK)
    if not info & (_HAS_LEFT | _HAS_RIGHT) and (reader.number(1) != 1 or reader.text() != root):
        raise ValueError("it is of another text")
    if info & _CONTENT == _DELETED:
        return reader.number(_MAX_CLOCK)
    letters = reader.text()
    if not letters:
        raise ValueError("an insertion of nothing")
    return len(letters.encode("utf-16-le")) // 2
