"""Functions of the notebook to bytes and back: their globals *are* the namespace, their cells are shared.

A function is rebuilt around the live namespace of the worker that loads it, so that a later `y = 5` changes what it
sees; one that a library made inside another function keeps its library's globals, by reference. Closure cells are
made empty and filled from the function's state, so that closures that share a cell share it after a move, and a
function that refers to itself through a cell can be built.
"""

from __future__ import annotations

import importlib
import marshal
import sys
import types
from typing import Any

from lambdakernel.state.hooks import live_namespace
from lambdakernel.state.imported import is_of_process

_SLOTS = ("__defaults__", "__kwdefaults__", "__annotations__", "__doc__", "__module__")


class LiveNamespace:
    """Stands in a pickle for the namespace itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (live_namespace, ())


class ModuleGlobals:
    """Stands in a pickle for the globals of an importable module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return (globals_of_module, (self._module,))


def globals_of_module(module: str) -> dict[str, Any]:
    return vars(importlib.import_module(module))


def value_of_module(module: str, name: str) -> Any:
    return globals_of_module(module)[name]


def marker_for(globals_: dict[str, Any]) -> ModuleGlobals | dict[str, Any]:
    """What stands for the globals of a function that is not the notebook's own: of code that was executed in a
    dictionary, that dictionary."""
    module = sys.modules.get(globals_.get("__name__", ""))
    if module is not None and vars(module) is globals_:
        return ModuleGlobals(module.__name__)
    return globals_


def reduce_module(module: types.ModuleType) -> Any:
    """One that was imported by its name, one that the notebook made with its content."""
    if is_of_process(module):
        return NotImplemented
    content = {name: value for name, value in vars(module).items() if name != "__builtins__"}
    return (types.ModuleType, (module.__name__,), content, None, None, fill_module)


def fill_module(module: types.ModuleType, content: dict[str, Any]) -> None:
    vars(module).update(content)


def reduce_function(function: types.FunctionType, marker: object) -> tuple[Any, ...]:
    """How to rebuild `function` in a worker, with cells first and their contents last."""
    cells = function.__closure__ or ()
    state = {
        "slots": {name: getattr(function, name) for name in _SLOTS},
        "qualname": function.__qualname__,
        "dict": function.__dict__,
        "cells": [(cell, *_contents(cell)) for cell in cells],
        "params": getattr(function, "__type_params__", ()),
    }
    arguments = (function.__code__, marker, function.__name__, cells or None)
    return (make_function, arguments, state, None, None, fill_function)


def _contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def make_function(code: types.CodeType, live: dict[str, Any], name: str, cells: Any) -> types.FunctionType:
    return types.FunctionType(code, live, name, None, cells)


def fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["slots"].items():
        setattr(function, name, value)
    function.__qualname__ = state["qualname"]
    function.__dict__ = state["dict"]  # the very same, which a name may hold
    if state["params"]:
        function.__type_params__ = state["params"]  # type: ignore[attr-defined]
    for cell, *contents in state["cells"]:
        if contents:
            cell.cell_contents = contents[0]


def reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    """Exactly, with its file name, so that tracebacks and `inspect` find the cell after a move.

    Version 2 of the format has no references, so that equal code is equal bytes. The interpreter's version is the
    session's; the bytes were authenticated before they are read.
    """
    return (marshal.loads, (marshal.dumps(code, 2),))


def reduce_cell(_cell: types.CellType) -> tuple[Any, ...]:
    """Empty: whoever owns the function that it belongs to fills it."""
    return (types.CellType, ())
