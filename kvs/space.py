"""A space: one namespace of a store, with its lanes, its blobs and its own key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kvs import pins, recovery, seal
from kvs.claims import Claim, LaneInfo, lane_info
from kvs.clock import HybridClock
from kvs.errors import KvsError, SpaceHeld, StoreDamaged, StoreForeign, StoreUnusable
from kvs.replica import Replica
from kvs.settings import Settings
from kvs.tiers.files import write_private

if TYPE_CHECKING:
    from kvs.background import BackgroundMirror
    from kvs.cold.collector import ColdCollected, ColdCollector
    from kvs.pull import Pulled, Puller
    from kvs.repair import Repaired
    from kvs.tiers.protocol import Tier


class Space:
    """See the module. Costs nothing until a replica or a reader is made."""

    def __init__(
        self,
        name: str,
        directory: str,
        key: bytes,
        settings: Settings,
        *,
        cold: Tier | None = None,
        machine: bytes = b"",
    ) -> None:
        """With `cold`, a space that is not here is restored from there; `machine` owns the lanes that are made here."""
        self._cold, self._machine = cold, machine
        self.name = name
        self._directory = directory
        self._key = key
        self._settings = settings

    @property
    def directory(self) -> str:
        return self._directory

    @property
    def has_cold(self) -> bool:
        return self._cold is not None

    def exists(self) -> bool:
        return os.path.exists(f"{self._directory}/name")

    def replica(self, owner: Mapping[str, str | int] | None = None, *, clock: HybridClock | None = None) -> Replica:
        """A replica that writes the lowest free lane; `owner` is what `lanes` tells others of its holder.

        A lane whose log is damaged is not written: the next free one is.

        Raises:
            StoreUnusable: the directory cannot be written.
            StoreForeign: a lane has a later format.
        """
        self._create()
        self._recover()
        first = 0
        while True:
            claim = self._claim({"pid": os.getpid(), **(owner or {})}, first)
            try:
                return _Holder(self, claim, clock or HybridClock())
            except StoreDamaged:
                claim.release()
                first = claim.lane + 1
            except BaseException:
                claim.release()
                raise

    def reader(self) -> Replica:
        """The same reads without a lane: any number of processes may have one.

        Raises:
            StoreUnusable: there is nothing to read yet.
        """
        self._restore()
        if not self.exists():
            raise StoreUnusable(self._directory, "the space does not exist", "Write to it first.")
        self._recover()
        return self._view(None)

    def lanes(self) -> list[LaneInfo]:
        """Every lane, in order."""
        if not self.exists():
            return []
        return [lane_info(self._owner_path(lane), lane) for lane in self._lane_numbers()]

    def delete(self, *, force: bool = False) -> None:
        """Remove the space with everything in it.

        Raises:
            SpaceHeld: a live process writes to it, and `force` was not given.
        """
        held = [lane for lane in self.lanes() if lane.held]
        if held and not force:
            raise SpaceHeld(self.name, held[0].owner.get("pid", "unknown"))
        if self.exists():
            shutil.rmtree(self._directory, onerror=_gone_or_raise)

    def repair(self, *, forget: bool = False) -> Repaired:
        """Move what is damaged to `quarantine/` in the space, and name what is lost; with `forget`, delete lost keys.

        A lost key is refused until it is written again, unless it is forgotten: then it reads as one that was deleted.

        Raises:
            SpaceHeld: a live process has the space open; nothing was touched.
            StoreForeign: a lane has a later format; nothing was touched.
            TierUnreachable, TierRefused: a blob could not be fetched from the cold tier; nothing was touched.
            StoreUnusable: the store is open without the cold tier that it has; nothing was touched.
        """
        self._refuse_without_cold()
        from kvs.repair import Bench, Repaired  # here: it loads what nothing else needs

        with ExitStack() as stack:
            lanes = self._claim_all(stack)
            if self._cold is not None:
                from kvs.restore import fetch_blobs

                fetch_blobs(self._directory, lanes, self._cold)  # else what is not here would be taken for lost
            bench = Bench(self.name, self._directory, self._key)
            bench.repair(lanes)
            with self._view(None) as reader:
                lost, marks, refused = list(reader.check()), reader.lost(), _refused(reader)
            if forget and lost:
                free = [n for n in lanes if not os.path.exists(f"{self._directory}/lanes/{n}/retired")]
                writer = self._view(free[0]) if free else self.replica()
                with writer:
                    writer.publish(dict.fromkeys(refused))
                    writer.sync()
                unnamed = {dot.replica: set[bytes]() for dot, _ in marks.values()}
                for mark, (dot, key) in marks.items():
                    unnamed[dot.replica] |= set() if key else {mark}
                bench.repair(lanes, forget={lane: frozenset(found) for lane, found in unnamed.items()})
            return Repaired(tuple(bench.moved), tuple(lost))

    def _refuse_without_cold(self) -> None:
        """What lies only in the cold tier would be taken for lost."""
        from kvs.store import cold_of

        name = cold_of(os.path.dirname(os.path.dirname(self._directory)))
        if name and self._cold is None:
            raise StoreUnusable(
                self._directory, f"some of its values may lie in {name}", f'Open the store with cold="{name}".'
            )

    def _claim_all(self, stack: ExitStack) -> list[int]:
        """Every lane, claimed until `stack` is left."""
        lanes = self._lane_numbers()
        for lane in lanes:
            claim = Claim.attempt(self._owner_path(lane), lane)
            if claim is None:
                raise SpaceHeld(self.name, lane_info(self._owner_path(lane), lane).owner.get("pid", "unknown"))
            stack.callback(claim.release)
        for pid in pins.holders(f"{self._directory}/pins"):
            raise SpaceHeld(self.name, pid)
        return lanes

    def _view(self, lane: int | None) -> Replica:
        return Replica(
            self.name, self._directory, self._key, self._settings, lane=lane, clock=HybridClock(), cold=self._cold
        )

    def mirror(self, *, every_s: float = 1.0, pull: bool = False, collect_every_s: float = 3600.0) -> BackgroundMirror:
        """What this machine publishes, copied to the cold tier from now on; close it.

        With `pull`, what other machines push is joined into the space too, at each turn. After a turn, but not more
        often than `collect_every_s`, garbage there is collected as `collect_cold` does.

        Raises:
            StoreUnusable: the store has no cold tier.
        """
        from kvs.background import BackgroundMirror  # here: only a store with a cold tier needs it
        from kvs.mirror import Mirror

        mirror = Mirror(self._directory, self._key, self._cold_tier(), lease_s=self._settings.cold_lease_s)
        puller = self._puller() if pull else None
        return BackgroundMirror(
            mirror, every_s=every_s, puller=puller, collector=self._collector(), collect_every_s=collect_every_s
        )

    def collect_cold(self, *, now_s: float) -> ColdCollected | None:
        """Free what nothing in the cold tier needs any more; None if that is no tier where garbage is collected.

        A call goes as far as can be gone now: it lists what is to be deleted, and deletes what was listed before once
        every machine that uses the space has seen the list for `retain_s` and agreed. See `kvs.cold.collector`.

        Raises:
            StoreUnusable: the store has no cold tier, or another process of this machine collects just now.
            TierUnreachable, TierRefused: call it again. TierDamaged, StoreDamaged, StoreForeign: nothing was deleted.
        """
        self._cold_tier()
        self._create()
        collector = self._collector()
        return collector.collect(now_s=now_s) if collector is not None else None

    def _collector(self) -> ColdCollector | None:
        from kvs.cold.collector import ColdCollector  # here: only a store with a cold tier needs it
        from kvs.tiers.object import ObjectTier

        tier, settings = self._cold_tier(), self._settings
        if not isinstance(tier, ObjectTier):
            return None
        return ColdCollector(self._directory, self._key, tier, grace_s=settings.retain_s, lease_s=settings.cold_lease_s)

    def pull(self, *, deadline_s: float = 60.0, accept_gaps: bool = False) -> Pulled:
        """Join what other machines pushed to the cold tier; a replica shows it when it is refreshed. See `Puller.pull`.

        Raises:
            StoreUnusable: the store has no cold tier. TierUnreachable, TierRefused, TierDamaged, NotAuthentic.
        """
        return self._puller().pull(deadline_s=deadline_s, accept_gaps=accept_gaps)

    def _puller(self) -> Puller:
        from kvs.pull import Puller  # here: only a store with a cold tier needs it

        tier = self._cold_tier()
        self._create()
        return Puller(self._directory, self._key, tier, lease_s=self._settings.cold_lease_s)

    def _cold_tier(self) -> Tier:
        if self._cold is None:
            raise StoreUnusable(
                self._directory, "it has no cold tier", 'Open the store with cold="s3://bucket/prefix".'
            )
        return self._cold

    def _restore(self) -> None:
        if self._cold is not None and not self.exists():
            from kvs.restore import restore_space

            lease_s = self._settings.cold_lease_s
            restore_space(self.name, self._directory, self._key, self._cold, lease_s=lease_s)

    def _create(self) -> None:
        self._restore()
        try:
            for folder in ("", "/lanes", "/blobs"):  # one by one: a parent would get the umask's mode
                os.makedirs(f"{self._directory}{folder}", 0o700, exist_ok=True)
            if not self.exists():
                temporary = f"{self._directory}/.name-{os.getpid()}-{os.urandom(4).hex()}"
                write_private(temporary, seal.name_bytes(self.name))
                os.rename(temporary, f"{self._directory}/name")
        except OSError as e:
            raise StoreUnusable(self._directory, e.strerror or str(e), "Give its owner write permission.") from e

    def _recover(self) -> None:
        """The first to come after the machine has started undoes what a power loss tore."""
        if recovery.was_opened_since_boot(self._directory):
            return
        lanes = self._lane_numbers()
        for lane in lanes:
            claim = Claim.attempt(self._owner_path(lane), lane)
            if claim is not None:
                try:
                    fetch = self._cold.get_blob if self._cold is not None else None
                    recovery.void_torn_tail(self._directory, lane, self._key, fetch)
                finally:
                    claim.release()
        recovery.drop_torn_blobs(self._directory, lanes)
        recovery.remember_boot(self._directory)

    def _claim(self, owner: Mapping[str, str | int], lane: int) -> Claim:
        """The lowest free lane from `lane` on that was not retired by a repair."""
        while True:
            if not os.path.exists(f"{self._directory}/lanes/{lane}/retired"):
                os.makedirs(f"{self._directory}/lanes/{lane}", 0o700, exist_ok=True)
                claim = Claim.attempt(self._owner_path(lane), lane)
                if claim is not None:
                    if self._is_ours(claim):
                        claim.tell(owner)
                        return claim
                    claim.release()
            lane += 1

    def _is_ours(self, claim: Claim) -> bool:
        """Whether no other machine writes the lane in the cold tier; without one, nobody could."""
        if self._cold is None:
            return True
        from kvs.restore import claim_lane

        try:
            return claim_lane(self._directory, claim.lane, self._machine, self._cold)
        except BaseException:
            claim.release()
            raise

    def _lane_numbers(self) -> list[int]:
        return sorted(int(entry) for entry in os.listdir(f"{self._directory}/lanes") if entry.isdecimal())

    def _owner_path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/owner"


def _refused(reader: Replica) -> list[bytes]:
    """The keys that cannot be read, or name a blob that cannot."""
    refused = []
    for key in reader.keys(b""):
        try:
            for version in reader.get(key):
                for ref in version.value.blobs:
                    reader.open_blob(ref)
        except StoreForeign:  # a later version can read it
            continue
        except KvsError:
            refused.append(key)
    return refused


def _gone_or_raise(function: object, path: str, failure: tuple[object, BaseException, object]) -> None:
    """Another process deletes as well, and a live reader's log shrinks: what is gone already is no failure."""
    if not isinstance(failure[1], FileNotFoundError):
        raise StoreUnusable(path, str(failure[1]), "Give its owner write permission.") from failure[1]


class _Holder(Replica):
    """A replica with the claim on its lane."""

    def __init__(self, space: Space, claim: Claim, clock: HybridClock) -> None:
        self._claim = claim
        super().__init__(
            space.name, space._directory, space._key, space._settings, lane=claim.lane, clock=clock, cold=space._cold
        )

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._claim.release()
