"""Co-variables: which names move together. Pure.

Two names whose objects share something mutable must be stored and loaded as one, or a write through one alias would
not be seen through the other after a move.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def groups(shared: Mapping[K, Iterable[Hashable]]) -> list[list[K]]:
    """The finest grouping in which items that have an element in common are together.

    Items come out in the order in which they came in, and so do groups. Cost is linear in the elements, and small in
    those that one item has alone.
    """
    if len(shared) == 1:
        return [list(shared)]
    sets = {item: frozenset(elements) for item, elements in shared.items()}
    common = _common(sets.values())
    parent: dict[K, K] = {item: item for item in shared}

    def root(item: K) -> K:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[Hashable, K] = {}
    for item, elements in sets.items():
        for element in elements & common:
            other = first.setdefault(element, item)
            a, b = root(item), root(other)
            if a != b:
                parent[a] = b
    found: dict[K, list[K]] = {}
    for item in shared:
        found.setdefault(root(item), []).append(item)
    return list(found.values())


def _common(sets: Iterable[frozenset[Hashable]]) -> set[Hashable]:
    """Elements that are in more than one set."""
    seen: set[Hashable] = set()
    common: set[Hashable] = set()
    for elements in sets:
        common |= elements & seen
        seen |= elements
    return common
