"""A dot store with its causal context: together they are a lattice."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, Self, TypeVar

from kvs.causal.context import CausalContext
from kvs.causal.dot import Dot
from kvs.causal.dot_store import DotStore
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.declared import morphism
from kvs.lattices.errors import OutsideDomain

S = TypeVar("S", bound=DotStore)


class Causal(Lattice, Generic[S]):
    """What the types over a dot store share.

    `a <= b` says that `b` has seen all that `a` has, and removed all that `a` has removed of it. A delta is a value
    like any other: the writes that are new, in a context of them and of what they replace.
    """

    __slots__ = ("context", "store")
    store: S
    context: CausalContext

    def _set(self, store: S, context: CausalContext) -> None:
        """For constructors.

        Raises:
            OutsideDomain: the store holds a dot that is not in the context.
        """
        for dot in store.dots():
            if dot not in context:
                raise OutsideDomain(f"write {dot}", "is held and was not seen", "Put every dot held into the context.")
        set_field(self, "store", store)
        set_field(self, "context", context)

    def _made(self, store: S, context: CausalContext) -> Self:
        """A value of this type, of parts that are known to belong together."""
        made: Self = type(self).__new__(type(self))
        set_field(made, "store", store)
        set_field(made, "context", context)
        return made

    def _join(self, other: Self) -> Self:
        context = self.context.join(other.context)
        store = self.store.joined(self.context, other.store, other.context)
        for side in (self, other):
            if side.context == context and side.store == store:
                return side
        return self._made(store, context)

    def _leq(self, other: Self) -> bool:
        return self.context.leq(other.context) and not any(True for _ in other.store.lost(self.context, self.store))

    def difference(self, known: Self) -> Self:
        if type(known) is not type(self):
            raise self._mismatch(known)
        changed = CausalContext(known.store.lost(self.context, self.store))
        dots = self.context.difference(known.context).join(changed)
        return self._made(self.store.restricted(dots), dots)

    def atoms(self) -> Iterator[Self]:
        """One a write that was ever seen."""
        return (self._made(self.store.restricted(dot), dot) for dot in self.context.atoms())

    @morphism
    def seen(self) -> CausalContext:
        """The writes that were seen, whether they still hold or not."""
        return self.context

    def _key(self) -> Hashable:
        return (self.store, self.context)


def next_dots(context: CausalContext, replica: int, count: int) -> Iterator[Dot]:
    """The names of the next `count` writes of `replica`."""
    first = context.next_dot(replica)
    return (Dot(replica, first.counter + n) for n in range(count))
