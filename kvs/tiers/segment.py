"""A range of a lane's records as one object: what a tier of objects keeps, written once and never changed.

Layout (numbers big-endian)
- 12 bytes of magic, 4 bytes of format version: the part that every later version keeps.
- 8 bytes each: the lane, `first` and `last` (the numbers that the segment covers), and the length of the body.
- The body: MessagePack of a list of records, each [commit, [row, ...]].
- 32 bytes: the BLAKE3 digest of all before it. A torn or changed segment is thus told from a whole one without a key;
  whether its records are authentic is for whoever holds the key to say.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kvs import seal
from kvs.errors import StoreForeign
from kvs.tiers.failures import TierDamaged
from kvs.tiers.protocol import Record

MAGIC = b"kvs segment\n"
FORMAT = 1
_VERSION = struct.Struct(">I")
_HEAD = struct.Struct(">QQQQ")
_START = len(MAGIC) + _VERSION.size
_BODY = _START + _HEAD.size
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Record, ...])


class Segment(NamedTuple):
    """The records of `lane` numbered `first` to `last`; numbers that are left out were lost, and nobody writes them."""

    lane: int
    first: int
    last: int
    records: tuple[Record, ...]


def to_bytes(lane: int, records: Sequence[Record], *, first: int) -> bytes:
    """The segment of these records, which are not empty and rise."""
    body = _encoder.encode(records)
    head = _HEAD.pack(lane, first, records[-1].n, len(body))
    data = b"".join((MAGIC, _VERSION.pack(FORMAT), head, body))
    return data + seal.digest(data)


def from_bytes(data: bytes, where: str, *, lane: int, first: int) -> Segment:
    """The segment that lies at `where`, the place of the one of `lane` that starts at `first`.

    Raises:
        TierDamaged: it is torn or changed, or belongs elsewhere. StoreForeign: it has a later format.
    """
    if len(data) < _START or data[: len(MAGIC)] != MAGIC:
        raise TierDamaged(where, "it is no segment, or cut off")
    (version,) = _VERSION.unpack_from(data, len(MAGIC))
    whole = seal.same(data[-seal.DIGEST_SIZE :], seal.digest(data[: -seal.DIGEST_SIZE]))
    if version > FORMAT and whole:
        raise StoreForeign.newer(where, version, FORMAT)
    if len(data) < _BODY + seal.DIGEST_SIZE:
        raise TierDamaged(where, f"it is cut off at byte {len(data)}")
    found_lane, found_first, last, nbytes = _HEAD.unpack_from(data, _START)
    if len(data) < _BODY + nbytes + seal.DIGEST_SIZE:
        raise TierDamaged(where, f"it is cut off at byte {len(data)}")
    if not whole or version != FORMAT:
        raise TierDamaged(where, "it was changed: its digest is another")
    if (found_lane, found_first) != (lane, first):
        raise TierDamaged(where, f"it is the segment of lane {found_lane} from commit {found_first} on")
    try:
        records = _decoder.decode(data[_BODY : _BODY + nbytes])
    except msgspec.DecodeError as e:
        raise TierDamaged(where, f"its records cannot be read ({e})") from e
    return Segment(lane, first, last, records)
