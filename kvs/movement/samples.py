"""What the policy is told: tiers with their prices, one sample a key, and a budget. Frozen values, checked when made.

Units: bytes, seconds, US dollars; a GB is 10**9 bytes. Times are seconds of any one clock; only differences count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Key = bytes
GB = 10**9
HOUR_S = 3600.0
MONTH_H = 730.0


@dataclass(frozen=True, slots=True)
class Tier:
    """A place for bytes: what it holds, how fast it answers, and what it charges.

    `nbytes` is what may be held (`inf` for no limit). The last tier of a list is the home of every key: it is the one
    that need not be kept within the budget, because there is nowhere colder to go.

    Raises:
        ValueError: a number is negative or not a number, or the tier could never answer.
    """

    name: str
    nbytes: float
    latency_s: float
    bytes_per_s: float
    usd_per_gb_hour: float
    usd_per_read: float = 0.0
    usd_per_write: float = 0.0
    usd_per_gb_moved: float = 0.0
    max_copies: int = 1

    def __post_init__(self) -> None:
        for name in ("nbytes", "latency_s", "usd_per_gb_hour", "usd_per_read", "usd_per_write", "usd_per_gb_moved"):
            _at_least(0, f"Tier.{name} of {self.name}", getattr(self, name))
        if not self.bytes_per_s > 0:
            raise ValueError(f"Tier.bytes_per_s of {self.name} is {self.bytes_per_s!r}. Set it to bytes a second, > 0.")
        if self.max_copies < 1:
            raise ValueError(f"Tier.max_copies of {self.name} is {self.max_copies!r}. Set it to 1 or more.")

    def read_s(self, nbytes: int) -> float:
        """Seconds that a read of `nbytes` takes."""
        return self.latency_s + nbytes / self.bytes_per_s

    def read_usd(self, nbytes: int) -> float:
        """What the tier charges for one read; nobody's waiting is in it."""
        return self.usd_per_read + self.usd_per_gb_moved * nbytes / GB

    def write_usd(self, nbytes: int) -> float:
        return self.usd_per_write + self.usd_per_gb_moved * nbytes / GB

    @property
    def rent(self) -> float:
        """Dollars a byte and second."""
        return self.usd_per_gb_hour / GB / HOUR_S


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one key.

    `tiers` names every tier that holds its bytes now, `copies` how many of them where it is more than one. `touched_s`
    is the last access. `reads` and `writes` count accesses in the `window_s` seconds up to it (they may be fractions,
    where older accesses weigh less), `seen` all that are known, and `gap_s` is the typical time between two of them (0:
    there was only one). `pins` names tiers where a reader holds it. `miss_usd` replaces the computed cost of a read
    that the fastest tier cannot answer. `moved_s` is the last move.

    Raises:
        ValueError: a count or a size is negative, or a time is not a number.
    """

    key: Key
    nbytes: int
    tiers: frozenset[str]
    touched_s: float
    reads: float = 0.0
    writes: float = 0.0
    window_s: float = 60.0
    seen: int = 1
    gap_s: float = 0.0
    moved_s: float = -math.inf
    pins: frozenset[str] = frozenset()
    miss_usd: float | None = None
    copies: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name in ("nbytes", "reads", "writes", "window_s", "seen", "gap_s"):
            _at_least(0, f"Sample.{name} of {self.key!r}", getattr(self, name))
        if self.miss_usd is not None:
            _at_least(0, f"Sample.miss_usd of {self.key!r}", self.miss_usd)
        if math.isnan(self.touched_s) or math.isnan(self.moved_s):
            raise ValueError(f"a time of Sample {self.key!r} is not a number. Give seconds, or leave moved_s out.")

    def reads_per_s(self, now_s: float) -> float:
        """Reads a second, fading while there are none."""
        if not self.window_s > 0:
            return 0.0
        age = max(0.0, now_s - self.touched_s) if now_s > self.touched_s else 0.0
        return self.reads / self.window_s * math.exp(-min(age / self.window_s, 700.0))

    def count(self, tier: str) -> int:
        """Copies in `tier`; 1 where it holds none, which is what it would get."""
        return max(1, self.copies.get(tier, 1)) if tier in self.tiers else 1

    def held(self, tier: str) -> int:
        """Bytes that its copies take in `tier`."""
        return self.nbytes * self.count(tier) if tier in self.tiers else 0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used: bytes in all tiers but the last, the mean read, and rent of those tiers a month of 730 hours.

    Raises:
        ValueError: a limit is negative or not a number.
    """

    nbytes: float = math.inf
    latency_s: float = math.inf
    usd_per_month: float = math.inf

    def __post_init__(self) -> None:
        for name in ("nbytes", "latency_s", "usd_per_month"):
            _at_least(0, f"Budget.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class Load:
    """How busy one tier is. `shards` hold `shard_bytes` each; `changed_s` is when it was scaled last."""

    tier: str
    shards: int
    shard_bytes: float
    used_bytes: float
    requests_per_s: float
    shard_requests_per_s: float
    p99_s: float
    changed_s: float = -math.inf

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ValueError(f"Load.shards of {self.tier} is {self.shards!r}. Set it to 1 or more.")
        for name in ("shard_bytes", "used_bytes", "requests_per_s", "shard_requests_per_s", "p99_s"):
            _at_least(0, f"Load.{name} of {self.tier}", getattr(self, name))


def _at_least(low: float, what: str, value: float) -> None:
    if not value >= low:
        raise ValueError(f"{what} is {value!r}. Set it to {low} or more.")
