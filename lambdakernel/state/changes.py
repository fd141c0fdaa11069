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
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from lambdakernel.state.buffers import Buffers
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump
from lambdakernel.state.covariables import groups
from lambdakernel.state.dumping import Dumper
from lambdakernel.state.editor import Editor
from lambdakernel.state.here import Here, Item, Live
from lambdakernel.state.snapshots import ComparableSnapshot
from lambdakernel.state.writes import Changes, Written

KEPT_TOGETHER = 1 << 16
"""Bytes of a unit of several names above which a change of it does not ask whether they still share something: that
would encode each of them alone, and then all of them again. They part when one of them is bound anew."""


class _Cluster(NamedTuple):
    """Items that are dumped together, and the units of which some are."""

    items: tuple[Item, ...]
    absorbed: tuple[str, ...] = ()


class Detector:
    """Finds what changed among the values in this process."""

    def __init__(self, live: dict[str, Any], book: ClassBook, worker: str, buffers: Buffers) -> None:
        self.here = Here(live, book)
        self._buffers = buffers
        self.dumper = Dumper(live, book, worker, buffers)
        self._editor = Editor(self.here, self.dumper, live, book)

    def detect(self, suspects: Iterable[str], rebound: Iterable[str], gone: Iterable[str]) -> Changes:
        """The units to write. `suspects` are ids of live units; `rebound` and `gone` are names."""
        collects = gc.isenabled()
        gc.disable()  # a dump makes many small objects, none of them garbage; and a finalizer is the notebook's code
        self.here.take_back()
        try:
            return self._detect(set(suspects), list(rebound), list(gone))
        finally:
            self._buffers.look_each_time()
            self.dumper.forget()
            self.here.current.clear()
            if collects:
                gc.enable()

    def _detect(self, suspects: set[str], rebound: list[str], gone: list[str]) -> Changes:
        moved = {("n", name) for name in [*rebound, *gone]}
        broken = {owner for item in moved if (owner := self.here.unit_of.get(item)) is not None}
        ready: dict[Item, tuple[Dump, Set[int]]] = {}
        whole: dict[str, tuple[Dump, Set[int]]] = {}
        same: dict[str, Set[int]] = {}
        looks: dict[str, ComparableSnapshot | None] = {}
        edited: dict[str, Written] = {}
        loose: list[Item] = [("n", name) for name in rebound]
        for unit_id in sorted(broken):
            unit = self.here.units[unit_id]
            left = tuple(item for item in unit.items if item not in moved)
            if left and (written := self._editor.edit(unit, left)) is not None:
                edited[unit_id] = written
        broken -= edited.keys()
        for unit_id in sorted(suspects - broken - edited.keys()):
            unit = self.here.units[unit_id]
            if self.here.is_atom(unit):
                continue
            self._buffers.look_once()
            if self.here.is_surely_same(unit):
                self.here.current.add(unit_id)
                continue
            if (written := self._editor.edit(unit, unit.items)) is not None:
                edited[unit_id] = written
                continue
            if unit.base is not None and unit.base.is_parted:
                broken.add(unit_id)
                continue
            found = self.dumper.attempt(unit.items, numbers=unit.snapshot is not None)
            if found is not None and len(unit.items) == 1:
                ready[unit.items[0]] = found
            if found is not None and found[0].fingerprint == unit.fingerprint:
                self.here.current.add(unit_id)
                same[unit_id] = found[1]
                looks[unit_id] = found[0].snapshot
            else:
                broken.add(unit_id)
                if found is not None and len(unit.items) > 1 and len(found[0].head) > KEPT_TOGETHER:
                    whole[unit_id] = found
        broken |= self._now_shared(same)
        for unit_id in broken & edited.keys():
            del edited[unit_id]
        for unit_id in looks.keys() - broken:
            self.here.units[unit_id].snapshot, self.here.units[unit_id].base = looks[unit_id], None
        for unit_id in sorted(broken - whole.keys()):
            loose += [item for item in self.here.units[unit_id].items if item not in moved]
        for item in list(loose) if any(unit.base is not None for unit in self.here.units.values()) else ():
            if self._editor.join(item, edited, broken):
                loose.remove(item)
        return self._regroup(loose, ready, whole, edited, broken, moved)

    def _now_shared(self, same: dict[str, Set[int]]) -> set[str]:
        """Of the units whose bytes are as before, those that hold an object of another unit now, and that other:
        `K.items = a` where both were empty lists changes no byte, but joins the two."""
        moved = {unit_id: ids for unit_id, ids in same.items() if ids != self.here.units[unit_id].ids}
        for unit_id, ids in moved.items():
            self.here.disown(self.here.units[unit_id], ids)
        found: set[str] = set()
        for unit_id, ids in moved.items():
            unit = self.here.units[unit_id]
            others = self.here.holders(ids - unit.ids, self.dumper.ids_now)
            if others:
                found |= others | {unit_id}
            self.here.own(unit, ids)
        return found

    def _regroup(
        self,
        loose: list[Item],
        ready: dict[Item, tuple[Dump, Set[int]]],
        whole: dict[str, tuple[Dump, Set[int]]],
        edited: dict[str, Written],
        broken: set[str],
        moved: set[Item],
    ) -> Changes:
        changes = Changes()
        alone: dict[Item, tuple[Dump, Set[int]]] = {}
        queue = list(dict.fromkeys(loose))
        kept_whole = [kept for kept, _ in whole.values()]
        for kept in [*kept_whole, *(written.dump for written in edited.values() if written.dump is not None)]:
            queue += [c for c in self._new_classes(kept, alone) if c not in queue]
        clusters = self._clusters(queue, ready, alone, edited, broken)
        queue = [item for item in queue if not any(item in cluster.items for cluster in clusters.values())]
        for cluster in clusters:
            queue += [c for c in self._new_classes(alone[cluster][0], alone) if c not in queue]
        while queue:
            item = queue.pop(0)
            found = ready.get(item) or self.dumper.attempt((item,))
            if found is None:
                changes.written.append(Written((item,), None, self.dumper.why((item,))))
                continue
            alone[item] = found
            queue += [c for c in self._new_classes(found[0], alone) if c not in queue]
        shared: dict[Item, Set[int]] = {item: ids for item, (_, ids) in alone.items()}
        shared |= {("u", unit_id): ids for unit_id, (_, ids) in whole.items()}
        absorbed = {unit_id for cluster in clusters.values() for unit_id in cluster.absorbed}
        for unit_id in self._neighbours(shared, broken | absorbed):
            shared[("u", unit_id)] = self.here.units[unit_id].ids
        definers = {key: cluster for cluster, made in clusters.items() for kind, key in made.items if kind == "c"}
        definers |= {key: (kind, key) for kind, key in alone if kind == "c"}

        def used(item: Item) -> Set[str]:
            if item in alone:
                return alone[item][0].uses
            dumped = whole[item[1]][0] if item[1] in whole else edited[item[1]].dump if item[1] in edited else None
            return dumped.uses if dumped is not None else self.here.units[item[1]].uses

        for group in self._grouped(shared, used, definers, edited):
            if group[0][1] in whole and len(group) == 1:
                changes.written.append(Written(self.here.units[group[0][1]].items, whole[group[0][1]][0]))
            elif any(kind != "u" or key in whole or (key in edited and len(group) > 1) for kind, key in group):
                changes.written.append(self._together(group, alone, clusters, edited))
        changes.written += edited.values()
        self._account(changes, broken, moved)
        return changes

    def _clusters(
        self,
        loose: Sequence[Item],
        ready: Mapping[Item, tuple[Dump, Set[int]]],
        alone: dict[Item, tuple[Dump, Set[int]]],
        edited: dict[str, Written],
        broken: Set[str],
    ) -> dict[Item, _Cluster]:
        """Loose names that a look says share something, with each other or with units that nobody suspected. They are
        dumped together at once, into `alone`, by an item that stands for them."""
        names = [item for item in loose if item[0] == "n" and not self.here.is_atomic(item[1])]
        looks = {item: ids for item in names if (ids := self._ids_at_a_look(item, ready)) is not None}
        met = self.here.holders(set().union(*looks.values()), self.dumper.ids_now, broken)
        found: dict[Item, _Cluster] = {}
        for group in groups(looks | {("u", unit_id): self.here.units[unit_id].ids for unit_id in sorted(met)}):
            if len(group) == 1 or all(kind == "u" for kind, _ in group):
                continue
            absorbed = tuple(key for kind, key in group if kind == "u")
            items = self._items_of([item for item in group if item[0] != "u"], absorbed, edited)
            known = bool(absorbed) or any(item in self.here.unit_of for item in items)
            if (dumped := self.dumper.attempt(items, numbers=known)) is not None:
                for unit_id in absorbed:
                    edited.pop(unit_id, None)
                cluster = ("g", str(len(found)))
                found[cluster], alone[cluster] = _Cluster(items, absorbed), dumped
        return found

    def _ids_at_a_look(self, item: Item, ready: Mapping[Item, tuple[Dump, Set[int]]]) -> Set[int] | None:
        """Addresses of what others could share in it; of one that is dumped, those of that dump."""
        if item in ready and ready[item][0].snapshot is not None:
            return ready[item][1]
        look = self.dumper.look((item,))
        return look.ids if look is not None else None

    def _items_of(
        self, loose: Sequence[Item], absorbed: Sequence[str], edited: Mapping[str, Written]
    ) -> tuple[Item, ...]:
        members = [(edited.get(unit_id) or self.here.units[unit_id]).items for unit_id in absorbed]
        return self._in_order(list(dict.fromkeys([*loose, *(item for each in members for item in each)])))

    def _in_order(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """As in the unit that had just these, so that equal values are equal bytes."""
        before = self.here.units.get(self.here.unit_of.get(items[0], ""))
        return before.items if before is not None and set(before.items) == set(items) else tuple(items)

    def _new_classes(self, found: Dump, known: Iterable[Item]) -> list[Item]:
        """Classes that a dump refers to and that no unit defines yet."""
        items = [("c", uid) for uid in sorted(found.uses)]
        return [item for item in items if item not in self.here.unit_of and item not in known]

    def _grouped(
        self,
        shared: Mapping[Item, Set[int]],
        used: Callable[[Item], Set[str]],
        definers: Mapping[str, Item],
        edited: Iterable[str],
    ) -> list[list[Item]]:
        """What shares something, together; and what needs classes of each other in a circle, since none of it can be
        loaded before the rest. `used`: the classes that an item needs, `definers`: where loose ones will be."""
        joined: dict[Item, Set[Hashable]] = dict(shared)
        while True:
            found = groups(joined)
            circle = self._circle(found, used, definers, edited)
            if not circle:
                return found
            joined |= {item: joined.get(item, frozenset()) | {circle[0]} for item in circle}

    def _circle(
        self,
        found: list[list[Item]],
        used: Callable[[Item], Set[str]],
        definers: Mapping[str, Item],
        edited: Iterable[str],
    ) -> list[Item]:
        """An item of each group, and the units that nobody suspected, of one circle; empty if there is none."""
        first = {item: group[0] for group in found for item in group}
        members = {group[0]: group for group in found}
        needs: dict[Item, set[Item]] = {}
        queue = [*members, *(first.get(("u", unit_id), ("u", unit_id)) for unit_id in edited)]
        while queue:
            node = queue.pop()
            if node in needs:
                continue
            uses = {uid for item in members.get(node, [node]) for uid in used(item)}
            places = {definers.get(uid) or ("u", self.here.unit_of.get(("c", uid), "")) for uid in uses}
            needs[node] = {first.get(place, place) for place in places if place[1]} - {node}
            queue += needs[node]
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as e:
            return list(dict.fromkeys(e.args[1]))
        return []

    def _neighbours(self, shared: dict[Item, Set[int]], broken: set[str]) -> list[str]:
        """Units that no one suspected and that hold an object which a loose item met."""
        met: set[str] = set()
        for (kind, key), ids in shared.items():
            unknown = ids - self.here.units[key].ids if kind == "u" else ids  # what a unit has owned, no other has
            met |= self.here.holders(unknown, self.dumper.ids_now, broken)
        return sorted(met)

    def _together(
        self,
        group: list[Item],
        alone: dict[Item, tuple[Dump, Set[int]]],
        clusters: dict[Item, _Cluster],
        edited: dict[str, Written],
    ) -> Written:
        parts = [clusters.get(item, _Cluster((item,))) for item in group if item[0] != "u"]
        units = tuple(key for kind, key in group if kind == "u")
        items = self._items_of([item for part in parts for item in part.items], units, edited)
        absorbed = (*units, *(unit_id for part in parts for unit_id in part.absorbed))
        for unit_id in units:
            edited.pop(unit_id, None)
        if len(group) == 1 or len(items) == 1:
            return Written(items, alone[group[0]][0], replaces=absorbed)
        joint = self.dumper.attempt(items, numbers=True)
        if joint is None:
            return Written(items, None, self.dumper.why(items), absorbed)
        return Written(items, joint[0], replaces=absorbed)

    def _account(self, changes: Changes, broken: set[str], moved: set[Item]) -> None:
        """Every broken unit is replaced by the first that took an item of it, or emptied; one that came out as it was
        is left alone."""
        left = set(broken)
        for written in list(changes.written):
            unit_id = self.here.unit_of.get(written.items[0], "")
            if unit_id in left and moved.isdisjoint(written.items) and self._is_as_before(written, unit_id):
                changes.written.remove(written)
                left.discard(unit_id)
        for written in changes.written:
            if written.dump is not None and written.dump.is_edit:
                continue
            taken = {u for item in written.items if (u := self.here.unit_of.get(item)) in left and u is not None}
            written.replaces = (*sorted(taken), *written.replaces)
            left -= taken
        changes.emptied = sorted(left)

    def _is_as_before(self, written: Written, unit_id: str) -> bool:
        unit = self.here.units[unit_id]
        if written.dump is None or written.items != unit.items or written.dump.fingerprint != unit.fingerprint:
            return False
        self.here.own(unit, written.dump.ids)
        unit.snapshot, unit.base = written.dump.snapshot, None  # its numbers were of objects at other addresses
        return True

    def rebase(self, unit: Live, marks: Sequence[bytes]) -> None:
        """Take what `unit`, just loaded, looks like here as what it is compared with.

        Equal values may be other bytes in another process: which equal strings are one object, in which order a set
        lists its elements. `marks` stand for its buffers, which nobody can have changed yet.
        """
        if self.here.is_atom(unit):
            return
        found = self.dumper.attempt(unit.items, marks)
        self.dumper.forget()
        if found is not None:
            unit.fingerprint = found[0].fingerprint
            unit.snapshot, unit.base = found[0].snapshot, None
            self.here.own(unit, found[1])
