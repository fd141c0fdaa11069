"""Objects of libraries that keep a register of them, to bytes and back.

A handler of `logging` has to be in logging's register of what is flushed at the end, and its file has to be opened
again, at its end. A figure of pyplot must not enter pyplot's register by being loaded: which figures are open is
ambient state of its own.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable
from typing import Any

from lambdakernel.state.dicts import fill_attributes
from lambdakernel.state.soups import reduce_element

Reducer = Callable[[Any], tuple[Any, ...]]


def reducer_for(cls: type) -> Reducer | None:
    """How to reduce instances of `cls`, if it is one of those."""
    if issubclass(cls, logging.Handler):
        return None if _reduces_itself(cls) else reduce_handler
    for module, name, reducer in _OF_LIBRARIES:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and issubclass(cls, kind):
            return None if _reduces_itself(cls) else reducer
    return None


def _reduces_itself(cls: Any) -> bool:
    return cls.__reduce__ is not object.__reduce__ or cls.__reduce_ex__ is not object.__reduce_ex__


def reduce_handler(handler: logging.Handler) -> tuple[Any, ...]:
    """Without its lock, which its making makes, and without an open file of its own."""
    state = {name: value for name, value in vars(handler).items() if name != "lock"}
    if isinstance(handler, logging.FileHandler):
        if handler.stream is not None:
            handler.flush()
        state |= {"stream": None, "mode": handler.mode.replace("w", "a").replace("x", "a")}
    return (make_empty, (type(handler),), state, None, None, fill_handler)


def fill_handler(handler: Any, state: dict[str, Any]) -> None:
    vars(handler).update(state)
    handler.createLock()
    logging._addHandlerRef(handler)  # type: ignore[attr-defined]
    if state.get("_name"):
        logging._handlers[state["_name"]] = handler  # type: ignore[attr-defined]


def reduce_figure(figure: Any) -> tuple[Any, ...]:
    state = figure.__getstate__()
    state.pop("_restore_to_pylab", None)
    return (make_empty, (type(figure),), state)


def reduce_callbacks(registry: Any) -> tuple[Any, ...]:
    """Of an artist, with those callbacks only that it keeps in a pickle. Asking it for its state takes a number from
    its counter, and a canvas that is made takes others: else no figure would ever be as it was."""
    state = registry.__getstate__()
    registry._cid_gen = itertools.count(state["_cid_gen"])
    state["callbacks"] = {signal: kept for signal, kept in state["callbacks"].items() if kept}
    state["_cid_gen"] = max((cid for kept in state["callbacks"].values() for cid in kept), default=-1) + 1
    return (make_empty, (type(registry),), state)


def reduce_traits(obj: Any) -> Any:
    """With its observers, which its own way leaves out."""
    kind: Any = sys.modules["traitlets.traitlets"].HasTraits
    if type(obj).__getstate__ is not kind.__getstate__ or type(obj).__setstate__ is not kind.__setstate__:
        return NotImplemented
    return (make_empty, (type(obj),), vars(obj), None, None, fill_attributes)


def make_empty(cls: Any) -> Any:
    return cls.__new__(cls)


_OF_LIBRARIES: tuple[tuple[str, str, Reducer], ...] = (
    ("traitlets.traitlets", "HasTraits", reduce_traits),
    ("matplotlib.figure", "Figure", reduce_figure),
    ("matplotlib.cbook", "CallbackRegistry", reduce_callbacks),
    ("bs4.element", "PageElement", reduce_element),
)
