"""Modules that cells made and put into `sys.modules`: what `import` finds under their names in the next worker, too."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from lambdakernel.state.ambient.held import Held
from lambdakernel.state.imported import is_made_by_hand


class HandMade(Held):
    """See the module. Libraries make such modules for themselves, too: the notebook's are those that it has a name for,
    or had once."""

    name = "module"

    def __init__(self, live: Mapping[str, Any]) -> None:
        self._live = live
        self._met = 0
        self._candidates: set[str] = set()
        self._known: set[str] = set()

    def capture(self) -> Mapping[str, Any]:
        if len(sys.modules) != self._met:
            self._met = len(sys.modules)
            self._candidates = {n for n, m in list(sys.modules.items()) if is_made_by_hand(n, m)} - self._known
        if self._candidates:
            named = {id(value) for value in list(self._live.values()) if type(value) is ModuleType}
            self._known |= {name for name in self._candidates if id(sys.modules.get(name)) in named}
            self._candidates -= self._known
        found = {name: sys.modules.get(name) for name in sorted(self._known)}
        return {name: module for name, module in found.items() if is_made_by_hand(name, module)}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for name in self.capture().keys() - values.keys():
            del sys.modules[name]
        sys.modules.update(values)
        self._known |= values.keys()
        return {}
