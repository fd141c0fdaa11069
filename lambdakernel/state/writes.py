"""What a commit has to write."""

from __future__ import annotations

from collections.abc import Set

import msgspec

from lambdakernel.state.codec import Dump
from lambdakernel.state.here import Item
from lambdakernel.state.units import Lost


class Written(msgspec.Struct):
    """A unit to write: its items and their dump, or why they cannot be dumped."""

    items: tuple[Item, ...]
    dump: Dump | None
    lost: Lost | None = None
    replaces: tuple[str, ...] = ()
    """Units that are gone with it."""
    bound: tuple[Item, ...] = ()
    """Of an edit, the items whose values are new to the unit,"""
    absorbs: Set[str] = frozenset()
    """and the units whose only item is one of them now."""


class Changes(msgspec.Struct):
    """What a commit has to write, and the units that it empties."""

    written: list[Written] = msgspec.field(default_factory=list)
    emptied: list[str] = msgspec.field(default_factory=list)
