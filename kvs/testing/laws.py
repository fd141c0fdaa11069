"""The laws of a lattice, as one call.

Call it from a property test, with three arbitrary values of the type. Draw them from a *small* range, so that ties,
equal keys and equal clocks are common: that is where lattices are wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

from kvs.lattices.base import Lattice

L = TypeVar("L", bound=Lattice)


class LawBroken(AssertionError):
    """A law does not hold; the text says which, with the values."""


def check_lattice(a: L, b: L, c: L, *, bottom: L, same: Callable[[L, L], bool] | None = None) -> None:
    """Return if every law holds for these values, each permutation of them, and `bottom`.

    `same` says when two values are one; by default when they are equal and print alike, which tells `1` from `True`.

    Raises:
        LawBroken: one does not.
    """
    same = same or _same
    kept = [copy.deepcopy(value) for value in (a, b, c, bottom)]
    for law, holds in _laws(a, b, c, bottom, same):
        if not holds:
            raise LawBroken(f"{type(a).__name__}: {law}\n a = {a!r}\n b = {b!r}\n c = {c!r}\n bottom = {bottom!r}")
    if not all(same(now, before) for now, before in zip((a, b, c, bottom), kept, strict=True)):
        raise LawBroken(
            f"{type(a).__name__}: join changed one of its sides\n were {kept!r}\n are {[a, b, c, bottom]!r}"
        )


def _laws(a: L, b: L, c: L, bottom: L, same: Callable[[L, L], bool]) -> Iterator[tuple[str, bool]]:
    values = (a, b, c, bottom)
    for x in values:
        yield f"join is not idempotent at {x!r}", same(x.join(x), x)
        yield f"bottom is not the identity at {x!r}", same(bottom.join(x), x) and same(x.join(bottom), x)
        yield f"leq is not reflexive at {x!r}", x.leq(x)
        yield f"bottom is not below {x!r}", bottom.leq(x)
        yield f"{x!r} has no stable hash", hash(x) == hash(copy.deepcopy(x))
    for x, y in ((x, y) for x in values for y in values):
        yield from _laws_of_pairs(x, y, same)
    for x, y, z in ((x, y, z) for x in values for y in values for z in values):
        yield f"join is not associative at {x!r}, {y!r}, {z!r}", same(x.join(y).join(z), x.join(y.join(z)))
        yield f"leq is not transitive at {x!r}, {y!r}, {z!r}", x.leq(z) or not (x.leq(y) and y.leq(z))
        yield f"join is not least at {x!r}, {y!r}, {z!r}", x.join(y).leq(z) or not (x.leq(z) and y.leq(z))


def _laws_of_pairs(x: L, y: L, same: Callable[[L, L], bool]) -> Iterator[tuple[str, bool]]:
    joined = x.join(y)
    yield f"join is not commutative at {x!r}, {y!r}", same(joined, y.join(x))
    yield f"equal joins hash differently at {x!r}, {y!r}", hash(joined) == hash(y.join(x))
    yield f"join is not above both sides at {x!r}, {y!r}", x.leq(joined) and y.leq(joined)
    yield f"leq does not say what join says at {x!r}, {y!r}", x.leq(y) == same(joined, y)
    yield f"leq is not antisymmetric at {x!r}, {y!r}", same(x, y) or not (x.leq(y) and y.leq(x))


def _same(x: L, y: L) -> bool:
    """Equal, and printed with the same characters: `==` alone calls 1, 1.0 and True one value.

    The characters are sorted, since equal sets and maps may print their elements in different orders.
    """
    return x == y and sorted(repr(x)) == sorted(repr(y))
