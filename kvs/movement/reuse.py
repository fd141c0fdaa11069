"""How soon a key is read again: learned as a rate for each class of keys and each age, kept as a frozen table.

Theory of operation
- A key's age is the time since its last access. While keys of one class pass through a span of ages they are exposed
  for so many seconds and are read so many times in it: reads / exposure is the rate at that age (an actuary's table).
  Keys that are never read again count as well, by their exposure, which is what frequency counts alone cannot see.
- A class is what a sample shows: how long its gaps are, how often it was seen, how large it is. A class with little
  evidence leans on the same class of all sizes, and that on a prior rate of 0.3 / age, which is the heavy tail that
  recency shows when nothing is known.
- From the rates follows what the policy needs, a `Worth`: holding the key from now on, for each horizon up to two
  hours, yields a hit with this chance and takes that many seconds.
Source: hits for space and time by age are Beckmann, Chen and Cidon, "LHD: improving cache hit rate by maximizing hit
density", NSDI 2018; here age and time are in seconds, and a hit is worth money.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from kvs.movement.samples import Sample

EDGES_S = (0.0, 1.0, *(2.0**n for n in range(1, 13)), 7200.0)
"""Ages at which a span begins; after the last one a key counts as never read again."""
SPANS = len(EDGES_S) - 1
GAPS, SEEN, SIZES = 8, 4, 3
CLASSES = GAPS * SEEN * SIZES
_GAP_EDGES_S = (0.5, 4.0, 32.0, 128.0, 512.0)
_SEEN_EDGES = (3, 6, 24)
_SIZE_EDGES = (1 << 16, 1 << 22)
_PRIOR_WEIGHT, _POOLED_WEIGHT = 2.0, 3.0


class Worth(NamedTuple):
    """What holding a key from now on yields: the most hits per second held, and (chance, seconds) of each horizon."""

    hits_per_s: float
    horizons: tuple[tuple[float, float], ...] = ()

    def bid(self, saved_usd: float, cost_usd: float) -> float:
        """Dollars a second, at the best horizon, when a hit saves so much and coming in costs so much once."""
        if not cost_usd > 0:
            return self.hits_per_s * saved_usd
        best = 0.0
        for chance, held_s in self.horizons:
            best = max(best, (chance * saved_usd - cost_usd) / held_s)
        return best


NOTHING = Worth(0.0)


@dataclass(frozen=True, slots=True)
class ReuseModel:
    """`worths[class][span]`: a table of `CLASSES` rows and `SPANS` columns."""

    worths: tuple[tuple[Worth, ...], ...]

    def worth(self, sample: Sample, now_s: float) -> Worth:
        """What holding this key yields from now on; a clock that went backwards makes it just touched."""
        age_s = now_s - sample.touched_s
        if not age_s > 0:
            age_s = 0.0
        return self.worths[class_of(sample)][span_of(age_s)] if age_s < EDGES_S[-1] else NOTHING


def class_of(sample: Sample) -> int:
    """The row of a sample."""
    gap = 0 if sample.writes > sample.reads else 1
    if sample.gap_s > 0:
        gap = 2 + bisect_right(_GAP_EDGES_S, sample.gap_s)
    return (gap * SEEN + bisect_right(_SEEN_EDGES, sample.seen)) * SIZES + bisect_right(_SIZE_EDGES, sample.nbytes)


def span_of(age_s: float) -> int:
    """The column of an age; the last one of every age beyond."""
    return min(bisect_right(EDGES_S, age_s) - 1, SPANS - 1)


class Counts:
    """Reads and seconds of exposure by class and span, halved every `half_life_s` so that the present counts more."""

    def __init__(self, half_life_s: float = 3600.0) -> None:
        self._half_life_s = half_life_s
        self._reads = [[0.0] * SPANS for _ in range(CLASSES)]
        self._exposed_s = [[0.0] * SPANS for _ in range(CLASSES)]

    def exposed(self, row: int, from_s: float, to_s: float) -> None:
        """A key of this class has passed from one age to another without an access."""
        if not 0 <= from_s < EDGES_S[-1]:
            return
        line, span = self._exposed_s[row], span_of(from_s)
        while span < SPANS and EDGES_S[span + 1] < to_s:
            line[span] += EDGES_S[span + 1] - from_s
            from_s = EDGES_S[span + 1]
            span += 1
        if span < SPANS and to_s > from_s:
            line[span] += to_s - from_s

    def read(self, row: int, age_s: float) -> None:
        """A key of this class was read at this age."""
        if 0 <= age_s < EDGES_S[-1]:
            self._reads[row][span_of(age_s)] += 1

    def decay(self, elapsed_s: float) -> None:
        factor = 0.5 ** (max(0.0, elapsed_s) / self._half_life_s)
        for table in (self._reads, self._exposed_s):
            for row in table:
                row[:] = [value * factor for value in row]

    def model(self) -> ReuseModel:
        """The table as the counts have it now. At most about 10,000 multiplications."""
        rows: list[tuple[Worth, ...]] = []
        for first in range(0, CLASSES, SIZES):
            mine = range(first, first + SIZES)
            if not any(any(self._exposed_s[row]) or any(self._reads[row]) for row in mine):
                rows += [_UNKNOWN] * SIZES
                continue
            pooled = _rates(_sum(self._reads, mine), _sum(self._exposed_s, mine), _PRIOR, _PRIOR_WEIGHT)
            rows += (_worths(_rates(self._reads[row], self._exposed_s[row], pooled, _POOLED_WEIGHT)) for row in mine)
        return ReuseModel(tuple(rows))


def _sum(table: list[list[float]], rows: range) -> list[float]:
    return [sum(table[row][span] for row in rows) for span in range(SPANS)]


def _rates(reads: list[float], exposed_s: list[float], prior: list[float], weight: float) -> list[float]:
    """Mean of a gamma posterior whose prior is worth `weight` reads at the prior's rate."""
    return [(n + weight) / (s + weight / rate) for n, s, rate in zip(reads, exposed_s, prior, strict=True)]


def _worths(rates: list[float]) -> tuple[Worth, ...]:
    passing = [-math.expm1(-rate * (high - low)) for rate, (low, high) in zip(rates, pairwise(EDGES_S), strict=True)]
    return tuple(_worth(rates, passing, span) for span in range(SPANS))


def _worth(rates: list[float], passing: list[float], start: int) -> Worth:
    chance = held_s = best = 0.0
    horizons = []
    for span in range(start, SPANS):
        here = (1.0 - chance) * passing[span]
        chance += here
        held_s += here / rates[span]
        horizons.append((chance, held_s))
        if chance > best * held_s:
            best = chance / held_s
    return Worth(best, tuple(horizons))


_PRIOR = [0.3 / math.sqrt(max(low, 0.5) * high) for low, high in pairwise(EDGES_S)]
_UNKNOWN = _worths(_PRIOR)
PRIOR = Counts().model()
"""What is believed before anything was seen."""
