"""Modules that cells made and put into `sys.modules`: what `import` finds under their names in the next worker, too."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from lambdakernel.state.ambient.held import Held
from lambdakernel.state.imported import is_made_by_hand


class HandMade(Held):
    """See the module. What nothing imported and a process had at its beginning is its own."""

    name = "module"

    def __init__(self) -> None:
        self._met = len(sys.modules)
        self._own = frozenset(self._names())
        self._known: set[str] = set()

    def _names(self) -> list[str]:
        return [name for name, module in list(sys.modules.items()) if is_made_by_hand(name, module)]

    def capture(self) -> Mapping[str, Any]:
        if len(sys.modules) != self._met:
            self._met = len(sys.modules)
            self._known |= {*self._names()} - self._own
        found: dict[str, ModuleType | None] = {name: sys.modules.get(name) for name in sorted(self._known)}
        return {name: module for name, module in found.items() if is_made_by_hand(name, module)}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for name in self.capture().keys() - values.keys():
            del sys.modules[name]
        sys.modules.update(values)
        self._known |= values.keys()
        return {}
