"""What every lattice offers, and what its implementer owes.

A lattice is a set of values with a join: the smallest value that is at least as large as both. Replicas that hold the
same writes hold the same value, whatever order and however often the writes arrived, exactly because join is
associative, commutative and idempotent. Nothing here knows of stores, clocks or replicas.
"""

from __future__ import annotations

from typing import Protocol, Self


class Lattice(Protocol):
    """A value that joins.

    For the implementer:
    - A value is frozen and hashable; `join` returns a value and changes neither side. Return one of the two sides where
      it is the result, since callers may compare by identity first.
    - Join is associative, commutative and idempotent for *every* pair of one type, equal clocks and equal ranks
      included. An order with ties is no total order: break each tie by something that differs.
    - `a.leq(b)` says exactly what `a.join(b) == b` says, only cheaper.
    - `==` means "the same lattice value": two values that are each `leq` the other are equal, and have equal hashes.
      Beware of numbers that are equal and differ (`1`, `1.0` and `True`; `0.0` and `-0.0`), and of `nan`, which is in
      no order at all: refuse it where the value is made.
    - Each type has a bottom, which joins to nothing but the other side. It is how a value that nobody wrote yet reads.
    - `kvs.testing.check_lattice` is the contract: call it from a property test over arbitrary values of the type.
    """

    def join(self, other: Self) -> Self:
        """The least upper bound of both."""
        ...

    def leq(self, other: Self) -> bool:
        """Whether joining this into `other` would change nothing."""
        ...
