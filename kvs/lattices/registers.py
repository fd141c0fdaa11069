"""Registers: one value, replaced by later writes.

A register is a lattice only if any two writes are in order. A clock alone gives ties, and a join that breaks a tie by
which side it stands on makes replicas differ for ever; so the order here goes on to the replica and its counter, which
no two writes share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)  # no slots: with them `Last[int](...)` fails in Python 3.11
class Last(Generic[T]):
    """The latest write: join keeps the larger (clock, replica, counter), bottom is `Last()`.

    `clock` is a hybrid logical clock (`kvs.HybridClock`); (`replica`, `counter`) is the write's dot. The caller owes
    that one dot names one write: two values under one dot are a broken promise, which join refuses to hide.
    Source: Johnson and Thomas, "The maintenance of duplicate databases", RFC 677, 1975.
    """

    clock: int = -1
    replica: int = -1
    counter: int = 0
    value: T | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        return (self.clock, self.replica, self.counter)

    def join(self, other: Last[T]) -> Last[T]:
        """The later of both. O(1): values are compared only where the dots are the same.

        Raises:
            ValueError: two different values carry the same dot and clock.
        """
        if self.order == other.order and self.value is not other.value and self.value != other.value:
            raise ValueError(
                f"two different writes are named {self.replica}.{self.counter}: {self.value!r} and {other.value!r}."
                " Give each replica an id that no other has."
            )
        return self if other.order <= self.order else other

    def leq(self, other: Last[T]) -> bool:
        return self.order <= other.order
