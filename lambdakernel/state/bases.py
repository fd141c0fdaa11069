"""What edits of a large value refer to: the numbers of the objects in a whole dump of it. See `edits`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace


class Numbers:
    """Numbers by address. They are read when they are first asked for: most values are never edited."""

    def __init__(self, read: Callable[[], dict[int, int]]) -> None:
        self._read: Callable[[], dict[int, int]] | None = read
        self._numbers: dict[int, int] = {}

    def by_address(self) -> dict[int, int]:
        if self._read is not None:
            self._numbers, self._read = self._read(), None
        return self._numbers


@dataclass(frozen=True, slots=True)
class Base:
    """A whole dump that can be edited, and its edits. One object serves as `numbers` of all its versions."""

    digest: bytes
    """Of the dump and its edits."""
    nbytes: int
    count: int
    """Numbers that are given."""
    numbers: Numbers = field(repr=False)
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
        numbers = self.numbers.by_address()
        for address in self.gone:
            numbers.pop(address, None)
        numbers.update(self.numbered)
        return replace(self, numbered={}, gone=())
