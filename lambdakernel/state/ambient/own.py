"""The user's own modules, beside the notebook: which of their globals their functions change.

A counter, a cache or a registry in a module of one's own is state of the notebook as much as a variable is. Which names
those are is read from the module's source, so that a constant, a connection or a large table costs nothing.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from types import ModuleType

_OURS = ("lambdakernel", "kvs")
_MOST_BYTES = 1 << 20
"""Of a source that is looked at."""
_CHANGING = frozenset({
    "append", "extend", "insert", "pop", "popitem", "remove", "clear", "sort", "reverse", "add", "discard", "update",
    "setdefault", "appendleft", "extendleft", "popleft", "rotate", "move_to_end", "intersection_update",
    "difference_update", "symmetric_difference_update",
})  # fmt: skip
"""Methods of built-in containers that change them."""


_ASSIGNED = re.compile(r"^(?:    )?([A-Za-z_]\w*)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)


class OwnModules:
    """Those that lie in `root`, the notebook's folder, under the name by which they were imported since this was made;
    looked at once each. So nothing of an environment is one that lies below that folder."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._met = len(sys.modules)
        self._known = set(sys.modules)

    def new(self) -> Iterator[tuple[str, str]]:
        """(module, global) for each global that functions change, of modules that were imported since the last time."""
        if len(sys.modules) == self._met:
            return
        self._met = len(sys.modules)
        for name in [name for name in sys.modules if name not in self._known]:
            self._known.add(name)
            if origin := self._origin(name):
                for each in sorted(changed_globals(_source(origin))):
                    yield name, each

    def _origin(self, name: str) -> str:
        """The file of one's own module; empty for any other."""
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None) if type(module) is ModuleType else None
        origin = getattr(spec, "origin", None)
        if type(origin) is not str or name.partition(".")[0] in _OURS:
            return ""
        stem = os.path.join(self._root, *name.split("."))
        return origin if origin in (f"{stem}.py", os.path.join(stem, "__init__.py")) else ""


def _source(path: str) -> str:
    """Empty if it cannot be read, or is too long."""
    try:
        with open(path, encoding="utf-8") as file:
            source = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError):
        return ""
    return source if len(source) <= _MOST_BYTES else ""


def changed_globals(source: str) -> frozenset[str]:
    """Names of a module's globals that its functions bind anew (`global`) or change in place."""
    if not _may_change(source):  # to parse a source costs much more
        return frozenset()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    own = {name for statement in tree.body for name in _bound(statement)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found |= _changed_in(node)
    return frozenset(found & own)


def _may_change(source: str) -> bool:
    """False if surely no function changes a global."""
    names = "|".join(set(_ASSIGNED.findall(source)))
    changed = rf"\bglobal\b.*\b({names})\b|\b({names})\s*[.\[].*[=(]|\bdel\b.*\b({names})\b"
    return bool(names) and re.search(changed, source) is not None


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement of the module binds to values: not those of functions, classes and imports."""
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
    elif isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _bound(child)


def _changed_in(function: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            found.update(node.names)
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            found.update(_first_name(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            found.update(_first_name(node.func))
    return found - _locals(function)


def _first_name(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _locals(function: ast.AST) -> set[str]:
    """Names that are the function's own: parameters, and what it binds and does not call global."""
    globals_ = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    bound = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return bound - globals_
