"""Finalizers (`weakref.finalize`) that the notebook registered and may hold by no name.

One that a library registered moves if the notebook's values lead to it, and else stays with its process, since it frees
what only that process has. Whose a finalizer is, is told by what it calls and what it waits for.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.held import Held


class Finalizers(Held):
    """See the module. A finalizer is its own value: loading it registers it. `live` is the notebook's namespace."""

    name = "finalizer"

    def __init__(self, live: Mapping[str, Any]) -> None:
        self._live = live
        self._registry: Mapping[Any, Any] = weakref.finalize._registry  # type: ignore[attr-defined]
        self._others = set(self._registry)
        self._ours: dict[str, Any] = {}
        self._count = 0

    def capture(self) -> Mapping[str, Any]:
        alive = self._registry.keys()
        self._ours = {key: found for key, found in self._ours.items() if found in alive}
        self._others &= alive
        for found in [*(alive - self._others - set(self._ours.values()))]:
            if self._is_ours(found):
                self._ours[str(self._count)] = found
                self._count += 1
            else:
                self._others.add(found)
        return self._ours

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for key, found in self._ours.items():
            if values.get(key) is not found:
                found.detach()
        self._ours = dict(values)
        self._count = max([self._count, *(int(key) + 1 for key in values)])
        return {}

    def _is_ours(self, found: Any) -> bool:
        target, function, _args, _kwargs = found.peek() or (None, None, (), {})
        if target is None:
            return False
        if _is_of_main(target) or self._is_of_notebook(function):
            return True
        is_librarys = _package(function) == _package(type(target))  # which registers it whenever it makes one
        return not is_librarys and any(value is target for value in [*self._live.values()])

    def _is_of_notebook(self, function: Any) -> bool:
        while isinstance(function, functools.partial):
            function = function.func
        if getattr(function, "__globals__", None) is self._live:
            return True
        return _is_of_main(getattr(function, "__self__", None))


def _is_of_main(obj: Any) -> bool:
    return type(obj).__module__ == "__main__"


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]
