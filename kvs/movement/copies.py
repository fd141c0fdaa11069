"""How many copies a hot key needs, and what a tier that scales would need: pure functions of samples and load.

A copy is wanted where one shard cannot serve the key: when its reads use more than 0.6 of a shard. It goes when half of
that would do with one less. A tier is scaled by the same limits, after a grace period.
Source: selective replication and elasticity of Wu et al., "Autoscaling Tiered Cloud Storage in Anna", VLDB 2019,
section 4; limits are relative to a shard's measured capacity, since the mean over keys says nothing at 10 keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from kvs.movement.decisions import Copy, Scale
from kvs.movement.samples import GB, MONTH_H, Budget, Load, Sample, Tier

BUSY, IDLE = 0.6, 0.3
GRACE_S = 120.0
SHARDS_LIMIT = 1 << 20


def wanted_copies(sample: Sample, tier: Tier, load: Load | None, now_s: float) -> int:
    """Copies that keep each shard's share of this key's reads between `IDLE` and `BUSY`; at most the tier's limit."""
    rate = sample.reads_per_s(now_s)
    share = rate * sample.nbytes / tier.bytes_per_s
    if load is not None and load.shard_requests_per_s > 0:
        share += rate / load.shard_requests_per_s
    have = sample.count(tier.name)
    return min(max(have, _ceil(share / BUSY)), max(1, _ceil(share / IDLE)), tier.max_copies)


def choose_copies(kept: Iterable[Sample], tier: Tier, load: Load | None, room: float, now_s: float) -> list[Copy]:
    """Changes in the number of copies, busiest key first, whose extra copies together fit into `room` bytes."""
    if tier.max_copies == 1:
        kept = [sample for sample in kept if sample.count(tier.name) > 1]
    found = []
    for sample in sorted(kept, key=lambda one: (-one.reads_per_s(now_s), one.key)):
        have = sample.count(tier.name)
        extra = wanted_copies(sample, tier, load, now_s) - 1
        if extra and extra * sample.nbytes > room:
            extra = max(0, int(room // sample.nbytes)) if sample.nbytes else 0
        room -= extra * sample.nbytes
        if 1 + extra != have:
            found.append(Copy(sample.key, tier.name, 1 + extra))
    return found


def choose_scale(
    loads: Iterable[Load], tiers: Sequence[Tier], budget: Budget, copies: Iterable[Copy], now_s: float
) -> list[Scale]:
    """What to scale: to half of the limits, so that the next step is far; never above what the budget pays for."""
    named = {tier.name: tier for tier in tiers}
    most: dict[str, int] = {}
    for copy in copies:
        most[copy.tier] = max(most.get(copy.tier, 1), copy.copies)
    found = []
    for load in loads:
        if load.tier in named and not now_s - load.changed_s < GRACE_S:
            scale = _scaled(load, named[load.tier], budget, most.get(load.tier, 1))
            if scale is not None:
                found.append(scale)
    return found


def _scaled(load: Load, tier: Tier, budget: Budget, copies: int) -> Scale | None:
    memory = load.used_bytes / load.shard_bytes if load.shard_bytes else 0.0
    requests = load.requests_per_s / load.shard_requests_per_s if load.shard_requests_per_s else 0.0
    late = load.p99_s > budget.latency_s
    month = load.shard_bytes * tier.usd_per_gb_hour / GB * MONTH_H
    most = (
        SHARDS_LIMIT if not month else max(1, min(SHARDS_LIMIT, math.floor(min(budget.usd_per_month / month, 2.0**40))))
    )
    wanted, why = load.shards, ""
    if memory > BUSY * load.shards:
        wanted, why = _ceil(memory / (BUSY - 0.1)), f"{memory / load.shards:.0%} of its memory is used"
    elif requests > BUSY * load.shards:
        wanted, why = _ceil(requests / (BUSY - 0.1)), f"{requests / load.shards:.0%} of its requests a second are used"
    elif late:
        wanted, why = load.shards + 1, f"p99 is {load.p99_s:.4g} s, the objective {budget.latency_s:.4g} s"
    elif copies > load.shards:
        wanted, why = copies, f"a key needs {copies} copies, each on a shard of its own"
    elif load.shards > 1 and max(memory, requests) < IDLE * (load.shards - 1):
        wanted, why = max(copies, load.shards - 1), "one shard less would be enough"
    wanted = min(max(1, wanted), most)
    if wanted == load.shards:
        return None
    return Scale(
        tier.name,
        wanted,
        min(copies, wanted),
        why if wanted > load.shards or why.startswith("one") else "the budget pays for no more",
    )


def _ceil(value: float) -> int:
    return math.ceil(min(value, float(SHARDS_LIMIT))) if value > 0 else 0
