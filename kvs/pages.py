"""The records in single pages of an SQLite file, found without its tables' trees.

Only what our logs need is read: rows of a table and of a table without row ids, with numbers, texts and blobs. What a
page claims is checked against its bounds and never followed outside the file; a page that makes no sense gives nothing.
Source: "Database File Format", sqlite.org/fileformat2.html, sections 1.5, 1.6 and 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator

PAGES = (1 << 14, 1 << 12)
"""Bytes of a page in logs that were ever written, the present ones first."""
_MAGIC = b"SQLite format 3\x00"
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_SIZES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
Field = int | bytes | None


def records(data: bytes) -> Iterator[tuple[int | None, list[Field]]]:
    """Every record of every page but the first: its row id (None where the table has none), and its fields.

    If the head of the file does not say how large its pages are, all sizes are tried: what a wrong one shows is noise.
    """
    said = int.from_bytes(data[16:18], "big")
    for nbytes in (said,) if data.startswith(_MAGIC) and said in PAGES else PAGES:
        for at in range(nbytes, len(data) - nbytes + 1, nbytes):
            page = data[at : at + nbytes]
            if page[0] in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
                yield from _cells(data, page)


def _cells(data: bytes, page: bytes) -> Iterator[tuple[int | None, list[Field]]]:
    kind, head = page[0], 12 if page[0] == _INDEX_INTERIOR else 8
    for n in range(int.from_bytes(page[3:5], "big")):
        start = int.from_bytes(page[head + 2 * n : head + 2 * n + 2], "big")
        try:
            at = start + (4 if kind == _INDEX_INTERIOR else 0)
            nbytes, at = _varint(page, at)
            rowid = None
            if kind == _TABLE_LEAF:
                rowid, at = _varint(page, at)
            yield rowid, _fields(_payload(data, page, at, nbytes, is_table=kind == _TABLE_LEAF))
        except (IndexError, ValueError):  # a damaged cell; its neighbours may be whole
            continue


def _payload(data: bytes, page: bytes, at: int, nbytes: int, *, is_table: bool) -> bytes:
    """The whole record, its overflow pages too."""
    if nbytes > len(data):
        raise ValueError("longer than the file")
    size = len(page)
    most = size - 35 if is_table else (size - 12) * 64 // 255 - 23
    if nbytes <= most:
        return _slice(page, at, nbytes)
    least = (size - 12) * 32 // 255 - 23
    local = least + (nbytes - least) % (size - 4)
    local = local if local <= most else least
    found, follow = bytearray(_slice(page, at, local)), int.from_bytes(_slice(page, at + local, 4), "big")
    while len(found) < nbytes:
        if follow < 2:
            raise ValueError("cut off")
        overflow = _slice(data, (follow - 1) * size, size)
        follow = int.from_bytes(overflow[:4], "big")
        found += overflow[4 : 4 + nbytes - len(found)]
    return bytes(found)


def _fields(record: bytes) -> list[Field]:
    head, at = _varint(record, 0)
    kinds, body = [], head
    while at < head:
        kind, at = _varint(record, at)
        kinds.append(kind)
    fields: list[Field] = []
    for kind in kinds:
        nbytes = (kind - 12) // 2 if kind >= 12 else _SIZES.get(kind, -1)
        if nbytes < 0:
            raise ValueError("a kind that our logs do not have")
        value = _slice(record, body, nbytes)
        body += nbytes
        if kind == 0:
            fields.append(None)
        elif kind in (8, 9):
            fields.append(kind - 8)
        else:
            fields.append(value if kind >= 12 else int.from_bytes(value, "big", signed=True))
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for n in range(8):
        byte = data[at + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9


def _slice(data: bytes, at: int, nbytes: int) -> bytes:
    found = data[at : at + nbytes]
    if len(found) != nbytes:
        raise ValueError("cut off")
    return found
