"""A multi-value register: the writes of one key that no other write of it has seen.

Join keeps every write that neither side knows to be superseded. The values form an antichain under "was seen by", so
that join is associative, commutative and idempotent whatever the order of arrival; a deletion is a write like any
other, with nothing in it.
`MultiValue` is the lattice: writes, and the context of all that was seen. `Sibling` and `surviving` are what a store
needs that keeps its writes in rows, each with the whole vector of its writer: then the context of the whole is theirs.
Source: Shapiro et al., "A comprehensive study of convergent and commutative replicated data types", 2011 (MV-Register);
Preguiça et al., "Dotted Version Vectors", 2010.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from kvs.causal.causal import Causal
from kvs.causal.context import CausalContext, checked_dot
from kvs.causal.dot import Dot
from kvs.causal.dot_store import DotFun
from kvs.causal.version_vector import VersionVector
from kvs.lattices import domain
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import mutator
from kvs.lattices.errors import NotReadable, OutsideDomain

T = TypeVar("T")


class Sibling(NamedTuple, Generic[T]):
    """One write: its name, what its writer had seen, its time for breaking ties, and what it wrote."""

    dot: Dot
    context: VersionVector
    hlc: int
    value: T

    @property
    def order(self) -> tuple[int, int, int]:
        """A total order: no two writes are equal in it."""
        return (self.hlc, self.dot.replica, self.dot.counter)


def surviving(writes: Iterable[Sibling[T]]) -> tuple[Sibling[T], ...]:
    """The writes that no other of them has seen, newest first; duplicates count once. O(n²) in concurrent writes.

    Right for writes whose contexts are closed: who saw a write saw what its writer had seen. A replica's vector is.
    """
    distinct = {write.dot: write for write in writes}
    alive = [w for w in distinct.values() if not any(w.dot in o.context for o in distinct.values() if o is not w)]
    return tuple(sorted(alive, key=lambda w: w.order, reverse=True))


def with_write(known: tuple[Sibling[T], ...], write: Sibling[T]) -> tuple[Sibling[T], ...]:
    """`surviving` of `known`, which survived before, and one write more. O(n)."""
    dot, context, hlc, _ = write
    (replica, counter), seen = dot, context._counts.get
    left = []
    for w in known:
        (other, count), known_to_it, _, _ = w
        if count > seen(other, 0):
            if counter <= known_to_it._counts.get(replica, 0) or w[0] == dot:
                return surviving((*known, write))
            left.append(w)
    if not left or hlc > left[0][2] or write.order > left[0].order:
        return (write, *left)
    return tuple(sorted((*left, write), key=lambda w: w.order, reverse=True))


class Write(NamedTuple):
    """One write that holds: its name, its time for breaking ties, and what it wrote."""

    dot: Dot
    hlc: int
    value: Any


@lattice_type("multi_value")
class MultiValue(Causal[DotFun[tuple[int, Any]]]):
    """The concurrent writes of one variable, the deterministic winner first. Bottom has none and has seen nothing.

    A value is plain (`domain.Scalar`); `hlc` is a hybrid logical clock (`kvs.HybridClock`) and picks the winner alone:
    it never removes a write. A replica has a number that no other has, and joins each delta before it makes the next.

    Raises:
        OutsideDomain: a value is nan or nothing plain, or is held under a dot that is not in the context.
    """

    __slots__ = ()

    def __init__(
        self,
        writes: Mapping[tuple[int, int], tuple[int, Any]] | Iterable[tuple[int, int, int, Any]] = (),
        context: CausalContext | None = None,
    ) -> None:
        rows = ((*dot, *held) for dot, held in writes.items()) if isinstance(writes, Mapping) else writes
        values: dict[Dot, tuple[int, Any]] = {}
        for replica, counter, hlc, value in rows:
            if type(hlc) is not int or hlc < 0:
                raise OutsideDomain(f"{hlc!r} as a clock", "is no integer from 0", "Take it from a HybridClock.")
            dot, held = checked_dot(replica, counter), (hlc, domain.ident(domain.checked(value, "a value")))
            values[dot] = _larger(values[dot], held) if dot in values else held
        self._set(DotFun(values, _larger), CausalContext() if context is None else context)

    @classmethod
    def of_siblings(cls, siblings: Iterable[Sibling[Any]]) -> MultiValue:
        """What a store's rows of one key amount to."""
        context = CausalContext()
        rows = list(siblings)
        for s in rows:
            context = context.join(CausalContext.of_vector(s.context)).join(CausalContext([s.dot]))
        return cls(((*s.dot, s.hlc, s.value) for s in surviving(rows)), context)

    @mutator
    def write(self, replica: int, hlc: int, value: domain.Scalar) -> MultiValue:
        """The delta of `replica` writing `value` over all that was seen here."""
        dot = self.context.next_dot(replica)
        return MultiValue([(*dot, hlc, value)], CausalContext([dot, *self.store.dots()]))

    @mutator
    def clear(self) -> MultiValue:
        """The delta of taking back all that was seen here."""
        return MultiValue((), CausalContext(self.store.dots()))

    @property
    def writes(self) -> tuple[Write, ...]:
        """The writes that hold, the winner first."""
        held = (Write(dot, hlc, domain.original(identity)) for dot, (hlc, identity) in self.store.items())
        return tuple(sorted(held, key=lambda w: (w.hlc, w.dot), reverse=True))

    @property
    def value(self) -> Any:
        """What the winner wrote; the same on every replica that has seen the same.

        Raises:
            NotReadable: nothing holds.
        """
        if not self.store:
            raise NotReadable("nothing is written here, or it was taken back. Ask `len()` first.")
        return self.writes[0].value

    def __iter__(self) -> Iterator[Any]:
        """The values that hold, the winner's first."""
        return (write.value for write in self.writes)

    def __len__(self) -> int:
        return len(self.writes)

    def body(self) -> Any:
        """(context, (replica, counter, hlc, value), ...)"""
        rows = sorted(self.writes, key=lambda w: w.dot)
        return (self.context.body(), *((*w.dot, w.hlc, w.value) for w in rows))

    @classmethod
    def from_body(cls, body: Any) -> MultiValue:
        context, *rows = body
        return cls(rows, CausalContext.from_body(context))

    def __repr__(self) -> str:
        shown = (f"{domain.shown(w.value)} by {w.dot} at {w.hlc}" for w in self.writes)
        return f"MultiValue({'; '.join((*shown, f'seen {self.context!r}'))})"


def _larger(a: tuple[int, Any], b: tuple[int, Any]) -> tuple[int, Any]:
    """Of two values under one dot, which a replica that keeps its promises never writes."""
    return max(a, b, key=lambda held: (held[0], domain.key(domain.original(held[1]))))
