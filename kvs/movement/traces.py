"""Loads to replay: who touches which key when, drawn from a seed and nothing else.

Sizes are in bytes, times in seconds from the start. A write replaces the whole value of its key. Each trace says at
which moments its popularity shifts, so that a replay can tell how long a policy takes to follow.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kvs.movement.samples import Key

KB, MB, GIB = 1024, 1 << 20, 1 << 30


class Access(NamedTuple):
    """One read, or write, of a key that has `nbytes` then (a write: from then on)."""

    at_s: float
    key: Key
    nbytes: int
    write: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Accesses in order of time. `shifts_s`: when the set of hot keys changes."""

    name: str
    accesses: tuple[Access, ...]
    duration_s: float
    shifts_s: tuple[float, ...] = ()

    @property
    def reads(self) -> int:
        return sum(not access.write for access in self.accesses)


def zipf(exponent: float, *, seed: int, reads: int = 20_000, keys: int = 5_000, per_s: float = 4.0) -> Trace:
    """Independent reads, the n-th key `n ** -exponent` as often as the first; Poisson arrivals."""
    rng = random.Random(seed)
    draw, sizes = _zipf(rng, exponent, keys), [blob_size(rng) for _ in range(keys)]
    found = [_read(at, draw(), sizes) for at in _poisson(rng, per_s, reads)]
    return Trace(f"zipf {exponent:g}", tuple(found), reads / per_s)


def hot_spot_shift(*, seed: int, reads: int = 20_000, keys: int = 5_000, per_s: float = 4.0) -> Trace:
    """Zipf 1.2 whose ranks are dealt anew after each third of the time.

    Source: the shifting workload of Wu et al., "Autoscaling Tiered Cloud Storage in Anna", VLDB 2019, section 6.
    """
    rng = random.Random(seed)
    draw, sizes = _zipf(rng, 1.2, keys), [blob_size(rng) for _ in range(keys)]
    duration = reads / per_s
    shifts = (duration / 3, 2 * duration / 3)
    deals = [rng.sample(range(keys), keys) for _ in range(3)]
    found = [_read(at, deals[bisect.bisect(shifts, at)][draw()], sizes) for at in _poisson(rng, per_s, reads)]
    return Trace("hot-spot shift", tuple(found), duration, shifts)


def diurnal(*, seed: int, reads: int = 20_000, keys: int = 5_000, duration_s: float = 86_400.0) -> Trace:
    """One day of Zipf 1 whose rate follows a sine from 5 % to the peak at noon."""
    rng = random.Random(seed)
    draw, sizes = _zipf(rng, 1.0, keys), [blob_size(rng) for _ in range(keys)]
    times: list[float] = []
    while len(times) < reads:
        at = rng.uniform(0, duration_s)
        if rng.random() < 0.525 - 0.475 * math.cos(2 * math.pi * at / duration_s):
            times.append(at)
    return Trace("diurnal", tuple(_read(at, draw(), sizes) for at in sorted(times)), duration_s)


def scan(*, seed: int, reads: int = 20_000, keys: int = 5_000, per_s: float = 4.0) -> Trace:
    """Zipf 1 in which, for half of the time, a pass over other data goes by: a quarter of the reads, each key once."""
    rng = random.Random(seed)
    draw, sizes = _zipf(rng, 1.0, keys), [blob_size(rng) for _ in range(keys)]
    passing = itertools.count()
    found = []
    for n, at in enumerate(_poisson(rng, per_s, reads)):
        if reads // 4 <= n < 3 * reads // 4 and rng.random() < 0.5:
            found.append(Access(at, b"scan/%d" % next(passing), blob_size(rng)))
        else:
            found.append(_read(at, draw(), sizes))
    return Trace("scan", tuple(found), reads / per_s)


def notebook(*, seed: int, sessions: int = 40, duration_s: float = 6 * 3600.0) -> Trace:
    """People at notebooks: think time between cells, breaks, a few lasting variables, many that are used once or never.

    A cell reads about three variables (the last made above all, the session's own data often, an old one now and then),
    makes a new one six times in ten, and rebinds one now and then. Think time is log-normal around 25 s; every 60th
    pause is a break of about 20 minutes. Sizes run from 1 KB to 1 GB, half of them below 64 KB.
    """
    rng = random.Random(seed)
    found = [
        access
        for number in range(sessions)
        for access in _session(
            random.Random(rng.random()), b"s%d" % number, rng.uniform(0, 0.8) * duration_s, duration_s
        )
    ]
    return Trace("notebook", tuple(sorted(found, key=lambda access: access.at_s)), duration_s)


def all_traces(seed: int, scale: float = 1.0) -> tuple[Trace, ...]:
    """One of each; `scale` below 1 shortens them."""
    reads = max(1, round(20_000 * scale))
    return (
        notebook(seed=seed, sessions=max(1, round(40 * scale))),
        zipf(1.0, seed=seed, reads=reads),
        zipf(2.0, seed=seed, reads=reads),
        hot_spot_shift(seed=seed, reads=reads),
        diurnal(seed=seed, reads=reads),
        scan(seed=seed, reads=reads),
    )


def variable_size(rng: random.Random) -> int:
    """A notebook's variable: mostly small, one in 200 above 50 MB, 1 GB at most."""
    return _log_uniform(
        rng, ((0.6, KB, 64 * KB), (0.3, 64 * KB, 2 * MB), (0.095, 2 * MB, 50 * MB), (0.005, 50 * MB, GIB))
    )


def data_size(rng: random.Random) -> int:
    """What a session works on for long: 100 KB to 50 MB."""
    return _log_uniform(rng, ((1.0, 100 * KB, 50 * MB),))


def blob_size(rng: random.Random) -> int:
    """A stored object of any kind: 1 KB to 100 MB, nine in ten below 1 MB."""
    return _log_uniform(rng, ((0.9, KB, MB), (0.09, MB, 10 * MB), (0.01, 10 * MB, 100 * MB)))


def _session(rng: random.Random, name: bytes, start_s: float, end_s: float) -> Iterator[Access]:
    sizes: dict[Key, int] = {}
    data: list[Key] = []
    recent: list[Key] = []
    at = start_s
    end = min(end_s, start_s + rng.lognormvariate(math.log(1.5 * 3600), 0.5))
    for cell in itertools.count():
        if at >= end:
            return
        for key in _read_set(rng, data, recent):
            yield Access(at, key, sizes[key])
            _to_end(recent, key)
        made: Key | None = None
        if len(data) < 3 and rng.random() < 0.5:
            made, size = name + b"/data%d" % len(data), data_size(rng)
            data.append(made)
        elif rng.random() < 0.6:
            made, size = name + b"/v%d" % cell, variable_size(rng)
        elif recent and rng.random() < 0.15:
            made = rng.choice(recent[-10:])
            size = sizes[made]
        if made is not None:
            at += rng.lognormvariate(math.log(1.0), 1.0)  # the cell runs, then commits
            sizes[made] = size
            yield Access(at, made, size, write=True)
            _to_end(recent, made)
        median, sigma = (1200.0, 0.8) if rng.random() < 1 / 60 else (25.0, 0.9)
        at += rng.lognormvariate(math.log(median), sigma)


def _read_set(rng: random.Random, data: list[Key], recent: list[Key]) -> list[Key]:
    wanted: dict[Key, None] = {}
    for _ in range(1 + min(5, int(rng.expovariate(0.5)))):
        lot = rng.random()
        if lot < 0.3 and data:
            wanted[rng.choice(data)] = None
        elif lot < 0.92 and recent:
            wanted[recent[-1 - min(int(rng.expovariate(0.4)), len(recent) - 1)]] = None
        elif recent:
            wanted[rng.choice(recent)] = None
    return list(wanted)


def _to_end(keys: list[Key], key: Key) -> None:
    if key in keys:
        keys.remove(key)
    keys.append(key)


def _log_uniform(rng: random.Random, parts: tuple[tuple[float, int, int], ...]) -> int:
    (_, low, high) = rng.choices(parts, [part[0] for part in parts])[0]
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def _zipf(rng: random.Random, exponent: float, keys: int) -> Callable[[], int]:
    heights = list(itertools.accumulate((n + 1) ** -exponent for n in range(keys)))
    return lambda: min(bisect.bisect(heights, rng.random() * heights[-1]), keys - 1)


def _poisson(rng: random.Random, per_s: float, count: int) -> Iterator[float]:
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(per_s)
        yield at


def _read(at: float, number: int, sizes: list[int]) -> Access:
    return Access(at, b"k%d" % number, sizes[number])
