"""What others commit meanwhile, joined into a process that has loaded values: those that moved are dropped here, and
loaded when they are reached. Costs what was committed, however much there is besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import kvs
from lambdakernel.state.ambient import HeldState, is_held
from lambdakernel.state.catalogue import Catalogue
from lambdakernel.state.changes import Detector
from lambdakernel.state.loader import Loader
from lambdakernel.state.units import Keys, Unit


class Following:
    """See the module. `reached` gives all that code in the values of some names can use."""

    def __init__(
        self,
        replica: kvs.Replica,
        catalogue: Catalogue,
        loader: Loader,
        detector: Detector,
        held: HeldState,
        reached: Callable[[Iterable[str]], Iterable[str]],
    ) -> None:
        self._replica, self._catalogue, self._loader, self._detector = replica, catalogue, loader, detector
        self._held, self._reached = held, reached
        self._is_behind = False
        """News were asked for, and an interrupt or an error came before they were taken in."""

    def join(self, keys: Keys) -> None:
        """Join what was committed since the replica was last asked."""
        if self._is_behind:
            self.read(keys)
            return
        self._is_behind = True
        self._join(keys)
        self._is_behind = False

    def _join(self, keys: Keys) -> None:
        changed = [key for key in self._replica.refresh() if key.startswith(keys.units)]
        if not changed:
            return
        ids = {key.removeprefix(keys.units).decode() for key in changed}
        before = {unit_id: unit for unit_id in ids if (unit := self._catalogue.units.get(unit_id)) is not None}
        if not self._catalogue.join(self._replica, keys, ids):
            self._read(keys)
            return
        after = [unit for unit_id in ids if (unit := self._catalogue.units.get(unit_id)) is not None]
        self._drop(before)
        if self._held.names or any(is_held(name) for unit in (*before.values(), *after) for name in unit.names):
            self.hold()

    def read(self, keys: Keys) -> None:
        """Join whatever is different now, at the cost of a look at every unit: for a replica that reads by other means
        than it did, or that somebody else has asked."""
        self._is_behind = True
        self._replica.refresh()
        self._read(keys)
        self._is_behind = False

    def _read(self, keys: Keys) -> None:
        before = dict(self._catalogue.units)
        self._catalogue.read(self._replica, keys)
        self._drop(before)
        self.hold()

    def _drop(self, before: dict[str, Unit]) -> None:
        """Forget the values of these units that are not what they were."""
        for unit_id, unit in before.items():
            if self._catalogue.units.get(unit_id) != unit:
                self._detector.here.drop(unit_id)
                self._loader.layers.pop(unit_id, None)  # they made up the version before
                self._loader.forget(set(unit.names))

    def hold(self) -> None:
        """Take over the ambient state that is stored as units, with all that it can use: it acts before any cell."""
        catalogue = self._catalogue
        stored = {name: unit for name in catalogue.held if (unit := catalogue.of_name(name)) is not None}
        self._held.follow(stored, self._loader.load)
        if self._held.names:
            self._loader.bind(self._reached(self._held.names))
