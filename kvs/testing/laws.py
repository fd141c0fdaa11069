"""The laws of a lattice, over three values: what `check_lattice` asks of every example.

Each function yields pairs: a sentence that names what is broken, and whether it holds. Nothing here needs hypothesis,
so that a program may check the values that it has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import islice, permutations
from typing import Any, Protocol, Self

from kvs.lattices.base import Lattice

Law = tuple[str, bool]
Same = Callable[[Any, Any], bool]


class LawBroken(AssertionError):
    """A law does not hold; the text says which, with the values."""


class Joins(Protocol):
    """The least that can be checked: a type of somebody else's that joins."""

    def join(self, other: Self) -> Self: ...

    def leq(self, other: Self) -> bool: ...


def check_laws(a: Joins, b: Joins, c: Joins, *, bottom: Joins, same: Same | None = None) -> None:
    """Return if every law of joining holds for these values and `bottom`, and none of them changed.

    `same` says when two values are one; by default when they are equal and print alike, which tells `1` from `True`.

    Raises:
        LawBroken: one does not, or a method raised.
    """
    values = (a, b, c, bottom)
    name = type(a).__name__
    kept = copy.deepcopy(values)
    said = "\n".join(f" {n} = {v!r}" for n, v in zip(("a", "b", "c", "bottom"), kept, strict=True))
    if not all(map(printed_alike, values, kept)):
        raise LawBroken(f"{name}: a copy of a value is another one\n are {values!r}\n copies {kept!r}")
    require(joining(a, b, c, bottom, same or printed_alike), name, said)
    if not all(map(printed_alike, values, kept)):
        raise LawBroken(f"{name}: join changed one of its sides\n were {kept!r}\n are {values!r}")


def require(laws: Iterator[Law], name: str, said: str) -> None:
    """Raise for the first that does not hold."""
    try:
        for law, holds in laws:
            if not holds:
                raise LawBroken(f"{name}: {law}\n{said}")
    except LawBroken:
        raise
    except Exception as e:
        raise LawBroken(f"{name}: a law could not be checked, since {type(e).__name__} was raised: {e}\n{said}") from e


def joining(a: Joins, b: Joins, c: Joins, bottom: Joins, same: Same) -> Iterator[Law]:
    """The axioms of a join with a bottom, and of the order that it gives."""
    values = (a, b, c, bottom)
    for x in values:
        yield f"join is not idempotent at {x!r}", same(x.join(x), x)
        yield f"bottom is not the identity at {x!r}", same(bottom.join(x), x) and same(x.join(bottom), x)
        yield f"leq is not reflexive at {x!r}", x.leq(x)
        yield f"bottom is not below {x!r}", bottom.leq(x)
        yield f"{x!r} has no stable hash", hash(x) == hash(copy.deepcopy(x)) and x == copy.deepcopy(x)
        yield f"repr says nothing of {type(x)}", bool(repr(x))
    for x, y in permutations(values, 2):
        yield from _of_two(x, y, same)
    for x, y, z in permutations((a, b, c)):
        yield f"join is not associative at {x!r}, {y!r}, {z!r}", same(x.join(y).join(z), x.join(y.join(z)))
        yield f"leq is not transitive at {x!r}, {y!r}, {z!r}", x.leq(z) or not (x.leq(y) and y.leq(z))
        yield f"join is not least at {x!r}, {y!r}, {z!r}", x.join(y).leq(z) or not (x.leq(z) and y.leq(z))


def _of_two(x: Joins, y: Joins, same: Same) -> Iterator[Law]:
    joined = x.join(y)
    yield f"join is not commutative at {x!r}, {y!r}", same(joined, y.join(x))
    yield f"equal joins hash differently at {x!r}, {y!r}", hash(joined) == hash(y.join(x))
    yield f"equal values hash differently at {x!r}, {y!r}", x != y or hash(x) == hash(y)
    yield f"== says less than the values at {x!r}, {y!r}", (x == y) == same(x, y)
    yield f"join is not above both sides at {x!r}, {y!r}", x.leq(joined) and y.leq(joined)
    yield f"leq does not say what join says at {x!r}, {y!r}", x.leq(y) == same(joined, y)
    yield f"leq is not antisymmetric at {x!r}, {y!r}", same(x, y) or not (x.leq(y) and y.leq(x))


def operators(x: Lattice, y: Lattice) -> Iterator[Law]:
    """The operators say what the methods say."""
    yield f"| is not join at {x!r}, {y!r}", (x | y) == x.join(y)
    yield f"<= is not leq at {x!r}, {y!r}", (x <= y) == x.leq(y) == (y >= x)
    yield f"< is not strict at {x!r}, {y!r}", (x < y) == (x.leq(y) and x != y) == (y > x)


def deltas(x: Lattice, known: Lattice, same: Same) -> Iterator[Law]:
    """What is sent in place of a value is enough, and no more than enough."""
    delta, joined = x.difference(known), x.join(known)
    at = f"at {x!r} for one who knows {known!r}: {delta!r}"
    yield f"difference is not enough {at}", same(known.join(delta), joined)
    yield f"difference is of another value {at}", delta.leq(joined)
    yield f"difference holds what is known {at}", same(delta.difference(known), delta)
    for atom in islice(delta.atoms(), 50):
        yield f"difference holds what is known {at}", not atom.leq(known)
    yield f"difference is not bottom exactly where nothing is new {at}", same(delta, x.bottom()) == x.leq(known)


def splitting(x: Lattice, same: Same) -> Iterator[Law]:
    """Atoms join to their value, none is needless, and none splits again."""
    atoms = list(x.atoms())
    whole = x.bottom()
    for atom in atoms:
        whole = whole.join(atom)
        yield f"an atom of {x!r} splits again: {atom!r}", list(atom.atoms()) == [atom]
        yield f"an atom of {x!r} is bottom", not same(atom, x.bottom())
    yield f"the atoms of {x!r} join to {whole!r}", same(whole, x)
    for n, atom in enumerate(atoms[:4]):
        rest = x.bottom()
        for other in (*atoms[:n], *atoms[n + 1 :]):
            rest = rest.join(other)
        yield f"an atom of {x!r} is in the others: {atom!r}", not atom.leq(rest)


def printed_alike(x: Any, y: Any) -> bool:
    """Equal, and printed with the same characters: `==` alone calls 1, 1.0 and True one value.

    The characters are sorted, since equal sets and maps may print their elements in different orders.
    """
    return x == y and sorted(repr(x)) == sorted(repr(y))


def encoded_alike(x: Any, y: Any) -> bool:
    """Equal, and equal in bytes, of two lattices of ours."""
    return bool(x == y) and x.encode() == y.encode()
