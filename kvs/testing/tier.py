"""The contract of a tier, as one call over places that the implementer makes.

    check_tier(lambda place: MyTier(f"{root}/{place}"))

Needs neither hypothesis nor a clock; about 150 calls of a tier, since a tier may be slow.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

from kvs import records, seal
from kvs.causal import Dot, VersionVector
from kvs.errors import BlobDamaged, LaneLost
from kvs.records import INLINE
from kvs.tiers.blobs import BlobRef
from kvs.tiers.failures import TierGap
from kvs.tiers.node import CommitRow, EntryRow
from kvs.tiers.protocol import Record, Tier

MakeTier = Callable[[str], Tier]
_KEY = bytes(32)


class TierBroken(AssertionError):
    """A tier does not keep the contract; the text says which claim."""


def record(lane: int, n: int, *, writer: bytes = b"", size: int = 10, keys: int = 2) -> Record:
    """A commit as a replica of this `writer` would make it: bytes of every kind, and codes that are right."""
    context = VersionVector([(lane, n - 1)]).to_bytes() if n > 1 else b""
    names = sorted(bytes([0, 255, n % 256, at]) + writer for at in range(keys))
    rows = tuple(
        EntryRow(name, n, INLINE, bytes(n * 7 % 256 for _ in range(size)) + writer, b"", b"") for name in names
    )
    rows = tuple(r._replace(mac=records.entry_mac(_KEY, Dot(lane, n), n, context, r)) for r in rows)
    marks = b"".join(map(seal.key_mark, names))
    return Record(records.sealed(_KEY, lane, CommitRow(n, n, context, b"note \xff" + writer, marks, b"")), rows)


def blob(data: bytes) -> tuple[BlobRef, memoryview]:
    return BlobRef(seal.digest(data), len(data)), memoryview(data)


def check_tier(make_tier: MakeTier, *, large_bytes: int = 1 << 20) -> None:
    """Return if what `make_tier` makes keeps the contract of `Tier`.

    Two calls with one name give two handles of one place, as two processes have them; each name is a place of its own
    and empty. `large_bytes` is the size of the largest blob that is stored.

    Raises:
        TierBroken: a claim does not hold. Others: the tier raised what it must not.
    """
    for claim in (
        _an_empty_place_has_nothing,
        _records_come_back_in_order_and_unchanged,
        _appending_again_is_a_no_op,
        _numbers_may_be_left_out_but_not_turn_back,
        _a_second_writer_is_told_and_overwrites_nothing,
        _of_two_that_race_one_at_most_goes_on,
        _places_and_lanes_are_apart,
        _an_owner_stays,
        _blobs_are_whole_or_absent,
        _news_changes_when_a_lane_grows_and_only_then,
    ):
        claim(make_tier)
    _a_large_blob_comes_back(make_tier, large_bytes)


def _expect(held: bool, claim: str) -> None:
    if not held:
        raise TierBroken(claim)


def _expect_raises(kind: type[Exception], action: Callable[[], object], claim: str) -> None:
    try:
        action()
    except kind:
        return
    raise TierBroken(f"{claim}: no {kind.__name__} was raised")


def _an_empty_place_has_nothing(make: MakeTier) -> None:
    tier = make("empty")
    _expect(tier.lanes() == [] and tier.blobs() == [], "an empty place lists nothing")
    _expect(tier.last(0) is None and list(tier.read(0)) == [], "an empty lane has no record")
    tier.append(0, [], after=0)
    _expect(tier.lanes() == [] and list(tier.read(0)) == [], "appending nothing makes no lane")


def _records_come_back_in_order_and_unchanged(make: MakeTier) -> None:
    tier, written = make("order"), [record(3, n, size=n * 100, keys=n % 3) for n in range(1, 8)]
    tier.append(3, written[:1], after=0)
    tier.append(3, written[1:5], after=1)
    tier.append(3, written[5:], after=5)
    for handle in (tier, make("order")):
        _expect(handle.lanes() == [3], "a lane with records is listed, and no other")
        _expect(list(handle.read(3)) == written, "records come back as they were appended, codes and all")
        for after in (1, 3, 7, 99):
            _expect(list(handle.read(3, after)) == written[after:], f"reading after {after} leaves out what is before")
        _expect(handle.last(3) == written[-1], "the newest record is the last one")


def _appending_again_is_a_no_op(make: MakeTier) -> None:
    written = [record(0, n) for n in range(1, 7)]
    make("again").append(0, written[:3], after=0)
    for tier in (make("again"), make("again")):
        tier.append(0, written[:3], after=0)
        tier.append(0, written[1:2], after=1)
        _expect(list(tier.read(0)) == written[:3], "a range that is there is not appended twice")
    tier.append(0, written, after=0)
    _expect(list(tier.read(0)) == written, "of a range of which a part is there, the rest is appended")
    tier.append(0, written[3:4], after=3)
    collected = [entry._replace(rows=()) for entry in written]
    make("again").append(0, collected, after=0)
    _expect(list(make("again").read(0)) == written, "what is there stays, also if rows were collected from it since")


def _numbers_may_be_left_out_but_not_turn_back(make: MakeTier) -> None:
    tier, written = make("gaps"), [record(0, n) for n in (2, 5, 9)]
    tier.append(0, written[:2], after=0)
    tier.append(0, written[2:], after=5)
    _expect(list(make("gaps").read(0)) == written, "numbers that were lost may be left out")
    _expect_raises(TierGap, lambda: tier.append(0, [record(0, 13)], after=12), "nothing follows what is not there")
    _expect_raises(ValueError, lambda: tier.append(0, [record(0, 11), record(0, 10)], after=9), "numbers rise")
    _expect_raises(ValueError, lambda: tier.append(0, [record(0, 9)], after=9), "numbers rise")
    _expect(list(tier.read(0)) == written, "what was refused left nothing")


def _a_second_writer_is_told_and_overwrites_nothing(make: MakeTier) -> None:
    mine = [record(0, n, writer=b"a") for n in range(1, 5)]
    theirs = [record(0, n, writer=b"b") for n in range(1, 6)]
    first, second = make("second"), make("second")
    _expect(second.last(0) is None, "an empty lane has no record")
    first.append(0, mine[:2], after=0)
    for count in (1, 2, 3, 5):
        _expect_raises(LaneLost, partial(second.append, 0, theirs[:count], after=0), "a second writer is told")
    first.append(0, mine[2:], after=2)
    _expect_raises(LaneLost, lambda: second.append(0, theirs[2:], after=2), "a second writer is told, further on too")
    _expect(list(make("second").read(0)) == mine, "nothing of the first writer is overwritten")


def _of_two_that_race_one_at_most_goes_on(make: MakeTier) -> None:
    outcomes: dict[bytes, int] = {}
    failures: list[Exception] = []
    start = threading.Barrier(2, timeout=30)

    def write(writer: bytes) -> None:
        tier = make("race")
        outcomes[writer] = 0
        start.wait()
        try:
            for n in range(1, 4):
                tier.append(0, [record(0, n, writer=writer)], after=n - 1)
                outcomes[writer] = n
        except LaneLost:
            return
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = list(make("race").read(0))
    winner = max(outcomes, key=lambda name: outcomes[name])
    _expect(not failures, f"a writer that races is told LaneLost and nothing else: {failures}")
    _expect(min(outcomes.values()) == 0 and len(found) == outcomes[winner], f"one at most goes on: {outcomes}")
    _expect(found == [record(0, n, writer=winner) for n in range(1, len(found) + 1)], "a lane is of one writer")


def _places_and_lanes_are_apart(make: MakeTier) -> None:
    tier = make("apart")
    tier.append(2, [record(2, 1)], after=0)
    tier.append(10, [record(10, 1, writer=b"x")], after=0)
    _expect(tier.lanes() == [2, 10], "lanes are listed in the order of their numbers")
    _expect(list(tier.read(2)) == [record(2, 1)] and list(tier.read(1)) == [], "a lane has its own records only")
    _expect(make("apart too").lanes() == [], "a place has its own lanes only")


def _an_owner_stays(make: MakeTier) -> None:
    _expect(make("owner").claim(4, b"one") == b"one", "a lane without an owner gets one")
    _expect(make("owner").claim(4, b"two") == b"one", "an owner stays")
    _expect(make("owner").claim(4, b"one") == b"one", "claiming again is a no-op")
    _expect(make("owner").claim(5, b"two") == b"two", "each lane has its own owner")
    _expect(make("owner").lanes() == [], "a lane that was only claimed has no records")


def _blobs_are_whole_or_absent(make: MakeTier) -> None:
    tier = make("blobs")
    stored = [blob(b""), blob(b"x"), blob(bytes(range(256)) * 40)]
    absent, _ = blob(b"never stored")
    for ref, data in stored:
        _expect(not tier.has_blob(ref), "a blob that was not stored is not there")
        tier.put_blob(ref, data)
        tier.put_blob(ref, data)
    other = make("blobs")
    _expect(other.blobs() == sorted(ref for ref, _ in stored), "every blob is listed once")
    for ref, data in stored:
        _expect(other.has_blob(ref) and b"".join(other.get_blob(ref)) == bytes(data), "a blob comes back as it was")
    _expect(not other.has_blob(absent), "a blob that was not stored is not there")
    _expect_raises(BlobDamaged, lambda: list(tier.get_blob(absent)), "a missing blob is named, never empty")
    _expect_raises(ValueError, lambda: tier.put_blob(absent, memoryview(b"other")), "data has to be what its name says")
    _expect(not tier.has_blob(absent), "what was refused left nothing")
    ref, data = stored[1]
    tier.delete_blob(ref)
    tier.delete_blob(ref)
    _expect(not other.has_blob(ref) and ref not in other.blobs(), "a deleted blob is gone")
    tier.put_blob(ref, data)
    _expect(b"".join(other.get_blob(ref)) == bytes(data), "a deleted blob can be stored again")


def _a_large_blob_comes_back(make: MakeTier, nbytes: int) -> None:
    tier, (ref, data) = make("large"), blob(os.urandom(nbytes))
    tier.put_blob(ref, data)
    pieces = list(make("large").get_blob(ref))
    _expect(b"".join(pieces) == bytes(data), "a large blob comes back as it was")
    _expect(max(map(len, pieces)) <= 16 << 20, "a large blob comes in pieces of 16 MiB or less")


def _news_changes_when_a_lane_grows_and_only_then(make: MakeTier) -> None:
    tier, other = make("news"), make("news")
    empty = other.news()
    tier.append(0, [record(0, 1)], after=0)
    one = other.news()
    _expect(one != empty and other.news() == one, "a new lane is news, once")
    tier.append(0, [record(0, 1)], after=0)
    tier.put_blob(*blob(b"x"))
    _expect(other.news() == one, "a retry is no news")
    tier.append(0, [record(0, 2)], after=1)
    _expect(other.news() != one, "a lane that grew is news")
