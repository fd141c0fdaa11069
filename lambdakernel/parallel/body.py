"""Runs the body of a `%%parallel` cell once, in a module's dict, and gives what is to be collected."""

from __future__ import annotations

import ast
import asyncio
import inspect
from types import CodeType
from typing import Any

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.analysis import Collect, LastValue

_ITEM = "__lambdakernel_item__"


class NotAssigned(LambdaKernelError):
    """A name after `->` has no value at the end of this task."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} has no value at the end of this task, so there is nothing to collect. Assign it on every path"
            " through the body."
        )


def bind(live: dict[str, Any], target: str, item: Any) -> None:
    """Assign `item` to `target` (source, as in a header) in `live`."""
    if target.isidentifier():
        live[target] = item
        return
    live[_ITEM] = item
    try:
        exec(compile(f"{target} = {_ITEM}", "<%%parallel>", "exec"), live)
    finally:
        del live[_ITEM]


def run_body(tree: ast.Module, filename: str, live: dict[str, Any]) -> Any:
    """Run `tree` in `live`; the value of its last expression, or None. `await` is allowed at its top level.

    Raises whatever the body raises.
    """
    statements, last = list(tree.body), None
    if statements and isinstance(expression := statements[-1], ast.Expr):
        last = ast.Expression(expression.value)
        del statements[-1]
    runner = asyncio.Runner()  # makes its loop when something is awaited; `with` would make one at once
    try:
        _run(_compiled(ast.Module(statements, []), filename, "exec"), live, runner)
        return None if last is None else _run(_compiled(last, filename, "eval"), live, runner)
    finally:
        runner.close()


def _compiled(tree: ast.Module | ast.Expression, filename: str, mode: str) -> CodeType:
    code: CodeType = compile(tree, filename, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


def _run(code: CodeType, live: dict[str, Any], runner: asyncio.Runner) -> Any:
    value = eval(code, live)
    return runner.run(value) if code.co_flags & inspect.CO_COROUTINE else value


def collected(collects: tuple[Collect, ...], live: dict[str, Any], last: Any) -> tuple[Any, ...]:
    """The values to send back, in the order of `collects`.

    Raises:
        NotAssigned: the body went past the assignment of one.
    """
    values = []
    for collect in collects:
        if isinstance(collect, LastValue):
            values.append(last)
        elif collect.name in live:
            values.append(live[collect.name])
        else:
            raise NotAssigned(collect.name)
    return tuple(values)


def assigned(names: tuple[str, ...], live: dict[str, Any]) -> dict[str, Any]:
    """Those of `names` that have a value, with it."""
    return {name: live[name] for name in names if name in live}
