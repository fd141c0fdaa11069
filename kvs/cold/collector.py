"""Garbage in the object tier: freed by sealed epochs, with no clock that machines would have to agree on.

Theory of operation
- Whoever collects first writes the list of the doomed (objects of blobs that no row in the tier names), which opens an
  epoch; nothing is deleted yet. Every machine of the space then *passes* the epoch, once it has seen it open for the
  grace: it notes here, flushed, that it counts none of those objects as there any more; then it looks which of their
  blobs its rows name, published to the tier or not; then it puts its seal, which says which of them it keeps.
- A row that is published before that look is found by it. Whoever pushes one that is published later reads what was
  noted, and puts the blob again: under this epoch, which is another object. So nobody has to be asked what he is about
  to do, and a deletion that comes late deletes an object that nobody counts on.
- When all machines have passed it, what none of them keeps, and no row in the tier names by now, is deleted. Then the
  epoch is done, and the next may be opened.
- Each step is decided from what is in the tier, and is a no-op when it is done again: a collector may be killed
  anywhere, and any number of them may run.
- A copy of another machine's lane has its superseded rows that name the doomed taken out first, unless a live view
  here shows them; then the blob is kept, for as long as that view lives.
- A machine that does not pass costs space. One that has not for half a lease, as whoever waits for it measures it, is
  dismissed, which it would notice within the other half, and enter anew; then it is retired: waited for no more
  (`kvs.cold.membership`).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from kvs import records
from kvs.cold.lanes import ColdLanes
from kvs.cold.membership import Mark, busy, locked, member_of, renew, write_mark
from kvs.pins import views
from kvs.recovery import ALL
from kvs.restore import RESTORED
from kvs.tiers.blobs import refs_from_bytes
from kvs.tiers.epochs import Doomed, Epochs, Member
from kvs.tiers.node import LaneLog
from kvs.tiers.object import BlobObject, ObjectTier


class ColdCollected(NamedTuple):
    """What a collection did in the cold tier: bytes freed there, objects of blobs deleted, segments made shorter, bytes
    that are doomed now, and the machines (by the ids of their stores) that have to pass before those are deleted."""

    nbytes_freed: int
    blobs: int
    segments: int
    nbytes_doomed: int
    waiting: tuple[str, ...]


class ColdCollector:
    """See the module."""

    def __init__(self, directory: str, key: bytes, tier: ObjectTier, *, grace_s: float, lease_s: float) -> None:
        """`grace_s`: how long a doomed blob may still be published by who has its name in hand and shows it no more."""
        self._directory, self._key, self._tier = directory, key, tier
        self._grace_s, self._lease_s = grace_s, lease_s

    def collect(self, *, now_s: float, deadline_s: float = 600.0) -> ColdCollected:
        """Go as far as can be gone now: usually one call opens an epoch, and one after the grace ends it.

        Raises:
            TierUnreachable, TierRefused: call it again, it goes on from there. TierDamaged, StoreDamaged, StoreForeign:
            what cannot be read may name any blob; nothing was deleted.
            StoreUnusable: another process of this machine is at it.
        """
        end_s = time.monotonic() + deadline_s
        with locked(self._directory) as is_locked:
            if not is_locked:
                raise busy(self._directory)
            tier = self._tier.until(end_s)
            return _Turn(self, tier, tier.epochs(self._key), now_s).run()


class _Turn:
    """One call of `collect`."""

    def __init__(self, of: ColdCollector, tier: ObjectTier, epochs: Epochs, now_s: float) -> None:
        self._directory, self._key, self._grace_s, self._lease_s = of._directory, of._key, of._grace_s, of._lease_s
        self._tier, self._epochs, self._now_s = tier, epochs, now_s
        self._lanes = ColdLanes(of._directory, of._key, tier)
        self._mark = renew(of._directory, epochs, now_s)
        self._me = member_of(of._directory, self._mark)

    def run(self) -> ColdCollected:
        epoch = self._epochs.newest()
        if not epoch.is_done:
            return self._end(epoch.number)
        self._note(self._mark._replace(doomed=()))  # they are gone, or were kept
        segments, freed = self._lanes.shrink()
        doomed = self._garbage(self._tier.blob_objects(), self._lanes.names())
        if doomed and self._epochs.doom(epoch.number + 1, doomed):
            self._see(epoch.number + 1)
        waiting = self._waiting(epoch.number + 1) if doomed else []
        return ColdCollected(freed, 0, segments, sum(one.nbytes for one in doomed), _names(waiting))

    def _garbage(self, objects: Iterable[BlobObject], named: set[bytes]) -> list[Doomed]:
        """Objects whose blob nobody names, and all but the newest of those that hold one blob."""
        by_digest = defaultdict[bytes, list[BlobObject]](list)
        for found in objects:
            by_digest[found.ref.digest].append(found)
        doomed = []
        for digest, same in sorted(by_digest.items()):
            newest = max(same, key=lambda one: one.epoch)
            for one in same:
                if digest not in named or (one is not newest and one.ref == newest.ref):
                    doomed.append(Doomed(one.name, one.ref.nbytes, digest in named))
        return doomed

    def _end(self, epoch: int) -> ColdCollected:
        """Pass the open epoch, and delete what is doomed if all others have passed it."""
        doomed = self._epochs.doomed(epoch)
        self._see(epoch)
        waited_s = self._now_s - self._mark.seen_s
        if str(self._me) not in self._epochs.passed(epoch) and waited_s >= self._grace_s:
            self._pass(epoch, doomed)
        waiting = self._waiting(epoch)
        if self._retired([member for member in waiting if member != self._me], waited_s):
            waiting = self._waiting(epoch)
        nbytes = sum(one.nbytes for one in doomed)
        if waiting:
            return ColdCollected(0, 0, 0, nbytes, _names(waiting))
        gone = self._unneeded(epoch, doomed)
        self._tier.delete_objects(one.name for one in gone)
        self._epochs.finish(epoch)
        self._note(self._mark._replace(epoch=max(epoch, self._mark.epoch), doomed=()))
        return ColdCollected(sum(one.nbytes for one in gone), len(gone), 0, 0, ())

    def _unneeded(self, epoch: int, doomed: list[Doomed]) -> list[Doomed]:
        """Of the doomed, what no machine keeps; and, since one may have been retired, no row names by now."""
        kept = {name for member in self._epochs.passed(epoch) for name in self._epochs.kept(epoch, member)}
        named, there = self._lanes.names(), self._tier.blob_objects()
        names = {one.name for one in doomed}
        stays = {found.ref.digest for found in there if found.name not in names}
        return [one for one in doomed if one.name not in kept and (one.digest not in named or one.digest in stays)]

    def _waiting(self, epoch: int) -> list[Member]:
        members, passed = self._epochs.members(), self._epochs.passed(epoch)
        return [member for member in members if str(member) not in passed]

    def _retired(self, silent: list[Member], waited_s: float) -> bool:
        """Dismiss who has not passed for half a lease, and retire who was dismissed as long ago; whether any was."""
        half_s, now_s = self._lease_s / 2, self._now_s
        if not silent or waited_s < half_s:
            return False
        for member in silent:
            self._epochs.dismiss(member)
        since = {str(member): min(now_s, self._mark.dismissed_s.get(str(member), now_s)) for member in silent}
        self._note(self._mark._replace(dismissed_s=since))
        gone = [member for member in silent if now_s - since[str(member)] >= half_s]
        for member in gone:
            self._epochs.retire(member)
        return bool(gone)

    # -- what this machine says

    def _see(self, epoch: int) -> None:
        if self._mark.seen != epoch or self._mark.seen_s > self._now_s:
            self._note(self._mark._replace(seen=epoch, seen_s=self._now_s))

    def _note(self, mark: Mark) -> None:
        if mark != self._mark:
            write_mark(self._directory, mark)
            self._mark = mark

    def _pass(self, epoch: int, doomed: list[Doomed]) -> None:
        names = tuple(one.name for one in doomed)
        self._note(self._mark._replace(epoch=epoch, doomed=names))
        needed = self._needed({one.digest for one in doomed if not one.is_spare})
        kept = self._epochs.seal(epoch, self._me, [one.name for one in doomed if one.digest in needed])
        self._note(self._mark._replace(doomed=tuple(name for name in names if name not in kept)))

    def _needed(self, digests: set[bytes]) -> set[bytes]:
        """Which of these blobs a row here names, in a lane of ours or in what is shown of another's."""
        needed: set[bytes] = set()
        folder = f"{self._directory}/lanes"
        for lane in sorted(int(name) for name in os.listdir(folder) if name.isdecimal()):
            path = f"{folder}/{lane}/log.sqlite"
            if os.path.exists(path):
                if os.path.exists(f"{folder}/{lane}/{RESTORED}"):
                    self._forget_superseded(path, lane, digests)
                with closing(LaneLog(path, writable=False)) as log:
                    needed |= {ref.digest for blobs in log.blob_lists() for ref in refs_from_bytes(blobs)} & digests
        return needed

    def _forget_superseded(self, path: str, lane: int, digests: set[bytes]) -> None:
        """Drop rows that name one of the blobs from a copy of a lane, where its writer has dropped them too."""
        seen_by_all = min((view.vector[lane] for view in views(f"{self._directory}/pins")), default=ALL)
        with closing(LaneLog(path, writable=True)) as log:
            gone = []
            for key, n, _, blobs, by in log.superseded():
                if by <= seen_by_all and digests & {ref.digest for ref in refs_from_bytes(blobs)}:
                    commit = log.folded_commit(by)
                    if commit is not None and records.is_authentic_commit(self._key, lane, commit):
                        gone.append((key, n))
            if gone:
                log.delete(gone)


def _names(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(member.machine for member in members)
