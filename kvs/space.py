"""A space: one namespace of a store, with its lanes, its blobs and its own key.

A lane is claimed by an exclusive lock on a file, which the system releases when its holder dies, however it dies. So
a crash leaves nothing behind that would hinder the next writer, and no lane ever has two.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from kvs import pins, recovery, seal
from kvs.clock import HybridClock
from kvs.errors import KvsError, SpaceHeld, StoreDamaged, StoreForeign, StoreUnusable
from kvs.replica import Replica
from kvs.settings import Settings
from kvs.tiers.files import write_private

if TYPE_CHECKING:
    from kvs.mirror import BackgroundMirror
    from kvs.pull import Pulled, Puller
    from kvs.repair import Repaired
    from kvs.tiers.protocol import Tier


class LaneInfo(NamedTuple):
    """A lane, whether a live process holds it, and what its last holder said of itself."""

    id: int
    held: bool
    owner: Mapping[str, str | int]


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
        return [_lane_info(self._owner_path(lane), lane) for lane in self._lane_numbers()]

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
                raise SpaceHeld(self.name, _lane_info(self._owner_path(lane), lane).owner.get("pid", "unknown"))
            stack.callback(claim.release)
        for pid in pins.holders(f"{self._directory}/pins"):
            raise SpaceHeld(self.name, pid)
        return lanes

    def _view(self, lane: int | None) -> Replica:
        return Replica(
            self.name, self._directory, self._key, self._settings, lane=lane, clock=HybridClock(), cold=self._cold
        )

    def mirror(self, *, every_s: float = 1.0, pull: bool = False) -> BackgroundMirror:
        """What this machine publishes, copied to the cold tier from now on; close it.

        With `pull`, what other machines push is joined into the space too, at each turn.

        Raises:
            StoreUnusable: the store has no cold tier.
        """
        from kvs.mirror import BackgroundMirror, Mirror  # here: only a store with a cold tier needs it

        mirror = Mirror(self._directory, self._key, self._cold_tier())
        return BackgroundMirror(mirror, every_s=every_s, puller=self._puller() if pull else None)

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
        return Puller(self._directory, self._key, tier)

    def _cold_tier(self) -> Tier:
        if self._cold is None:
            raise StoreUnusable(
                self._directory, "it has no cold tier", 'Open the store with cold="s3://bucket/prefix".'
            )
        return self._cold

    def _restore(self) -> None:
        if self._cold is not None and not self.exists():
            from kvs.restore import restore_space

            restore_space(self.name, self._directory, self._key, self._cold)

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


class Claim:
    """An exclusive lock on a lane, held by this process alone: a forked child drops its copy."""

    def __init__(self, fd: int, lane: int) -> None:
        self._fd = fd
        self.lane = lane
        _CLAIMS.add(self)

    @classmethod
    def attempt(cls, path: str, lane: int) -> Claim | None:
        """The lock, or None if another holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd, lane)

    def tell(self, owner: Mapping[str, str | int]) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(dict(owner)).encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_CLAIMS: WeakSet[Claim] = WeakSet()


def _drop_claims_in_child() -> None:
    """A lock lives as long as any copy of its descriptor; a cell's own forks must not keep a dead worker's."""
    for claim in list(_CLAIMS):
        claim.release()


os.register_at_fork(after_in_child=_drop_claims_in_child)


class _Holder(Replica):
    """A replica with the claim on its lane."""

    def __init__(self, space: Space, claim: Claim, clock: HybridClock) -> None:
        self._claim = claim
        super().__init__(
            space.name, space._directory, space._key, space._settings, lane=claim.lane, clock=clock, cold=space._cold
        )

    def close(self) -> None:
        super().close()
        self._claim.release()


def _lane_info(path: str, lane: int) -> LaneInfo:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return LaneInfo(lane, False, {})
    try:
        return LaneInfo(lane, _is_locked(fd), _owner(os.pread(fd, 65536, 0)))
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _owner(data: bytes) -> Mapping[str, str | int]:
    """What the holder said; a half-written line says nothing."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
