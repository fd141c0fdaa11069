"""Tracebacks to bytes and back: the same frames, lines and marks under the failing expression, without the values of
local variables.

A traceback is told as its entries: the code, the instruction and the line of each. It is rebuilt around frames that
never run. Python code cannot make such a frame, and one of other code would lack the instruction by which the failing
expression is found; the interpreter's own `PyFrame_New` can, and is what debuggers and profilers of C code use.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lambdakernel.state.lines import with_line_at

Entry = tuple[types.CodeType, object, bool, int, int, int]
"""Code, globals, whether they are the locals too, the line that the frame is at; instruction and line that failed."""


class NamedGlobals:
    """Stands in a pickle for the globals of a frame that is none of the notebook's: by the name of their module, which
    nobody imports to show a traceback."""

    def __init__(self, globals_: dict[str, Any]) -> None:
        self._named = {name: globals_[name] for name in ("__name__", "__file__") if type(globals_.get(name)) is str}

    def __reduce__(self) -> tuple[Any, ...]:
        return (globals_of_frame, (self._named,))


def globals_of_frame(named: dict[str, str]) -> dict[str, Any]:
    """Those of the module, if it is loaded here; else what says which it was."""
    module = sys.modules.get(named.get("__name__", ""))
    if module is not None and getattr(module, "__file__", None) == named.get("__file__"):
        return vars(module)
    return named


def reduce_traceback(first: types.TracebackType, live: dict[str, Any], marker: object) -> tuple[Any, ...]:
    """How to rebuild a traceback; `marker` stands for `live`, the globals of the notebook's own frames."""
    return (make_traceback, (tuple(_entries(first, {id(live): marker})),))


def _entries(first: types.TracebackType, markers: dict[int, object]) -> Iterator[Entry]:
    at: types.TracebackType | None = first
    while at is not None:
        frame = at.tb_frame
        globals_ = frame.f_globals
        marker = markers.get(id(globals_)) or markers.setdefault(id(globals_), NamedGlobals(globals_))
        is_module = not frame.f_code.co_flags & inspect.CO_OPTIMIZED and frame.f_locals is globals_
        yield frame.f_code, marker, is_module, frame.f_lineno or at.tb_lineno, at.tb_lasti, at.tb_lineno
        at = at.tb_next


def make_traceback(entries: Sequence[Entry]) -> types.TracebackType | None:
    """The traceback whose entries these are, outermost first."""
    made: types.TracebackType | None = None
    codes: dict[tuple[int, int], types.CodeType] = {}
    for code, globals_, is_module, at_line, instruction, line in reversed(entries):
        assert isinstance(globals_, dict)
        ready = codes.get((id(code), at_line)) or codes.setdefault((id(code), at_line), _still_at(code, at_line))
        frame = new_frame()(ready, globals_, globals_ if is_module else _arguments(ready))
        made = types.TracebackType(made, frame, instruction, line)
    return made


def _still_at(code: types.CodeType, line: int) -> types.CodeType:
    """`code` as its new frame can have it: on that line; and with free variables as variables of its own, since the
    closure that they would be looked up in is not there."""
    if code.co_freevars:
        code = code.replace(co_cellvars=code.co_cellvars + code.co_freevars, co_freevars=())
    frame = new_frame()(code, {}, {})
    return code if frame.f_lineno == line else with_line_at(code, frame.f_lasti // 2, line)


class _Argument:
    """Stands for the value of an argument, which stays behind; its name is shown with the frame."""

    def __repr__(self) -> str:
        return "<not kept>"


def _arguments(code: types.CodeType) -> dict[str, Any]:
    flags = code.co_flags
    more = bool(flags & inspect.CO_VARARGS) + bool(flags & inspect.CO_VARKEYWORDS)
    return {name: _Argument() for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + more]}


@functools.cache
def new_frame() -> Callable[[types.CodeType, dict[str, Any], dict[str, Any]], types.FrameType]:
    """Makes a frame of a code object, with globals and locals, that is in no stack and never runs."""
    import ctypes  # a few milliseconds, for sessions that keep an error

    state = ctypes.pythonapi.PyThreadState_Get
    state.restype, state.argtypes = ctypes.c_void_p, []
    make = ctypes.pythonapi.PyFrame_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, *[ctypes.py_object] * 3]
    take_over = ctypes.pythonapi.PyFrame_LocalsToFast
    take_over.restype, take_over.argtypes = None, [ctypes.py_object, ctypes.c_int]

    def made(code: types.CodeType, globals_: dict[str, Any], locals_: dict[str, Any]) -> types.FrameType:
        is_function = bool(code.co_flags & inspect.CO_OPTIMIZED)
        frame: types.FrameType = make(state(), code, globals_, {} if is_function else locals_)
        if not is_function:
            return frame
        seen: Any = frame.f_locals
        if sys.version_info >= (3, 13):  # a view that writes through; a slot that is a cell's must hold one
            seen.update({n: types.CellType(v) if n in code.co_cellvars else v for n, v in locals_.items()})
        else:  # a dictionary, of which the names without a value were just taken out
            seen.update(locals_)
            take_over(frame, 0)
        return frame

    return made
