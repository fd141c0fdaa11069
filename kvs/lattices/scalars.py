"""Lattices of one plain value: the largest seen, the smallest seen, and whether it ever happened.

Bottom of `Max` and `Min` is "nothing seen yet", held as None, so that it is below every value of every ordered type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)  # no slots: with them `Max[int](...)` fails in Python 3.11
class Max(Generic[T]):
    """The largest value seen: join is the larger, order is `<=`, bottom is `Max()`.

    All values of one lattice must be of one type with a total order.

    Raises:
        ValueError: the value is in no order with itself, as `nan` is.
    """

    value: T | None = None

    def __post_init__(self) -> None:
        _check_ordered(self.value)

    def join(self, other: Max[T]) -> Max[T]:
        """The side with the larger value. O(one comparison).

        Raises:
            TypeError: the values are of different types.
        """
        return other if self.leq(other) else self

    def leq(self, other: Max[T]) -> bool:
        return self.value is None or (other.value is not None and _at_most(self.value, other.value))


@dataclass(frozen=True)  # no slots: with them `Min[int](...)` fails in Python 3.11
class Min(Generic[T]):
    """The smallest value seen: join is the smaller, order is `>=`, bottom is `Min()`.

    All values of one lattice must be of one type with a total order.

    Raises:
        ValueError: the value is in no order with itself, as `nan` is.
    """

    value: T | None = None

    def __post_init__(self) -> None:
        _check_ordered(self.value)

    def join(self, other: Min[T]) -> Min[T]:
        """The side with the smaller value. O(one comparison).

        Raises:
            TypeError: the values are of different types.
        """
        return other if self.leq(other) else self

    def leq(self, other: Min[T]) -> bool:
        return self.value is None or (other.value is not None and _at_most(other.value, self.value))


@dataclass(frozen=True, slots=True)
class BoolOr:
    """Whether it ever happened: join is "or", order is False below True, bottom is `BoolOr()`."""

    value: bool = False

    def join(self, other: BoolOr) -> BoolOr:
        return other if self.leq(other) else self

    def leq(self, other: BoolOr) -> bool:
        return other.value or not self.value


def _check_ordered(value: object) -> None:
    if value is not None and value != value:
        raise ValueError(f"{value!r} is in no order, not even with itself. Leave it out, or use a value that compares.")


def _at_most(a: Any, b: Any) -> bool:
    """`a <= b`, for values of one type.

    Mixed types are refused: `1`, `1.0` and `True` are equal and differ, so a join would depend on its side. For that
    reason too the zeros of floats, which are equal, are ordered by their sign.
    """
    if type(a) is not type(b):
        raise TypeError(
            f"{a!r} ({type(a).__name__}) and {b!r} ({type(b).__name__}) are of different types and do not join."
            " Convert one of them before you write it."
        )
    if isinstance(a, float) and a == b == 0.0:
        return _sign(a) <= _sign(b)
    return bool(a <= b)


def _sign(zero: float) -> int:
    return -1 if str(zero).startswith("-") else 1
