"""Functions of a script or notebook that need to be sent to a worker only once.

Such a function travels by value, and what it reads (globals, closure, defaults) with it. It is steady as long as all of
that is unchangeable and still the same; then every worker may keep what it was sent. A `Live` that it reads is steady,
too: what others join into it is sent after it. A function that reads anything else, or that writes what outlives its
call, is encoded again for every call, so that a change is never missed. What `functools.cache` makes of a steady
function is steady, and each worker has a cache of its own.
"""

from __future__ import annotations

import dis
import functools
import io
import itertools
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from lambdakernel.futures.calls import is_importable
from lambdakernel.futures.recipes import CACHE, RecipePickler

_ATOMS = (int, float, bool, str, bytes, complex, type(None), type(...))
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_STAR"})
_CLOSURE_WRITES = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_MOST_SEEN = 64
_MOST = 256
_LONGEST = 32_000
_ABSENT = object()
_OF_A_CACHE = frozenset({*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "cache_parameters"})


class Steady(NamedTuple):
    """A number that stands for this function in this state, and its bytes."""

    number: int
    data: bytes
    lives: tuple[Any, ...] = ()
    """Each `Live` that it reads."""
    began: tuple[tuple[str, Any], ...] = ()
    """Identity and value of each of these; what is in `data` is no less."""


class _Seen:
    """A function and all that it referred to when it was sent."""

    __slots__ = ("closure", "code", "defaults", "function", "names", "options", "values")

    def __init__(self, function: FunctionType, names: tuple[str, ...]) -> None:
        """Raises ValueError if a cell of its closure is still empty."""
        self.function, self.names = function, names
        self.code, self.defaults, self.options = function.__code__, function.__defaults__, _options(function)
        self.closure = [cell.cell_contents for cell in function.__closure__ or ()]
        space = function.__globals__
        self.values = [space.get(name, _ABSENT) for name in names]

    def referents(self) -> list[Any]:
        return [*self.values, *(self.defaults or ()), *self.options, *self.closure]

    def holds(self) -> bool:
        """Whether it refers to the very same now."""
        function = self.function
        if function.__code__ is not self.code or function.__defaults__ is not self.defaults or function.__dict__:
            return False
        space = function.__globals__
        for name, value in zip(self.names, self.values, strict=True):
            if space.get(name, _ABSENT) is not value:
                return False
        try:
            for cell, value in zip(function.__closure__ or (), self.closure, strict=True):
                if cell.cell_contents is not value:
                    return False
        except ValueError:  # it was emptied
            return False
        return _same(self.options, _options(function))


class SteadyFunctions:
    """The functions that were sent, by number; one executor's. Any thread may call: at worst one gets two numbers."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, list[_Seen], Steady]] = {}
        self._reads: dict[CodeType, tuple[str, ...] | None] = {}
        self._numbers = itertools.count(1)

    def get(self, function: Any) -> Steady | None:
        """The number and bytes of `function` as it is now, or None if it must be encoded with each call."""
        inner = function_of(function)
        if inner is None:
            return None
        found = self._known.get(id(function))
        if found is not None and found[0] is function and all(seen.holds() for seen in found[1]):
            return found[2]
        seen: list[_Seen] = []
        lives: list[Any] = []
        if is_importable(function) or not self._look(inner, seen, lives):
            return None
        began = tuple(sys.modules["lambdakernel.live"].state(live) for live in lives)
        with io.BytesIO() as file:
            RecipePickler(file, lambda f: not is_importable(f), lambda f: self._names(f.__code__)).dump(function)
            data = file.getvalue()
        if len(data) > _LONGEST:
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        steady = Steady(next(self._numbers), data, tuple(lives), began)
        self._known[id(function)] = function, seen, steady
        return steady

    def _look(self, function: FunctionType, seen: list[_Seen], lives: list[Any]) -> bool:
        """Add `function` and the functions that it can call to `seen`, and what they join into to `lives`; False if
        what one reads may change unseen."""
        names = self._names(function.__code__)
        if names is None or function.__dict__ or len(seen) > _MOST_SEEN:
            return False
        try:
            seen.append(_Seen(function, names))
        except ValueError:
            return False
        for value in seen[-1].referents():
            if value is _ABSENT or type(value) in _ATOMS or is_importable(value):
                continue
            if type(value) is ModuleType and value.__name__ != "__main__":
                continue
            if _is_live(value):
                if not any(value is known for known in lives):
                    lives.append(value)
                continue
            inner = function_of(value)
            if inner is None:
                return False
            if not any(inner is known.function for known in seen) and not self._look(inner, seen, lives):
                return False
        return True

    def _names(self, code: CodeType) -> tuple[str, ...] | None:
        if code not in self._reads:
            if len(self._reads) >= 4 * _MOST:
                self._reads.clear()
            self._reads[code] = _reads(code, frozenset(code.co_freevars))
        return self._reads[code]


def function_of(value: Any) -> FunctionType | None:
    """`value`, or the function that it keeps the results of; None if it is neither, or has attributes of its own."""
    if type(value) is CACHE and value.__dict__.keys() <= _OF_A_CACHE:
        value = value.__wrapped__
    return value if type(value) is FunctionType else None


def _is_live(value: Any) -> bool:
    """Whether it is a `Live`, and its lattice is of a type that a worker finds by name."""
    live = sys.modules.get("lambdakernel.live")
    return live is not None and type(value) is live.Live and is_importable(type(live.state(value)[1]))


def _options(function: FunctionType) -> tuple[Any, ...]:
    defaults, annotations = function.__kwdefaults__, function.__annotations__
    return (*(defaults or {}).values(), *annotations.values()) if defaults or annotations else ()


def _same(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    return old == () == new or (len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True)))


def _reads(code: CodeType, closure: frozenset[str]) -> tuple[str, ...] | None:
    """Names of globals that `code` and the code inside it may read; None if it writes one, or into `closure`."""
    found: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in _WRITES or (name in _CLOSURE_WRITES and instruction.argval in closure):
            return None
        if name in _READS:
            found[str(instruction.argval)] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _reads(constant, closure)
            if inner is None:
                return None
            found.update(dict.fromkeys(inner))
    return tuple(found)
