"""Values of an earlier moment, loaded beside the live ones: nothing of them is bound, and no live class is touched."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, cast

import kvs
from kvs.history import Past
from lambdakernel.errors import ResidentLost, ValueDamaged
from lambdakernel.state import edits, orders
from lambdakernel.state.buffers import mapped
from lambdakernel.state.catalogue import Catalogue, resident
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import dump
from lambdakernel.state.residents import lost_error
from lambdakernel.state.units import Keys, Unit


class Aside:
    """The namespace of one moment in a dict of its own. Loads what is asked for, and what that refers to."""

    def __init__(self, past: Past, keys: Keys) -> None:
        self._past, self._keys = past, keys
        self.catalogue = Catalogue()
        self.catalogue.read(cast(kvs.Replica, past), keys)  # it asks for keys and versions, and a view has both
        self._live: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self._book = ClassBook()
        self._loaded: set[str] = set()
        self._kept: list[Any] = []

    def value(self, name: str) -> Any:
        """The value that `name` had, with everything that its code uses bound here.

        Raises:
            ValueDamaged: it cannot be loaded. ResidentLost: it was never in the store.
        """
        reached, dynamic = self.catalogue.reached([name])
        for each in [name, *sorted((reached - {name}) if not dynamic else ())]:
            try:
                self._bind(each)
            except (ResidentLost, ValueDamaged):
                if each == name:
                    raise
        return self._live[name]

    def class_of(self, uid: str) -> type:
        """The class of that identity as it was defined then.

        Raises:
            ValueDamaged: it cannot be loaded, or did not exist.
        """
        unit = self.catalogue.of_class(uid)
        if unit is not None:
            self._load(unit)
        cls = self._book.get(uid)
        if cls is None:
            raise ValueDamaged("a class", f"its definition ({uid}) is not in the store")
        return cls

    def look(self, names: Sequence[str]) -> tuple[bytes, ...]:
        """What values are compared by, together: equal for equal ones that were stored alike.

        Raises:
            Exception: what `value` raises, and what an object's own reducer does.
        """
        values = {name: self.value(name) for name in names}
        roots = [value for value in values.values() if isinstance(value, type)]
        return dump(values, self._live, self._book, roots)[0].fingerprint

    def _bind(self, name: str) -> None:
        unit = self.catalogue.of_name(name)
        if unit is None:
            return
        if unit.resident is not None:
            raise lost_error(resident(name, unit))
        self._load(unit)

    def _load(self, unit: Unit) -> None:
        if unit.id in self._loaded:
            return
        self._loaded.add(unit.id)
        what = ", ".join(unit.names) or "a class"
        try:
            versions = self._past.get(self._keys.head(unit.id))
            if not versions:
                raise ValueDamaged(what, "its value is not in the store")
            head, changes, refs = edits.stored(unit, versions[0].value, self._past)
            buffers = [mapped(layers, self._past)[0] for layers in unit.layers_of(refs)]
        except (kvs.KvsError, ValueError) as e:
            raise ValueDamaged(what, str(e)) from e
        value = edits.load(what, head, changes, buffers, self._live, self._book, self.class_of, self._name_of)
        orders.restore(value)
        self._live.update(value["names"])
        self._kept.append(value["classes"])

    def _name_of(self, name: str) -> Any:
        if name not in self._live:
            self._bind(name)
        if name not in self._live:
            raise AttributeError(f"__main__ has no {name!r}")
        return self._live[name]
