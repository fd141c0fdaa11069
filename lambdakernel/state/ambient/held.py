"""Ambient state that may hold objects of the notebook: kept as units of the namespace, like its variables.

Theory of operation
- Each value that differs from what it was when the process began has a name that no code can spell, `__ signals 10`.
  While a commit looks at the namespace, these names are bound in it: what is found then (what changed, what shares
  structure with a variable, what cannot move) is found by what does it for variables. Else they are not bound, so that
  no code of the notebook meets them.
- A worker that attaches loads them at once, and all that their code can use: a signal may come, and a hook be called,
  before a cell names anything. For the same reason every cell is taken to reach them.
- A value must be the same object as long as it is not changed: `Steady` makes one of several parts.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from lambdakernel.errors import ValueDamaged
from lambdakernel.state.units import Unit

PREFIX = "__ "


def is_held(name: str) -> bool:
    """Whether a name of the namespace is one of ambient state, and not of a variable."""
    return name.startswith(PREFIX)


class Held(ABC):
    """For implementers: `capture` must be cheap (it runs after every cell) and must not import anything."""

    name: str

    @abstractmethod
    def capture(self) -> Mapping[str, Any]:
        """What differs from the beginning, by a key that names it to the user. An object that did not change is the
        same one each time, and the one that `restore` was given."""

    @abstractmethod
    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        """Make the state of this process that of its beginning with `values`; by key, those that could not be had."""


@runtime_checkable
class Noticing(Protocol):
    """An item that is told where the code of cells puts something."""

    def notice(self, stores: Iterable[tuple[str, ...]], names: Mapping[str, Any], *, ran: bool) -> None:
        """`stores` are dotted names in parts, the first one of `names`. Called before it runs, and after."""


class Steady:
    """Lists by key: what is made of several parts is one object as long as the parts are the same."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Any]] = {}

    def of(self, found: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """A list of the parts for each key; one that changed is the same list with other parts."""
        for key in self._kept.keys() - found.keys():
            del self._kept[key]
        for key, parts in found.items():
            kept = self._kept.setdefault(key, [])
            if len(kept) != len(parts) or not all(map(operator.is_, kept, parts)):
                kept[:] = parts
        return dict(self._kept)

    def adopt(self, values: Mapping[str, list[Any]]) -> None:
        """Go on with these lists."""
        self._kept = dict(values)


def _as_before(value: Any, before: Any) -> Any:
    """An equal number or text, made anew, is the one of before."""
    return before if type(value) is type(before) and type(value) in _ATOMS and value == before else value


_ATOMS = (int, float, bool, str, bytes)


class HeldState:
    """The registry with the values that it holds now. One that fails costs itself and nothing else."""

    def __init__(self, registry: Sequence[Held], live: dict[str, Any], failed: dict[str, str]) -> None:
        self._failed = failed
        """By name, why a value could not be kept or brought back."""
        self._registry = tuple(registry)
        self._noticing = [item for item in registry if isinstance(item, Noticing)]
        self._live = live
        self._values: dict[str, Any] = {}
        self._unrestored: dict[str, Any] = {}
        """What is in the store and could not be brought into effect here: kept for a worker that can."""

    @property
    def names(self) -> set[str]:
        return set(self._values)

    def notice(self, stores: Iterable[tuple[str, ...]], names: Mapping[str, Any], *, ran: bool) -> None:
        """Tell of the dotted names that code is about to put something into, or has."""
        for item in self._noticing:
            item.notice(stores, names, ran=ran)

    def capture(self) -> None:
        """Take what is so now."""
        values = dict(self._unrestored)
        for item in self._registry:
            prefix = f"{PREFIX}{item.name} "
            try:
                found = item.capture()
            except Exception as e:
                self._failed[item.name] = f"{type(e).__name__}: {e}"
                values.update((n, v) for n, v in self._values.items() if n.startswith(prefix))
                continue
            for key, value in found.items():
                values[prefix + key] = _as_before(value, self._values.get(prefix + key))
        self._values = values

    @contextmanager
    def bound(self) -> Iterator[None]:
        """The names are bound inside."""
        names = list(self._values)
        self._live.update(self._values)
        try:
            yield
        finally:
            for name in names:
                self._live.pop(name, None)

    def follow(self, stored: Mapping[str, Unit], load: Callable[[Unit], None]) -> None:
        """Bring this process to what is stored, a unit by name; `load` binds the names of one that is not loaded.

        What could not leave another worker is loaded as that, and not restored: so it counts as gone from here on.
        """
        values = {}
        known = tuple(f"{PREFIX}{item.name} " for item in self._registry)
        for name, unit in stored.items():
            if not name.startswith(known):  # a task has no shell
                continue
            try:
                load(unit)
                if unit.resident is not None and name not in self._values:
                    self._failed[name.removeprefix(PREFIX)] = unit.resident.reason
                    continue
                values[name] = self._live[name] if name in self._live else self._values[name]
            except (ValueDamaged, KeyError) as e:
                self._failed[name.removeprefix(PREFIX)] = str(e)
        for name in [*filter(is_held, self._live)]:
            del self._live[name]
        self._unrestored = {}
        for item in self._registry:
            self._restore(item, values)
        self._values = values

    def give_way(self, names: Set[str]) -> None:
        """These are to be taken from elsewhere: make them what they were at the beginning."""
        kept = {name: value for name, value in self._values.items() if name not in names}
        if len(kept) < len(self._values):
            for item in self._registry:
                self._restore(item, kept)
            self._values = kept

    def _restore(self, item: Held, values: Mapping[str, Any]) -> None:
        prefix = f"{PREFIX}{item.name} "
        mine = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        if not mine and not any(name.startswith(prefix) for name in self._values):
            return  # as it began
        try:
            failed = item.restore(mine)
        except Exception as e:
            failed = dict.fromkeys(mine, e)
        for key, error in failed.items():
            self._failed[f"{item.name} {key}"] = f"{type(error).__name__}: {error}"
            if key in mine:
                self._unrestored[prefix + key] = mine[key]
