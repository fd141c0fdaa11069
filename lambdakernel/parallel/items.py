"""The items of a fan-out: what its loop and its grid give, and how each reads in headings and errors."""

from __future__ import annotations

import ast
import itertools
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.body import bind
from lambdakernel.parallel.header import Header

CHARACTERS = 60
"""Longest text that stands for a value in headings and errors."""


class CannotFanOut(LambdaKernelError):
    """The cell cannot run as tasks; nothing ran."""


def items_of(header: Header, live: dict[str, Any], load: Callable[[list[ast.stmt]], object]) -> Sequence[Any]:
    """One item for each task; each fits the header's target. Iterables are gone through once; `load` brings what
    their source reaches.

    Raises:
        CannotFanOut: `--each` names what cannot be gone through.
        Exception: what the user's own code raises.
    """
    if not header.target:
        return range(header.options.times or processors())
    loop: list[Any] = _value(header.items_source, live, load) if header.loop else []
    if not header.options.each:
        return loop
    grid = [_choices(name, _value(source, live, load)) for name, source in header.options.each]
    if header.loop:
        return list(itertools.product(loop, *grid))
    return grid[0] if len(grid) == 1 else list(itertools.product(*grid))


def _value(source: str, live: dict[str, Any], load: Callable[[list[ast.stmt]], object]) -> Any:
    tree = ast.parse(source, "<%%parallel>", "eval")
    load([ast.Expr(tree.body)])
    return eval(compile(tree, "<%%parallel>", "eval"), live)


def _choices(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise CannotFanOut(
            f"--each takes a list of values for each name, and {name} has {short(values)}. Write `{name}=[...]`."
            " Nothing ran."
        )
    return list(values)


def processors() -> int:
    """Those that we may use."""
    return len(os.sched_getaffinity(0))


def describer(header: Header, items: Sequence[Any]) -> Callable[[int], str]:
    """A function from a task's index to a short text for its item: `i=3`, `a=1, b='x'`."""

    def describe(index: int) -> str:
        if not header.target:
            return ""
        scope: dict[str, Any] = {}
        bind(scope, header.target, items[index])
        return ", ".join(f"{name}={short(scope[name])}" for name in header.bound)

    return describe


def short(value: Any) -> str:
    """A text of at most 60 characters for `value`; its class when its own `repr` fails."""
    shortener = reprlib.Repr()
    shortener.maxother = shortener.maxstring = shortener.maxlong = CHARACTERS
    try:
        text = shortener.repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 3] + "..."
