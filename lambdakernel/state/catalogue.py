"""The units of one epoch as the store has them, and what code in them can reach.

A catalogue knows names, classes and who refers to whom; it holds no value. It is read from the store once, and updated
in place by our own commits and those of other replicas, at the cost of what they changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

import kvs
from lambdakernel.state import reach
from lambdakernel.state.ambient import is_held
from lambdakernel.state.bindings import SHOWN, is_output
from lambdakernel.state.cells import Resident
from lambdakernel.state.units import Keys, Lost, Unit, resolve, unit_of


class Catalogue:
    """See the module. `shown` holds the outputs that `_`, `__` and `___` stand for."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self.versions: dict[str, kvs.Dot] = {}
        self.conflicts: list[Unit] = []
        """Units that another replica's write of the same names has beaten; kept whole."""
        self.shown: tuple[str, str, str] = ("", "", "")
        self.held: set[str] = set()
        """Names of ambient state that is stored as units."""
        self._is_settled = True
        """No unit claims what another has."""
        self._by_name: dict[str, str] = {}
        self._by_class: dict[str, str] = {}

    # -- contents

    def read(self, replica: kvs.Replica, keys: Keys) -> None:
        """Take what the store holds; a unit that is damaged has no names, so that the others can be used."""
        claims = []
        self.versions.clear()
        for key in replica.keys(keys.units):
            try:
                for version in replica.get(key):
                    unit = unit_of(version.value.payload)
                    claims.append(((version.hlc, *version.dot), unit))
                    self.versions[unit.id] = version.dot
            except (kvs.KvsError, msgspec.MsgspecError) as e:
                unit = Unit(key.rpartition(b"/")[2].decode(), (), resident=Lost(str(e), "", "", ""))
                claims.append(((0, 0, 0), unit))
        self.units, self.conflicts = resolve(claims)
        self._by_name = {name: unit.id for unit in self.units.values() for name in unit.names}
        self._by_class = {uid: unit.id for unit in self.units.values() for uid in unit.classes}
        self.held = set(filter(is_held, self._by_name))
        self._is_settled = not self.conflicts

    def join(self, replica: kvs.Replica, keys: Keys, ids: Collection[str]) -> bool:
        """Take what the store holds of the units `ids` alone. False, and nothing is taken, if that needs a look at all
        units: one is damaged, or claims what another has."""
        if not self._is_settled:
            return False
        found: list[tuple[Unit, kvs.Dot]] = []
        claimed: set[str] = set()
        for unit_id in ids:
            try:
                versions = replica.get(keys.unit(unit_id))
                units = [(unit_of(version.value.payload), version.dot) for version in versions]
            except (kvs.KvsError, msgspec.MsgspecError):
                return False
            if len(units) > 1 or any(unit.id != unit_id for unit, _ in units):
                return False
            for unit, _ in units:
                owners = {self._by_name.get(name) for name in unit.names}
                owners |= {self._by_class.get(uid) for uid in unit.classes}
                members = {*unit.names, *unit.classes}
                if not claimed.isdisjoint(members) or not owners <= {None, *ids}:
                    return False
                claimed |= members
            found += units
        for unit_id in ids:
            self.remove(unit_id)
            self.versions.pop(unit_id, None)
        for unit, dot in found:
            self.add(unit, dot)
        return True

    def add(self, unit: Unit, dot: kvs.Dot) -> None:
        owners = {self._by_name.get(name) for name in unit.names} | {self._by_class.get(uid) for uid in unit.classes}
        self._is_settled = self._is_settled and owners <= {None, unit.id}
        self.held.update(filter(is_held, unit.names))
        self.units[unit.id] = unit
        self.versions[unit.id] = dot
        self._by_name.update(dict.fromkeys(unit.names, unit.id))
        self._by_class.update(dict.fromkeys(unit.classes, unit.id))

    def remove(self, unit_id: str) -> None:
        unit = self.units.pop(unit_id, None)
        if unit is None:
            return
        for index, keys in ((self._by_name, unit.names), (self._by_class, unit.classes)):
            for key in keys:
                if index.get(key) == unit_id:
                    del index[key]
        self.held -= set(filter(is_held, unit.names)) - self._by_name.keys()

    # -- questions

    @property
    def names(self) -> Iterable[str]:
        """Every name, outputs included."""
        return self._by_name.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def of_name(self, name: str) -> Unit | None:
        return self.units.get(self._by_name.get(name, ""))

    def version_of(self, name: str) -> kvs.Dot | None:
        """The commit that wrote the value of a name last."""
        return self.versions.get(self._by_name.get(name, ""))

    def nbytes_of(self, names: Iterable[str]) -> int:
        """What their values take in the store; each once."""
        return sum(self.units[id].nbytes for id in {self._by_name[name] for name in names if name in self._by_name})

    def of_class(self, uid: str) -> Unit | None:
        return self.units.get(self._by_class.get(uid, ""))

    def is_resident(self, unit_id: str) -> bool:
        """A resident is looked at again only when its name is bound anew: what cannot be encoded cannot be compared."""
        unit = self.units.get(unit_id)
        return unit is not None and unit.resident is not None

    def reached(self, names: Iterable[str]) -> tuple[set[str], bool]:
        """`names` with everything that code in their values may use, and whether some of it can use any name."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name in found:
                continue
            found.add(name)
            if name in reach.OUTPUT_CACHES:
                queue += [n for n in self._by_name if is_output(n)]
            elif name in SHOWN:
                queue += [n for n in self.shown if n]
            unit = self.of_name(name)
            if unit is None:
                continue
            definitions = [unit, *self.definitions(unit)]
            if any(definition.dynamic for definition in definitions):
                return found, True
            queue += [name for definition in definitions for name in (*definition.names, *definition.refs)]
        return found, False

    def in_order(self, names: Iterable[str]) -> list[str]:
        """`names`, each after those that code of its value may use while it is loaded (`__setstate__`, or the
        `__hash__` of a key), but where code goes round in a circle."""
        wanted = dict.fromkeys(names)
        if len(wanted) < 2:
            return [*wanted]
        order: dict[str, None] = {}
        seen: set[str] = set()
        stack = [(name, False) for name in reversed(wanted)]
        while stack:
            name, is_ready = stack.pop()
            if is_ready:
                order[name] = None
            if is_ready or name in seen:
                continue
            seen.add(name)
            stack.append((name, True))
            unit = self.of_name(name)
            code = [unit, *self.definitions(unit)] if unit is not None else []
            stack += [(used, False) for definition in code for used in definition.refs if used in wanted]
        return [*order]

    def definitions(self, unit: Unit) -> list[Unit]:
        """Units that define the classes that a unit uses, and the classes that these use."""
        found: dict[str, Unit] = {}
        queue = [*unit.uses]
        while queue:
            definition = self.of_class(queue.pop())
            if definition is not None and definition.id not in found:
                found[definition.id] = definition
                queue += definition.uses
        return list(found.values())

    def suspects(self, live: Collection[str], names: Iterable[str], *, everything: bool) -> list[str]:
        """Those of the `live` units that code which reaches `names` may have changed; each once."""
        reached, dynamic = self.reached(names)
        units = {self._by_name[n] for n in reached if n in self._by_name}
        if everything or dynamic or any(map(self.is_resident, units)):
            # nobody can say what hangs on a resident, or what the code in it uses: a list that has a name of its own
            return [u for u in live if not self.is_resident(u)]
        units |= {definition.id for u in units for definition in self.definitions(self.units[u])}
        return [u for u in units if u in live and not self.is_resident(u)]

    def residents(self) -> list[Resident]:
        """Every name that has no value in the store."""
        return [resident(n, unit) for unit in self.units.values() if unit.resident for n in unit.names]


def resident(name: str, unit: Unit) -> Resident:
    """Why `name` has no value in the store."""
    why = unit.resident or Lost("", name, "", "")
    return Resident(name, why.type, why.reason, why.path or name, unit.cell, why.worker)
