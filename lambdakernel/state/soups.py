"""Documents of Beautiful Soup, whose own pickle is the text of the document: parsed anew, it is another tree, of which
the elements in other variables are no part.

A tree is stored as its nodes in the order of the document, flat, and an element as its tree and the way to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

_LINKS = frozenset({"parent", "contents", "next_element", "previous_element", "next_sibling", "previous_sibling"})


def reduce_element(element: Any) -> tuple[Any, ...]:
    """A tree with all its nodes, or an element as the way to it."""
    way: list[int] = []
    root = element
    while root.parent is not None:
        way.append(next(n for n, child in enumerate(root.parent.contents) if child is root))
        root = root.parent
    if root is not element:
        return (element_of, (root, tuple(reversed(way))))
    return (make_tree, (list(_rows(root)),))


def element_of(root: Any, way: tuple[int, ...]) -> Any:
    for n in way:
        root = root.contents[n]
    return root


def _rows(root: Any) -> Iterator[tuple[int, type, str | None, dict[str, Any]]]:
    """Of each node the number of its parent, its type, its text if it is one, and its attributes."""
    left: list[tuple[int, Any]] = [(-1, root)]
    number = 0
    while left:
        parent, node = left.pop()
        yield parent, type(node), str.__str__(node) if isinstance(node, str) else None, dict(_own(node))
        left += [(number, child) for child in reversed(getattr(node, "contents", ()))]
        number += 1


def _own(node: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of a node, but for those that lead to other nodes: the parser's stacks are of no use after its end."""
    kind: Any = sys.modules["bs4.element"].PageElement
    for name, value in vars(node).items():
        if name == "builder":
            yield name, value if isinstance(value, type) else type(value)
        elif name not in _LINKS and not isinstance(value, kind):
            yield name, [] if type(value) is list and any(isinstance(part, kind) for part in value) else value


def make_tree(rows: list[tuple[int, type, str | None, dict[str, Any]]]) -> Any:
    nodes: list[Any] = []
    for parent, cls, text, own in rows:
        node: Any = object.__new__(cls) if text is None else str.__new__(cls, text)
        vars(node).update(own, parent=None, next_element=None, previous_element=None)
        vars(node).update(next_sibling=None, previous_sibling=None)
        if text is None:
            node.contents = []
        if parent >= 0:
            _hang(nodes[parent], node)
        if nodes:
            nodes[-1].next_element, node.previous_element = node, nodes[-1]
        nodes.append(node)
    root = nodes[0]
    if "builder" in vars(root):
        root.builder, root.currentTag, root._most_recent_element = root.builder(), root, nodes[-1]
        root.tagStack = [root]
    return root


def _hang(parent: Any, node: Any) -> None:
    if parent.contents:
        last = parent.contents[-1]
        last.next_sibling, node.previous_sibling = node, last
    parent.contents.append(node)
    node.parent = parent
