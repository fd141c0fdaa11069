"""What holding a key in a tier is worth: its bid, in dollars a byte and second, to be compared with rent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kvs.movement.reuse import ReuseModel
from kvs.movement.samples import GB, Budget, Sample, Tier


@dataclass(frozen=True, slots=True)
class Terms:
    """How the policy weighs: what waiting costs, and how much better a newcomer must be.

    `wait_usd_per_s` is the price of a second that a read takes. The default is a person's, $43 an hour; where only a
    worker waits it is the worker's (2 GB: $0.000033).

    Raises:
        ValueError: a price below 0, a `hold` below 1, or one that is not finite.
    """

    wait_usd_per_s: float = 0.012
    hold: float = 1.1

    def __post_init__(self) -> None:
        if not 0 <= self.wait_usd_per_s < math.inf:
            raise ValueError(f"Terms.wait_usd_per_s is {self.wait_usd_per_s!r}. Set it to dollars a second, 0 or more.")
        if not 1 <= self.hold < math.inf:
            raise ValueError(f"Terms.hold is {self.hold!r}. Set it to 1 or more.")


PERSON = Terms()
WORKER = Terms(2 * 0.0000166667)


class Bidder:
    """What each key bids for each tier, at one moment. `tiers` go from the fastest to the home of every key."""

    def __init__(self, tiers: Sequence[Tier], terms: Terms, model: ReuseModel, now_s: float) -> None:
        self.tiers = tiers
        self._hold, self._model, self._now_s = terms.hold, model, now_s
        self._costs = [_Cost.of(tier, terms.wait_usd_per_s) for tier in tiers]

    def bid(self, sample: Sample, number: int) -> float:
        """The rent of tier `number` at which holding the key there just pays, against the next best place for it.

        A newcomer's bid is what is left after its move is paid for, divided by `hold`. It is 0 where the key may not
        come in: it is larger than the tier, or was not touched since it was moved last.
        """
        worth = self._model.worth(sample, self._now_s)
        if not worth.hits_per_s:
            return 0.0
        nbytes, tier = sample.nbytes, self.tiers[number]
        if number == 0 and sample.miss_usd is not None:
            saved = sample.miss_usd
        else:
            saved = self._elsewhere(nbytes, number, worth.hits_per_s) - self._costs[number].read(nbytes)
        if not saved > 0:  # also where both are infinite
            return 0.0
        if tier.name in sample.tiers:
            return worth.hits_per_s * saved / (nbytes or 1)
        if not sample.touched_s > sample.moved_s or nbytes > tier.nbytes:
            return 0.0
        source = next((other for other in self.tiers if other.name in sample.tiers), tier)
        return worth.bid(saved, tier.write_usd(nbytes) + source.read_usd(nbytes)) / (nbytes or 1) / self._hold

    def _elsewhere(self, nbytes: int, number: int, hits_per_s: float) -> float:
        """Dollars of a read that this tier does not answer: the home does, or a tier between that is worth its rent."""
        last = len(self.tiers) - 1
        best = home = self._costs[last].read(nbytes)
        for other in range(number + 1, last):
            cost = self._costs[other].read(nbytes)
            if hits_per_s * (home - cost) >= self.tiers[other].rent * nbytes:
                best = min(best, cost)
        return best


class _Cost(NamedTuple):
    """Dollars of a read with its wait: a part for the request, and one for each byte."""

    fixed: float
    per_byte: float

    def read(self, nbytes: int) -> float:
        return self.fixed + self.per_byte * nbytes

    @classmethod
    def of(cls, tier: Tier, wait_usd_per_s: float) -> _Cost:
        waits = wait_usd_per_s * tier.latency_s if wait_usd_per_s else 0.0
        return cls(tier.usd_per_read + waits, tier.usd_per_gb_moved / GB + wait_usd_per_s / tier.bytes_per_s)


def next_terms(terms: Terms, budget: Budget, *, mean_read_s: float, usd_per_month: float) -> Terms:
    """Waiting costs more while reads miss the latency objective, less while dollars pass the budget, which wins.

    One step is a factor of 1.25, within a tenth of a worker's price and 100 times a person's. Inside a band of a tenth
    below the limits nothing changes.
    """
    price = terms.wait_usd_per_s
    if usd_per_month > budget.usd_per_month:
        price /= 1.25
    elif mean_read_s > budget.latency_s and not usd_per_month > 0.9 * budget.usd_per_month:
        price *= 1.25
    low, high = WORKER.wait_usd_per_s / 10, PERSON.wait_usd_per_s * 100
    return terms if price == terms.wait_usd_per_s else replace(terms, wait_usd_per_s=min(max(price, low), high))
