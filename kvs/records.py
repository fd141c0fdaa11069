"""The codes that make a lane's records authentic, and the version that every record bears.

An entry's kind is a number of two parts: what the entry is (the lower four bits), and the version of its layout less
one (the rest). A commit row has the version of its lane's file. A record that is authentic and of a later version was
written by later software: it is refused as such, and never taken for damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kvs import seal
from kvs.causal import Dot
from kvs.errors import StoreForeign
from kvs.tiers.node import CommitRow, EntryRow

Stored = tuple[bytes, int, bytes, bytes]
"""What a row says of one key: the key, the kind, the payload, the blobs."""

DELETED, INLINE, SPILLED = 0, 1, 2
RECORD_FORMAT = 1
MAC_SIZE = 32
_KIND_BITS = 4
_SIZE = struct.Struct("<Q").pack
_ENTRY: Callable[[tuple[bytes, int, int, bytes, bytes, bytes]], EntryRow] = partial(tuple.__new__, EntryRow)
"""An entry of its fields, for half of what its own constructor takes."""


def record_version(kind: int) -> int:
    """The version of an entry's layout, 1 or more."""
    return (kind >> _KIND_BITS) + 1


def refuse_newer(what: str, kind: int) -> None:
    """Do nothing for an entry that this version can read.

    Raises:
        StoreForeign: its layout, or its kind, is of a later version.
    """
    if not DELETED <= kind <= SPILLED:
        found = f"{record_version(kind)}.{kind & ((1 << _KIND_BITS) - 1)}"
        raise StoreForeign.newer(what, found, f"{RECORD_FORMAT}.{SPILLED}")


def entry_mac(key: bytes, dot: Dot, hlc: int, context: bytes, row: EntryRow) -> bytes:
    name, _, kind, payload, blobs, _ = row
    hasher = seal.begun(key).copy()
    head = b"e%d.%d.%d.%d" % (*dot, hlc, kind)
    hasher.update(b"".join((
        _SIZE(len(head)), head, _SIZE(len(context)), context,
        _SIZE(len(name)), name, _SIZE(len(payload)), payload, _SIZE(len(blobs)), blobs,
    )))  # fmt: skip
    return hasher.digest()


def sealed_entries(key: bytes, dot: Dot, hlc: int, context: bytes, entries: Iterable[Stored]) -> list[EntryRow]:
    """The rows of one commit, with the codes that make them authentic."""
    heads: dict[int, bytes] = {}
    begun, n, rows = seal.begun(key), dot.counter, []
    for name, kind, payload, blobs in entries:
        if kind not in heads:
            heads[kind] = _entry_head(dot, hlc, context, kind)
        hasher = begun.copy()
        hasher.update(b"".join((
            heads[kind], _SIZE(len(name)), name, _SIZE(len(payload)), payload, _SIZE(len(blobs)), blobs
        )))  # fmt: skip
        rows.append(_ENTRY((name, n, kind, payload, blobs, hasher.digest())))
    return rows


def _entry_head(dot: Dot, hlc: int, context: bytes, kind: int) -> bytes:
    """What all entries of a commit that are of one kind have in common."""
    head = b"e%d.%d.%d.%d" % (*dot, hlc, kind)
    return b"".join((_SIZE(len(head)), head, _SIZE(len(context)), context))


def commit_mac(key: bytes, lane: int, row: CommitRow) -> bytes:
    n, hlc, context, _, marks, _ = row
    hasher = seal.begun(key).copy()
    hasher.update(_said(b"c%d.%d.%d" % (lane, n, hlc), context, marks))
    return hasher.digest()


def _said(head: bytes, context: bytes, marks: bytes) -> bytes:
    """What the code of a commit is made of."""
    return b"".join((_SIZE(len(head)), head, _SIZE(len(context)), context, _SIZE(len(marks)), marks))


def note_mac(key: bytes, lane: int, row: CommitRow) -> bytes:
    """Apart from the commit's own: a damaged note costs an entry of the log, and none of the keys."""
    head, note = b"n%d.%d.%d" % (lane, row.n, row.hlc), row.note
    hasher = seal.begun(key).copy()
    hasher.update(b"".join((_SIZE(len(head)), head, _SIZE(len(note)), note)))
    return hasher.digest()


def sealed(key: bytes, lane: int, row: CommitRow) -> CommitRow:
    """The commit with the codes that make it authentic in `lane`."""
    return CommitRow(*row[:5], commit_mac(key, lane, row) + note_mac(key, lane, row))


def is_authentic_commit(key: bytes, lane: int, row: CommitRow) -> bool:
    """Whether it was written by who holds the key, but for its note. A damaged row may hold anything of any type."""
    return bool(authentic_commits(key, lane, [row]))


def authentic_commits(key: bytes, lane: int, rows: Iterable[CommitRow]) -> list[CommitRow]:
    """Those of a lane that were written by who holds the key, but for their notes."""
    begun, good = seal.begun(key).copy, []
    for row in rows:
        n, hlc, context, _, marks, mac = row
        if type(n) is not int or type(hlc) is not int:
            continue
        if type(context) is not bytes or type(marks) is not bytes or type(mac) is not bytes:
            continue
        hasher = begun()
        hasher.update(_said(b"c%d.%d.%d" % (lane, n, hlc), context, marks))
        if seal.same(mac[:MAC_SIZE], hasher.digest()):
            good.append(row)
    return good


def has_authentic_note(key: bytes, lane: int, row: CommitRow) -> bool:
    return (
        isinstance(row.note, bytes)
        and is_authentic_commit(key, lane, row)
        and seal.same(row.mac[MAC_SIZE:], note_mac(key, lane, row))
    )


def is_authentic_entry(key: bytes, lane: int, commit: CommitRow, row: EntryRow) -> bool:
    """Whether it belongs to `commit`, which is authentic."""
    return is_authentic_entry_of(key, Dot(lane, commit.n), commit.hlc, commit.context, row)


def is_authentic_entry_of(key: bytes, dot: Dot, hlc: int, context: bytes, row: EntryRow) -> bool:
    name, _, kind, payload, blobs, mac = row
    if type(kind) is not int or type(name) is not bytes or type(payload) is not bytes:
        return False
    if type(blobs) is not bytes or type(mac) is not bytes:
        return False
    return seal.same(mac, entry_mac(key, dot, hlc, context, row))


def split_marks(marks: bytes) -> list[bytes]:
    return [marks[at : at + seal.MARK_SIZE] for at in range(0, len(marks), seal.MARK_SIZE)]


def gaps(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each run of commit numbers that a lane should have and has not; they begin at 1."""
    before = 0
    for n in sorted(numbers):
        if n > before + 1:
            yield before + 1, n - 1
        before = n
