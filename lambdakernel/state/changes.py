"""What a cell changed, as units to write: dump the suspects, compare, regroup what moved.

Theory of operation
- An *item* is a name or a class of the notebook. A *unit* is a set of items that share mutable structure.
- Suspects are the units that the cell could reach. One whose snapshot says so is surely unchanged; one that dumps to
  the same bytes as before is unchanged as well.
- A snapshot is taken before its dump: what another thread changes between the two is seen by the next check.
- Items that were bound anew, or whose unit changed or lost a member, are *loose*: each is dumped alone, and the objects
  that its dump met say what it shares with the others, and with units that nobody suspected. What shares is dumped
  together, so that one memo keeps its structure.
- What cannot be dumped is resident, alone; everything else goes on.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambdakernel.state import graph
from lambdakernel.state.arrays import array_identity, memory_of
from lambdakernel.state.buffers import Buffers
from lambdakernel.state.classes import ClassBook, is_notebook_class
from lambdakernel.state.codec import Dump, Memo, dump, mutable_ids, unmarked
from lambdakernel.state.covariables import groups
from lambdakernel.state.graph import Snapshot
from lambdakernel.state.residents import culprit
from lambdakernel.state.specials import CannotMove
from lambdakernel.state.units import Lost

Item = tuple[str, str]
"""(`n`, name) or (`c`, identity of a class)."""
_RETRIES = 3
KEPT_TOGETHER = 1 << 16
"""Bytes of a unit of several names above which a change of it does not ask whether they still share something: that
would encode each of them alone, and then all of them again. They part when one of them is bound anew."""
_ATOMS = (int, float, complex, bool, str, bytes, type(None), types.ModuleType, types.BuiltinFunctionType)


@dataclass(slots=True)
class Live:
    """A unit whose values are in this process."""

    id: str
    items: tuple[Item, ...]
    fingerprint: tuple[bytes, ...]
    ids: frozenset[int] = frozenset()
    uses: frozenset[str] = frozenset()
    """Identities of the classes that it refers to."""
    snapshot: Snapshot | None = field(repr=False, default=None)
    """Of the values that `fingerprint` and `ids` are of; None if a dump must tell."""


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

    def __init__(self, live: dict[str, Any], book: ClassBook, worker: str, buffers: Buffers) -> None:
        self._live = live
        self._buffers = buffers
        self._book = book
        self._worker = worker
        self.units: dict[str, Live] = {}
        self._unit_of: dict[Item, str] = {}
        self._owner: dict[int, str] = {}
        self._memos: list[Memo] = []
        self._kept: dict[str, type] = {}
        """Classes that some unit here defines: the book holds none alive, and a definition must not be lost because
        no name or instance of it is loaded here."""

    # -- units that are live

    def add(self, unit: Live) -> None:
        """Know `unit`, in place of one with its id."""
        ids, unit.ids = unit.ids, frozenset()
        before = self.units.get(unit.id)
        if before is not None:
            unit.ids, before.ids = before.ids, frozenset()
            self.drop(unit.id)
        self.units[unit.id] = unit
        for item in unit.items:
            self._unit_of[item] = unit.id
            if item[0] == "c" and (cls := self._book.get(item[1])) is not None:
                self._kept[item[1]] = cls
        self._own(unit, ids)

    def _own(self, unit: Live, ids: frozenset[int]) -> None:
        """Its objects are at `ids` now. Costs what differs."""
        if unit.ids is ids or unit.ids == ids:
            return
        self._disown(unit, ids)
        for address in ids - unit.ids:
            self._owner[address] = unit.id
        unit.ids = ids

    def _disown(self, unit: Live, ids: frozenset[int]) -> None:
        """Its objects are at none but `ids` any more."""
        for address in unit.ids - ids:
            if self._owner.get(address) == unit.id:
                del self._owner[address]
        unit.ids &= ids

    def drop(self, unit_id: str) -> None:
        unit = self.units.pop(unit_id, None)
        if unit is None:
            return
        self._own(unit, frozenset())
        for item in unit.items:
            if self._unit_of.get(item) == unit_id:
                del self._unit_of[item]

    def distrust(self) -> None:
        """Dump every unit again before it is called unchanged: it is no longer dumped as it was."""
        for unit in self.units.values():
            unit.snapshot = None

    def unit_of(self, item: Item) -> str | None:
        return self._unit_of.get(item)

    # -- detection

    def detect(self, suspects: Iterable[str], rebound: Iterable[str], gone: Iterable[str]) -> Changes:
        """The units to write. `suspects` are ids of live units; `rebound` and `gone` are names."""
        collects = gc.isenabled()
        gc.disable()  # a dump makes many small objects, none of them garbage; and a finalizer is the notebook's code
        try:
            return self._detect(set(suspects), list(rebound), list(gone))
        finally:
            self._memos.clear()
            if collects:
                gc.enable()

    def _detect(self, suspects: set[str], rebound: list[str], gone: list[str]) -> Changes:
        moved = {("n", name) for name in [*rebound, *gone]}
        broken = {owner for item in moved if (owner := self._unit_of.get(item)) is not None}
        ready: dict[Item, tuple[Dump, frozenset[int]]] = {}
        whole: dict[str, tuple[Dump, frozenset[int]]] = {}
        same: dict[str, frozenset[int]] = {}
        looks: dict[str, Snapshot | None] = {}
        loose: list[Item] = [("n", name) for name in rebound]
        for unit_id in sorted(suspects - broken):
            unit = self.units[unit_id]
            if self.is_atom(unit) or self._is_surely_same(unit):
                continue
            found = self._try(unit.items)
            if found is not None and len(unit.items) == 1:
                ready[unit.items[0]] = found
            if found is not None and found[0].fingerprint == unit.fingerprint:
                same[unit_id] = found[1]
                looks[unit_id] = found[0].snapshot
            else:
                broken.add(unit_id)
                if found is not None and len(unit.items) > 1 and len(found[0].head) > KEPT_TOGETHER:
                    whole[unit_id] = found
        broken |= self._now_shared(same)
        for unit_id in looks.keys() - broken:
            self.units[unit_id].snapshot = looks[unit_id]
        for unit_id in sorted(broken - whole.keys()):
            loose += [item for item in self.units[unit_id].items if item not in moved]
        return self._regroup(loose, ready, whole, broken, moved)

    def _now_shared(self, same: dict[str, frozenset[int]]) -> set[str]:
        """Of the units whose bytes are as before, those that hold an object of another unit now, and that other:
        `K.items = a` where both were empty lists changes no byte, but joins the two."""
        moved = {unit_id: ids for unit_id, ids in same.items() if ids != self.units[unit_id].ids}
        for unit_id, ids in moved.items():
            self._disown(self.units[unit_id], ids)
        found: set[str] = set()
        for unit_id, ids in moved.items():
            unit = self.units[unit_id]
            others = {self._owner[address] for address in ids - unit.ids if address in self._owner}
            if others:
                found |= others | {unit_id}
            self._own(unit, ids)
        return found

    def _is_surely_same(self, unit: Live) -> bool:
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
        return len(unit.items) == 1 and kind == "n" and type(self._live.get(name)) in _ATOMS

    def _regroup(
        self,
        loose: list[Item],
        ready: dict[Item, tuple[Dump, frozenset[int]]],
        whole: dict[str, tuple[Dump, frozenset[int]]],
        broken: set[str],
        moved: set[Item],
    ) -> Changes:
        changes = Changes()
        alone: dict[Item, tuple[Dump, frozenset[int]]] = {}
        queue = list(dict.fromkeys(loose))
        for kept, _ in whole.values():
            queue += [c for c in self._new_classes(kept, alone) if c not in queue]
        while queue:
            item = queue.pop(0)
            found = ready.get(item) or self._try((item,))
            if found is None:
                changes.written.append(self._resident((item,)))
                continue
            alone[item] = found
            queue += [c for c in self._new_classes(found[0], alone) if c not in queue]
        shared: dict[Item, frozenset[int]] = {item: ids for item, (_, ids) in alone.items()}
        shared |= {("u", unit_id): ids for unit_id, (_, ids) in whole.items()}
        for unit_id in self._neighbours(shared, broken):
            shared[("u", unit_id)] = self.units[unit_id].ids
        for group in groups(self._with_cycles(shared, alone)):
            if group[0][1] in whole and len(group) == 1:
                changes.written.append(Written(self.units[group[0][1]].items, whole[group[0][1]][0]))
            elif any(kind != "u" or key in whole for kind, key in group):
                changes.written.append(self._together(group, alone))
        self._account(changes, broken, moved)
        return changes

    def _new_classes(self, found: Dump, known: Iterable[Item]) -> list[Item]:
        """Classes that a dump refers to and that no unit defines yet."""
        items = [("c", uid) for uid in sorted(found.uses)]
        return [item for item in items if item not in self._unit_of and item not in known]

    def _with_cycles(
        self, shared: dict[Item, frozenset[int]], alone: dict[Item, tuple[Dump, frozenset[int]]]
    ) -> dict[Item, frozenset[Hashable]]:
        """`shared`, where classes that need each other's definitions have an element in common: none of them can be
        loaded before the others, so they are one unit."""
        joined: dict[Item, frozenset[Hashable]] = dict(shared)
        for item in alone:
            if item[0] != "c":
                continue
            for uid in self._classes_used(item[1], alone):
                if item[1] != uid and item[1] in self._classes_used(uid, alone):
                    other = self._holder(uid, alone)
                    token = frozenset({" ".join(sorted((item[1], uid)))})
                    joined[item] = joined[item] | token
                    joined[other] = joined.get(other, frozenset()) | token
        return joined

    def _holder(self, uid: str, alone: Iterable[Item]) -> Item:
        """The loose item that is this class, or the unit that nobody suspected and that defines it."""
        return ("c", uid) if ("c", uid) in alone else ("u", self._unit_of["c", uid])

    def _classes_used(self, uid: str, alone: dict[Item, tuple[Dump, frozenset[int]]]) -> set[str]:
        """Classes whose definitions the one of `uid` needs, directly or not."""
        found: set[str] = set()
        queue = [uid]
        while queue:
            item = ("c", queue.pop())
            unit = self.units.get(self._unit_of.get(item, ""))
            uses = alone[item][0].uses if item in alone else unit.uses if unit is not None else frozenset()
            queue += uses - found
            found |= uses
        return found

    def _neighbours(self, shared: dict[Item, frozenset[int]], broken: set[str]) -> list[str]:
        """Units that no one suspected and that hold an object which a loose item met."""
        met: set[str] = set()
        for (kind, key), ids in shared.items():
            unknown = ids - self.units[key].ids if kind == "u" else ids  # what a unit has owned, no other has
            met.update(self._owner[address] for address in unknown if address in self._owner)
        return sorted(met - broken)

    def _together(self, group: list[Item], alone: dict[Item, tuple[Dump, frozenset[int]]]) -> Written:
        absorbed = tuple(key for kind, key in group if kind == "u")
        items = [item for item in group if item[0] != "u"]
        items += [item for unit_id in absorbed for item in self.units[unit_id].items if item not in items]
        before = self.units.get(self._unit_of.get(items[0], ""))
        if before is not None and set(before.items) == set(items):
            items = list(before.items)  # in the same order, so that equal values are equal bytes
        if len(items) == 1:
            return Written((items[0],), alone[items[0]][0], replaces=absorbed)
        joint = self._try(tuple(items))
        if joint is None:
            resident = self._resident(tuple(items))
            resident.replaces = absorbed
            return resident
        return Written(tuple(items), joint[0], replaces=absorbed)

    def _account(self, changes: Changes, broken: set[str], moved: set[Item]) -> None:
        """Every broken unit is replaced by the first that took an item of it, or emptied; one that came out as it was
        is left alone."""
        left = set(broken)
        for written in list(changes.written):
            unit_id = self._unit_of.get(written.items[0], "")
            if unit_id in left and moved.isdisjoint(written.items) and self._is_as_before(written, unit_id):
                changes.written.remove(written)
                left.discard(unit_id)
        for written in changes.written:
            taken = {u for item in written.items if (u := self._unit_of.get(item)) in left and u is not None}
            written.replaces = (*sorted(taken), *written.replaces)
            left -= taken
        changes.emptied = sorted(left)

    def _is_as_before(self, written: Written, unit_id: str) -> bool:
        unit = self.units[unit_id]
        if written.dump is None or written.items != unit.items or written.dump.fingerprint != unit.fingerprint:
            return False
        self._own(unit, written.dump.ids)
        unit.snapshot = written.dump.snapshot
        return True

    # -- dumping

    def _try(self, items: tuple[Item, ...], marks: Sequence[bytes] = ()) -> tuple[Dump, frozenset[int]] | None:
        """The dump of `items` as one value; None if something in it cannot be encoded."""
        try:
            return self.dump(items, marks)
        except (Exception, RecursionError):
            return None

    def rebase(self, unit: Live, marks: Sequence[bytes]) -> None:
        """Take what `unit`, just loaded, looks like here as what it is compared with.

        Equal values may be other bytes in another process: which equal strings are one object, in which order a set
        lists its elements. `marks` stand for its buffers, which nobody can have changed yet.
        """
        if self.is_atom(unit):
            return
        found = self._try(unit.items, marks)
        self._memos.clear()
        if found is not None:
            unit.fingerprint = found[0].fingerprint
            unit.snapshot = found[0].snapshot
            self._own(unit, found[1])

    def dump(self, items: tuple[Item, ...], marks: Sequence[bytes] = ()) -> tuple[Dump, frozenset[int]]:
        look = self._look(items)
        found, memo = self.encode(items, marks, self._buffers.mark)
        found.snapshot = look
        self._memos.append(memo)
        ids = mutable_ids(memo, self._live)
        found.ids = ids
        return found, ids

    def _look(self, items: tuple[Item, ...]) -> Snapshot | None:
        """What names look like now; None with a class among `items`: snapshots compare classes by identity."""
        if not graph.FAST or any(kind == "c" for kind, _ in items):
            return None
        try:
            return graph.snapshot([self._live[key] for _, key in items], self._live, leaf=self._token)
        except Exception:
            return None

    def _token(self, obj: Any) -> object | None:
        """What an array is compared by: where and what it is, and what stands for the memory that it looks into."""
        memory = memory_of(obj)
        return None if memory is None else (array_identity(obj), self._buffers.mark(memory))

    def encode(
        self, items: tuple[Item, ...], marks: Sequence[bytes] = (), mark: Callable[[memoryview], bytes] = unmarked
    ) -> tuple[Dump, Memo]:
        """`items` as one value, and the memo of its dump. Changes nothing here."""
        classes = {key: cls for kind, key in items if kind == "c" and (cls := self._book.get(key)) is not None}
        names = {key: self._live[key] for kind, key in items if kind == "n"}
        for attempt in range(_RETRIES):
            try:
                found, memo = dump(
                    {"classes": classes, "names": names}, self._live, self._book, tuple(classes.values()), marks, mark
                )
                break
            except RuntimeError as e:  # another thread changed it meanwhile
                if isinstance(e, RecursionError) or attempt == _RETRIES - 1 or "during iteration" not in str(e):
                    raise
        for own in (names, classes):
            memo.pop(id(own), None)
        return found, memo

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
        if issubclass(type(obj), type) and not is_notebook_class(obj):
            return False
        try:
            dump(obj, self._live, self._book)
        except (Exception, RecursionError):
            return True
        return False
