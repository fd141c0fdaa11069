"""What edits of a large value refer to: the numbers of the objects in a whole dump of it. See `edits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Base:
    """A whole dump that can be edited, and its edits. `numbers` are by address; one dict serves all of its versions."""

    digest: bytes
    """Of the dump and its edits."""
    nbytes: int
    count: int
    """Numbers that are given."""
    numbers: dict[int, int] = field(repr=False)
    edits: tuple[bytes, ...] = ()
    is_parted: bool = False
    """A name was taken from it: what is left may have nothing in common any more."""
    numbered: Mapping[int, int] = field(repr=False, default_factory=dict)
    """What the last edit adds to the numbers,"""
    gone: Sequence[int] = field(repr=False, default=())
    """and takes from them, once it is stored."""

    @property
    def edited_nbytes(self) -> int:
        return sum(map(len, self.edits))

    def stored(self) -> Base:
        """The store has the last edit."""
        for address in self.gone:
            self.numbers.pop(address, None)
        self.numbers.update(self.numbered)
        return replace(self, numbered={}, gone=())
