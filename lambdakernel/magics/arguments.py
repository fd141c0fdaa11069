"""IPython's magic arguments, with the types that it leaves out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any, TypeVar, cast

from IPython.core import magic as _untyped_magic
from IPython.core import magic_arguments as _untyped

F = TypeVar("F", bound=Callable[..., Any])
_ipython: Any = _untyped
_magic: Any = _untyped_magic


def magic_arguments() -> Callable[[F], F]:
    """Gives a magic its parser, and its docstring the arguments. Stands above the `argument`s."""
    return cast("Callable[[F], F]", _ipython.magic_arguments())


def argument(*names: str, **how: Any) -> Callable[[F], F]:
    """One argument, as `argparse` takes it."""
    return cast("Callable[[F], F]", _ipython.argument(*names, **how))


def parsed(magic: Any, line: str) -> Namespace:
    """The arguments in `line`.

    Raises:
        UsageError: they do not fit; says what does.
    """
    return cast("Namespace", _ipython.parse_argstring(magic, line))


def line_magic(function: F) -> F:
    """Marks a method as the line magic of its name; below `Magics`' `@magics_class`."""
    return cast("F", _magic.line_magic(function))
