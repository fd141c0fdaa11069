"""One dump, however it goes: within bounds, in pieces if it is deep, undisturbed if threads change what is dumped."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from lambdakernel.state import bounds, deep
from lambdakernel.state.specials import CannotMove

_UNDISTURBED_S = 5.0


class Pickler(Protocol):
    """What is asked of an encoder here."""

    buffers: list[memoryview]
    last: object
    """Whose own code runs, if any does."""
    empty: frozenset[int]
    """Addresses of instances whose attributes follow later."""
    made: list[object]
    """What was met and is no part of the value."""

    def dump(self, obj: Any, /) -> None: ...


P = TypeVar("P", bound=Pickler)
T = TypeVar("T")


def encode_once(obj: Any, make: Callable[[io.BytesIO], P]) -> tuple[P, bytes]:
    """The same, but whatever goes wrong is raised: nothing is tried again."""
    return _encode(obj, make)


def encode(obj: Any, make: Callable[[io.BytesIO], P], live: dict[str, Any]) -> tuple[P, bytes]:
    """An encoder that `make` gave, after its dump of `obj`, and what it wrote.

    Raises:
        CannotMove: it is larger than it may be, was stopped, or is nested too deeply; says which.
        Exception: what an object's own code raised.
    """
    try:
        return _encode(obj, make)
    except RecursionError:
        pass
    except pickle.PicklingError as e:
        if not deep.is_too_deep(e):
            raise
    except RuntimeError as e:
        if "during iteration" not in str(e):
            raise
        with _undisturbed():
            return _encode(obj, make)
    try:
        pieces = _within_bounds(lambda: deep.in_pieces(obj, live), lambda: obj)
        return _encode(pieces, make, pieces)
    except (RecursionError, pickle.PicklingError) as e:
        if not deep.is_too_deep(e):
            raise
        raise CannotMove(obj, deep.WHY) from e


def _encode(obj: Any, make: Callable[[io.BytesIO], P], pieces: deep.InPieces | None = None) -> tuple[P, bytes]:
    limit = bounds.value_nbytes()
    file = bounds.Stream(limit) if limit else io.BytesIO()
    encoder = make(file)
    if pieces is not None:
        encoder.empty, encoder.made = pieces.empty, pieces.made
    try:
        _within_bounds(lambda: encoder.dump(obj), lambda: encoder.last)
    except bounds.TooLarge as e:
        raise CannotMove(obj, bounds.too_large(limit)) from e
    head = file.getvalue()
    if limit and sum(buffer.nbytes for buffer in encoder.buffers) + len(head) > limit:
        raise CannotMove(obj, bounds.too_large(limit))
    return encoder, head


def _within_bounds(work: Callable[[], T], last: Callable[[], object]) -> T:
    try:
        with deep.shallow():
            return bounds.run(work, last)
    except bounds.Halted as e:
        raise CannotMove(last(), f"not picklable ({e})") from e


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No other thread of the notebook runs meanwhile, unless this one waits for something or takes very long."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_UNDISTURBED_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
