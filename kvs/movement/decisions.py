"""What the policy may decide: a closed union, to be taken apart with `match`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kvs.movement.samples import Key


@dataclass(frozen=True, slots=True)
class Promote:
    """Copy from `source` to the faster `to`; `source` keeps it."""

    key: Key
    source: str
    to: str


@dataclass(frozen=True, slots=True)
class Demote:
    """Copy from `source` to the colder `to`, then delete from `source`."""

    key: Key
    source: str
    to: str


@dataclass(frozen=True, slots=True)
class Copy:
    """Have this many copies in `tier`, each on a shard of its own."""

    key: Key
    tier: str
    copies: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Delete from `tier`; a colder one holds the same bytes."""

    key: Key
    tier: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Have this many shards, and room for this many copies of one key."""

    tier: str
    shards: int
    copies: int
    why: str


Move = Promote | Demote | Drop | Copy
Decision = Move | Scale


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in the order to carry them out: no budget is passed midway.

    `standings`: by tier, (bid, key) of what it holds then, lowest first, pinned keys left out. Until the next plan it
    says who has to leave for a newcomer (`displaced`).
    """

    moves: tuple[Move, ...]
    standings: Mapping[str, tuple[tuple[float, Key], ...]] = field(default_factory=lambda: MappingProxyType({}))
