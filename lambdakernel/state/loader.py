"""Values of the store into a live namespace: a name at a time, never one that is live already.

A value that cannot be loaded, or that was lost with its worker, is stood in for by an object that says so when it is
used; so one bad value costs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

import kvs
from lambdakernel.errors import ValueDamaged
from lambdakernel.state import edits, orders
from lambdakernel.state.ambient import is_held
from lambdakernel.state.bindings import SHOWN, Bindings, is_output
from lambdakernel.state.buffers import Buffers, Layers
from lambdakernel.state.catalogue import Catalogue, resident
from lambdakernel.state.changes import Detector
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.here import Item, Live
from lambdakernel.state.residents import LostValue, is_lost
from lambdakernel.state.units import Keys, Lost, Unit

REBASE_LIMIT = 4 << 20
"""Bytes of a head up to which it is encoded once more after a load; above, a false change costs one write."""


class Loader:
    """See the module."""

    def __init__(
        self,
        live: dict[str, Any],
        replica: kvs.Replica,
        catalogue: Catalogue,
        bindings: Bindings,
        detector: Detector,
        book: ClassBook,
        buffers: Buffers,
    ) -> None:
        self._live, self._replica, self._catalogue = live, replica, catalogue
        self._bindings, self._detector, self._book, self.buffers = bindings, detector, book, buffers
        self._loading: set[str] = set()
        self.keys = Keys(1)
        self.layers: dict[str, tuple[Layers, ...]] = {}
        """By unit, the blobs that its buffers came from."""

    def bind(self, names: Iterable[str], reads: Iterable[str] = ()) -> None:
        """Bind those of `names` that the store has and that are not bound.

        Raises:
            ValueDamaged: one that is in `reads` cannot be loaded; another is stood in for.
        """
        must = set(reads)
        for name in self._catalogue.in_order(filter(self._is_to_bind, names)):
            unit = self._catalogue.of_name(name)
            if unit is None or not self._is_to_bind(name):
                continue
            if is_lost(self._live.get(name)):
                self._detector.here.drop(unit.id)
            try:
                self.load(unit)
            except ValueDamaged as e:
                if name in must:
                    raise
                self._stand_in(unit, e)
        for name, output in zip(SHOWN, self._catalogue.shown, strict=True):
            if output in self._live and _is_empty_text(self._live.get(name, "")):  # what the shell starts with
                self._live[name] = self._live[output]

    def _is_to_bind(self, name: str) -> bool:
        """Whether the store has it, and it is not bound here; or the shell's own empty `_` is; or what stands in for a
        value that could not be loaded, and may be loaded now (an interrupt came between)."""
        unit = self._catalogue.of_name(name)
        if unit is None or is_held(name):
            return False
        if name not in self._live:
            return True
        if self._is_of_shell(name):
            return unit.id not in self._detector.here.units
        return is_lost(self._live[name]) and unit.resident is None

    def _is_of_shell(self, name: str) -> bool:
        """Whether the shell bound it when it began, and nobody since."""
        return name in SHOWN and _is_empty_text(self._live.get(name))

    def load(self, unit: Unit) -> None:
        """Bind a unit's names and learn its classes.

        Raises:
            ValueDamaged: it cannot be loaded; nothing was bound.
        """
        if unit.id in self._detector.here.units:
            return
        if unit.resident is not None:
            self._stand_in(unit, None)
            return
        value, self.layers[unit.id] = self._read_once(unit)
        live = self._live
        bound = [n for n in unit.names if n not in live or is_lost(live[n]) or self._is_of_shell(n)]
        for name in bound:
            self._live[name] = value["names"][name]
        self._show_outputs(bound)
        self._bindings.remember(bound)
        here = Live(unit.id, items_of(unit), unit.fingerprint, uses=frozenset(unit.uses))
        self._detector.here.add(here)
        mapped = sum(layers[0].nbytes for layers in self.layers[unit.id])
        if unit.nbytes - mapped <= REBASE_LIMIT and bound == list(unit.names):
            self._detector.rebase(here, unit.fingerprint[1:])

    def _read_once(self, unit: Unit) -> tuple[dict[str, Any], tuple[Layers, ...]]:
        what = ", ".join(unit.names) or "a class"
        if unit.id in self._loading:
            raise ValueDamaged(what, "its definition refers to itself before it exists")
        self._loading.add(unit.id)
        try:
            return self._read_value(unit, what)
        finally:
            self._loading.discard(unit.id)

    def _read_value(self, unit: Unit, what: str) -> tuple[dict[str, Any], tuple[Layers, ...]]:
        try:
            versions = self._replica.get(self.keys.head(unit.id))
            if not versions:
                raise ValueDamaged(what, "its value is not in the store")
            head, changes, refs = edits.stored(unit, versions[0].value, self._replica)
            layers = unit.layers_of(refs)
            marks = unit.fingerprint[1:]
            buffers = [self.buffers.map(*each, self._replica) for each in zip(layers, marks, strict=True)]
        except (kvs.KvsError, ValueError) as e:
            raise ValueDamaged(what, str(e)) from e
        value = self.decode(what, head, buffers, changes)
        orders.restore(value)
        return value, layers

    def decode(self, what: str, head: bytes, buffers: Sequence[Any], changes: Sequence[bytes] = ()) -> Any:
        """The value in `head`, edited by `changes`, with what it refers to loaded as well.

        Raises:
            ValueDamaged: it cannot be loaded; `what` names it.
        """
        return edits.load(what, head, changes, buffers, self._live, self._book, self._class_of, self._name_of)

    def _class_of(self, uid: str) -> type:
        unit = self._catalogue.of_class(uid)
        if unit is not None:
            self.load(unit)
        cls = self._book.get(uid)
        if cls is None:
            raise ValueDamaged("a class", f"its definition ({uid}) is not in the store")
        return cls

    def _name_of(self, name: str) -> Any:
        """What a value refers to by name in `__main__`."""
        unit = self._catalogue.of_name(name)
        if name not in self._live and unit is not None and unit.id not in self._loading:
            self.bind([name])
        if name not in self._live:
            raise AttributeError(f"__main__ has no {name!r}")
        return self._live[name]

    def _show_outputs(self, names: Sequence[str]) -> None:
        """Put loaded outputs back into `Out`, in the order of their cells."""
        outputs, numbers = self._live.get("Out"), [int(name[1:]) for name in names if is_output(name)]
        if not numbers or not isinstance(outputs, dict):
            return
        outputs.update((number, self._live[f"_{number}"]) for number in numbers)
        ordered = sorted(outputs.items())
        outputs.clear()
        outputs.update(ordered)

    def _stand_in(self, unit: Unit, error: ValueDamaged | None) -> None:
        """Bind what says, when it is used, why the value is not there."""
        if error is not None:
            unit = msgspec.structs.replace(unit, resident=Lost(f"damaged: {error}", unit.names[0], "?", "its worker"))
        for name in unit.names:
            if name not in self._live or is_lost(self._live[name]):
                self._live[name] = LostValue(resident(name, unit))
        self._bindings.remember(n for n in unit.names if is_lost(self._live[n]))
        self._detector.here.add(Live(unit.id, items_of(unit), ()))

    def forget(self, names: set[str]) -> None:
        """Unbind `names`: their values are loaded anew when code reaches them."""
        for name in names & self._live.keys():
            unit_id = self._detector.here.unit_of.get(("n", name))
            if unit_id is not None:
                self._detector.here.drop(unit_id)
            del self._live[name]
        self._bindings.forget(names)


def _is_empty_text(value: Any) -> bool:
    return type(value) is str and not value


def items_of(unit: Unit) -> tuple[Item, ...]:
    return (*(("n", name) for name in unit.names), *(("c", uid) for uid in unit.classes))
