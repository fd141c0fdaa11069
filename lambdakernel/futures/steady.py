"""Functions of a script or notebook that need to be sent to a worker only once.

Such a function travels by value, and what it reads (globals, closure, defaults) with it. It is steady as long as all of
that is unchangeable and still the same; then every worker may keep what it was sent. A function that reads anything
else, or that writes a global, is encoded again for every call, so that a change is never missed.
"""

from __future__ import annotations

import dis
import itertools
import types
from typing import Any, NamedTuple

from lambdakernel.futures.calls import is_importable

_ATOMS = (int, float, bool, str, bytes, complex, type(None), type(...))
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_STAR"})
_DEEPEST = 8
_MOST = 256
_ABSENT = object()


class Steady(NamedTuple):
    """A number that stands for this function in this state, and its bytes."""

    number: int
    data: bytes


class SteadyFunctions:
    """The functions that were sent, by number; one executor's. Any thread may call: at worst one gets two numbers."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[types.FunctionType, tuple[Any, ...], Steady]] = {}
        self._reads: dict[types.CodeType, tuple[str, ...]] = {}
        self._numbers = itertools.count(1)

    def get(self, function: Any) -> Steady | None:
        """The number and bytes of `function` as it is now, or None if it must be encoded with each call."""
        if type(function) is not types.FunctionType:
            return None
        state = self._state(function, 0)
        if state is None:
            return None
        found = self._known.get(id(function))
        if found is not None and found[0] is function and _same(found[1], state):
            return found[2]
        if len(self._known) >= _MOST:
            self._known.clear()
        from lambdakernel.futures.encoding import encode  # late: many programs send functions of modules alone

        data, buffers = encode(function)
        if buffers or len(data) > 32_000:
            return None
        steady = Steady(next(self._numbers), data)
        self._known[id(function)] = function, tuple(state), steady
        return steady

    def _state(self, function: types.FunctionType, depth: int) -> list[Any] | None:
        """Every object that `function` can read, or None if one of them may change or is out of sight."""
        code = function.__code__
        names = self._reads.get(code)
        if names is None:
            if len(self._reads) >= 4 * _MOST:
                self._reads.clear()
            names = self._reads[code] = _reads(code)
        if names is _UNSTEADY or function.__dict__ or depth > _DEEPEST:
            return None
        state: list[Any] = [code]
        space = function.__globals__
        values = [space.get(name, _ABSENT) for name in names]
        values += function.__defaults__ or ()
        values += (function.__kwdefaults__ or {}).values()
        try:
            values += [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError:  # a cell that is still empty
            return None
        for value in values:
            state.append(value)
            if (
                value is function
                or value is _ABSENT
                or (isinstance(value, types.ModuleType) and value.__name__ != "__main__")
            ):
                continue
            if type(value) in _ATOMS or is_importable(value):
                continue
            if type(value) is not types.FunctionType:
                return None
            inner = self._state(value, depth + 1)
            if inner is None:
                return None
            state += inner
        return state


def _same(old: tuple[Any, ...], new: list[Any]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


_UNSTEADY: tuple[str, ...] = ("<unsteady>",)


def _reads(code: types.CodeType) -> tuple[str, ...]:
    """Names of globals that `code` and the code inside it may read."""
    found: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in _WRITES:
            return _UNSTEADY
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            found[str(instruction.argval)] = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _reads(constant)
            if inner is _UNSTEADY:
                return _UNSTEADY
            found.update(dict.fromkeys(inner))
    return tuple(found)
