"""Units that changed a little, as edits of what the store holds of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Set
from typing import Any

from lambdakernel.state import edits, graph
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.dumping import Dumper
from lambdakernel.state.here import Here, Item, Live
from lambdakernel.state.writes import Written

_WORTH_A_GUESS, _GUESSES = 100, 5
"""Items of a container from which a look at all that it reaches is worth avoiding, and how many of them are asked."""


class Editor:
    """See the module."""

    def __init__(self, here: Here, dumper: Dumper, live: dict[str, Any], book: ClassBook) -> None:
        self._here, self._dumper, self._live, self._book = here, dumper, live, book

    def edit(
        self, unit: Live, items: tuple[Item, ...], bound: tuple[Item, ...] = (), but: Set[str] = frozenset()
    ) -> Written | None:
        """`unit` with `items`, of which `bound` have values that are new to it, as an edit of what the store holds of
        it; None if it must be dumped, or shares something with another unit now, `but` with those that go into it."""
        if unit.base is None or unit.snapshot is None:
            return None
        self._dumper.look_each_time()
        try:
            roots = [self._live[key] for _, key in items]
            look, difference = graph.advance(unit.snapshot, roots, self._live, leaf=self._dumper.token)
            if look is None or difference is None:
                return None
            if self._here.holders(difference.shared_added, self._dumper.ids_now, but) - {unit.id}:
                return None
            names = {key: self._live[key] for _, key in bound}
            without = [key for kind, key in unit.items if (kind, key) not in items]
            found = edits.edit(unit.base, look, difference, roots, names, without, self._live, self._book)
            if not look.is_unchanged(roots):  # another thread works on it
                return None
        except (Exception, RecursionError):
            return None
        ids = self._here.moved(unit, difference.shared_added, difference.shared_gone)
        found.ids, found.snapshot, found.uses = ids, look, found.uses | unit.uses
        return Written(items, found, replaces=(unit.id,), bound=bound)

    def join(self, item: Item, edited: dict[str, Written], broken: Set[str]) -> bool:
        """Whether a name that is loose refers into one unit that can be edited, and became a part of that edit.

        `broken` are units that are no more: what the name's own one had, if it was alone there, goes with it.
        """
        if item[0] != "n" or item[1] not in self._live:
            return False
        own = self._here.unit_of.get(item, "")
        but = {own} if own in broken and self._here.units[own].items == (item,) else set()
        met = self._holder_of(item, edited, broken) or self._holder_of_parts(item, but) or self._holders_of(item, but)
        if len(met) != 1 or met & broken:
            return False
        (unit_id,) = met
        unit = self._here.units[unit_id]
        before = edited.get(unit_id) or Written(unit.items, None)
        joined = self.edit(unit, (*before.items, item), (*before.bound, item), before.absorbs | but)
        if joined is None:
            return False
        joined.absorbs = before.absorbs | but
        edited[unit_id] = joined
        return True

    def _holder_of(self, item: Item, edited: Mapping[str, Written], broken: Set[str]) -> set[str]:
        """The unit that the value of `item` is an object of, if what that unit reaches is known as it is now: then the
        value reaches nothing else. Empty if it is not so."""
        unit_id = self._here.owner_of(self._live[item[1]])
        if unit_id is None or unit_id in broken:
            return set()
        return {unit_id} if unit_id in edited or self._here.is_surely_same(self._here.units[unit_id]) else set()

    def _holder_of_parts(self, item: Item, but: Set[str]) -> set[str]:
        """The large unit that the first objects in a container are of: an edit will say whether it is so, and whether
        that is all. Empty if there is none."""
        value = self._live[item[1]]
        if type(value) not in (list, tuple, dict) or len(value) < _WORTH_A_GUESS:
            return set()
        parts = itertools.islice(value.values() if type(value) is dict else value, _GUESSES)
        met = {unit_id for part in parts if (unit_id := self._here.owner_of(part)) is not None} - but
        return {unit_id for unit_id in met if self._here.units[unit_id].base is not None} if len(met) == 1 else set()

    def _holders_of(self, item: Item, but: Set[str]) -> set[str]:
        look = self._dumper.look((item,))
        return self._here.holders(look.ids, self._dumper.ids_now, but) if look is not None else set()
