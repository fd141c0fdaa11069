"""What every tier does: keep lanes of commits and blobs by digest, for one space.

Theory of operation
- A lane has one writer, so a tier needs no lock and arbitrates nothing: conditions only detect a second writer, or a
  retry of what had succeeded. A writer names where it believes that the lane ends (`after`). The tier compares: what is
  there already and is the same is a retry; what is there and is other belongs to a second writer.
- A record is a commit with its rows as the node tier stores them, codes included. So the same check says on every
  tier whether it is authentic, and a tier needs no key. Two records of one number are the same if their codes are.
- Calls are synchronous, as the store that calls them is; one that waits for a network ends by a deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from blake3 import blake3

from kvs.errors import BlobDamaged, LaneLost
from kvs.tiers.blobs import BlobRef
from kvs.tiers.failures import TierGap
from kvs.tiers.node import CommitRow, EntryRow


class Record(NamedTuple):
    """One commit of a lane with the rows that it wrote, sorted by key; rows that were collected are left out."""

    commit: CommitRow
    rows: tuple[EntryRow, ...]

    @property
    def n(self) -> int:
        return self.commit.n

    @property
    def nbytes(self) -> int:
        """About what it takes, without its blobs."""
        fixed = 64 + len(self.commit.context) + len(self.commit.note) + len(self.commit.marks) + len(self.commit.mac)
        return fixed + sum(64 + len(r.key) + len(r.payload) + len(r.blobs) + len(r.mac) for r in self.rows)


class Tier(Protocol):
    """A place for the lanes and blobs of one space. Safe to use from several threads and processes.

    Every call may raise `TierUnreachable` (try later) and `TierRefused` (settings are wrong). A call that raised may
    have had its effect; calling it again is then a no-op.
    """

    @property
    def name(self) -> str:
        """What messages call it."""

    def until(self, end_s: float) -> Tier:
        """The same place, whose calls give up at `end_s` (of `time.monotonic`), or one request's time-out later."""

    def lanes(self) -> list[int]:
        """The lanes that have records, in order."""

    def claim(self, lane: int, owner: bytes) -> bytes:
        """Make `owner` the owner of `lane` if it has none; who owns it. An owner stays for ever."""

    def last(self, lane: int) -> Record | None:
        """The newest record of a lane, None if it has none."""

    def append(self, lane: int, records: Sequence[Record], *, after: int) -> None:
        """Add `records`, all or a prefix in case of failure, each whole: numbers rise, the first above `after`.

        `after` is the number of the newest record before them, 0 if they are the first; numbers between it and theirs
        were lost, and nobody will write them. What is there already with the same codes is left as it is.

        Raises:
            LaneLost: another wrote one of these numbers, or holds the lane just now; nothing was overwritten.
            TierGap: the lane ends before `after`. ValueError: numbers do not rise.
        """

    def read(self, lane: int, after: int = 0) -> Iterator[Record]:
        """The records numbered above `after`, in order, none left out.

        Raises:
            TierDamaged: something is torn, changed or missing. StoreForeign: a later version wrote it.
        """

    def put_blob(self, ref: BlobRef, data: memoryview) -> None:
        """Store a blob; one that is there is not written again. No part of it is ever visible without the rest.

        Raises:
            ValueError: `data` is not what `ref` names; nothing was stored.
        """

    def get_blob(self, ref: BlobRef) -> Iterator[bytes]:
        """Its bytes in pieces, checked against its name when the last was given: use none before the end.

        Raises:
            BlobDamaged: it is missing, or not what its name says.
        """

    def has_blob(self, ref: BlobRef) -> bool:
        """Whether it is there with this length."""

    def blobs(self) -> list[BlobRef]:
        """Every blob, sorted."""

    def delete_blob(self, ref: BlobRef) -> None:
        """Delete a blob; one that is not there is deleted already."""

    def news(self) -> bytes:
        """A token that changes when a lane grows, and not otherwise."""


class Place(Protocol):
    """Where a whole store is kept: one tier a space, and the mark of the key that its records need."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def space(self, name: str) -> Tier:
        """The tier of the space whose directory has that name."""

    def key_mark(self) -> bytes | None:
        """The mark of the key of the store that is kept here, None if there is none yet."""

    def set_key_mark(self, mark: bytes) -> bytes:
        """Set it if there is none; what it is."""


def is_same(a: Record, b: Record) -> bool:
    """Whether they are one commit; rows may have been collected from either. The code of a commit covers which keys it
    wrote and when; the codes of its rows cover what."""
    known = {row.key: row.mac for row in a.rows}
    rows_agree = all(known.get(row.key, row.mac) == row.mac for row in b.rows)
    return a.commit.n == b.commit.n and a.commit.mac == b.commit.mac and rows_agree


def missing(where: str, there: Iterable[Record], records: Sequence[Record]) -> Sequence[Record]:
    """The rest of `records` that `there`, the same range as a tier has it, does not have yet.

    Raises:
        LaneLost: they are not of one writer.
    """
    mine = iter(records)
    have = 0
    for theirs in there:
        own = next(mine, None)
        if own is None:
            break
        if not is_same(own, theirs):
            raise LaneLost(where, f"another writer has put commit {theirs.n} there")
        have += 1
    return records[have:]


def checked(where: str, records: Sequence[Record], *, after: int, last: int) -> None:
    """Do nothing if `records` can follow `after` in a lane whose newest number is `last`.

    Raises:
        ValueError, TierGap: see `Tier.append`.
    """
    numbers = [after, *(record.n for record in records)]
    if after < 0 or any(a >= b for a, b in pairwise(numbers)):
        raise ValueError(f"records of {where} do not rise from {after}: {numbers[1:]}. Append them in order.")
    if after > last:
        raise TierGap(where, last, after)


def verified(ref: BlobRef, pieces: Iterable[bytes], where: str) -> Iterator[bytes]:
    """The pieces as they come; after the last one they are what `ref` names.

    Raises:
        BlobDamaged: they are not.
    """
    hasher, nbytes = blake3(), 0
    for piece in pieces:
        hasher.update(piece)
        nbytes += len(piece)
        yield piece
    if nbytes != ref.nbytes:
        raise BlobDamaged(where, f"has {nbytes} bytes instead of {ref.nbytes}")
    if hasher.digest() != ref.digest:
        raise BlobDamaged(where, "does not hold what its name says")
