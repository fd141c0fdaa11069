"""Replay a trace against one policy and account for what it costs: deterministic, no clock, no I/O.

The model: one fast tier of a given size over a home that holds everything. A read is answered by the fast tier if it
holds the key, else by the home; a worker waits for it. A write goes to the home in the background under every policy
alike, and the policy says whether the fast tier keeps it too. Dollars are the fast tier's rent for the bytes that were
there, the requests to both tiers, and the waiting workers. The home's own rent is the same for all and left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kvs.movement.samples import GB, Key, Tier
from kvs.movement.traces import Access, Trace

TICK_S = 10.0
WINDOW_READS = 200


class Cache(Protocol):
    """A policy that decides what the fast tier holds. It knows sizes and times, never the future."""

    name: str

    @property
    def used_bytes(self) -> int:
        """Bytes in the fast tier; at most its size, after every call."""
        ...

    def holds(self, key: Key) -> bool: ...

    def access(self, access: Access) -> None:
        """What was read or written just now: touch it, admit it, evict others for it."""
        ...

    def tick(self, now_s: float) -> Iterable[Key]:
        """Work that time does; called every `TICK_S` seconds. Returns the keys that it brought in from the home."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """Both tiers and what a second of a waiting worker costs."""

    fast: Tier
    home: Tier
    worker_usd_per_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy did with one trace. Seconds are means over reads, `p99_read_s` their 99th percentile."""

    policy: str
    trace: str
    reads: int
    hits: int
    read_bytes: int
    hit_bytes: int
    mean_read_s: float
    p99_read_s: float
    rent_usd: float
    request_usd: float
    waiting_usd: float
    peak_bytes: int
    adaptation_s: float

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.reads)

    @property
    def byte_hit_rate(self) -> float:
        return self.hit_bytes / max(1, self.read_bytes)

    @property
    def usd(self) -> float:
        return self.rent_usd + self.request_usd + self.waiting_usd


def replay(trace: Trace, cache: Cache, setting: Setting) -> Result:
    """Run all accesses through `cache`.

    Raises:
        ValueError: the cache holds more than the fast tier has, which is a fault of the policy.
    """
    return _Replay(trace, cache, setting).run()


class _Replay:
    def __init__(self, trace: Trace, cache: Cache, setting: Setting) -> None:
        self._trace, self._cache, self._setting = trace, cache, setting
        self._now_s = self._ticked_s = self._rent = self._requests = 0.0
        self._sizes: dict[Key, int] = {}
        self._peak = 0
        self._reads: list[tuple[float, bool, int, float]] = []

    def run(self) -> Result:
        for access in self._trace.accesses:
            self._pass(access.at_s)
            self._sizes[access.key] = access.nbytes
            (self._write if access.write else self._read)(access)
            self._check()
        self._pass(self._trace.duration_s)
        return self._result()

    def _pass(self, until_s: float) -> None:
        while self._ticked_s + TICK_S <= until_s:
            self._ticked_s += TICK_S
            self._pay_rent(self._ticked_s)
            for key in self._cache.tick(self._ticked_s):
                nbytes = self._sizes[key]
                self._requests += self._setting.home.read_usd(nbytes) + self._setting.fast.write_usd(nbytes)
            self._check()
        self._pay_rent(until_s)

    def _pay_rent(self, until_s: float) -> None:
        self._rent += self._setting.fast.rent * self._cache.used_bytes * (until_s - self._now_s)
        self._now_s = until_s

    def _read(self, access: Access) -> None:
        hit = self._cache.holds(access.key)
        tier = self._setting.fast if hit else self._setting.home
        self._requests += tier.read_usd(access.nbytes)
        self._reads.append((access.at_s, hit, access.nbytes, tier.read_s(access.nbytes)))
        self._cache.access(access)
        if not hit and self._cache.holds(access.key):
            self._requests += self._setting.fast.write_usd(access.nbytes)

    def _write(self, access: Access) -> None:
        self._requests += self._setting.home.write_usd(access.nbytes)
        self._cache.access(access)
        if self._cache.holds(access.key):
            self._requests += self._setting.fast.write_usd(access.nbytes)

    def _check(self) -> None:
        used = self._cache.used_bytes
        self._peak = max(self._peak, used)
        if used > self._setting.fast.nbytes:
            raise ValueError(f"{self._cache.name} holds {used} bytes in a tier of {self._setting.fast.nbytes:.0f}.")

    def _result(self) -> Result:
        seconds = sorted(read[3] for read in self._reads)
        waited = math.fsum(seconds)
        return Result(
            policy=self._cache.name,
            trace=self._trace.name,
            reads=len(seconds),
            hits=sum(read[1] for read in self._reads),
            read_bytes=sum(read[2] for read in self._reads),
            hit_bytes=sum(read[2] for read in self._reads if read[1]),
            mean_read_s=waited / max(1, len(seconds)),
            p99_read_s=seconds[int(0.99 * (len(seconds) - 1))] if seconds else 0.0,
            rent_usd=self._rent,
            request_usd=self._requests,
            waiting_usd=waited * self._setting.worker_usd_per_s,
            peak_bytes=self._peak,
            adaptation_s=adaptation([read[:2] for read in self._reads], self._trace.shifts_s),
        )


def adaptation(reads: list[tuple[float, bool]], shifts_s: tuple[float, ...]) -> float:
    """Seconds from a shift until the hit rate over 200 reads is back at 95 % of what it was before: the mean of all.

    A shift that is not caught up with before the next one, or the end, counts `inf`; no shifts give 0.
    """
    if not shifts_s:
        return 0.0
    ends = (*shifts_s[1:], math.inf)
    return sum(_caught_up(reads, shift, end) for shift, end in zip(shifts_s, ends, strict=True)) / len(shifts_s)


def _caught_up(reads: list[tuple[float, bool]], shift_s: float, end_s: float) -> float:
    before = [hit for at, hit in reads if at < shift_s][-5 * WINDOW_READS :]
    wanted = 0.95 * sum(before) / max(1, len(before))
    after = [(at, hit) for at, hit in reads if shift_s <= at < end_s]
    inside = sum(hit for _, hit in after[:WINDOW_READS])
    for n in range(WINDOW_READS, len(after) + 1):
        if inside >= wanted * WINDOW_READS:
            return after[n - 1][0] - shift_s
        if n < len(after):
            inside += after[n][1] - after[n - WINDOW_READS][1]
    return math.inf


def clairvoyant_usd(trace: Trace, setting: Setting) -> float:
    """The dollars of a policy that knows the future and has room without limit: no policy can spend less.

    Every gap before a read is judged by itself: hold the bytes through it, or read from the home, whichever is cheaper.
    """
    total = 0.0
    last: dict[Key, float] = {}
    for access in trace.accesses:
        since = last.get(access.key)
        last[access.key] = access.at_s
        if access.write:
            total += setting.home.write_usd(access.nbytes)
            continue
        miss = _served(setting, setting.home, access.nbytes)
        held = math.inf
        if since is not None:
            rent = setting.fast.rent * access.nbytes * (access.at_s - since)
            held = _served(setting, setting.fast, access.nbytes) + rent
        total += min(miss, held)
    return total


def _served(setting: Setting, tier: Tier, nbytes: int) -> float:
    return tier.read_usd(nbytes) + tier.read_s(nbytes) * setting.worker_usd_per_s


def mid_2026(fast_bytes: float) -> Setting:
    """List prices seen in mid-2026 (us-east-1), as parameters; look yours up.

    Memory at $0.084 a GB-hour (Valkey, serverless; its request units are set to 0, which favours policies that move
    much), S3 at $0.4 and $5 a million reads and writes, a waiting 2 GB function at $0.0000166667 a GB-second.
    Latencies: 0.5 ms and 1 GB/s from memory, 20 ms and 90 MB/s from S3.
    """
    return Setting(
        Tier("memory", fast_bytes, 0.0005, 1.0 * GB, 0.084),
        Tier("object", math.inf, 0.020, 0.09 * GB, 0.023 / 730, 0.4e-6, 5e-6),
        2 * 0.0000166667,
    )
