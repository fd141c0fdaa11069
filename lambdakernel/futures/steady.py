"""Functions of a script or notebook that need to be sent to a worker only once.

Such a function travels by value, and what it reads (globals, closure, defaults) with it. It is steady as long as all of
that is unchangeable and still the same; then every worker may keep what it was sent. A function that reads anything
else, or that writes what outlives its call, is encoded again for every call, so that a change is never missed.
"""

from __future__ import annotations

import dis
import io
import itertools
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from lambdakernel.futures.calls import is_importable
from lambdakernel.futures.recipes import RecipePickler

_ATOMS = (int, float, bool, str, bytes, complex, type(None), type(...))
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_STAR"})
_CLOSURE_WRITES = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_DEEPEST = 8
_MOST = 256
_LONGEST = 32_000
_ABSENT = object()


class Steady(NamedTuple):
    """A number that stands for this function in this state, and its bytes."""

    number: int
    data: bytes


class SteadyFunctions:
    """The functions that were sent, by number; one executor's. Any thread may call: at worst one gets two numbers."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[FunctionType, list[Any], Steady]] = {}
        self._reads: dict[CodeType, tuple[str, ...] | None] = {}
        self._numbers = itertools.count(1)

    def get(self, function: Any) -> Steady | None:
        """The number and bytes of `function` as it is now, or None if it must be encoded with each call."""
        if type(function) is not FunctionType or is_importable(function):
            return None
        state = self._state(function, [])
        if state is None:
            return None
        found = self._known.get(id(function))
        if found is not None and found[0] is function and _same(found[1], state):
            return found[2]
        with io.BytesIO() as file:
            RecipePickler(file, lambda f: not is_importable(f), lambda f: self._names(f.__code__)).dump(function)
            data = file.getvalue()
        if len(data) > _LONGEST:
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        steady = Steady(next(self._numbers), data)
        self._known[id(function)] = function, state, steady
        return steady

    def _state(self, function: FunctionType, above: list[FunctionType]) -> list[Any] | None:
        """Every object that `function` can read, or None if one of them may change or is out of sight."""
        names = self._names(function.__code__)
        if names is None or function.__dict__ or len(above) > _DEEPEST:
            return None
        space = function.__globals__
        state: list[Any] = [function.__code__, *(space.get(name, _ABSENT) for name in names)]
        state += function.__defaults__ or ()
        state += (function.__kwdefaults__ or {}).values()
        state += function.__annotations__.values()
        try:
            state += [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError:  # a cell that is still empty
            return None
        inside: list[Any] = []
        for value in state[1:]:
            if value is _ABSENT or type(value) in _ATOMS or is_importable(value):
                continue
            if type(value) is ModuleType and value.__name__ != "__main__":
                continue
            if type(value) is not FunctionType:
                return None
            if value is function or any(value is f for f in above):
                continue
            inner = self._state(value, [*above, function])
            if inner is None:
                return None
            inside += inner
        return state + inside

    def _names(self, code: CodeType) -> tuple[str, ...] | None:
        if code not in self._reads:
            if len(self._reads) >= 4 * _MOST:
                self._reads.clear()
            self._reads[code] = _reads(code, frozenset(code.co_freevars))
        return self._reads[code]


def _same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


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
