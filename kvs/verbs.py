"""The everyday verbs of a replica: put, delete, merge, value, scan, snapshot, watch.

Kept apart from reading and publishing, which they use. None of them has state but the list of who watches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakSet

from kvs.errors import KvsError, StoreUnusable
from kvs.lattices.errors import LatticeMismatch
from kvs.snapshot import Snapshot
from kvs.watch import Watch

if TYPE_CHECKING:
    from kvs.causal import Dot
    from kvs.lattices import Lattice
    from kvs.movement.samples import Budget
    from kvs.placement import BackgroundMover
    from kvs.replica import Replica, Value, Version
    from kvs.shared import SharedMap
    from kvs.tiers.blobs import BlobRef, Blobs
    from kvs.tiers.protocol import Tier

L = TypeVar("L", bound="Lattice")


class WrongLattice(KvsError):
    """A key holds something else than the lattice that was asked for; nothing was written."""

    def __init__(self, key: bytes, wanted: str, why: str) -> None:
        super().__init__(
            f"key {key!r} holds no {wanted}: {why}. Use a key of its own for each type, or `put` to replace what is"
            " there."
        )
        self.key = key


class Verbs:
    """See the module. `Replica` has the state, which is named here, and is the only one to extend this."""

    _directory: str
    _watches: WeakSet[Watch] | None
    _maps: WeakSet[SharedMap] | None
    _blobs: Blobs
    _cold: Tier | None

    if TYPE_CHECKING:  # what `Replica` does

        @property
        def _pins(self) -> str: ...
        def get(self, key: bytes) -> tuple[Version, ...]: ...
        def keys(self, prefix: bytes = b"") -> list[bytes]: ...
        def publish(self, writes: Mapping[bytes, Value | None], note: bytes = b"") -> Dot: ...
        def sync(self) -> None: ...
        def undisturbed(self) -> AbstractContextManager[None]: ...

    def put(self, key: bytes, payload: bytes, blobs: tuple[BlobRef, ...] = ()) -> Dot:
        """Publish one value; it replaces every sibling that this replica shows.

        Raises:
            KvsError: see `publish`.
        """
        from kvs.replica import Value

        return self.publish({key: Value(payload, blobs)})

    def delete(self, key: bytes) -> Dot:
        """Publish that a key is deleted; a write that this replica has not joined yet stays.

        Raises:
            KvsError: see `publish`.
        """
        return self.publish({key: None})

    def merge(self, key: bytes, delta: L) -> L:
        """Join `delta` into what `key` holds, and publish that; the joined value. No write of anybody is lost by it.

        Writers that have not seen each other leave a sibling each, and `value` joins them. Nothing is published where
        `delta` says nothing new.

        Raises:
            WrongLattice: the key holds another type, or no lattice. KvsError: see `publish`. Nothing was written.
        """
        with self.undisturbed():
            before = self.value(key, type(delta))
            joined = _joined(key, before, delta)
            if joined != before or not self.get(key):
                self.put(key, joined.encode())
            return joined

    def value(self, key: bytes, kind: type[L]) -> L:
        """The join of all siblings of `key`; the bottom of `kind` where there are none.

        Raises:
            WrongLattice: one of them is of another type, or no lattice. KvsError: see `get`.
        """
        from kvs.lattices import BadEncoding, NewerEncoding, decode

        joined = kind.bottom()
        for version in self.get(key):
            try:
                found = decode(version.value.payload, kind)
            except NewerEncoding:
                raise
            except LatticeMismatch as e:
                raise _wrong(key, kind, e) from e
            except BadEncoding as e:
                raise WrongLattice(key, kind.__name__, "what it holds is no lattice value") from e
            joined = _joined(key, joined, found)
        return joined

    def shared_map(self, key: bytes, lattice: type[Lattice], number: type[float] = int) -> SharedMap:
        """A map of numbers that all processes of this machine join into, each as fast as into a dict: `Max` or `Min` of
        int or float, `GCounter` or `PNCounter`. It is closed with this replica. See `kvs.shared`.

        Raises:
            OutsideDomain: there is no such map, or `key` has one of another kind. WrongLattice: it holds something
                else. StoreFull, StoreUnusable: it cannot be made.
        """
        from kvs.shared import SharedMap

        with self.undisturbed():  # two would write the same file
            for known in self._maps or ():
                if known.is_open_as(key, lattice, number):
                    return known
            made = SharedMap(cast("Replica", self), self._directory, key, lattice, number)
            self._maps = self._maps if self._maps is not None else WeakSet()
            self._maps.add(made)
            return made

    def delete_shared_map(self, key: bytes) -> bool:
        """Delete what a shared map holds and has not published; False if there is none.

        Raises:
            StoreUnusable: a live process has it open; nothing was deleted.
        """
        from kvs.shared import delete_shared_map

        return delete_shared_map(self._directory, key)

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, tuple[Version, ...]]]:
        """Every key with its siblings, in the order of keys; each is read when it is asked for.

        The keys are those of the moment of the call. A `refresh` or `publish` in between changes what follows: scan a
        `snapshot` where it must not.

        Raises:
            KvsError: see `get`.
        """
        for key in self.keys(prefix):
            if versions := self.get(key):
                yield key, versions

    def snapshot(self) -> Snapshot:
        """What this replica shows now, frozen; close it."""
        return Snapshot(cast("Replica", self), self._pins)

    def watch(self, prefix: bytes = b"", *, keys: Collection[bytes] | None = None, timeout_s: float) -> Watch:
        """An iterator over what others publish from now on, to keys that start with `prefix` (and are in `keys`).

        It ends when there was nothing for `timeout_s`. See `Watch`.

        Raises:
            ValueError: `timeout_s` is no number of seconds. StoreUnusable: the system refuses.
        """
        watch = Watch(cast("Replica", self), f"{self._directory}/lanes", prefix=prefix, keys=keys, timeout_s=timeout_s)
        self._watches = self._watches if self._watches is not None else WeakSet()
        self._watches.add(watch)
        return watch

    def mover(
        self, *, memory_bytes: float, disk_bytes: float, every_s: float = 60.0, budget: Budget | None = None
    ) -> BackgroundMover:
        """Moves large values between memory, disk and the cold tier from now on, as reads come; close it.

        Every step keeps `memory_bytes` of this process and `disk_bytes` of the space here; `budget` adds what all may
        take together. Every process that opens the space must open its store with the cold tier.

        Raises:
            StoreUnusable: the store has no cold tier. TierUnreachable, TierRefused: it cannot say what it has.
            ValueError: a limit is below 0.
        """
        from kvs.movement.samples import Budget
        from kvs.placement import BackgroundMover, PlacedBlobs, Placement, tiers_of

        if self._cold is None:
            raise StoreUnusable(
                self._directory, "it has no cold tier", 'Open the store with cold="s3://bucket/prefix".'
            )
        tiers = tiers_of(memory_bytes, disk_bytes)
        placement = Placement(self._directory, self._cold)
        with self.undisturbed():
            self._blobs.sync()
            self._blobs = PlacedBlobs(f"{self._directory}/blobs", self._cold.get_blob, placement)
        return BackgroundMover(placement, self._directory, tiers, budget or Budget(), every_s=every_s, before=self.sync)

    def _tell(self, changed: Collection[bytes]) -> None:
        if changed and self._watches is not None:
            for watch in list(self._watches):
                watch.hear(changed)

    def _end_watches(self) -> None:
        for watch in list(self._watches or ()):
            watch.close()
        for shared in list(self._maps or ()):
            shared.close()


def _joined(key: bytes, one: L, other: L) -> L:
    try:
        return one.join(other)
    except LatticeMismatch as e:  # of what is inside
        raise _wrong(key, type(one), e) from e


def _wrong(key: bytes, kind: type[Lattice], error: LatticeMismatch) -> WrongLattice:
    return WrongLattice(key, kind.__name__, f"it holds {error.got}, which does not join with {error.wanted}")
