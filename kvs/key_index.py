"""Which commit of a lane was the last to write a key, sealed in a file: so that a lane need not be read to ask it.

Theory of operation
- A lane's holder writes the file `keys` beside the log from time to time: for the mark of each key that the lane ever
  wrote, the newest commit up to number `last` that wrote it. All those commits are in the lane's database, flushed.
- A replica that opens the lane opens the file, joins what came after `last`, and asks for a key when it is wanted.
- The file is in pages, sorted by mark, each with a code of its own: one look authenticates one page, however large the
  file is. A page says where the next one begins, so a mark that is not in its page is in none.
- It repeats what the commits say, and is made of authentic ones alone. Without it, or where a page of it is not
  authentic, the lane is read whole; it is never flushed, and an old one is as good as a new one, only slower.

Layout (numbers big-endian)
- `MAGIC`, 8 bytes; the lane, `last`, the count of keys, and of commit `last` the time and the length of its context,
  8 bytes each; that context; a code over all this, 32 bytes.
- Pages of 256 keys, the last one may have fewer: a code over the page and its place, 32 bytes; the first mark of the
  next page, 8 bytes; then 16 bytes a key: its mark, the number of the commit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvs import seal

MAGIC = b"kvskeys\x01"
_HEAD = struct.Struct(">8sQQQQQ")
_HEAD_MOST = 1 << 12
"""Read at once of the head; with a context of more than 300 lanes a file is not used."""
_FIRST = seal.DIGEST_SIZE + seal.MARK_SIZE
_ENTRY_NBYTES = 16
_IN_PAGE = 256
_PAGE_NBYTES = _FIRST + _IN_PAGE * _ENTRY_NBYTES
_END = b"\xff" * seal.MARK_SIZE
"""Said by the last page: no page begins there."""


class Head(NamedTuple):
    """What an index says of itself: up to commit `last` of `lane`, it has `keys` keys; and what that commit says."""

    lane: int
    last: int
    keys: int
    hlc: int
    context: bytes


class KeyIndex:
    """The file of a lane, held open: what it says stays the same, also when another takes its place."""

    def __init__(self, fd: int, key: bytes, head: Head) -> None:
        self._fd, self._key, self.head = fd, key, head
        self._start = _HEAD.size + len(head.context) + seal.DIGEST_SIZE
        self._pages = -(-head.keys // _IN_PAGE)

    @classmethod
    def opened(cls, path: str, key: bytes, lane: int) -> KeyIndex | None:
        """None if there is no file, or if nobody who holds `key` wrote it for that lane."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            head = _head(os.pread(fd, _HEAD_MOST, 0), key)
            if head is None or head.lane != lane:
                return None
            found, fd = cls(fd, key, head), -1
            return found
        finally:
            if fd >= 0:
                os.close(fd)

    def find(self, mark: bytes) -> int | None:
        """The newest commit that wrote a key of that mark, 0 if none did; None if that part of the file is damaged."""
        at = self._pages * int.from_bytes(mark, "big") >> 8 * seal.MARK_SIZE  # marks are spread evenly: about there
        while at > 0 and mark < self._first_mark(at):
            at -= 1
        while at + 1 < self._pages and mark >= self._first_mark(at + 1):
            at += 1
        page = self._page(at)
        if page is None:
            return None
        is_last = at == self._pages - 1
        if (at > 0 and mark < page[_FIRST : _FIRST + seal.MARK_SIZE]) or (not is_last and mark >= _next_of(page)):
            return None  # the search was led astray by a page that it did not authenticate
        place = page.find(mark, _FIRST)
        while place >= 0 and (place - _FIRST) % _ENTRY_NBYTES:  # no mark, but the same bytes
            place = page.find(mark, place + 1)
        return _number_at(page, (place - _FIRST) // _ENTRY_NBYTES) if place >= 0 else 0

    def entries(self) -> dict[bytes, int] | None:
        """All that it says; None if any of it is damaged."""
        found: dict[bytes, int] = {}
        for at in range(self._pages):
            page = self._page(at)
            if page is None:
                return None
            numbers = range((len(page) - _FIRST) // _ENTRY_NBYTES)
            found.update((_mark_at(page, n), _number_at(page, n)) for n in numbers)
        return found

    def _first_mark(self, at: int) -> bytes:
        return os.pread(self._fd, seal.MARK_SIZE, self._start + at * _PAGE_NBYTES + _FIRST)

    def _page(self, at: int) -> bytes | None:
        page = os.pread(self._fd, _PAGE_NBYTES, self._start + at * _PAGE_NBYTES)
        code = _page_mac(self._key, self.head.lane, self.head.last, at, page[seal.DIGEST_SIZE :])
        return page if seal.same(page[: seal.DIGEST_SIZE], code) else None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def write(path: str, key: bytes, head: Head, newest: Mapping[bytes, int]) -> None:
    """Put a file in the place of the one at `path`; of one or more keys, of which `head` has the count.

    Raises:
        OSError: it could not be written; the old one is still there.
    """
    said = _HEAD.pack(MAGIC, head.lane, head.last, head.keys, head.hlc, len(head.context)) + head.context
    made = f"{os.path.dirname(path)}/new-keys"
    try:
        with open(made, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(said + seal.mac(key, (b"k", said)))
            file.writelines(_pages(key, head, sorted(newest.items())))
        os.rename(made, path)
    except BaseException:
        if os.path.exists(made):
            os.unlink(made)
        raise


def _head(data: bytes, key: bytes) -> Head | None:
    """None if `data` does not begin with what `write` wrote with `key`."""
    if len(data) < _HEAD.size:
        return None
    magic, lane, last, count, hlc, nbytes = _HEAD.unpack_from(data)
    end = _HEAD.size + nbytes
    code = data[end : end + seal.DIGEST_SIZE]
    if magic != MAGIC or not count or not seal.same(code, seal.mac(key, (b"k", data[:end]))):
        return None
    return Head(lane, last, count, hlc, data[_HEAD.size : end])


def _pages(key: bytes, head: Head, items: list[tuple[bytes, int]]) -> Iterator[bytes]:
    for at, start in enumerate(range(0, len(items), _IN_PAGE)):
        end = start + _IN_PAGE
        following = items[end][0] if end < len(items) else _END
        body = b"".join((following, *(mark + n.to_bytes(8, "big") for mark, n in items[start:end])))
        yield _page_mac(key, head.lane, head.last, at, body) + body


def _page_mac(key: bytes, lane: int, last: int, at: int, body: bytes) -> bytes:
    return seal.mac(key, (b"k%d.%d.%d" % (lane, last, at), body))


def _next_of(page: bytes) -> bytes:
    return page[seal.DIGEST_SIZE : _FIRST]


def _mark_at(page: bytes, n: int) -> bytes:
    start = _FIRST + n * _ENTRY_NBYTES
    return page[start : start + seal.MARK_SIZE]


def _number_at(page: bytes, n: int) -> int:
    start = _FIRST + n * _ENTRY_NBYTES + seal.MARK_SIZE
    return int.from_bytes(page[start : start + 8], "big")
