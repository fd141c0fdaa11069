"""What a lattice type declares of its methods, for the kit to check and for an analysis to read.

A *monotone* function only grows when its value grows: its answer may be shown early, and a threshold on it, once
passed, stays passed. A *morphism* moreover distributes over join, so that it may be applied to deltas alone. A
*mutator* gives the delta of a write: `x | x.mutator(...)` is the value after it. Whatever is not declared (a mean, a
difference, "is empty") may go back on its answer, and needs a seal first.
Source: Conway et al., "Logic and Lattices for Distributed Programming", 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])
Order = Callable[[Any, Any], bool]


class Declaration(NamedTuple):
    """`order(a, b)` says that the answer `a` is not above `b`; None is the answers' own order."""

    kind: Literal["monotone", "morphism", "mutator"]
    order: Order | None = None


@overload
def monotone(function: F) -> F: ...
@overload
def monotone(*, order: Order) -> Callable[[F], F]: ...
def monotone(function: F | None = None, *, order: Order | None = None) -> F | Callable[[F], F]:
    """Declare that x <= y implies f(x) <= f(y), for every choice of the other arguments."""

    def declare(f: F) -> F:
        return _declare(f, Declaration("monotone", order))

    return declare if function is None else declare(function)


def morphism(function: F) -> F:
    """Declare that f(x | y) is f(x) | f(y) and that f(bottom) is bottom; bools join by "or", frozensets by union."""
    return _declare(function, Declaration("morphism"))


def mutator(function: F) -> F:
    """Declare that the result is a delta of the same type that holds nothing which the value has already."""
    return _declare(function, Declaration("mutator"))


def _declare(function: F, declaration: Declaration) -> F:
    function.__declaration__ = declaration  # type: ignore[attr-defined]
    return function


def declarations(cls: type) -> dict[str, Declaration]:
    """Every declared method and property of a class, its bases' included, by name."""
    found: dict[str, Declaration] = {}
    for base in reversed(cls.__mro__):
        for name, attribute in vars(base).items():
            function = attribute.fget if isinstance(attribute, property) else attribute
            declaration = getattr(function, "__declaration__", None)
            if isinstance(declaration, Declaration):
                found[name] = declaration
    return found
