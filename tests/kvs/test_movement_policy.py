"""The movement policy: what it decides, as claims, and what holds for any samples, as properties."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvs.movement import (
    PERSON,
    PRIOR,
    WORKER,
    Bidder,
    Budget,
    Copy,
    Demote,
    Drop,
    Load,
    Move,
    Plan,
    Promote,
    Sample,
    Terms,
    Tier,
    choose_scale,
    decide,
    displaced,
    next_terms,
)
from kvs.movement.copies import choose_copies, wanted_copies

MEMORY = Tier("memory", 1000, 0.0005, 1e9, 0.084, max_copies=4)
NODE = Tier("node", 4000, 0.002, 5e8, 0.0001)
HOME = Tier("home", math.inf, 0.020, 9e7, 0.00003, 0.4e-6, 5e-6)
TIERS = (MEMORY, NODE, HOME)
NO_LIMIT = Budget()
NAMES = [tier.name for tier in TIERS]
NOW = 10_000.0

any_time = st.one_of(st.floats(allow_nan=False), st.floats(0, 2 * NOW))
any_amount = st.one_of(st.floats(0, allow_nan=False), st.floats(0, 100))
samples = st.builds(
    Sample,
    key=st.binary(min_size=1, max_size=2),
    nbytes=st.one_of(st.integers(0, 1500), st.integers(0, 1 << 60)),
    tiers=st.frozensets(st.sampled_from(NAMES)),
    touched_s=any_time,
    reads=any_amount,
    writes=any_amount,
    window_s=any_amount,
    seen=st.integers(0, 100),
    gap_s=any_amount,
    moved_s=any_time,
    pins=st.frozensets(st.sampled_from([*NAMES, "elsewhere"])),
    miss_usd=st.none() | any_amount,
    copies=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 6), max_size=2),
)
wanted = st.builds(
    Sample,
    key=st.binary(min_size=1, max_size=2),
    nbytes=st.integers(1, 60),
    tiers=st.sampled_from([frozenset(names) for names in (["home"], ["memory", "home"], ["memory"], ["node", "home"])]),
    touched_s=st.floats(NOW - 50, NOW),
    reads=st.floats(0, 1e6),
    gap_s=st.floats(0, 10),
    copies=st.dictionaries(st.just("memory"), st.integers(1, 4)),
)
"""Keys that the policy wants to hold, so that limits decide; `samples` are anything at all."""
sample_lists = st.lists(wanted, max_size=12, unique_by=lambda sample: sample.key) | st.lists(
    wanted | samples, max_size=12, unique_by=lambda sample: sample.key
)
limits = st.integers(0, 300) | st.just(math.inf)
budgets = st.builds(Budget, limits | any_amount, any_amount, any_amount | st.just(math.inf))
tiers = st.builds(
    lambda *numbers: (replace(MEMORY, nbytes=numbers[0], usd_per_gb_hour=numbers[1]), NODE, HOME),
    st.integers(0, 300) | st.floats(0, 3000),
    any_amount,
)


def sample(key: str, nbytes: int = 100, tiers: Iterable[str] = ("home",), **more: Any) -> Sample:
    return Sample(key.encode(), nbytes, frozenset(tiers), **({"touched_s": NOW, "reads": 1.0} | more))


def plan(samples: Iterable[Sample], budget: Budget = NO_LIMIT, **more: Any) -> Plan:
    return decide(samples, more.pop("tiers", TIERS), budget, **({"now_s": NOW} | more))


def applied(samples: Iterable[Sample], moves: Iterable[Move], at_s: float = NOW) -> list[Sample]:
    """The samples after the moves; a move that cannot be done as it says fails the test."""
    now = {one.key: one for one in samples}
    for move in moves:
        old = now[move.key]
        if isinstance(move, Copy):
            assert move.tier in old.tiers
            now[move.key] = replace(old, copies={**old.copies, move.tier: move.copies})
            continue
        if isinstance(move, Drop):
            colder = NAMES[NAMES.index(move.tier) + 1 :]
            assert old.tiers.intersection(colder), "dropped, and no colder tier holds it"
            kept, gone = old.tiers - {move.tier}, move.tier
        elif isinstance(move, Demote):
            assert NAMES.index(move.to) > NAMES.index(move.source)
            kept, gone = old.tiers - {move.source} | {move.to}, move.source
        else:
            assert NAMES.index(move.to) < NAMES.index(move.source)
            assert move.source in old.tiers
            kept, gone = old.tiers | {move.to}, move.to
        assert getattr(move, "source", gone) in old.tiers
        copies = {tier: count for tier, count in old.copies.items() if tier != gone}
        now[move.key] = replace(old, tiers=kept, copies=copies, moved_s=at_s)
    return list(now.values())


def held(samples: Iterable[Sample], tier: str) -> int:
    return sum(one.held(tier) for one in samples)


# -- claims


def test_what_was_just_made_comes_in_though_nobody_has_read_it_yet() -> None:
    assert plan([sample("a", reads=0.0, writes=1.0)]).moves == (Promote(b"a", "home", "memory"),)


def test_what_nobody_touches_leaves_at_once_when_its_rent_is_no_longer_paid() -> None:
    old = sample("a", 900, ("memory", "home"), touched_s=NOW - 7300)
    assert Drop(b"a", "memory") in plan([old]).moves


def test_a_key_that_no_colder_tier_holds_is_demoted_and_never_dropped() -> None:
    old = sample("a", 900, ("memory",), touched_s=NOW - 7300)
    assert plan([old]).moves == (Demote(b"a", "memory", "home"),)


def test_the_smaller_of_two_equally_used_keys_gets_the_room() -> None:
    tight = (replace(MEMORY, nbytes=600), HOME)
    moves = plan([sample("big", 600), sample("small", 60)], tiers=tight).moves
    assert moves == (Promote(b"small", "home", "memory"),)


def test_a_person_who_waits_keeps_what_a_worker_that_waits_would_not() -> None:
    big = sample("a", 10**8, ("memory", "home"), touched_s=NOW - 600, gap_s=500.0, seen=10)
    wide = (replace(MEMORY, nbytes=1e9), HOME)
    assert plan([big], tiers=wide, terms=PERSON).moves == ()
    assert plan([big], tiers=wide, terms=WORKER).moves == (Drop(b"a", "memory"),)


def test_a_pinned_key_stays_whatever_it_costs() -> None:
    pinned = sample("a", 5000, ("memory", "home"), touched_s=0.0, pins=frozenset({"memory"}))
    assert all(move.key != b"a" for move in plan([pinned, sample("b")], Budget(nbytes=0)).moves)


def test_a_key_that_was_moved_comes_back_only_after_its_next_access() -> None:
    moved = sample("a", moved_s=NOW)
    assert plan([moved], now_s=NOW + 1).moves == ()
    assert plan([replace(moved, touched_s=NOW + 1)], now_s=NOW + 1).moves == (Promote(b"a", "home", "memory"),)


def test_an_unknown_key_is_left_alone() -> None:
    assert plan([sample("a", tiers=())]).moves == ()


def test_dollars_a_month_limit_the_bytes() -> None:
    many = [sample(f"{n}") for n in range(10)]
    month = MEMORY.usd_per_gb_hour / 1e9 * 730
    after = applied(many, plan(many, Budget(usd_per_month=350 * month), tiers=(MEMORY, HOME)).moves)
    assert held(after, "memory") == 300


def test_a_hot_key_is_copied_and_a_cool_one_is_not() -> None:
    load = Load("memory", 4, 1000, 100, 100, 1000, 0.001)
    hot = sample("hot", tiers=("memory", "home"), reads=100_000.0, window_s=60.0)
    assert plan([hot, sample("cool", tiers=("memory", "home"))], loads=[load]).moves == (Copy(b"hot", "memory", 3),)
    copied = replace(hot, copies={"memory": 3})
    assert plan([copied], loads=[load]).moves == ()
    assert plan([replace(copied, reads=60_000.0)], loads=[load]).moves == ()  # between the limits nothing changes
    assert plan([replace(copied, reads=10.0)], loads=[load]).moves == (Copy(b"hot", "memory", 1),)


def test_a_count_of_copies_in_a_tier_that_lost_the_key_counts_for_nothing() -> None:
    """A copy was once wanted before the promotion that it is a copy of, because of three copies long gone."""
    stale = sample("a", tiers=("home",), reads=1e7, window_s=1.0, copies={"memory": 3})
    load = Load("memory", 4, 1000, 100, 100, 1e8, 0.001)
    assert plan([stale], loads=[load]).moves == (Promote(b"a", "home", "memory"), Copy(b"a", "memory", 2))


def test_a_newcomer_displaces_the_lowest_bids_or_nobody() -> None:
    standings = [(1.0, b"a"), (2.0, b"b"), (5.0, b"c")]
    sizes = {b"a": 10, b"b": 10, b"c": 10}
    assert displaced(standings, 0, 3.0, sizes.__getitem__) == []
    assert displaced(standings, 15, 3.0, sizes.__getitem__) == [b"a", b"b"]
    assert displaced(standings, 25, 3.0, sizes.__getitem__) is None
    assert displaced(standings, 15, 3.0, (sizes | {b"a": 0}).__getitem__) is None


@pytest.mark.parametrize(
    ("load", "budget", "expected"),
    [
        (Load("memory", 2, 1000, 1300, 0, 100, 0), Budget(), 3),
        (Load("memory", 2, 1000, 0, 190, 100, 0), Budget(), 4),
        (Load("memory", 2, 1000, 900, 90, 100, 0.5), Budget(latency_s=0.1), 3),
        (Load("memory", 3, 1000, 100, 10, 100, 0), Budget(), 2),
        (Load("memory", 2, 1000, 900, 90, 100, 0), Budget(), None),
        (Load("memory", 2, 1000, 1300, 0, 100, 0, changed_s=NOW - 60), Budget(), None),
        (Load("memory", 2, 1000, 1900, 0, 100, 0), Budget(usd_per_month=0.0), 1),
    ],
)
def test_scaling_follows_memory_requests_and_latency_after_a_grace(
    load: Load, budget: Budget, expected: int | None
) -> None:
    found = choose_scale([load], TIERS, budget, [], NOW)
    assert [scale.shards for scale in found] == ([] if expected is None else [expected])
    assert all(scale.why for scale in found)


def test_what_was_scaled_needs_no_scaling_at_the_same_load() -> None:
    load = Load("memory", 2, 1000, 1900, 150, 100, 0)
    (scale,) = choose_scale([load], TIERS, Budget(), [], NOW)
    assert choose_scale([replace(load, shards=scale.shards)], TIERS, Budget(), [], NOW) == []


def test_waiting_gets_dearer_while_reads_are_late_and_cheaper_while_dollars_run_out() -> None:
    budget = Budget(latency_s=0.1, usd_per_month=10)
    late = next_terms(PERSON, budget, mean_read_s=0.2, usd_per_month=5)
    assert late.wait_usd_per_s > PERSON.wait_usd_per_s
    assert next_terms(PERSON, budget, mean_read_s=0.2, usd_per_month=20).wait_usd_per_s < PERSON.wait_usd_per_s
    assert next_terms(PERSON, budget, mean_read_s=0.05, usd_per_month=5) == PERSON
    for _ in range(100):
        late = next_terms(late, budget, mean_read_s=0.2, usd_per_month=5)
    assert late.wait_usd_per_s == pytest.approx(100 * PERSON.wait_usd_per_s)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: replace(MEMORY, nbytes=-1), "Tier.nbytes"),
        (lambda: replace(MEMORY, latency_s=math.nan), "Tier.latency_s"),
        (lambda: replace(MEMORY, bytes_per_s=0), "Tier.bytes_per_s"),
        (lambda: replace(MEMORY, max_copies=0), "Tier.max_copies"),
        (lambda: sample("a", -1), "Sample.nbytes"),
        (lambda: sample("a", touched_s=math.nan), "time of Sample"),
        (lambda: Budget(usd_per_month=-1), "Budget.usd_per_month"),
        (lambda: Terms(hold=0.5), "Terms.hold"),
        (lambda: Terms(wait_usd_per_s=math.inf), "Terms.wait_usd_per_s"),
        (lambda: Load("memory", 0, 1, 1, 1, 1, 1), "Load.shards"),
        (lambda: plan([], tiers=(MEMORY,)), "Give two or more"),
        (lambda: plan([], tiers=(MEMORY, MEMORY)), "a name of its own"),
        (lambda: plan([sample("a"), sample("a")]), "sampled twice"),
    ],
)
def test_bad_input_is_one_error_that_names_it(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# -- properties


@given(sample_lists, tiers, budgets, any_time | st.just(NOW))
@settings(max_examples=80, deadline=None)
def test_budgets_hold_after_every_single_move(
    known: list[Sample], given_tiers: tuple[Tier, ...], budget: Budget, now_s: float
) -> None:
    """From any start the bytes of a tier never grow beyond its limit, and at the end they are within it."""
    moves = plan(known, budget, tiers=given_tiers, now_s=now_s).moves
    state = known
    limits = {tier.name: tier.nbytes for tier in given_tiers[:-1]}
    before = {name: held(state, name) for name in limits}
    for move in moves:
        state = applied(state, [move])
        for name, limit in limits.items():
            now = held(state, name)
            assert now <= max(limit, before[name])
            before[name] = now
    for name, limit in limits.items():
        pinned = sum(one.nbytes for one in known if name in one.pins and name in one.tiers)
        unknown = sum(one.held(name) for one in state if not one.tiers)
        assert held(state, name) <= max(limit, pinned) + unknown
    everything = sum(held(state, name) for name in limits)
    pinned = sum(one.nbytes for one in known for name in limits if name in one.pins and name in one.tiers)
    assert everything <= max(budget.nbytes, pinned)
    usd = sum(held(state, tier.name) * tier.usd_per_gb_hour / 1e9 * 730 for tier in given_tiers[:-1])
    if not pinned and not math.isnan(usd):
        assert usd <= budget.usd_per_month * (1 + 1e-9)


@given(sample_lists, budgets, any_time | st.just(NOW))
@settings(max_examples=60, deadline=None)
def test_pins_hold_no_key_is_lost_and_only_known_ones_are_moved(
    known: list[Sample], budget: Budget, now_s: float
) -> None:
    after = {one.key: one for one in applied(known, plan(known, budget, now_s=now_s).moves)}
    for one in known:
        assert after[one.key].tiers >= one.tiers & one.pins
        assert bool(after[one.key].tiers) == bool(one.tiers)


@given(sample_lists, budgets, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_samples_changes_nothing(known: list[Sample], budget: Budget, random: Any) -> None:
    shuffled = random.sample(known, len(known))
    assert plan(known, budget).moves == plan(shuffled, budget).moves


@given(sample_lists, st.lists(st.floats(0, 500), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_without_accesses_no_key_moves_up_twice(known: list[Sample], pauses: list[float]) -> None:
    """No ping-pong: time alone takes keys down, and never up again."""
    known = [replace(one, touched_s=min(one.touched_s, NOW)) for one in known]
    promoted: set[tuple[bytes, str]] = set()
    now_s = NOW
    for pause in pauses:
        moves = plan(known, now_s=now_s).moves
        again = {(move.key, move.to) for move in moves if isinstance(move, Promote)}
        assert not again & promoted
        promoted |= again
        known = applied(known, moves, at_s=max(now_s, NOW))
        now_s += pause


@given(sample_lists)
@settings(max_examples=60, deadline=None)
def test_a_plan_that_was_carried_out_settles(known: list[Sample]) -> None:
    """At the same moment nothing comes in again, and within a few plans there is nothing left to do."""
    for _ in range(4):
        known = applied(known, plan(known).moves)
    assert plan(known).moves == ()


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0.001, 5000)), max_size=12),
    st.integers(0, 300),
    st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_more_budget_never_holds_less_worth(ages: list[tuple[int, float]], low: int, more: int) -> None:
    """Worth is the sum of bid x bytes: what the policy maximises, greedily."""
    known = [sample(f"{n}", nbytes, touched_s=NOW - age) for n, (nbytes, age) in enumerate(ages)]
    bidder = Bidder((MEMORY, HOME), PERSON, PRIOR, NOW)
    bids = {one.key: bidder.bid(one, 0) for one in known}

    def worth(nbytes: int) -> float:
        after = applied(known, plan(known, Budget(nbytes=nbytes), tiers=(MEMORY, HOME)).moves)
        return sum(bids[one.key] * one.nbytes for one in after if "memory" in one.tiers)

    assert worth(low) <= worth(low + more) * (1 + 1e-9)


@given(sample_lists, st.integers(0, 300) | any_amount, any_time | st.just(NOW))
@settings(max_examples=60, deadline=None)
def test_copies_stay_within_the_limit_and_the_room(known: list[Sample], room: float, now_s: float) -> None:
    load = Load("memory", 4, 1000, 100, 100, 10, 0.001)
    kept = [replace(one, tiers=one.tiers | {"memory"}) for one in known]
    assume(all(one.nbytes * 4 < 1e18 for one in kept))
    changed = {copy.key: copy.copies for copy in choose_copies(kept, MEMORY, load, room, now_s)}
    extra = sum((changed.get(one.key, max(1, one.copies.get("memory", 1))) - 1) * one.nbytes for one in kept)
    assert all(1 <= copies <= MEMORY.max_copies for copies in changed.values())
    assert all(1 <= wanted_copies(one, MEMORY, load, now_s) <= MEMORY.max_copies for one in kept)
    assert extra <= room
