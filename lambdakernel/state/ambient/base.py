"""Ambient state that is plain data: captured after every cell, pickled when it differs, restored in the next worker."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class Ambient(Protocol):
    """For implementers: `capture` must be cheap (it runs after every cell) and must not import anything; what it
    returns is compared with `==`, pickled when it changed, and given to `restore` in another worker. None: nothing
    to carry."""

    name: str

    def capture(self) -> Any:
        """The state now, or None."""

    def restore(self, value: Any) -> None:
        """Make the state of this process what `capture` once returned."""


@runtime_checkable
class Patient(Protocol):
    """An item that waits with what it restores until a cell can reach what it is about."""

    def settle(self, live: Mapping[str, Any]) -> None:
        """Called before each cell, once its variables are loaded: do now what was waiting, if it is needed."""


class AmbientState:
    """The registry with what was last committed of each. One that fails costs itself and nothing else."""

    def __init__(self, registry: tuple[Ambient, ...]) -> None:
        self.failed: dict[str, str] = {}
        """By name, why an item could not be kept or brought back."""
        self._registry = registry
        self._patient = [item for item in registry if isinstance(item, Patient)]
        self._last = {item.name: item.capture() for item in registry}

    def settle(self, live: Mapping[str, Any]) -> None:
        """To be called before a cell, once its variables are loaded in `live`."""
        for item in self._patient:
            try:
                item.settle(live)
            except Exception as e:
                self.failed[getattr(item, "name", "")] = f"{type(e).__name__}: {e}"

    def changed(self) -> dict[str, bytes]:
        """Pickles of what differs from the last commit; nothing is remembered before `commit`."""
        found = {}
        for item in self._registry:
            value = item.capture()
            if value is not None and value != self._last[item.name]:
                try:
                    found[item.name] = pickle.dumps(value, protocol=5)
                except Exception as e:  # a user's object sits in an option: it stays with this process
                    self.failed[item.name] = f"{type(e).__name__}: {e}"
        return found

    def committed(self, changed: dict[str, bytes]) -> None:
        for item in self._registry:
            if item.name in changed:
                self._last[item.name] = item.capture()

    def restore(self, stored: Mapping[str, bytes]) -> None:
        """Bring this process to what was stored; bytes were authenticated by the store. See `failed` for what was not.

        An extension that is gone must not keep every later worker from starting.
        """
        for item in self._registry:
            if item.name in stored:
                try:
                    item.restore(pickle.loads(stored[item.name]))
                except Exception as e:
                    self.failed[item.name] = f"{type(e).__name__}: {e}"
                self._last[item.name] = item.capture()
