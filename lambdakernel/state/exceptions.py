"""Exceptions to bytes and back: with what was raised before them, with their notes, and with their traceback.

One that does not pickle itself is rebuilt without running `__init__` again, which may take other arguments than `args`
say. One that does is asked how; what raising it gave it is kept beside that.
"""

from __future__ import annotations

import copyreg
from typing import Any

_HEAP_TYPE = 1 << 9
_LINKS = ("__cause__", "__context__", "__suppress_context__", "__traceback__")
"""What raising an exception sets; the cause before what it suppresses."""


def reduce_exception(error: BaseException) -> Any:
    """How to rebuild `error`; NotImplemented if a reducer is registered for its type."""
    kind = type(error)
    if kind in copyreg.dispatch_table:
        return NotImplemented
    links = tuple(getattr(error, name) for name in _LINKS)
    if kind.__reduce__ is BaseException.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
        return (make_exception, (kind, error.args), (error.__dict__, links), None, None, fill_exception)
    made = error.__reduce_ex__(5)
    if not isinstance(made, tuple) or len(made) > 3:
        return made
    state = (made[2] if len(made) == 3 else None, links, error.__dict__.get("__notes__"))
    return (made[0], made[1], state, None, None, fill_by_itself)


def make_exception(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    native: Any = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    error: BaseException = native.__new__(kind, *arguments)
    try:
        native.__init__(error, *arguments)
    except TypeError:  # it takes what `args` does not say; `args` themselves are kept
        error.args = arguments
    return error


def fill_exception(error: BaseException, state: tuple[dict[str, Any], tuple[Any, ...]]) -> None:
    attributes, links = state
    _link(error, links)
    error.__dict__.update(attributes)


def fill_by_itself(error: BaseException, state: tuple[Any, tuple[Any, ...], list[str] | None]) -> None:
    """As pickle does it, then what raising gave."""
    own, links, notes = state
    if own is not None:
        error.__setstate__(own)
    _link(error, links)
    if notes is not None:
        error.__notes__ = notes


def _link(error: BaseException, links: tuple[Any, ...]) -> None:
    for name, value in zip(_LINKS, links, strict=True):
        setattr(error, name, value)
