"""A dot: the name of one write."""

from __future__ import annotations

from typing import NamedTuple


class Dot(NamedTuple):
    """The `counter`-th commit of `replica`. Counters of a replica are contiguous from 1.

    Source: Preguiça et al., "Dotted Version Vectors", 2010.
    """

    replica: int
    counter: int

    def __str__(self) -> str:
        return f"{self.replica}.{self.counter}"
