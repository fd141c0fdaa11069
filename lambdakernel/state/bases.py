"""What edits of a large value refer to: the numbers of the objects in a whole dump of it. See `edits`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace


class Numbers:
    """Numbers by address: those that a whole dump gave, and what edits changed of them since."""

    def __init__(self, of_dump: Callable[[int], int | None]) -> None:
        self._of_dump = of_dump
        self._since: dict[int, int | None] = {}

    def get(self, address: int) -> int | None:
        return self._since[address] if address in self._since else self._of_dump(address)

    def change(self, gone: Iterable[int], numbered: Mapping[int, int]) -> None:
        self._since.update(dict.fromkeys(gone))
        self._since.update(numbered)


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
        self.numbers.change(self.gone, self.numbered)
        return replace(self, numbered={}, gone=())
