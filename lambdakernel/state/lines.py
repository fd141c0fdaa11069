"""Which line a frame says it is at, for a frame that never ran.

A frame answers `f_lineno` from the location table of its code, for the instruction that it is at. One that never ran is
at its first, whose line says nothing. So its code gets a table that gives that instruction the wanted line, and every
other what it had.

Source: the format is in CPython's `Objects/locations.md` (3.11 and later).
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable, Iterator

Position = tuple[int | None, int | None, int | None, int | None]
"""First line, last line, first column, end column; of one code unit."""

_MOST = 8
"""Code units that one entry of a table covers at most."""
_NO_COLUMNS, _LONG, _NONE = 13, 14, 15


def with_line_at(code: types.CodeType, unit: int, line: int) -> types.CodeType:
    """`code`, where code unit `unit` is said to be on `line`. Costs about a microsecond a code unit."""
    positions = list(code.co_positions())
    positions[unit] = (line, None, None, None)
    return code.replace(co_linetable=location_table(positions, code.co_firstlineno))


def location_table(positions: Iterable[Position], first: int) -> bytes:
    """The table that gives the code units of a code object which begins on line `first` these positions, in order."""
    table = bytearray()
    line = first
    for position, units in _runs(positions):
        start, end, column, end_column = position
        if start is None:
            table.append(_head(_NONE, units))
            continue
        whole = end is not None and column is not None and end_column is not None
        table.append(_head(_LONG if whole else _NO_COLUMNS, units))
        table += _signed(start - line)
        line = start
        if end is not None and column is not None and end_column is not None:
            table += _number(end - start) + _number(column + 1) + _number(end_column + 1)
    return bytes(table)


def _runs(positions: Iterable[Position]) -> Iterator[tuple[Position, int]]:
    for position, same in itertools.groupby(positions):
        left = sum(1 for _ in same)
        while left:
            units = min(left, _MOST)
            left -= units
            yield position, units


def _head(kind: int, units: int) -> int:
    return 0x80 | kind << 3 | units - 1


def _signed(number: int) -> bytes:
    return _number(-number << 1 | 1 if number < 0 else number << 1)


def _number(number: int) -> bytes:
    """Six bits at a time, the lowest first."""
    out = bytearray()
    while number >= 64:
        out.append(number & 63 | 64)
        number >>= 6
    out.append(number)
    return bytes(out)
