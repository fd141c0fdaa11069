"""What one writer of a shared map has said: its file, and what was published of it. The greater of both holds.

They differ where a power loss took numbers that were published, and for writers that have no file here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvs.shared.lane_file import LaneFile
from kvs.shared.rows import Order, Row, greatest

Published = dict[Any, tuple[int, ...]]
"""By key (as `domain.ident` has it), the slots."""


class Part:
    """See the module. Owns the file."""

    def __init__(self, file: LaneFile | None, published: Published) -> None:
        self.file, self._published = file, published
        self._order, self._known = Order(), 0
        """Of the entries of the file that have a place in the map, and how many these are."""
        self._said: dict[int, tuple[bytes, int]] = {}
        self._rows: dict[int, Row] = {}
        """The rows that were read last, and what of."""

    def new(self) -> list[Any]:
        """Keys that the file has, and `place` was not told of.

        Raises:
            StoreDamaged: the file cannot be read.
        """
        if self.file is None:
            return []
        if self.file.has_more:
            self.file.learn()
        return list(self.file.at)[self._known :] if self._known < len(self.file.at) else []

    def place(self, place: int) -> None:
        """The next of the new keys has this place in the map."""
        self._order.put(place, self._known)
        self._known += 1

    def row(self, half: int, keys: list[Any]) -> Row:
        """The slot `half` of each entry of the map, whose keys are these; the same object if nothing was said since."""
        if self.file is None:
            return [self._published[key][half] if key in self._published else 0 for key in keys]
        with self.file.half(half, self._known) as slots:
            said = (slots.tobytes(), len(keys))
            if self._said.get(half) == said:
                return self._rows[half]
            row = self._order.picked(slots, len(keys))
        if self._published:
            row = greatest([row, Part(None, self._published).row(half, keys)])
        self._said[half], self._rows[half] = said, row
        return row

    def slots(self, key: Any, width: int) -> Sequence[int]:
        """Of one entry; empty where nothing was said."""
        known = self._published.get(key, ()) if self._published else ()
        at = self.file.at.get(key) if self.file is not None else None
        if self.file is None or at is None:
            return known
        words = self.file.words
        said = (words[at],) if width == 1 else words[at : at + width].tolist()
        return list(map(max, said, known)) if known else said

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
