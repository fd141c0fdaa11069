"""A set that elements may leave again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from kvs.causal.causal import Causal, next_dots
from kvs.causal.context import CausalContext, checked_dot
from kvs.causal.dot import Dot
from kvs.causal.dot_store import DotMap, DotSet
from kvs.lattices import domain
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import mutator
from kvs.lattices.errors import OutsideDomain

T = TypeVar("T", bound=domain.Scalar)


@lattice_type("add_wins_set")
class AddWinsSet(Causal[DotMap[DotSet]], Generic[T]):
    """A set with add and remove: an add wins over a removal that had not seen it. Bottom is empty and has seen nothing.

    A removal removes what its replica has seen, and leaves no tombstone. Elements are plain values (`1` and `True` are
    two). A replica has a number that no other has, and joins each delta that it makes before it makes the next.
    Membership is not monotone; what was ever seen (`seen`) is.
    Source: Bieniusa et al., "An optimized conflict-free replicated set", 2012 (ORSWOT).

    Raises:
        OutsideDomain: an element is nan or nothing plain, or is held under a dot that is not in the context, or that
            another element is held under.
    """

    __slots__ = ()

    def __init__(
        self,
        elements: Mapping[T, Iterable[tuple[int, int]]] | Iterable[tuple[T, Iterable[tuple[int, int]]]] = (),
        context: CausalContext | None = None,
    ) -> None:
        pairs = elements.items() if isinstance(elements, Mapping) else elements
        stores: dict[Any, DotSet] = {}
        owned: set[Dot] = set()
        for element, dots in pairs:
            identity = domain.ident(domain.checked(element, "an element"))
            held = frozenset(checked_dot(*dot) for dot in dots)
            if identity in stores or not owned.isdisjoint(held):
                raise OutsideDomain(f"{element!r}", "comes twice, or under another's write", "Give each its own dots.")
            owned |= held
            stores[identity] = DotSet(held)
        self._set(DotMap(stores, DotSet()), CausalContext() if context is None else context)

    @mutator
    def add(self, replica: int, *elements: T) -> AddWinsSet[T]:
        """The delta of `replica` adding `elements`; it replaces the adds of them that were seen."""
        distinct = {domain.ident(domain.checked(e, "an element")): e for e in elements}
        dots = list(next_dots(self.context, replica, len(distinct)))
        stores = {i: DotSet(frozenset([dot])) for i, dot in zip(distinct, dots, strict=True)}
        return self._made(DotMap(stores, DotSet()), CausalContext([*dots, *self._held(distinct)]))

    @mutator
    def remove(self, *elements: T) -> AddWinsSet[T]:
        """The delta of `elements` leaving; bottom for those that are not there."""
        idents = [domain.ident(domain.checked(e, "an element")) for e in elements]
        return self._made(DotMap({}, DotSet()), CausalContext(self._held(idents)))

    @mutator
    def clear(self) -> AddWinsSet[T]:
        """The delta of everything leaving that is there."""
        return self._made(DotMap({}, DotSet()), CausalContext(self.store.dots()))

    def _held(self, idents: Iterable[Any]) -> Iterator[Dot]:
        return (dot for identity in idents for dot in self.store.get(identity).dots())

    def __contains__(self, element: object) -> bool:
        return domain.ident(domain.checked(element, "an element")) in self.store

    def __iter__(self) -> Iterator[T]:
        """Elements in the order of `kvs.lattices.domain`."""
        return iter(sorted((domain.original(identity) for identity, _ in self.store.items()), key=domain.key))

    def __len__(self) -> int:
        return len(self.store)

    def body(self) -> Any:
        """(context, (element, (replica, counter, ...)), ...)"""
        rows = ((e, sorted(self.store.get(domain.ident(e)).dots())) for e in self)
        return (self.context.body(), *((e, tuple(n for dot in dots for n in dot)) for e, dots in rows))

    @classmethod
    def from_body(cls, body: Any) -> AddWinsSet[Any]:
        context, *rows = body
        elements = ((element, zip(flat[0::2], flat[1::2], strict=True)) for element, flat in rows)
        return cls(elements, CausalContext.from_body(context))

    def __repr__(self) -> str:
        return f"AddWinsSet([{', '.join(map(domain.shown, self))}], seen {self.context!r})"
