"""A map of numbers into which the processes of one machine join, and which they read, without a system call.

Theory of operation
- Each replica has a file of its own for a map, in its lane's name, with a slot for each entry (`kvs.shared.lane_file`).
  To join is to raise a slot of one's own; to read is to join the slots of all lanes. So nobody waits for anybody: there
  is no lock, no retry and no log that a reader would have to catch up with, however fast the writers are.
- What was joined survives the death of every process at once, as what was published does. Others on this machine see it
  at once, not at their next refresh: it is no part of a causal cut. A read never shows less than an earlier one did of
  any entry, but for a counter that also goes down.
- `publish` joins all of it into the key that the map is named by, a `kvs.lattices.Map`, like any other `merge`. From
  then on it is what every version is: flushed by `sync`, mirrored, seen by snapshots, kept in the history.
- What the key held before is read too: what other machines published, and what this one did before it lost its memory
  of it in a power loss.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from kvs import seal
from kvs.errors import DamageWarning, KvsError, LaneLost, ReadOnlyReplica, StoreDamaged
from kvs.lattices import Lattice, Map, OutsideDomain, domain, wire
from kvs.shared.inspection import FOLDER
from kvs.shared.joined import Joined
from kvs.shared.kinds import TOP, Key, Number, Parts, ident_of, kind_of
from kvs.shared.lane_file import MOST_NAME_NBYTES, LaneFile
from kvs.shared.table import NAME, Table, delete
from kvs.tiers.translation import translated

if TYPE_CHECKING:
    from kvs.replica import Replica


class SharedMap:
    """See the module. Made by `Replica.shared_map`, and closed with its replica. Safe to use from several threads.

    Keys are text, bytes, integers, None, or tuples of these, up to 64 KB; numbers are of 64 bits. An entry takes 8
    bytes for each writer of it, and its name.
    """

    def __init__(
        self, replica: Replica, directory: str, key: bytes, lattice: type[Lattice], number: type[Number]
    ) -> None:
        """`directory` is that of the space."""
        self._replica, self.key = replica, key
        self._kind = kind_of(lattice, number)
        self._directory = path_of(directory, key)
        self._lane = None if replica.is_reader else replica.id
        self._lock = threading.Lock()
        self._own: LaneFile | None = None
        self._is_fork = False
        published = self._published()
        self._table = translated(self._directory, self._opened_table)
        self._joined: Joined | None = Joined(self._directory, key, self._kind, self._table, published)
        _MAPS.add(self)
        try:
            if self._lane is not None:
                self._hold(self._lane, published)
            with self._lock:
                self._look()
        except BaseException:
            self.close()
            raise

    def _published(self) -> Parts:
        """What the key holds.

        Raises:
            WrongLattice: it holds something else. KvsError: see `Replica.get`.
        """
        return self._kind.parts(self._replica.value(self.key, Map))

    def _opened_table(self) -> Table:
        os.makedirs(os.path.dirname(self._directory), 0o700, exist_ok=True)
        os.makedirs(self._directory, 0o700, exist_ok=True)
        table = Table.opened(f"{self._directory}/{NAME}", self.key, self._kind.name)
        if table.kind_name != self._kind.name:
            table.close()
            raise self._other_kind(self._kind.name, table.kind_name)
        return table

    def _hold(self, lane: int, published: Parts) -> None:
        """Have a file to write to, with all in it that was published of its writer."""
        path = f"{self._directory}/{lane}"
        try:
            own = translated(path, partial(LaneFile.held, path, self._kind))
        except StoreDamaged as e:
            aside = f"{path}.damaged-{os.urandom(4).hex()}"
            os.rename(path, aside)
            warnings.warn(f"{e} It was moved to {aside}; what it alone held is gone.", DamageWarning, stacklevel=5)
            own = translated(path, partial(LaneFile.held, path, self._kind))
        self._put(lane, own)
        for ident, slots in published.get(own.writer, {}).items():
            self._raise(self._own or own, ident, slots)

    def _put(self, lane: int, own: LaneFile) -> None:
        self._own = own
        if self._joined is not None:
            self._joined.put(lane, own)
        self._table.raise_own(lane)

    # -- writing

    def join(self, key: Key, number: Number) -> bool:
        """Join one number into an entry of a map of `Max` or `Min`; whether it was news to this writer.

        Raises:
            OutsideDomain: the key or the number cannot be held, or the map is one of counters.
            ReadOnlyReplica, LaneLost, StoreFull: nothing was joined.
        """
        if self._kind.is_count:
            raise OutsideDomain(f"a number to join into {self._kind.name}", "says nothing", "Use `add`, which counts.")
        slot, ident = self._kind.slot_of(number), ident_of(key)
        with self._lock:
            own = self._writable()
            at = own.at.get(ident)
            if at is None:
                self._enter(own, ident, (slot,))
                return True
            if own.words[at] >= slot:
                return False
            own.words[at] = slot
            return True

    def add(self, key: Key, by: int = 1) -> None:
        """Count in an entry of a map of counters; down, in one of `PNCounter`.

        Raises:
            OutsideDomain: the key or the number cannot be held, it only grows, or the map is none of counters.
            ReadOnlyReplica, LaneLost, StoreFull: nothing was counted.
        """
        if not self._kind.is_count:
            raise OutsideDomain(f"a number to add to {self._kind.name}", "says nothing", "Use `join`.")
        half = by < 0
        if half and self._kind.width == 1:
            raise OutsideDomain(f"{by!r} as a count", "would go down", "Use a map of PNCounter.")
        by, ident = abs(self._kind.slot_of(by)), ident_of(key)
        with self._lock:
            own = self._writable()
            at = own.at.get(ident)
            if at is None:
                self._enter(own, ident, ((0, by) if half else (by, 0))[: self._kind.width])
                return
            counted = own.words[at + half] + by
            if counted > TOP:
                raise OutsideDomain(f"{counted} as a count", "is beyond 64 bits", "Begin another map.")
            own.words[at + half] = counted

    def _writable(self) -> LaneFile:
        if self._lane is None:
            raise ReadOnlyReplica
        if self._own is None or self._is_fork:
            why = "this is a fork of the process that holds it" if self._is_fork else "the map is closed"
            raise LaneLost(f"{self._directory}/{self._lane}", why)
        return self._own

    def _raise(self, own: LaneFile, ident: Any, slots: Sequence[int]) -> None:
        """Have at least these numbers in an entry of this writer."""
        at = own.at.get(ident)
        if at is None:
            self._enter(own, ident, slots)
            return
        for half, slot in enumerate(slots):
            own.words[at + half] = max(slot, own.words[at + half])

    def _enter(self, own: LaneFile, ident: Any, slots: Sequence[int]) -> None:
        name = wire.packed(domain.original(ident))
        if len(name) > MOST_NAME_NBYTES:
            raise OutsideDomain(f"a key of {len(name)} bytes", f"is longer than {MOST_NAME_NBYTES}", "Use its digest.")
        if not own.has_room(name):
            own = translated(own.path, partial(own.grown, name))
            self._put(self._lane or 0, own)
        own.add(ident, name, slots)

    # -- reading

    def get(self, key: Key, default: Number | None = None) -> Number | None:
        """What all writers have joined into one entry so far: the largest, the smallest, or the sum."""
        with self._lock:
            number = self._look().number(ident_of(key))
        return default if number is None else number

    def numbers(self) -> dict[Any, Number]:
        """Every entry, as `get` gives it. Costs some 0.1 us an entry and writer."""
        with self._lock:
            return self._look().numbers()

    def value(self) -> Map[Any, Any]:
        """All of it, as a lattice value."""
        with self._lock:
            return self._kind.value(self._look().parts())

    def publish(self) -> Map[Any, Any]:
        """Join all of it into the key, and publish that, if there is something new; what the key then holds.

        Raises:
            KvsError: see `Replica.merge`; nothing was published, and nothing is lost of the map.
        """
        return self._replica.merge(self.key, self.value())

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return len(self.numbers())

    def __repr__(self) -> str:
        said = "closed" if self._joined is None else f"{len(self)} entries"
        return f"SharedMap({self.key!r}, {self._kind.name}, {said})"

    def _look(self) -> Joined:
        if self._joined is None:
            raise KvsError(f"the shared map {self.key!r} is closed. Open it anew with Replica.shared_map.")
        self._joined.look(None if self._is_fork else self._lane)
        return self._joined

    # -- its end

    def is_open_as(self, key: bytes, lattice: type[Lattice], number: type[Number]) -> bool:
        """Whether this is that map.

        Raises:
            OutsideDomain: it is, of another kind.
        """
        if self._joined is None or key != self.key:
            return False
        if kind_of(lattice, number) is not self._kind:
            raise self._other_kind(kind_of(lattice, number).name, self._kind.name)
        return True

    def _other_kind(self, wanted: str, found: str) -> OutsideDomain:
        return OutsideDomain(
            f"{wanted} for the shared map {self.key!r}",
            f"is not what it holds, which is {found}",
            "Use a key of its own for each kind.",
        )

    def close(self) -> None:
        """Nothing is lost: what was joined is in its files."""
        with self._lock:
            joined, self._joined, self._own = self._joined, None, None
            if joined is not None:
                joined.close()
            self._table.close()

    def let_go(self) -> None:
        """In a fork: it may read on, and the lane is the parent's."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self._is_fork = True
        self._table.let_go()


def path_of(directory: str, key: bytes) -> str:
    """The directory of the shared map of `key`, below that of its space."""
    return f"{directory}/{FOLDER}/{seal.digest(key).hex()[:40]}"


def delete_shared_map(directory: str, key: bytes) -> bool:
    """See `Replica.delete_shared_map`; `directory` is that of the space."""
    path = path_of(directory, key)
    return translated(path, partial(delete, path))


_MAPS: WeakSet[SharedMap] = WeakSet()


def _let_go_in_child() -> None:
    for map in list(_MAPS):
        map.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
