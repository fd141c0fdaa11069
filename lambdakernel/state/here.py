"""Units whose values are in this process, and at which addresses their objects are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from lambdakernel.state.bases import Base
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.imported import is_of_process
from lambdakernel.state.snapshots import ComparableSnapshot

Item = tuple[str, str]
"""(`n`, name) or (`c`, identity of a class)."""
_ATOMS = (int, float, complex, bool, str, bytes, type(None))

_LARGE = 4096
"""Addresses of one unit from which they are not listed by address: that would cost more than to ask the unit."""
_FEW = 4
"""Times as many addresses are owned as are asked for, up to which it is quicker to ask every unit."""


@dataclass(slots=True)
class Live:
    """A unit whose values are in this process."""

    id: str
    items: tuple[Item, ...]
    fingerprint: tuple[bytes, ...]
    ids: Set[int] = frozenset()
    uses: frozenset[str] = frozenset()
    """Identities of the classes that it refers to."""
    snapshot: ComparableSnapshot | None = field(repr=False, default=None)
    """Of the values that `fingerprint` and `ids` are of; None if a dump must tell."""
    base: Base | None = None
    """What an edit of it can refer to."""


class Here:
    """See the module. An address belongs to the unit that was last seen to hold an object there."""

    def __init__(self, live: dict[str, Any], book: ClassBook) -> None:
        self._live = live
        self._book = book
        self.units: dict[str, Live] = {}
        self.unit_of: dict[Item, str] = {}
        self._owner: dict[int, str] = {}
        """By address, of those that are not large."""
        self._large: set[str] = set()
        self._moves: dict[str, tuple[Sequence[int], Sequence[int]]] = {}
        self.current: set[str] = set()
        """Units whose addresses are as they are now."""
        self._kept: dict[str, type] = {}
        """Classes that some unit here defines: the book holds none alive, and a definition must not be lost because
        no name or instance of it is loaded here."""

    def add(self, unit: Live) -> None:
        """Know `unit`, in place of one with its id."""
        ids, unit.ids = unit.ids, frozenset()
        before = self.units.get(unit.id)
        if before is not None:
            unit.ids, before.ids = before.ids, frozenset()
            self.drop(unit.id)
        self.units[unit.id] = unit
        for item in unit.items:
            self.unit_of[item] = unit.id
            if item[0] == "c" and (cls := self._book.get(item[1])) is not None:
                self._kept[item[1]] = cls
        self.own(unit, ids)

    def own(self, unit: Live, ids: Set[int]) -> None:
        """Its objects are at `ids` now. Costs what differs, and nothing where they are many."""
        self._moves.pop(unit.id, None)
        if unit.ids is ids or unit.ids == ids:
            return
        if len(ids) >= _LARGE:
            self._unlist(unit.id, unit.ids)
            self._large.add(unit.id)
        elif unit.id in self._large:
            self._large.discard(unit.id)
            self._list(unit.id, ids)
        else:
            self.disown(unit, ids)
            self._list(unit.id, ids - unit.ids)
        unit.ids = ids

    def disown(self, unit: Live, ids: Set[int]) -> None:
        """Its objects are at none but `ids` any more."""
        self._unlist(unit.id, unit.ids - ids)
        unit.ids = unit.ids & ids

    def _unlist(self, unit_id: str, addresses: Iterable[int]) -> None:
        for address in addresses if unit_id not in self._large else ():
            if self._owner.get(address) == unit_id:
                del self._owner[address]

    def _list(self, unit_id: str, addresses: Iterable[int]) -> None:
        if unit_id not in self._large:
            self._owner.update(dict.fromkeys(addresses, unit_id))

    def drop(self, unit_id: str) -> None:
        unit = self.units.pop(unit_id, None)
        if unit is None:
            return
        self.own(unit, frozenset())
        for item in unit.items:
            if self.unit_of.get(item) == unit_id:
                del self.unit_of[item]

    def distrust(self) -> None:
        """Dump every unit again before it is called unchanged: it is no longer dumped as it was."""
        for unit in self.units.values():
            unit.snapshot = unit.base = None

    def is_surely_same(self, unit: Live) -> bool:
        """Its ids are as they were, then: no object of another unit can have come in without a reference to it."""
        if unit.snapshot is None:
            return False
        try:
            return unit.snapshot.is_unchanged([self._live.get(key) for _, key in unit.items])
        except Exception:  # an array that cannot be read: a dump will say so
            return False

    def is_atom(self, unit: Live) -> bool:
        """A single name bound to something that cannot change."""
        kind, name = unit.items[0]
        return len(unit.items) == 1 and kind == "n" and self.is_atomic(name)

    def is_atomic(self, name: str) -> bool:
        """It is bound to something that cannot change."""
        value = self._live.get(name)
        return type(value) in _ATOMS or is_of_process(value)

    def moved(self, unit: Live, added: Sequence[int], gone: Sequence[int]) -> set[int]:
        """Since its snapshot, `unit` has come to have objects at addresses, and has none any more at others. All that
        it has now. In force until it is said anew, or taken back; for good once the unit is added again."""
        self._take_back(unit)
        ids = unit.ids if isinstance(unit.ids, set) else set(unit.ids)
        self._unlist(unit.id, gone)
        self._list(unit.id, added)
        ids.difference_update(gone)
        ids.update(added)
        unit.ids = ids
        self._moves[unit.id] = (added, gone)
        self.current.add(unit.id)
        return ids

    def take_back(self) -> None:
        """What was said of units that were not added since: their snapshots are what they were."""
        for unit_id in list(self._moves):
            self._take_back(self.units[unit_id])

    def _take_back(self, unit: Live) -> None:
        added, gone = self._moves.pop(unit.id, ((), ()))
        self._unlist(unit.id, added)
        self._list(unit.id, [address for address in gone if address not in self._owner])
        if added or gone:
            ids = unit.ids if isinstance(unit.ids, set) else set(unit.ids)
            ids.difference_update(added)
            ids.update(gone)
            unit.ids = ids

    def owner_of(self, obj: object) -> str | None:
        """The unit that was last seen to hold an object where `obj` is."""
        address = id(obj)
        return self._owner.get(address) or next((u for u in self._large if address in self.units[u].ids), None)

    def holders(
        self, addresses: Iterable[int], ids_now: Callable[[Live], Set[int] | None], but: Set[str] = frozenset()
    ) -> set[str]:
        """Units that hold an object at one of `addresses`, `but` for some.

        What a unit held when it was last looked at may be gone, and its address another object's by now. So one that
        nobody suspected is looked at again, by `ids_now`, before it is believed.
        """
        at = addresses if isinstance(addresses, Set | Sequence) else list(addresses)
        units = self._owners_of(at) - but
        unknown = units - self.current
        self.current |= unknown
        for unit in [self.units[unit_id] for unit_id in unknown]:
            if not self.is_surely_same(unit) and (ids := ids_now(unit)) is not None:
                self.disown(unit, ids)
        return units if not unknown else units & self._owners_of(at)

    def _owners_of(self, addresses: Set[int] | Sequence[int]) -> set[str]:
        if isinstance(addresses, Set) and len(self._owner) < _FEW * len(addresses):
            return {unit_id for unit_id, unit in self.units.items() if not unit.ids.isdisjoint(addresses)}
        large = {unit_id for unit_id in self._large if not self.units[unit_id].ids.isdisjoint(addresses)}
        return large | {unit_id for unit_id in set(map(self._owner.get, addresses)) if unit_id is not None}
