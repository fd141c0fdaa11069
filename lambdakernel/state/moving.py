"""What going back to a moment takes: decided as a plan, then done to the live names. Publishes nothing itself.

A plan has the versions of then for each key that holds something else now (a record, and the names of its blobs;
nothing is encoded anew), or a deletion. It is whole before anything is done: a version that was collected or damaged is
one of its problems. What was *resident* comes back as a name that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

import kvs
from kvs.history import Past
from lambdakernel.errors import ValueDamaged
from lambdakernel.state.ambient import AmbientState
from lambdakernel.state.aside import Aside
from lambdakernel.state.beginning import Beginning
from lambdakernel.state.bindings import SHOWN, is_output
from lambdakernel.state.catalogue import Catalogue
from lambdakernel.state.changes import Detector
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.loader import Loader
from lambdakernel.state.residents import is_lost
from lambdakernel.state.timeline import Timeline, variables
from lambdakernel.state.units import Keys, Lost, Unit

NOTHING_LEFT = "what held it"
"""In place of the worker of a resident that an earlier state had: that worker may live, the value does not."""


class Parts(msgspec.Struct, frozen=True):
    """Of the namespace that a traveller reads and moves."""

    live: dict[str, Any]
    replica: kvs.Replica
    catalogue: Catalogue
    loader: Loader
    detector: Detector
    book: ClassBook
    ambient: AmbientState
    follow: Callable[[], None]
    """Brings this process to the ambient state that the store holds as units."""


class Plan(msgspec.Struct):
    """What a move has to write and to forget; `problems` are why it cannot be made."""

    writes: dict[bytes, kvs.Value | None] = msgspec.field(default_factory=dict)
    units: set[str] = msgspec.field(default_factory=set)
    names: set[str] = msgspec.field(default_factory=set)
    """Those that change or go, outputs too."""
    back: set[str] = msgspec.field(default_factory=set)
    classes: set[str] = msgspec.field(default_factory=set)
    """Names of the classes that are defined as they were."""
    lost: dict[str, str] = msgspec.field(default_factory=dict)
    dropped: dict[str, str] = msgspec.field(default_factory=dict)
    ambient: dict[str, bytes | None] = msgspec.field(default_factory=dict)
    extras: dict[str, set[str]] = msgspec.field(default_factory=dict)
    """By identity of a class that lives, the attributes that it had not got then."""
    problems: list[str] = msgspec.field(default_factory=list)


class Mover:
    """Makes and carries out plans for the namespace whose parts it is given."""

    def __init__(self, parts: Parts, start: Beginning) -> None:
        self._parts, self._start = parts, start

    # -- deciding

    def plan(self, timeline: Timeline, vector: kvs.VersionVector) -> Plan:
        history, keys = timeline.history, timeline.keys
        past, now = history.at(vector), history.at(history.now)
        plan = Plan()
        for prefix in (keys.units, keys.head("")):
            changed = [k for k in history.known_keys(prefix) if past.dots(k) != now.dots(k)]
            plan.units |= {key.removeprefix(prefix).decode() for key in changed}
        aside = Aside(past, keys)
        there = {k for prefix in _prefixes(keys) for k in self._parts.replica.keys(prefix)}
        for unit_id in sorted(plan.units):
            if self._plan_unit(plan, unit_id, aside, past, timeline):
                self._plan_removal(plan, unit_id)
            else:
                plan.units.discard(unit_id)
        self._plan_ambient(plan, timeline, past, now)
        plan.writes = {key: value for key, value in plan.writes.items() if value is not None or key in there}
        return plan

    def _plan_unit(self, plan: Plan, unit_id: str, aside: Aside, past: Past, timeline: Timeline) -> bool:
        """Plan what to write for one unit, or why that cannot be had; False if it is now what it was then."""
        record, head = timeline.keys.unit(unit_id), timeline.keys.head(unit_id)
        unit = aside.catalogue.units.get(unit_id)
        try:
            past.get(record)
            if unit is not None and not unit.names and not unit.classes:
                raise ValueDamaged("a variable", "its record cannot be read")
            value = None if unit is None or unit.resident is not None else past.get(head)[0].value
            writes = {record: None if unit is None else kvs.Value(unit.to_bytes()), head: value}
            if all(self._is_now(key, wanted) for key, wanted in writes.items()):
                return False
            if unit is not None and unit.resident is not None:
                why = msgspec.structs.replace(unit.resident, worker=NOTHING_LEFT)
                writes[record] = kvs.Value(msgspec.structs.replace(unit, resident=why).to_bytes())
                plan.lost |= {name: _why(why) for name in variables(unit.names)}
            elif unit is not None and value is not None:
                for ref in value.blobs:
                    past.open_blob(ref).release()
                self._plan_classes(plan, unit, aside)
                plan.back |= set(unit.names)
            plan.names |= set(unit.names) if unit is not None else set()
            plan.writes |= writes
        except (kvs.KvsError, ValueDamaged, IndexError) as e:
            names = sorted(unit.names) if unit is not None else []
            plan.problems.append(f"{', '.join(names or timeline.names_ever(record)) or 'a class'}: {e}")
        return True

    def _is_now(self, key: bytes, wanted: kvs.Value | None) -> bool:
        try:
            found = self._parts.replica.get(key)
        except kvs.KvsError:  # it is damaged now: what was there then is wanted all the more
            return False
        return len(found) <= 1 and (found[0].value if found else None) == wanted

    def _plan_classes(self, plan: Plan, unit: Unit, aside: Aside) -> None:
        for uid in unit.classes:
            live, then = self._parts.book.get(uid), aside.class_of(uid)
            plan.classes.add(then.__name__)
            if live is not None:
                plan.extras[uid] = vars(live).keys() - vars(then).keys()

    def _plan_removal(self, plan: Plan, unit_id: str) -> None:
        """What is there now and goes."""
        unit = self._parts.catalogue.units.get(unit_id)
        if unit is None:
            return
        plan.names |= set(unit.names)
        if unit.resident is not None:
            live = self._parts.live
            plan.dropped |= {n: _why(unit.resident) for n in unit.names if n in live and not is_lost(live[n])}

    def _plan_ambient(self, plan: Plan, timeline: Timeline, past: Past, now: Past) -> None:
        prefix = timeline.keys.ambients
        for key in timeline.history.known_keys(prefix):
            if past.dots(key) == now.dots(key):
                continue
            name = key.removeprefix(prefix).decode()
            try:
                found = past.get(key)
            except kvs.KvsError as e:
                plan.problems.append(f"ambient state {name!r}: {e}")
                continue
            if self._is_now(key, found[0].value if found else None):
                continue
            plan.writes[key] = found[0].value if found else None
            plan.ambient[name] = found[0].value.payload if found else None

    # -- doing

    def apply(self, plan: Plan, keys: Keys) -> None:
        """The store has it: make this process agree. What was broken off is done by doing it again."""
        loaded = {name for name in plan.names if name in self._parts.live}
        for unit_id in plan.units:
            self._parts.detector.here.drop(unit_id)
            self._parts.loader.layers.pop(unit_id, None)
        self._hide_outputs(plan.names)
        self._parts.loader.forget(plan.names)
        self._parts.catalogue.read(self._parts.replica, keys)
        for uid, names in plan.extras.items():
            cls = self._parts.book.get(uid)
            for name in names & vars(cls).keys() if cls is not None else ():
                type.__delattr__(cls, name)
        for uid in plan.extras:
            if (unit := self._parts.catalogue.of_class(uid)) is not None:
                self._parts.loader.load(unit)
        self._parts.loader.bind(loaded)
        self._start.rewind(plan.ambient)
        self._parts.ambient.restore(self._start.of(plan.ambient))
        self._parts.follow()

    def _hide_outputs(self, names: Iterable[str]) -> None:
        """Take outputs out of `Out`, and `_` and its like off them."""
        live = self._parts.live
        outputs = live.get("Out")
        for name in filter(is_output, names):
            if isinstance(outputs, dict):
                outputs.pop(int(name[1:]), None)
            for short in SHOWN if name in live else ():
                if short in live and live[short] is live[name]:
                    del live[short]
                    live.update({n: value for n, value in self._start.shown.items() if n == short})


def _prefixes(keys: Keys) -> tuple[bytes, ...]:
    return keys.units, keys.head(""), keys.ambients


def _why(lost: Lost) -> str:
    return lost.reason or lost.type
