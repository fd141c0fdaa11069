"""Lattices of one plain value: the largest seen, the smallest seen, and whether it ever happened.

Bottom of `Max` and `Min` is "nothing seen yet", held as None.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from kvs.lattices import domain
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, morphism, mutator
from kvs.lattices.errors import OutsideDomain

T = TypeVar("T", bound=domain.Scalar)


class _Extreme(Lattice, Generic[T]):
    """What the largest and the smallest share."""

    __slots__ = ("value",)
    value: T | None

    def __init__(self, value: T | None = None) -> None:
        set_field(self, "value", domain.checked(value, f"a value of {type(self).__name__}"))

    def body(self) -> Any:
        return self.value

    @classmethod
    def from_body(cls, body: Any) -> Any:
        return cls(body)

    def _key(self) -> Hashable:
        return domain.key(self.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.value is None else domain.shown(self.value)})"


@lattice_type("max")
class Max(_Extreme[T]):
    """The largest value seen: join is the larger, bottom is `Max()`.

    The order is that of `kvs.lattices.domain`: numbers by value, equal ones by type.

    Raises:
        OutsideDomain: the value is nan, or nothing plain.
    """

    __slots__ = ()

    def _join(self, other: Max[T]) -> Max[T]:
        return other if self._leq(other) else self

    def _leq(self, other: Max[T]) -> bool:
        return domain.at_most(self.value, other.value)

    @mutator
    def raise_to(self, value: T) -> Max[T]:
        """The delta of having seen `value`."""
        seen = Max(value)
        return Max() if seen._leq(self) else seen

    @morphism
    def at_least(self, threshold: T) -> bool:
        """Whether a value at or above `threshold` (which is not None) was seen."""
        return self.value is not None and domain.at_most(threshold, self.value)

    @monotone(order=domain.at_most)
    def read(self) -> T | None:
        """The largest value so far, None before the first."""
        return self.value


@lattice_type("min")
class Min(_Extreme[T]):
    """The smallest value seen: join is the smaller, order is "not smaller than", bottom is `Min()`.

    Raises:
        OutsideDomain: the value is nan, or nothing plain.
    """

    __slots__ = ()

    def _join(self, other: Min[T]) -> Min[T]:
        return other if self._leq(other) else self

    def _leq(self, other: Min[T]) -> bool:
        return self.value is None or (other.value is not None and domain.at_most(other.value, self.value))

    @mutator
    def lower_to(self, value: T) -> Min[T]:
        """The delta of having seen `value`."""
        seen = Min(value)
        return Min() if seen._leq(self) else seen

    @morphism
    def at_most(self, threshold: T) -> bool:
        """Whether a value at or below `threshold` (which is not None) was seen."""
        return self.value is not None and domain.at_most(self.value, threshold)


@lattice_type("bool_or")
class BoolOr(Lattice):
    """Whether it ever happened: join is "or", order is False below True, bottom is `BoolOr()`."""

    __slots__ = ("value",)
    value: bool

    def __init__(self, value: bool = False) -> None:
        if type(value) is not bool:
            raise OutsideDomain(domain.shown(value), "is no bool", "Use bool(...) of it.")
        set_field(self, "value", value)

    def _join(self, other: BoolOr) -> BoolOr:
        return other if other.value else self

    def _leq(self, other: BoolOr) -> bool:
        return other.value or not self.value

    @mutator
    def set(self) -> BoolOr:
        """The delta of its happening."""
        return BoolOr(not self.value)

    @morphism
    def happened(self) -> bool:
        return self.value

    def __bool__(self) -> bool:
        return self.value

    def body(self) -> Any:
        return self.value

    @classmethod
    def from_body(cls, body: Any) -> BoolOr:
        return cls(body)

    def _key(self) -> Hashable:
        return self.value

    def __repr__(self) -> str:
        return f"BoolOr({self.value})"
