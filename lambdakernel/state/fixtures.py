"""Objects of which every worker has one, such as the shell and `sys.stdout`: what refers to one refers to the next
worker's after a move. They are known by a name, never looked into, and shared by no co-variables."""

from __future__ import annotations

import copyreg
import os
import pkgutil
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from lambdakernel.state import hooks

ORIGINAL = "original "
"""Before the dotted name of what a library had there."""


class LateFixtures(NamedTuple):
    """Those that a process makes when they are first needed."""

    find: Callable[[bool], Mapping[str, object]]
    """By name, those that were made; given True, all, which it makes."""
    kinds: tuple[type, ...]
    """Types that they may have."""


class Fixtures:
    """See the module. Holds its objects, so that their addresses stay theirs."""

    def __init__(self, things: Mapping[str, object], late: LateFixtures | None = None) -> None:
        self._things = {name: thing for name, thing in things.items() if thing is not None}
        self._late = late or LateFixtures(lambda _: {}, ())
        self._names = {id(thing): name for name, thing in self._things.items()}
        self.kinds = frozenset(map(type, self._things.values())) | frozenset(self._late.kinds)
        """Their types; other objects may have them, too."""

    def name_of(self, obj: object) -> str:
        """The name of `obj`; empty if it is none of them."""
        name = self._names.get(id(obj), "")
        if name or not isinstance(obj, self._late.kinds):
            return name
        return next((name for name, thing in self._late.find(False).items() if thing is obj), "")

    def get(self, name: str) -> Any:
        """The object of that name.

        Raises:
            LookupError: this process has none.
        """
        thing = self._things.get(name, self)
        if thing is self:
            thing = self._late.find(True).get(name, self)
        if thing is self:
            raise LookupError(f"it refers to the {name} of a notebook, which is not there in this process")
        return thing


class Originals:
    """What a library had in a place into which the notebook has put something else: `real = time.sleep` goes on to be
    that, although the library's name for it leads elsewhere now. Holds its objects, so that their addresses stay."""

    def __init__(self) -> None:
        self._things: dict[str, object] = {}
        self.names: dict[int, str] = {}
        """By address, the dotted name of each."""

    def keep(self, name: str, thing: object) -> None:
        """`thing` was found under the dotted name `name`; what was kept before it stays."""
        if name not in self._things:
            self._things[name], self.names[id(thing)] = thing, name

    def has_some(self, kind: type) -> bool:
        return any(type(thing) is kind for thing in self._things.values())

    def get(self, name: str) -> Any:
        """What the library had there.

        Raises:
            ImportError, AttributeError: there is nothing of that name.
        """
        if name in self._things:
            return self._things[name]
        return pkgutil.resolve_name(name)


def reduce_builtin(function: types.BuiltinFunctionType) -> Any:
    """A function of a module written in C says where it was at the beginning."""
    owner = function.__self__
    if not isinstance(owner, types.ModuleType) or vars(owner).get(function.__name__) is function:
        return NotImplemented
    said = sys.modules.get(function.__module__ or owner.__name__)
    if said is None or vars(said).get(function.__name__) is function:
        return NotImplemented
    return (hooks.fixture, (f"{ORIGINAL}{said.__name__}.{function.__name__}",))


class OfModules:
    """Instances that the module of their class has under a name, such as `unittest.mock.ANY`: libraries compare them by
    identity, and take them for the only ones. By type, which is not kept alive; a name that was found is looked up
    again, since another object may have it by now."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[type, dict[int, str]] = WeakKeyDictionary()

    def name_of(self, obj: object) -> tuple[str, str] | None:
        """Module and name of `obj`; None if it is none of them."""
        kind = type(obj)
        if kind.__module__ in _NONE_IN:
            return None
        names = self._names.get(kind)
        if names is None:
            names = self._names[kind] = {
                id(thing): name for name, thing in list(_globals_of(kind).items()) if type(thing) is kind
            }
        name = names.get(id(obj))
        return (_exporter(kind), name) if name and _globals_of(kind).get(name) is obj else None

    def has_some(self, kind: type) -> bool:
        """Whether there are such instances of a type of which one was asked for."""
        return bool(self._names.get(kind))


def has_no_content(made: object) -> bool:
    """Whether what `__reduce_ex__` gave makes an instance out of nothing, so that its identity is all it has."""
    return _is_made_plainly(made) and made[2] is None  # type: ignore[index]


def has_plain_content(made: object) -> bool:
    """Whether it makes an instance with some attributes, all of them numbers and texts."""
    if not _is_made_plainly(made):
        return False
    cls, state = made[1][0], made[2]  # type: ignore[index]
    is_plain = type(state) is dict and all(type(value) in _PLAIN for value in state.values())
    return is_plain and not hasattr(cls, "__setstate__")


_PLAIN = (int, float, complex, bool, str, bytes, type(None))


def _is_made_plainly(made: object) -> bool:
    return (
        isinstance(made, tuple)
        and made[0] is copyreg.__newobj__  # type: ignore[attr-defined]
        and len(made[1]) == 1
        and not any(part is not None for part in made[3:])
    )


def _exporter(kind: type) -> str:
    """The module that has the only ones of a type: its own, as a rule."""
    return KEPT_ELSEWHERE.get(str(kind.__module__), str(kind.__module__))


def _globals_of(kind: type) -> dict[str, Any]:
    module = sys.modules.get(_exporter(kind)) if type(kind.__module__) is str else None
    return vars(module) if module is not None else {}


_NONE_IN = ("__main__", "builtins", "numpy")
KEPT_ELSEWHERE = {
    **{
        name: name
        for name in (
            "matplotlib", "pandas._config.config", "numpy.random.mtrand", "email.policy", "scipy.special._multiufuncs",
        )
    },
    "mpmath.ctx_mp": "mpmath",
    "mpmath.ctx_fp": "mpmath",
    "mpmath.ctx_iv": "mpmath",
}  # fmt: skip
"""Modules of types whose only ones have a content that is ambient state, or never changes; and the module that has
them."""


def of_python() -> dict[str, object]:
    """Those of any Python process."""
    return {
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
        "sys.stdin": sys.stdin,
        "sys.__stdout__": sys.__stdout__,
        "sys.__stderr__": sys.__stderr__,
        "os.environ": os.environ,
    }
