"""Which names were bound anew: one look at each name, no look at any value.

A name's last committed object is remembered, by a weak reference where the type allows it, so that a large value that
was replaced can go at once. An address is never trusted: a new object may lie where an old one was.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from lambdakernel.state.residents import is_lost, is_storable

NEVER = frozenset({"In", "Out", "_ih", "_oh", "_dh", "_i", "_ii", "_iii", "__builtins__", "__builtin__"})
SHOWN = ("_", "__", "___")
_INPUT = re.compile(r"_i\d+")
_OUTPUT = re.compile(r"_\d+")


_LET_GO = object()


class Bindings:
    """Last committed object of each name in `live`."""

    def __init__(self, live: dict[str, Any], ignore: Mapping[str, Any]) -> None:
        self._live = live
        self._strong: dict[str, Any] = dict(ignore)
        self._weak: dict[str, weakref.ref[Any]] = {}

    def remember(self, names: Iterable[str]) -> None:
        """What these names are bound to now is committed."""
        for name in names:
            obj = self._live[name]
            self._strong.pop(name, None)
            self._weak.pop(name, None)
            try:
                self._weak[name] = weakref.ref(obj)
            except TypeError:
                self._strong[name] = obj

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._strong.pop(name, None)
            self._weak.pop(name, None)

    def let_go(self, names: Iterable[str]) -> None:
        """Refer to the objects of these names no more; they count as bound anew."""
        for name in names:
            if self._weak.pop(name, None) is not None or name in self._strong:
                self._strong[name] = _LET_GO

    def changes(self) -> tuple[list[str], list[str]]:
        """Names bound to another object than was committed, and names that are gone."""
        strong, weak = self._strong, self._weak
        rebound = []
        for name, obj in self._live.items():
            if name in strong:
                if strong[name] is obj:
                    continue
            elif name in weak and obj is not None and weak[name]() is obj:  # a dead one gives None
                continue
            if self._is_ours(name, obj):
                rebound.append(name)
        gone = [n for n in strong if n not in self._live] + [n for n in weak if n not in self._live]
        return rebound, gone

    def _is_ours(self, name: str, obj: Any) -> bool:
        """Whether a name is a variable of the user, and not a convenience of the shell."""
        if name in NEVER or is_lost(obj) or not is_storable(name):
            return False
        if name in SHOWN:
            return not self.shown_as(obj)
        if type(obj) is str and _INPUT.fullmatch(name):
            self._strong[name] = obj
            return False
        return True

    def shown_as(self, obj: Any) -> str:
        """The output name (`_5`) that is bound to `obj`; empty if none is."""
        for number in reversed(self._live.get("Out", {})):
            name = f"_{number}"
            if name in self._live and self._live[name] is obj:
                return name
        return ""


def is_output(name: str) -> bool:
    return _OUTPUT.fullmatch(name) is not None
