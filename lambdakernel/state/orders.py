"""In which order a set lists its elements: as it did in the worker that stored it, though it is made anew.

A set lists its elements by their places in a table, which depend on how it grew and shrank. A cell may rely on it that
two loops over one set agree. So a stored value names the places of each set that would list its elements otherwise.
That holds among processes that hash texts alike, as those of our kernelspec do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambdakernel.state import graph
from lambdakernel.state.snapshots import ComparableSnapshot, Places

_KEY = "orders"


def of(look: ComparableSnapshot, roots: Sequence[object]) -> list[Places]:
    """What must be stored with `roots`, which `look` was just taken of."""
    return look.disordered(tuple(roots)) or []


def put(value: dict[str, Any], orders: list[Places]) -> None:
    """Into what is stored of a unit."""
    if orders:
        value[_KEY] = orders


def parts(orders: list[Places]) -> list[Any]:
    """The objects that say it, which are no part of the value."""
    return [orders, *orders, *(each for places in orders for each in places[2:])]


def restore(value: dict[str, Any]) -> None:
    """Arrange the sets in a unit that was just loaded. One whose elements have other hashes here stays as it is."""
    for places in value.pop(_KEY, ()):
        graph.arrange(*places)
