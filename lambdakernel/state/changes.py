"""What a cell changed, as units to write: dump the suspects, compare, regroup what moved.

Theory of operation
- An *item* is a name or a class of the notebook. A *unit* is a set of items that share mutable structure.
- Suspects are the units that the cell could reach. One that dumps to the same bytes as before is unchanged.
- Items that were bound anew, or whose unit changed or lost a member, are *loose*: each is dumped alone, and the objects
  that its dump met say what it shares with the others, and with units that nobody suspected. What shares is dumped
  together, so that one memo keeps its structure.
- What cannot be dumped is resident, alone; everything else goes on.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lambdakernel.state.classes import ClassBook, is_notebook_class
from lambdakernel.state.codec import Dump, dump, mutable_ids
from lambdakernel.state.covariables import groups
from lambdakernel.state.residents import culprit
from lambdakernel.state.specials import CannotMove
from lambdakernel.state.units import Lost

Item = tuple[str, str]
"""(`n`, name) or (`c`, identity of a class)."""
_RETRIES = 3
_ATOMS = (int, float, complex, bool, str, bytes, type(None), types.ModuleType, types.BuiltinFunctionType)


@dataclass(slots=True)
class Live:
    """A unit whose values are in this process."""

    id: str
    items: tuple[Item, ...]
    fingerprint: tuple[bytes, ...]
    ids: frozenset[int] = frozenset()


@dataclass(slots=True)
class Written:
    """A unit to write: its items and their dump, or why they cannot be dumped."""

    items: tuple[Item, ...]
    dump: Dump | None
    lost: Lost | None = None
    replaces: tuple[str, ...] = ()
    """Units that are gone with it."""


@dataclass(slots=True)
class Changes:
    """What a commit has to write, and the units that it empties."""

    written: list[Written] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)


class Detector:
    """Finds what changed among values in one process. Holds the addresses that its last dumps met, a unit each."""

    def __init__(self, live: dict[str, Any], book: ClassBook, worker: str) -> None:
        self._live = live
        self._book = book
        self._worker = worker
        self.units: dict[str, Live] = {}
        self._unit_of: dict[Item, str] = {}
        self._owner: dict[int, str] = {}
        self._memos: list[dict[int, Any]] = []

    # -- units that are live

    def add(self, unit: Live) -> None:
        self.drop(unit.id)
        self.units[unit.id] = unit
        for item in unit.items:
            self._unit_of[item] = unit.id
        self._own(unit, unit.ids)

    def _own(self, unit: Live, ids: frozenset[int]) -> None:
        for address in unit.ids - ids:
            if self._owner.get(address) == unit.id:
                del self._owner[address]
        unit.ids = ids
        for address in ids:
            self._owner[address] = unit.id

    def drop(self, unit_id: str) -> None:
        unit = self.units.pop(unit_id, None)
        if unit is None:
            return
        self._own(unit, frozenset())
        for item in unit.items:
            if self._unit_of.get(item) == unit_id:
                del self._unit_of[item]

    def unit_of(self, item: Item) -> str | None:
        return self._unit_of.get(item)

    # -- detection

    def detect(self, suspects: Iterable[str], rebound: Iterable[str], gone: Iterable[str]) -> Changes:
        """The units to write. `suspects` are ids of live units; `rebound` and `gone` are names."""
        try:
            return self._detect(set(suspects), list(rebound), list(gone))
        finally:
            self._memos.clear()

    def _detect(self, suspects: set[str], rebound: list[str], gone: list[str]) -> Changes:
        moved = {("n", name) for name in [*rebound, *gone]}
        broken = {owner for item in moved if (owner := self._unit_of.get(item)) is not None}
        ready: dict[Item, tuple[Dump, frozenset[int]]] = {}
        loose: list[Item] = [("n", name) for name in rebound]
        for unit_id in sorted(suspects - broken):
            unit = self.units[unit_id]
            if self._is_atom(unit):
                continue
            found = self._try(unit.items)
            if found is not None and found[0].fingerprint == unit.fingerprint:
                self._own(unit, found[1])
                continue
            broken.add(unit_id)
            if found is not None and len(unit.items) == 1:
                ready[unit.items[0]] = found
        for unit_id in broken:
            loose += [item for item in self.units[unit_id].items if item not in moved]
        return self._regroup(loose, ready, broken)

    def _is_atom(self, unit: Live) -> bool:
        """A single name bound to something that cannot change."""
        kind, name = unit.items[0]
        return len(unit.items) == 1 and kind == "n" and type(self._live.get(name)) in _ATOMS

    def _regroup(self, loose: list[Item], ready: dict[Item, tuple[Dump, frozenset[int]]], broken: set[str]) -> Changes:
        changes = Changes()
        alone: dict[Item, tuple[Dump, frozenset[int]]] = {}
        queue = list(dict.fromkeys(loose))
        while queue:
            item = queue.pop(0)
            found = ready.get(item) or self._try((item,))
            if found is None:
                changes.written.append(self._resident((item,)))
                continue
            alone[item] = found
            queue += [c for c in self._new_classes(found[0], alone) if c not in queue]
        shared: dict[Item, frozenset[int]] = {item: ids for item, (_, ids) in alone.items()}
        for unit_id in self._neighbours(shared, broken):
            shared[("u", unit_id)] = self.units[unit_id].ids
        for group in groups(shared):
            if any(kind != "u" for kind, _ in group):
                changes.written.append(self._together(group, alone))
        self._account(changes, broken)
        return changes

    def _new_classes(self, found: Dump, known: Iterable[Item]) -> list[Item]:
        """Classes that a dump refers to and that no unit defines yet."""
        items = [("c", uid) for uid in sorted(found.uses)]
        return [item for item in items if item not in self._unit_of and item not in known]

    def _neighbours(self, shared: dict[Item, frozenset[int]], broken: set[str]) -> list[str]:
        """Units that no one suspected and that hold an object which a loose item met."""
        met = {self._owner[address] for ids in shared.values() for address in ids if address in self._owner}
        return sorted(met - broken)

    def _together(self, group: list[Item], alone: dict[Item, tuple[Dump, frozenset[int]]]) -> Written:
        absorbed = tuple(key for kind, key in group if kind == "u")
        items = [item for item in group if item[0] != "u"]
        items += [item for unit_id in absorbed for item in self.units[unit_id].items if item not in items]
        if len(items) == 1:
            return Written((items[0],), alone[items[0]][0], replaces=absorbed)
        joint = self._try(tuple(items))
        if joint is None:
            resident = self._resident(tuple(items))
            resident.replaces = absorbed
            return resident
        return Written(tuple(items), joint[0], replaces=absorbed)

    def _account(self, changes: Changes, broken: set[str]) -> None:
        """Every broken unit is replaced by the first that took an item of it, or emptied."""
        left = set(broken)
        for written in changes.written:
            taken = {u for item in written.items if (u := self._unit_of.get(item)) in left and u is not None}
            written.replaces = (*sorted(taken), *written.replaces)
            left -= taken
        changes.emptied = sorted(left)

    # -- dumping

    def _try(self, items: tuple[Item, ...]) -> tuple[Dump, frozenset[int]] | None:
        """The dump of `items` as one value; None if something in it cannot be encoded."""
        try:
            return self.dump(items)
        except (Exception, RecursionError):
            return None

    def dump(self, items: tuple[Item, ...]) -> tuple[Dump, frozenset[int]]:
        classes = {key: cls for kind, key in items if kind == "c" and (cls := self._book.get(key)) is not None}
        names = {key: self._live[key] for kind, key in items if kind == "n"}
        for attempt in range(_RETRIES):
            try:
                found, memo = dump(
                    {"classes": classes, "names": names}, self._live, self._book, tuple(classes.values())
                )
                break
            except RuntimeError as e:  # another thread changed it meanwhile
                if isinstance(e, RecursionError) or attempt == _RETRIES - 1 or "during iteration" not in str(e):
                    raise
        for own in (names, classes):
            memo.pop(id(own), None)
        self._memos.append(memo)
        ids = mutable_ids(memo, self._live)
        found.ids = ids
        return found, ids

    def _resident(self, items: tuple[Item, ...]) -> Written:
        """Why these items cannot be encoded, and where the reason sits."""
        kind, key = items[0]
        value = self._live.get(key) if kind == "n" else self._book.get(key)
        try:
            self.dump(items)
            reason = "unstable"
        except (Exception, RecursionError) as e:
            reason = str(e) if isinstance(e, CannotMove) else f"not picklable ({type(e).__name__}: {str(e)[:200]})"
        path, part = culprit(key, value, self._cannot)
        return Written(items, None, Lost(reason, path, type(part).__name__, self._worker))

    def _cannot(self, obj: Any) -> bool:
        if isinstance(obj, type) and not is_notebook_class(obj):
            return False
        try:
            dump(obj, self._live, self._book)
        except (Exception, RecursionError):
            return True
        return False
