"""A version vector: for each replica, how many of its commits are known, with no gap below.

It is a lattice: join is the larger count per replica, order is "knows no more than", bottom knows nothing. Since a
replica's commits are contiguous, a plain vector is a whole causal context: no dots beyond gaps can occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvs.causal.dot import Dot


class VersionVector:
    """Immutable and hashable; replicas with count 0 are not kept, so equal knowledge is equal bytes."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        self._counts: dict[int, int] = {r: c for r, c in sorted(counts) if c > 0}

    def __getitem__(self, replica: int) -> int:
        return self._counts.get(replica, 0)

    def __contains__(self, dot: object) -> bool:
        return isinstance(dot, Dot) and self._counts.get(dot.replica, 0) >= dot.counter

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._counts.items())

    def join(self, other: VersionVector) -> VersionVector:
        merged = dict(self._counts)
        for replica, count in other:
            merged[replica] = max(count, merged.get(replica, 0))
        return VersionVector(merged.items())

    def advanced(self, dot: Dot) -> VersionVector:
        """With `dot` and everything before it of its replica known too."""
        return self.join(VersionVector([(dot.replica, dot.counter)]))

    def leq(self, other: VersionVector) -> bool:
        return all(count <= other[replica] for replica, count in self)

    def to_bytes(self) -> bytes:
        """Canonical: equal vectors have equal bytes."""
        return b"".join(r.to_bytes(4, "big") + c.to_bytes(8, "big") for r, c in self._counts.items())

    @classmethod
    def from_bytes(cls, data: bytes) -> VersionVector:
        """The vector that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no whole number of entries.
        """
        if len(data) % 12:
            raise ValueError("not a version vector")
        pairs = (data[i : i + 12] for i in range(0, len(data), 12))
        return cls((int.from_bytes(p[:4], "big"), int.from_bytes(p[4:], "big")) for p in pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._counts == other._counts

    def __hash__(self) -> int:
        return hash(tuple(self._counts.items()))

    def __repr__(self) -> str:
        return f"VersionVector({', '.join(f'{r}:{c}' for r, c in self)})"
