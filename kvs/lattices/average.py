"""A weighted mean that many replicas contribute to, of numbers or of whole models."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import fsum, isfinite
from typing import Any, NamedTuple

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import NotReadable, OutsideDomain
from kvs.lattices.sets import GrowSet

Numbers = float | tuple[float, ...]


class Part(NamedTuple):
    """What one replica has contributed by its `round`-th time: the weighted sum, and the weight in it."""

    round: int
    total: Numbers
    weight: float

    @property
    def order(self) -> domain.Key:
        """The later round is the larger; the rest decides only if a replica's name was used twice."""
        return (self.round, domain.key(self.total), self.weight)


@lattice_type("average")
class Average(Lattice):
    """Per replica its newest (sum, weight); the mean of all is sum over weight. Bottom holds nothing.

    A value is a float, or a tuple of floats of one length: the parameters of a model, one after the other. Every number
    is finite; integers are converted, which must be exact. `mean` adds up exactly (`math.fsum`), so that it is the same
    on every replica. It is *not* monotone: it moves with every contribution. Seal the contributors first
    (`kvs.lattices.Sealed`), or show it as provisional.
    Source: Shapiro et al., 2011 (single-writer entries); McMahan et al., 2017 (federated averaging).
    """

    __slots__ = ("_parts",)
    _parts: dict[Any, Part]

    def __init__(self, parts: Iterable[tuple[Any, Part | tuple[int, Numbers, float]]] = ()) -> None:
        made: dict[Any, Part] = {}
        for replica, part in parts:
            identity = domain.ident(domain.checked(replica, "a replica"))
            part = _checked(*part)
            made[identity] = max(part, made.get(identity, part), key=lambda p: p.order)
        set_field(self, "_parts", made)

    def _join(self, other: Average) -> Average:
        if self._leq(other):
            return other
        if other._leq(self):
            return self
        joined = dict(self._parts)
        for identity, part in other._parts.items():
            if identity not in joined or joined[identity].order < part.order:
                joined[identity] = part
        return _of_parts(joined)

    def _leq(self, other: Average) -> bool:
        return all(i in other._parts and p.order <= other._parts[i].order for i, p in self._parts.items())

    def difference(self, known: Average) -> Average:
        if type(known) is not Average:
            raise self._mismatch(known)
        theirs = known._parts
        return _of_parts({i: p for i, p in self._parts.items() if i not in theirs or theirs[i].order < p.order})

    def atoms(self) -> Iterator[Average]:
        return (_of_parts({i: p}) for i, p in self._parts.items())

    @mutator
    def add(self, replica: domain.Scalar, value: float | Sequence[float], weight: float = 1.0) -> Average:
        """The delta of `replica` contributing `value` with `weight`, on top of what it contributed before.

        Raises:
            OutsideDomain: a number is not finite, the weight is not positive, or the length differs from before.
        """
        weight = _weight(weight)
        scaled = _map(lambda v: v * weight, _numbers(value))
        before = self._parts.get(domain.ident(replica))
        if before is None:
            return Average([(replica, Part(1, scaled, weight))])
        if _length(before.total) != _length(scaled):
            why = f"does not add to {replica!r}'s, of {_shown_length(before.total)}"
            remedy = "Contribute one shape, or `replace` what was there."
            raise OutsideDomain(f"a contribution of {_shown_length(scaled)}", why, remedy)
        total = _map(sum, _columns([before.total, scaled]))
        return Average([(replica, Part(before.round + 1, total, before.weight + weight))])

    @mutator
    def replace(self, replica: domain.Scalar, value: float | Sequence[float], weight: float = 1.0) -> Average:
        """The delta of `replica` contributing `value` instead of all that it contributed before."""
        weight = _weight(weight)
        before = self._parts.get(domain.ident(replica))
        part = Part(before.round + 1 if before else 1, _map(lambda v: v * weight, _numbers(value)), weight)
        return Average([(replica, part)])

    def mean(self) -> Numbers:
        """The weighted mean of everything contributed; not monotone.

        Raises:
            NotReadable: there are no contributions, they differ in length, or their sum is beyond a float.
        """
        if not self._parts:
            raise NotReadable("nothing was contributed, so there is no mean. Ask `writers()` first.")
        totals = [part.total for part in self._parts.values()]
        if len(set(map(_length, totals))) > 1:
            said = ", ".join(f"{name!r} {_shown_length(part[1])}" for name, *part in self.body())
            raise NotReadable(f"the contributions differ in shape ({said}). Contribute one shape, then average.")
        try:
            weight = fsum(part.weight for part in self._parts.values())
            mean: Numbers = _map(lambda column: fsum(column) / weight, _columns(totals))
        except OverflowError as e:
            raise NotReadable("the contributions add up to more than a float holds. Scale them down.") from e
        return mean

    @morphism
    def writers(self) -> GrowSet[Any]:
        """Who has contributed."""
        return GrowSet(map(domain.original, self._parts))

    @monotone
    def rounds(self) -> int:
        """How many contributions were made."""
        return sum(part.round for part in self._parts.values())

    def body(self) -> Any:
        names = sorted(map(domain.original, self._parts), key=domain.key)
        return tuple((name, *self._parts[domain.ident(name)]) for name in names)

    @classmethod
    def from_body(cls, body: Any) -> Average:
        return cls((replica, Part(n, total, weight)) for replica, n, total, weight in body)

    def _key(self) -> Hashable:
        return frozenset((i, part.order) for i, part in self._parts.items())

    def __repr__(self) -> str:
        rows = (f"{domain.shown(name)} {total} / {weight}" for name, _, total, weight in self.body())
        return f"Average({', '.join(rows)})"


def _checked(n: Any, total: Any, weight: Any) -> Part:
    if type(n) is not int or n < 1:
        raise OutsideDomain(f"{n!r} as a round", "is no integer from 1", "Let `add` count the rounds.")
    return Part(n, _numbers(total), _weight(weight))


def _numbers(value: Any) -> Numbers:
    return _number(value) if type(value) in (float, int, bool) else tuple(map(_number, value))


def _number(value: Any) -> float:
    if type(value) is int:
        try:
            if float(value) == value:
                return float(value)
        except OverflowError:
            pass
    elif type(value) is float and isfinite(value):
        return value + 0.0  # -0.0 becomes 0.0: a sum cannot tell them apart
    remedy = "Leave it out, or convert it with float(...) (arrays: tuple(a.ravel().tolist()))."
    raise OutsideDomain(f"{domain.brief(value)} in an Average", "is no finite float", remedy)


def _weight(value: Any) -> float:
    weight = _number(value)
    if weight <= 0.0:
        raise OutsideDomain(f"{value!r} as a weight", "is not positive", "Leave the contribution out.")
    return weight


def _map(function: Any, value: Any) -> Any:
    """Of a number or a column of them; of each entry of a tuple of those."""
    return tuple(map(function, value)) if type(value) is tuple else function(value)


def _length(total: Numbers) -> int | None:
    return len(total) if isinstance(total, tuple) else None


def _shown_length(total: Numbers) -> str:
    return f"{len(total)} numbers" if isinstance(total, tuple) else "one number"


def _columns(totals: list[Numbers]) -> Any:
    """Column by column: a list of numbers, or a tuple of such lists."""
    if not isinstance(totals[0], tuple):
        return totals
    return tuple(map(list, zip(*totals, strict=True)))


def _of_parts(parts: dict[Any, Part]) -> Average:
    made: Average = Average.__new__(Average)
    set_field(made, "_parts", parts)
    return made
