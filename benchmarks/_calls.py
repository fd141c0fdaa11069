"""Functions that the pools of the benchmarks call; workers import this module, so it imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def noop(_: object = None) -> None:
    return None


def ones(count: int) -> Any:
    import numpy

    return numpy.ones(count)


def total(array: Any) -> float:
    return float(array.sum())


def total_of_table(table: Any) -> float:
    return float(table["n0"].sum())


def array_is_writable(array: Any) -> bool:
    return bool(array.flags.writeable)


def table_is_writable(table: Any) -> bool:
    try:
        table.iloc[0, 0] = table.iloc[0, 0]
    except ValueError:  # a column of it is read-only
        return False
    return True
