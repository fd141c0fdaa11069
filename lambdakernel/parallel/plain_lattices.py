"""Joins into a lattice that is not live: in a task they would bind a new value there, and be lost with it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from typing import Any

from kvs.lattices import Lattice


def joins_that_stay(tree: ast.Module, own: Collection[str], live: Mapping[str, Any]) -> str:
    """What to say of the first `best |= delta` where `best` is a lattice of the notebook (`live`) and is none of the
    names that are the task's `own`; empty if there is none."""
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr) and isinstance(node.target, ast.Name)
        ):
            continue
        name = node.target.id
        value = live.get(name)
        if isinstance(value, Lattice) and name not in own:
            return (
                f"line {node.lineno} joins into {name}, a {type(value).__name__} that would stay in its task. Let tasks"
                f" share it: `from lambdakernel import Live` and `{name} = Live({name})` in a cell before."
            )
    return ""
