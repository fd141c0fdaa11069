"""Which keys should be in which tier: a pure function from samples to moves.

Theory of operation
- Each key bids for a byte of a tier: the dollars a second that holding it there is expected to save, per byte. That is
  the rate of its hits (`reuse.py`) times what a hit saves over the next best tier (requests, and seconds at the price
  of whoever waits), by its size (`bids.py`). It is the order of greedy-dual-size-frequency, with the frequency learned
  by age, so that a variable that was just made is not refused for lack of history.
- The tier's rent is the reserve price: a bid below it is refused even where there is room. Above it, the highest bids
  get the bytes of the tier, within the budgets. So one number decides admission, eviction and expiry.
- Hysteresis: a newcomer must bid `hold` times what it displaces and what the rent is, its hits must pay for the move,
  and a key that was moved is a newcomer again only after its next access. What a reader pins stays, and counts first.
- A tier is exclusive, but for the home and for tiers that charge no rent.
Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching policy", 1998, for the
order; Carra, Neglia and Michiardi, "Elastic provisioning of cloud caches: a cost-aware TTL approach", ToN 2020, for
rent as a price.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from kvs.movement.bids import PERSON, Bidder, Terms
from kvs.movement.copies import choose_copies
from kvs.movement.decisions import Copy, Demote, Drop, Move, Plan, Promote
from kvs.movement.reuse import PRIOR, ReuseModel
from kvs.movement.samples import GB, MONTH_H, Budget, Key, Load, Sample, Tier

_NOWHERE: frozenset[str] = frozenset()


def decide(
    samples: Iterable[Sample],
    tiers: Sequence[Tier],
    budget: Budget,
    *,
    now_s: float,
    terms: Terms = PERSON,
    model: ReuseModel = PRIOR,
    loads: Iterable[Load] = (),
) -> Plan:
    """What to move, given all keys that any tier but the last holds and those that were touched lately.

    `tiers` go from the fastest to the home of every key. The result depends on the arguments alone, not on the order of
    the samples. Once it is carried out, each tier but the last is within its bytes, and all of them within the budget,
    unless what readers pin is more. Costs O(n log n) in samples, once a tier.

    Raises:
        ValueError: fewer than two tiers, two of one name, or a key sampled twice.
    """
    names = [tier.name for tier in tiers]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"tiers are {names}. Give two or more, fastest first, each with a name of its own.")
    known = sorted(samples, key=lambda sample: sample.key)
    for one, other in pairwise(known):
        if one.key == other.key:
            raise ValueError(f"key {one.key!r} is sampled twice. Give one sample a key.")
    bidder, busy = Bidder(tiers, terms, model, now_s), {load.tier: load for load in loads}
    left, usd_left = budget.nbytes, budget.usd_per_month
    pinned = [sum(sample.nbytes for sample in known if tier.name in sample.pins & sample.tiers) for tier in tiers[:-1]]
    placed: dict[Key, set[str]] = {}
    copies: list[Copy] = []
    standings: dict[str, tuple[tuple[float, Key], ...]] = {}
    for number, tier in enumerate(tiers[:-1]):
        month = _month(tier)
        colder = range(number + 1, len(pinned))
        usd_below = sum(pinned[n] * _month(tiers[n]) for n in colder if pinned[n])
        room = min(tier.nbytes, left - sum(pinned[n] for n in colder), _affordable(usd_left - usd_below, month))
        kept, standings[tier.name] = auction(known, number, room, bidder, placed)
        used: float = sum(sample.nbytes for sample in kept)
        changed = choose_copies(kept, tier, busy.get(tier.name), room - used, now_s)
        now_wanted = {copy.key: copy.copies for copy in changed}
        for sample in kept:
            placed.setdefault(sample.key, set()).add(tier.name)
            used += sample.nbytes * (now_wanted.get(sample.key, sample.count(tier.name)) - 1)
        copies += changed
        left = max(0.0, left - used)
        usd_left = max(0.0, usd_left - used * month) if used and usd_left < math.inf else usd_left
    return Plan(_ordered(known, placed, copies, names), standings)


def _month(tier: Tier) -> float:
    """Dollars for a byte in this tier, a month."""
    return tier.usd_per_gb_hour / GB * MONTH_H


def _affordable(usd: float, month: float) -> float:
    """Bytes that so much pays for, at so much a byte and month."""
    return max(0.0, usd) / month if month and usd < math.inf else math.inf


def auction(
    known: Iterable[Sample], number: int, room: float, bidder: Bidder, placed: Mapping[Key, object]
) -> tuple[list[Sample], tuple[tuple[float, Key], ...]]:
    """Who gets into tier `number`, and what they bid, lowest first.

    Pinned keys first, whatever they bid and however little room there is; then the highest bids that fit, none below
    the rent. A key that a faster tier got (`placed`) bids nothing, which is enough where there is no rent.
    """
    tier = bidder.tiers[number]
    kept, offers = [], []
    for sample in known:
        held = tier.name in sample.tiers
        if held and tier.name in sample.pins:
            kept.append(sample)
            room -= sample.nbytes
        elif sample.tiers:
            bid = 0.0 if sample.key in placed else bidder.bid(sample, number)
            if bid >= tier.rent and (held or bid > 0):
                offers.append((-bid, sample.key, sample))
    offers.sort(key=lambda offer: offer[:2])
    standings = []
    for bid, key, sample in offers:
        if sample.nbytes <= room:
            kept.append(sample)
            room -= sample.nbytes
            standings.append((-bid, key))
    return kept, tuple(reversed(standings))


def displaced(
    standings: Iterable[tuple[float, Key]], needed_bytes: float, bid: float, held_bytes: Callable[[Key], int]
) -> list[Key] | None:
    """Who leaves for a newcomer with this bid between two plans: the lowest bids that free `needed_bytes`.

    `held_bytes` says what a key frees: 0 for one that has left or has been read meanwhile, which its old bid does not
    count. None if those that bid less do not free enough: then nobody leaves.
    """
    victims = []
    for other, key in standings:
        if needed_bytes <= 0 or other >= bid:
            break
        if nbytes := held_bytes(key):
            victims.append(key)
            needed_bytes -= nbytes
    return victims if needed_bytes <= 0 else None


def _ordered(
    known: list[Sample], placed: Mapping[Key, set[str]], copies: list[Copy], names: list[str]
) -> tuple[Move, ...]:
    """What frees bytes first, and of that the coldest first, since a demotion needs room in the tier below."""
    leaving: list[Demote | Drop] = []
    coming: list[Promote] = []
    have = {}
    home = {names[-1]}
    for sample in known:
        have[sample.key] = sample
        if sample.tiers - home == placed.get(sample.key, _NOWHERE):
            continue
        for move in _moves(sample, placed.get(sample.key, set()), names):
            if isinstance(move, Promote):
                coming.append(move)
            else:
                leaving.append(move)
    fewer = [copy for copy in copies if copy.copies < have[copy.key].count(copy.tier)]
    more = [copy for copy in copies if copy.copies >= have[copy.key].count(copy.tier)]
    leaving.sort(key=lambda move: -names.index(move.tier if isinstance(move, Drop) else move.source))
    return (*fewer, *leaving, *coming, *more)


def _moves(sample: Sample, placed: set[str], names: list[str]) -> list[Promote | Demote | Drop]:
    """From where a key is to where it was placed; nothing for a key that no tier holds."""
    here = [name for name in names if name in sample.tiers]
    home = names[-1]
    staying = [name for name in here if name in placed or name == home]
    found: list[Promote | Demote | Drop] = []
    demoted: set[str] = set()
    for name in [name for name in here if name not in staying]:
        below = names[names.index(name) + 1 :]
        target = next((other for other in below if other in placed), home)
        if any(other in staying for other in below) and target in (*staying, home):
            found.append(Drop(sample.key, name))
        else:
            found.append(Demote(sample.key, name, target))
            demoted.add(target)
    for name in [name for name in names if name in placed and name not in here and name not in demoted]:
        source = next((other for other in (*staying, home)), home)
        found.append(Promote(sample.key, source, name))
    return found if here else []
