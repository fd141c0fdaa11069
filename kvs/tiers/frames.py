"""The frames of a lane's tail as bytes: how a commit is packed, and what a stretch of bytes holds.

Layout of a frame (numbers little-endian)
- 4 bytes `MARK`, 8 bytes the commit's number, 8 bytes the length of the body, 4 bytes CRC-32 of the 20 before it.
- The body: MessagePack of [commit, [row, ...]], the fields of `CommitRow` and `EntryRow` in their order.
- 16 bytes: the first of the BLAKE3 digest of the body.

What a frame that is not whole says
- One that the end of the file cuts off, its head being good, was not written whole: the writer died in the middle.
- A writer leaves a beginning of a frame or all of it, so any other fault is damage. What can be read of it is given as
  it is found, for each row bears its own code; of one that cannot be read, the number is given, with a commit that
  nobody's code fits. So it is named by whoever authenticates, and its number is not given again.
- Where a head is damaged, the next good one is looked for.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from kvs import seal
from kvs.tiers.rows import CommitRow, EntryRow

if TYPE_CHECKING:
    import msgspec

MARK = b"\x9fkvt"
_START = struct.Struct("<4sqQ")
_HEAD = struct.Struct("<4sqQI")
HEAD_SIZE = _HEAD.size
SUM_SIZE = 16
_Body = tuple[CommitRow, tuple[EntryRow, ...]]


class Frame(NamedTuple):
    """One commit with its rows by key, and the bytes `start` to `end` of the tail that hold it.

    If it is not `is_whole`, its rows are as they were found: only their own codes tell which are good.
    """

    n: int
    commit: CommitRow
    rows: dict[bytes, EntryRow]
    start: int
    end: int
    is_whole: bool


_FRAME: Callable[[tuple[int, CommitRow, dict[bytes, EntryRow], int, int, bool]], Frame] = partial(tuple.__new__, Frame)
"""A frame of its fields, for half of what its own constructor takes."""


def packed(commit: CommitRow, rows: Sequence[EntryRow]) -> bytes:
    body = _encoder().encode((commit, rows))
    start = _START.pack(MARK, commit.n, len(body))
    return b"".join((start, zlib.crc32(start).to_bytes(4, "little"), body, _sum(body)))


def frames(data: bytes, *, last: int = 0, base: int = 0, start: int = 0, with_sums: bool = True) -> Iterator[Frame]:
    """What `data`, which lies at `start` of a tail, holds after commit `last`, oldest first.

    The frame that the end cuts off is left out: it begins where the last one that is given ends. `base` is the commit
    before the first frame, where that does not tell. Without sums, a frame with a good head is taken for whole if it
    can be read: while the machine runs, no write is torn otherwise, and each row has a code of its own.
    """
    at, size = 0, len(data)
    while at < size:
        head = _head(data, at)
        if head is not None:
            n, end = head
            if end > size:
                return
        elif size - at < HEAD_SIZE and _may_begin(data[at:]):
            return
        else:
            end = _next_head(data, at + 1)
            following = _head(data, end)
            n = following[0] - 1 if following else max(last, base) + 1
        frame = _frame(data, at, end, n, start, is_sure=head is not None, with_sums=with_sums)
        if frame.n > last:  # else it lies between two commits of which none is missing
            yield frame
            last = frame.n
        at = end


def plain_frames(data: bytes, last: int, start: int) -> tuple[list[Frame], int]:
    """The first frames in `data`, as far as all that they say agrees, and where the rest begins: what `frames` gives
    without sums, in less time."""
    (decoder, error), found, at = _decoder(), list[Frame](), 0
    while len(data) - at >= HEAD_SIZE:
        mark, n, nbytes, crc = _HEAD.unpack_from(data, at)
        end = at + HEAD_SIZE + nbytes + SUM_SIZE
        if mark != MARK or end > len(data) or n <= last or crc != zlib.crc32(data[at : at + _START.size]):
            break
        try:
            commit, rows = decoder.decode(data[at + HEAD_SIZE : end - SUM_SIZE])
        except error:
            break
        by_key, numbers = {}, {commit[0]}
        for row in rows:
            by_key[row[0]] = row
            numbers.add(row[1])
        if numbers != {n}:
            break
        found.append(_FRAME((n, commit, by_key, start + at, start + end, True)))
        last, at = n, end
    return found, at


def _frame(data: bytes, at: int, end: int, n: int, start: int, *, is_sure: bool, with_sums: bool) -> Frame:
    """The frame of these bytes, whose number is `n` if that is sure."""
    body = data[at + HEAD_SIZE : end - SUM_SIZE]
    found = _decoded(body)
    if found is None:
        return Frame(n, CommitRow(n, 0, b"", b"", b"", b""), {}, start + at, start + end, False)
    commit, rows = found
    is_summed = is_sure and not with_sums
    if not is_summed:
        is_summed = _sum(body) == data[max(at, end - SUM_SIZE) : end]
    if is_summed and not is_sure:
        n = commit.n
    is_whole = is_summed and is_sure
    numbers = {row.n for row in rows}
    if commit.n != n or (numbers and numbers != {n}):
        is_whole = False
        commit, rows = commit._replace(n=n), tuple(row._replace(n=n) for row in rows)
    return Frame(n, commit, {row.key: row for row in rows}, start + at, start + end, is_whole)


def _decoded(body: bytes) -> _Body | None:
    """None if it is no body."""
    decoder, error = _decoder()
    try:
        return decoder.decode(body)
    except error:
        return None


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    from msgspec.msgpack import Encoder  # here: who opens a store and writes nothing does not need it

    return Encoder()


@cache
def _decoder() -> tuple[msgspec.msgpack.Decoder[_Body], type[msgspec.DecodeError]]:
    from msgspec import DecodeError
    from msgspec.msgpack import Decoder

    return Decoder(_Body), DecodeError


def _head(data: bytes, at: int) -> tuple[int, int] | None:
    """The number of the frame at `at` and where it ends; None if there is no good head."""
    if len(data) - at < HEAD_SIZE:
        return None
    mark, n, nbytes, crc = _HEAD.unpack_from(data, at)
    if mark != MARK or crc != zlib.crc32(data[at : at + _START.size]):
        return None
    return n, at + HEAD_SIZE + nbytes + SUM_SIZE


def _may_begin(data: bytes) -> bool:
    """Whether a good head can begin so."""
    return data.startswith(MARK) or MARK.startswith(data)


def _next_head(data: bytes, at: int) -> int:
    """Where the next good head is; the end of `data` if there is none."""
    while (at := data.find(MARK, at)) >= 0:
        if _head(data, at) is not None:
            return at
        at += 1
    return len(data)


def _sum(body: bytes) -> bytes:
    return seal.first_of_digest(body, SUM_SIZE)
