"""Which modules other processes of a kernel had better be born with: those of the setting `preload` that it uses."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import PathFinder

_QUICK = frozenset({"numpy"})
"""Imported in some 50 ms alone, and in 90 beside another process that does the same: it can wait until it is needed."""
_INSTALLED = ("site-packages", "dist-packages")


def used(preload: Sequence[str]) -> list[str]:
    """What `preload` names of the modules that are imported in this process, and their public parts."""
    named = [name for name in preload if name in sys.modules and _is_installed(name)]
    parts = [name for name in [*sys.modules] if name.count(".") == 1 and "._" not in name]
    return list(dict.fromkeys([*named, *(name for name in parts if name.partition(".")[0] in named)]))


def wanted(nodes: Iterable[ast.AST], preload: Sequence[str]) -> list[str]:
    """The same of what a cell will import that is not imported yet, and that takes long, as its text says."""
    tops = set(preload) - _QUICK
    found = dict.fromkeys(name for name in _imported(nodes) if name.partition(".")[0] in tops)
    new = [name for name in found if name not in sys.modules]
    is_installed = {top: _is_installed(top) for top in {name.partition(".")[0] for name in new}}
    return [name for name in new if is_installed[name.partition(".")[0]]]


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """By statements that run with the cell: to look into functions, too, would cost every cell more than it saves."""
    for node in nodes:
        match node:
            case ast.If(body=body) | ast.Try(body=body) | ast.With(body=body):
                yield from _imported(body)
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield module
                if "." not in module:
                    yield from (f"{module}.{alias.name}" for alias in names if alias.name.islower())


def _is_installed(name: str) -> bool:
    """Whether a module comes from the installation, and not from the notebook's folder."""
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        spec = PathFinder.find_spec(name)
        origin = spec.origin if spec is not None else None
    return isinstance(origin, str) and any(folder in origin for folder in _INSTALLED)
