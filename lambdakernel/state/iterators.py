"""Iterators of `itertools` to bytes and back, without the warning that Python 3.12 and 3.13 give for it.

A notebook can have made that an error. Python 3.14 pickles them no more; there they stay where they are.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def reduce_iterator(iterator: Any) -> tuple[Any, ...]:
    """As pickle does, in silence."""
    with _silence():
        made: tuple[Any, ...] = iterator.__reduce_ex__(5)
    return made if len(made) < 3 or made[2] is None else (*made[:3], None, None, set_state)


def set_state(iterator: Any, state: Any) -> None:
    with _silence():
        iterator.__setstate__(state)


@contextmanager
def _silence() -> Iterator[None]:
    """No deprecation is told. `catch_warnings` would make every warning that was told once be told once more."""
    rule: Any = ("ignore", None, DeprecationWarning, None, 0)
    warnings.filters.insert(0, rule)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        warnings.filters.remove(rule)  # type: ignore[attr-defined]


REDUCERS: dict[type, Callable[[Any], Any]] = (
    {kind: reduce_iterator for kind in vars(itertools).values() if isinstance(kind, type)}
    if (3, 12) <= sys.version_info < (3, 14)
    else {}
)
