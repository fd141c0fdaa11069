"""What a graph of objects looked like, and what changed in it since: the values that `graph` gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lambdakernel.state.bases import Numbers

LIMIT = 8_000_000
"""References above which there is no snapshot: 64 MB of addresses."""

Leaf = Callable[[Any], object | None]
"""Gives what to compare an opaque object by, with `==`; None if it cannot. Called after a walk, never during one. The
object itself is not kept alive, so its token must tell it from another one at the same address."""


class Snapshot(Protocol):
    """What a graph looked like."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, tokens of leaves not counted: about 8 bytes a reference and 16 an object."""

    @property
    def references(self) -> int:
        """References that were written down: what a check costs is in proportion to it."""

    def is_unchanged(self, roots: Sequence[object]) -> bool:
        """True: these roots, and all that they reach, are surely as they were. False: one may have changed."""


class Edit(NamedTuple):
    """One object whose own value changed."""

    obj: Any
    before: int
    """Items of a list, a dictionary or a set that are as they were, from its beginning,"""
    after: int
    """and to its end."""
    between: list[Any] | None
    """What is between those: keys and values in turn for a dictionary. None for anything else: all of it may differ."""


class Difference(NamedTuple):
    """What changed from one snapshot to the next. Addresses are of objects that the newer one visited, and `gone` ones
    of those that only the older one did. An address that is in neither is of the same object, or of an equal one."""

    edits: list[Edit]
    added: list[int]
    gone: list[int]
    shared_added: list[int]
    """Of what two names could share and one could change."""
    shared_gone: list[int]


Places = tuple[Any, int, bytes, bytes]
"""Of a set: itself, the size of its table, where its elements are in that if they were just added in the order in which
it lists them, and where others were removed: 32 bits each, the lowest byte first."""


class ComparableSnapshot(Snapshot, Protocol):
    """What the extension takes."""

    @property
    def objects(self) -> int:
        """How many were visited; atoms are not."""

    @property
    def has_shared_dict(self) -> bool:
        """Whether something beside its instance referred to the `__dict__` of one."""

    def shared(self) -> frozenset[int]:
        """Addresses of the objects that two names could share and one could change; valid while those live. What an
        array looks into is not among them."""

    def containers(self) -> frozenset[int]:
        """Addresses of all objects that were visited."""

    def numbers(self, memo: dict[int, tuple[int, Any]]) -> dict[int, int] | None:
        """By address, the places of those objects in a pickler's memo; None if one but the empty tuple has none."""

    def disordered(self, roots: tuple[object, ...]) -> list[Places] | None:
        """Of the sets that were met, those whose elements would be at other places once they were added anew, in the
        order in which they are listed; of a snapshot that `amend` gave, only those that changed since its base. None if
        something changed since."""

    def needs(self, most: int) -> tuple[list[Any], list[Any]] | None:
        """What must have a place in a pickler's memo for `write`: the class of each of these instances, one of every
        class, and these atoms. None if there are more than `most` of them, or something cannot be written."""

    def write(
        self, roots: tuple[object, ...], names: tuple[str, ...], places: dict[int, int], first: int
    ) -> tuple[bytes, int] | None:
        """A pickle of the value of a unit, `{"classes": {}, "names": {name: root}}`, for a memo in which `first` places
        are taken, `places` by address; and the places that are taken after it. None if something changed since the
        snapshot, or cannot be written. What is in it is not asked for its own ways."""

    def edit_needs(self, added: list[int], least: int, most: int) -> tuple[list[Any], list[Any]] | None:
        """As `needs`, of the new objects of one that `amend` gave; None also if they have fewer than `least`
        references."""

    def write_edit(
        self,
        roots: tuple[object, ...],
        added: list[int],
        said: list[Any],
        names: dict[str, Any],
        without: list[str],
        numbers: Numbers,
        gone: frozenset[int],
        places: dict[int, int],
        first: int,
    ) -> tuple[bytes, int, list[int]] | None:
        """As `write`, a pickle of `(said, names, without)` in which objects that are not in `added` are persistent ids,
        from `numbers` but for those that are `gone`; and the place of each that is."""

    def place(self, address: int) -> int | None:
        """Of the object that was at `address`, its place in what was written last."""

    def kinds(self) -> list[type]:
        """Types of the objects that were met, but for the built-in ones; some that were not may be among them."""
