"""What every lattice offers, and what its implementer owes.

A lattice is a set of values with a join: the smallest value that is at least as large as both. Replicas that hold the
same writes hold the same value, whatever order and however often the writes arrived, exactly because join is
associative, commutative and idempotent. Nothing here knows of stores, clocks or replicas.

Values are frozen by hand and not as dataclasses: a worker imports this on its way up, and a dataclass compiles source
each time that it is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Any, ClassVar, NoReturn, Self

from kvs.lattices import codec
from kvs.lattices.errors import LatticeMismatch

set_field = object.__setattr__
"""For constructors alone: a value changes no more once it is made."""


class Lattice(ABC):
    """A value that joins. `|` is join, `<=` its order, `==` means "the same lattice value".

    For the implementer:
    - Write `_join`, `body`, `from_body`, `__repr__`; `_key` if the body is dear; `atoms` where values split; and
      decorate the class with `@lattice_type("tag")`, so that its values can be stored.
    - Join is associative, commutative and idempotent for *every* pair of one type, equal clocks and equal ranks
      included. An order with ties is no total order: break each tie by something that differs.
    - Return one of the two sides where it is the result: callers may compare by identity first.
    - `_leq` says exactly what `_join(other) == other` says, only cheaper; without one, it is that.
    - Hold values of `domain.Scalar` and other lattices, checked where they come in, and compared by `domain.key`.
    - Declare what grows (`@monotone`, `@morphism`) and what makes deltas (`@mutator`).
    - `kvs.testing.check_lattice` is the contract.
    """

    __slots__ = ()
    tag: ClassVar[str]

    @classmethod
    def bottom(cls) -> Self:
        """The value below all others, which joins to nothing but the other side: how what nobody wrote reads."""
        return cls()

    def join(self, other: Self) -> Self:
        """The least upper bound of both; neither side changes.

        Raises:
            LatticeMismatch: `other` is of another type.
        """
        if type(other) is not type(self):
            raise self._mismatch(other)
        return self._join(other)

    def leq(self, other: Self) -> bool:
        """Whether joining this into `other` would change nothing.

        Raises:
            LatticeMismatch: `other` is of another type.
        """
        if type(other) is not type(self):
            raise self._mismatch(other)
        return self._leq(other)

    def difference(self, known: Self) -> Self:
        """The part of this that `known` lacks: the smallest delta with `known | delta == known | self`.

        Source: Enes et al., "Efficient Synchronization of State-based CRDTs", 2019 (optimal deltas).
        """
        if type(known) is not type(self):
            raise self._mismatch(known)
        delta = self.bottom()
        for atom in self.atoms():
            if not atom.leq(known):
                delta, known = delta.join(atom), known.join(atom)
        return delta

    def atoms(self) -> Iterator[Self]:
        """Parts that split no further and join to this value; none for bottom. One part, if the type has no finer."""
        if self != self.bottom():
            yield self

    @abstractmethod
    def _join(self, other: Self) -> Self:
        """`join`, of two values of one type."""

    def _leq(self, other: Self) -> bool:
        """`leq`, of two values of one type."""
        return self._join(other) == other

    @abstractmethod
    def body(self) -> Any:
        """The value as one plain value (`domain.Scalar`): equal values give the same."""

    @classmethod
    @abstractmethod
    def from_body(cls, body: Any) -> Self:
        """The value of a body. May raise any ValueError, TypeError or LookupError for one that is none."""

    def _key(self) -> Hashable:
        """What equality and hash go by."""
        return self.encode()

    def encode(self) -> bytes:
        """Canonical bytes, with the type and a version in front."""
        return codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The value of these bytes.

        Raises:
            LatticeMismatch: they hold another lattice.
            BadEncoding: they hold none, or one of a newer version.
        """
        value: Self = codec.decode(data, cls)
        return value

    def __or__(self, other: Self) -> Self:
        return self.join(other)

    def __le__(self, other: Self) -> bool:
        return self.leq(other)

    def __lt__(self, other: Self) -> bool:
        return self.leq(other) and self != other

    def __ge__(self, other: Self) -> bool:
        if type(other) is not type(self):
            raise self._mismatch(other)
        return other.leq(self)

    def __gt__(self, other: Self) -> bool:
        return self >= other and self != other

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and self._key() == other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    @abstractmethod
    def __repr__(self) -> str: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return (codec.decode, (self.encode(), type(self)))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} does not change. Join a delta into it, which makes a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def _mismatch(self, other: object, where: str = "") -> LatticeMismatch:
        return LatticeMismatch(type(self).__name__, type(other).__name__, where)
