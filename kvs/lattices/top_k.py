"""The best few of everything that was scored."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, mutator
from kvs.lattices.errors import OutsideDomain

T = TypeVar("T", bound=domain.Scalar)


@lattice_type("top_k")
class TopK(Lattice, Generic[T]):
    """The `k` items of the highest scores, each item with its best; ties go to the larger item.

    Join keeps the best `k` of both sides: what was dropped once would be dropped again, since the items above it only
    rise. Where sides differ in `k` the smaller holds. Bottom is `TopK()`: nothing scored, and no limit yet (k is None).
    Scores and items are plain values in the order of `kvs.lattices.domain`. Join costs O(k log k).

    Raises:
        OutsideDomain: k is no integer from 1, or an item or score is nan or nothing plain.
    """

    __slots__ = ("_scores", "k")
    k: int | None
    _scores: dict[Any, Any]

    def __init__(self, k: int | None = None, entries: Iterable[tuple[T, domain.Scalar]] = ()) -> None:
        if k is not None and (type(k) is not int or k < 1):
            raise OutsideDomain(f"k={k!r}", "is no integer from 1", "Say how many of the best to keep.")
        best: dict[Any, Any] = {}
        for item, score in entries:
            identity, score = domain.ident(domain.checked(item, "an item")), domain.checked(score, "a score")
            if identity not in best or domain.at_most(best[identity], score):
                best[identity] = score
        set_field(self, "k", k)
        set_field(self, "_scores", _truncated(k, best))

    def _join(self, other: TopK[T]) -> TopK[T]:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        best = dict(self._scores)
        for identity, score in other._scores.items():
            if identity not in best or domain.at_most(best[identity], score):
                best[identity] = score
        k = min((k for k in (self.k, other.k) if k is not None), default=None)
        return _of_scores(k, _truncated(k, best))

    def _leq(self, other: TopK[T]) -> bool:
        if other.k is not None and self.k is not None and other.k > self.k:
            return False
        if other.k is None and self.k is not None:
            return False
        full = other.k is not None and len(other._scores) == other.k
        floor = min(map(_rank, other._scores.items())) if full else None
        return all(
            (identity in other._scores and domain.at_most(score, other._scores[identity]))
            or (floor is not None and identity not in other._scores and _rank((identity, score)) < floor)
            for identity, score in self._scores.items()
        )

    def atoms(self) -> Iterator[TopK[T]]:
        if self.k is not None:
            yield _of_scores(self.k, {})
        yield from (_of_scores(None, {identity: score}) for identity, score in self._scores.items())

    @mutator
    def add(self, item: T, score: domain.Scalar) -> TopK[T]:
        """The delta of `item` having been scored."""
        return TopK(None, [(item, score)]).difference(self)

    @monotone(order=lambda a, b: a is None or (b is not None and domain.at_most((a[1], a[0]), (b[1], b[0]))))
    def best(self) -> tuple[T, Any] | None:
        """The first item and its score, None before there is one."""
        return next(iter(self), None)

    @monotone(order=lambda a, b: a is None or (b is not None and domain.at_most(a[0], b[0])))
    def floor(self) -> tuple[Any] | None:
        """(the score below which nothing comes in any more,), None while there is room."""
        ranked = list(self)
        return None if self.k is None or len(ranked) < self.k else (ranked[-1][1],)

    def __iter__(self) -> Iterator[tuple[T, Any]]:
        """Items with their scores, the best first."""
        ranked = sorted(self._scores.items(), key=_rank, reverse=True)
        return ((domain.original(identity), score) for identity, score in ranked)

    def __len__(self) -> int:
        return len(self._scores)

    def body(self) -> Any:
        return (self.k, *(entry for pair in self for entry in pair))

    @classmethod
    def from_body(cls, body: Any) -> TopK[Any]:
        return cls(body[0], zip(body[1::2], body[2::2], strict=True))

    def _key(self) -> Hashable:
        return (self.k, frozenset(map(_rank, self._scores.items())))

    def __repr__(self) -> str:
        entries = ", ".join(f"{domain.shown(item)}: {domain.shown(score)}" for item, score in self)
        return f"TopK({'' if self.k is None else self.k}{', ' * (self.k is not None and bool(entries))}{entries})"


def _rank(entry: tuple[Any, Any]) -> domain.Key:
    identity, score = entry
    return (domain.key(score), domain.key(domain.original(identity)))


def _truncated(k: int | None, scores: dict[Any, Any]) -> dict[Any, Any]:
    if k is None or len(scores) <= k:
        return scores
    return dict(sorted(scores.items(), key=_rank, reverse=True)[:k])


def _of_scores(k: int | None, scores: dict[Any, Any]) -> TopK[Any]:
    made: TopK[Any] = TopK.__new__(TopK)
    set_field(made, "k", k)
    set_field(made, "_scores", scores)
    return made
