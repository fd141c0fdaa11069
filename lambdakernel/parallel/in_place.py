"""Changes in place of the notebook's variables that the text of a body shows: they would be lost with each task. Pure.

Said before anything runs, where it is sure enough to be worth that: a statement of the body itself, not in a function
or a branch, that makes a container of Python's grow, or sets an element of one or of an array or a table. A body that
also takes something out of that variable may leave it as it was; that, and all that the text does not show, is found
out by looking at the values when a task has run.
"""

from __future__ import annotations

import ast
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

_GROWS: dict[type, frozenset[str]] = {
    list: frozenset({"append", "extend", "insert"}),
    set: frozenset({"add", "update"}),
    bytearray: frozenset({"append", "extend", "insert"}),
    deque: frozenset({"append", "appendleft", "extend", "extendleft", "insert"}),
    **dict.fromkeys((dict, OrderedDict, defaultdict), frozenset({"update"})),
    Counter: frozenset({"update", "subtract"}),
}
_SHRINKS = frozenset("pop popitem popleft remove discard clear reverse sort rotate".split())
_ELEMENTS = frozenset({list, bytearray, deque, dict, OrderedDict, defaultdict, Counter})
"""Whose elements can be set."""
_ARRAYS = frozenset({("numpy", "ndarray"), ("pandas", "DataFrame"), ("pandas", "Series")})
_PLACES = frozenset({"loc", "iloc", "at", "iat"})


class InPlace(NamedTuple):
    """One such change."""

    line: int
    name: str
    kind: str
    """The type of the variable, as a person names it."""


def changes_in_place(tree: ast.Module, own: Collection[str], live: Mapping[str, Any]) -> InPlace | None:
    """The first one of a variable of the notebook (`live`) that is none of the body's `own` names."""
    undone = set(_taken_from(tree))
    for statement in _surely_run(tree.body):
        for name, method in _changed_by(statement):
            value = live.get(name)
            if name in own or name in undone or value is None:
                continue
            if _can_grow(type(value), method) if method else _has_elements(type(value)):
                return InPlace(statement.lineno, name, type(value).__name__)
    return None


def _surely_run(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of the body and of its loops, in order."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.For | ast.While | ast.With | ast.Try):
            yield from _surely_run(statement.body)


def _changed_by(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Names, each with the method that is called on it; without one, an element of it is set."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method))):
            yield name, method
        case ast.Assign(targets=targets):
            yield from ((name, "") for target in targets for name in _set_in(target))
        case ast.AugAssign(target=target):
            yield from ((name, "") for name in _set_in(target))


def _set_in(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Subscript(value=ast.Name(id=name)):
            yield name
        case ast.Subscript(value=ast.Attribute(value=ast.Name(id=name), attr=place)) if place in _PLACES:
            yield name


def _taken_from(tree: ast.Module) -> Iterator[str]:
    """Names of which the body takes something out, wherever."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=method) if method in _SHRINKS:
                yield name
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Del()):
                yield name


def _can_grow(kind: type, method: str) -> bool:
    return method in _GROWS.get(kind, frozenset())


def _has_elements(kind: type) -> bool:
    return kind in _ELEMENTS or (kind.__module__.partition(".")[0], kind.__qualname__) in _ARRAYS
