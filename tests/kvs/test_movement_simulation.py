"""The simulator accounts as it says, the baselines do what their papers say, and ours is worth its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import pytest

from kvs.movement import WORKER, Observer, Terms, Tier
from kvs.movement.baselines import BASELINES, Anna, Gdsf, GdsfRent, Lru, S3Fifo
from kvs.movement.bids import PERSON
from kvs.movement.ours import Ours
from kvs.movement.reuse import PRIOR, Counts, class_of
from kvs.movement.simulator import Cache, Result, Setting, adaptation, clairvoyant_usd, mid_2026, replay
from kvs.movement.tiny_lfu import WTinyLfu
from kvs.movement.traces import Access, Trace, all_traces, hot_spot_shift, notebook, scan, zipf

SETTING = Setting(
    Tier("fast", 1000, 0.001, 1e6, 3600.0), Tier("home", math.inf, 0.1, 1e6, 0.0, 0.01, 0.02), worker_usd_per_s=1.0
)
SCALE = 0.2
NAMES = [trace.name for trace in all_traces(1, 0.01)]


@cache
def traces(seed: int) -> dict[str, Trace]:
    return {trace.name: trace for trace in all_traces(seed, SCALE)}


@cache
def result(name: str, seed: int, gb: float, terms: Terms | None) -> Result:
    """LRU's where there are no terms."""
    setting = mid_2026(gb * 1e9)
    return replay(traces(seed)[name], Lru(setting) if terms is None else Ours(setting, terms), setting)


def run(cache: Cache, *touched: str | tuple[str, int], writes: bool = False) -> set[bytes]:
    """The keys that are held after these accesses, one a second, of 100 bytes where nothing else is said."""
    keys = [(one, 100) if isinstance(one, str) else one for one in touched]
    for n, (key, nbytes) in enumerate(keys):
        cache.access(Access(float(n), key.encode(), nbytes, writes))
        assert cache.used_bytes <= 1000
    return {key.encode() for key, _ in keys if cache.holds(key.encode())}


# -- the account


def test_the_account_of_a_small_trace_by_hand() -> None:
    """Ten seconds of 500 bytes: one write, a hit at 5 s, a miss of another key at 10 s, which then stays for 10 s."""
    accesses = (
        Access(0.0, b"a", 500, write=True),
        Access(5.0, b"a", 500),
        Access(10.0, b"b", 500),
    )
    found = replay(Trace("small", accesses, 20.0), Lru(SETTING), SETTING)
    assert (found.reads, found.hits, found.hit_rate, found.byte_hit_rate) == (2, 1, 0.5, 0.5)
    rent = 3600.0 / 1e9 / 3600
    assert found.rent_usd == pytest.approx(rent * (500 * 10 + 1000 * 10))
    assert found.request_usd == pytest.approx(0.02 + 0.01)
    assert found.mean_read_s == pytest.approx((0.0015 + 0.1005) / 2)
    assert found.waiting_usd == pytest.approx(0.0015 + 0.1005)
    assert found.peak_bytes == 1000


def test_a_policy_that_holds_too_much_is_found_out() -> None:
    class Hoarder(Lru):
        name = "hoarder"

        def access(self, access: Access) -> None:
            self.used_bytes += access.nbytes

    with pytest.raises(ValueError, match="hoarder holds 1200 bytes in a tier of 1000"):
        replay(Trace("t", tuple(Access(float(n), b"k", 600) for n in range(2)), 2.0), Hoarder(SETTING), SETTING)


def test_adaptation_is_the_time_until_the_hit_rate_is_back() -> None:
    before = [(float(n), n % 10 > 0) for n in range(1000)]
    lost = [(float(n), False) for n in range(1000, 1300)]
    after = [(float(n), n % 10 > 0) for n in range(1300, 2000)]
    found = adaptation(before + lost + after, (1000.0,))
    assert 300 + 180 <= found <= 300 + 200
    assert adaptation(before + lost, (1000.0,)) == math.inf
    assert adaptation(before, ()) == 0.0


def test_nobody_spends_less_than_who_knows_the_future() -> None:
    trace, setting = traces(1)["zipf 1"], mid_2026(8e9)
    least = clairvoyant_usd(trace, setting)
    for policy in (*(make(setting) for make in BASELINES), Ours(setting, WORKER)):
        assert replay(trace, policy, setting).usd >= least


# -- the traces


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_is_in_order_and_depends_on_its_seed_alone(name: str) -> None:
    first, again, other = ({trace.name: trace for trace in all_traces(seed, 0.05)}[name] for seed in (3, 3, 4))
    assert first == again
    assert first.accesses != other.accesses
    times = [access.at_s for access in first.accesses]
    assert times == sorted(times)
    assert all(access.nbytes > 0 for access in first.accesses)


def test_a_steeper_zipf_reads_fewer_keys_and_a_scan_reads_most_of_them_once() -> None:
    def keys(trace: Trace) -> int:
        return len({access.key for access in trace.accesses})

    assert keys(zipf(2.0, seed=1, reads=2000)) < keys(zipf(1.0, seed=1, reads=2000)) / 3
    scanned = [access.key for access in scan(seed=1, reads=2000).accesses if access.key.startswith(b"scan")]
    assert len(scanned) == len(set(scanned)) > 400


def test_a_notebook_reads_only_what_it_has_made_at_the_size_it_was_made() -> None:
    sizes: dict[bytes, int] = {}
    for access in notebook(seed=5, sessions=5).accesses:
        if access.write:
            sizes[access.key] = access.nbytes
        assert sizes[access.key] == access.nbytes


def test_the_hot_spot_really_shifts() -> None:
    trace = hot_spot_shift(seed=1, reads=3000)
    (first, second) = trace.shifts_s
    hot = []
    for low, high in ((0.0, first), (first, second), (second, math.inf)):
        counts: dict[bytes, int] = {}
        for access in trace.accesses:
            if low <= access.at_s < high:
                counts[access.key] = counts.get(access.key, 0) + 1
        hot.append(max(counts, key=lambda key: counts[key]))
    assert len(set(hot)) == 3


# -- the baselines


def test_lru_evicts_what_was_not_used_for_longest() -> None:
    keys = [f"{n}" for n in range(10)]
    assert run(Lru(SETTING), *keys, "0", "new") == {key.encode() for key in [*keys, "new"]} - {b"1"}


def test_s3_fifo_lets_one_hit_keys_pass_and_keeps_what_was_read_again() -> None:
    """`hot` is read three times, so it moves to the main queue; a scan of 30 keys passes through the small one."""
    held = run(S3Fifo(SETTING), "hot", "hot", "hot", *(f"scan{n}" for n in range(30)))
    assert b"hot" in held


def test_s3_fifo_remembers_what_its_small_queue_let_go() -> None:
    cache = S3Fifo(SETTING)
    run(cache, *(f"{n}" for n in range(10)), "10", "0")
    run(cache, *(f"scan{n}" for n in range(30)))
    assert cache.holds(b"0")


def test_w_tiny_lfu_refuses_a_large_newcomer_that_is_rarer_than_all_it_would_displace() -> None:
    old = [f"{n}" for n in range(9)] * 3
    cache = WTinyLfu(SETTING)
    held = run(cache, *old, ("large", 500))
    assert b"large" not in held
    assert b"large" in run(WTinyLfu(SETTING), *old, *[("large", 500)] * 40)


def test_gdsf_prefers_small_and_frequent_keys() -> None:
    held = run(Gdsf(SETTING), ("large", 600), "small", "often", "often", ("next", 300))
    assert held == {b"small", b"often", b"next"}


def test_gdsf_with_rent_lets_go_of_what_is_paid_for() -> None:
    setting = replace(SETTING, fast=replace(SETTING.fast, usd_per_gb_hour=3.6e9))
    cache = GdsfRent(setting)
    run(cache, ("a", 10))
    assert cache.holds(b"a")
    cache.tick(3600.0)
    assert not cache.holds(b"a")


def test_anna_promotes_at_two_accesses_and_demotes_at_none() -> None:
    cache = Anna(SETTING)
    assert run(cache, "once", "twice", "twice") == set()
    assert list(cache.tick(30.0)) == [b"twice"]
    assert list(cache.tick(100.0)) == []
    assert not cache.holds(b"twice")


@pytest.mark.parametrize("make", [*BASELINES, Ours])
@pytest.mark.parametrize("name", NAMES)
def test_no_policy_passes_its_limit(make: Callable[[Setting], Cache], name: str) -> None:
    """`replay` checks after every access and tick; a tier of 1 MB is smaller than many keys."""
    trace = {trace.name: trace for trace in all_traces(2, 0.02)}[name]
    setting = mid_2026(1e6)
    assert replay(trace, make(setting), setting).peak_bytes <= 1e6


# -- what is learned


def test_a_class_that_does_not_come_back_loses_its_worth_and_one_that_does_keeps_it() -> None:
    observer = Observer("home")
    for n in range(400):
        observer.accessed(b"scan%d" % n, 1000, float(n))
        observer.accessed(b"daily", 1000, float(n))
    observer.refresh(1000.0)
    observer.refresh(2000.0)
    once, often = observer.sample(b"scan399"), observer.sample(b"daily")
    assert once is not None and often is not None
    just_read = [replace(sample, touched_s=2000.0) for sample in (once, often)]
    learned = [observer.model.worth(sample, 2000.0).hits_per_s for sample in just_read]
    assert learned[0] < 0.2 * PRIOR.worth(just_read[0], 2000.0).hits_per_s
    assert learned[1] > 20 * learned[0]


def test_rates_are_reads_over_exposure_where_there_is_much_of_both() -> None:
    counts = Counts()
    observer = Observer("home")
    row = class_of(observer.accessed(b"a", 1000, 0.0))
    for _ in range(10_000):
        counts.exposed(row, 0.0, 1.0)
    for _ in range(5_000):
        counts.read(row, 0.5)
    chance, held_s = counts.model().worths[row][0].horizons[0]
    assert chance == pytest.approx(1 - math.exp(-0.5), rel=0.01)
    assert held_s == pytest.approx(chance / 0.5, rel=0.01)


def test_the_observer_forgets_what_is_old_and_keeps_what_is_paid_for() -> None:
    observer = Observer("home", max_keys=10)
    for n in range(50):
        observer.accessed(b"%d" % n, 10, float(n))
    observer.moved(b"3", frozenset({"fast", "home"}), 3.0)
    observer.refresh(50.0)
    kept: Iterable[bytes] = {sample.key for sample in observer.samples()}
    assert kept == {b"3", *(b"%d" % n for n in range(40, 50))}


# -- ours beside LRU, on traces of a fifth


@pytest.mark.parametrize("name", NAMES)
def test_at_the_workers_price_dollars_are_at_most_half_of_lrus_at_2_gb_and_never_above(name: str) -> None:
    for gb, most in ((0.1, 1.0), (0.5, 1.0), (2.0, 0.5)):
        ours, lru = result(name, 1, gb, WORKER), result(name, 1, gb, None)
        assert ours.usd <= most * lru.usd, (gb, ours.usd / lru.usd)


@pytest.mark.parametrize("seed", [1, 2])
def test_at_a_persons_price_notebooks_cost_half_at_2_gb_and_read_about_as_fast(seed: int) -> None:
    ours, lru = result("notebook", seed, 2.0, PERSON), result("notebook", seed, 2.0, None)
    assert ours.usd <= 0.5 * lru.usd
    assert ours.mean_read_s <= 1.4 * lru.mean_read_s


@pytest.mark.parametrize("name", [name for name in NAMES if name != "diurnal"])
def test_at_a_persons_price_a_tier_that_is_too_small_reads_no_slower_than_lru_for_no_more(name: str) -> None:
    ours, lru = result(name, 1, 0.1, PERSON), result(name, 1, 0.1, None)
    assert ours.mean_read_s <= 1.02 * lru.mean_read_s
    assert ours.usd <= 1.02 * lru.usd


def test_a_scan_does_not_displace_what_is_read_again() -> None:
    ours, lru = result("scan", 1, 0.1, PERSON), result("scan", 1, 0.1, None)
    assert ours.hit_rate >= 1.2 * lru.hit_rate


def test_a_shift_is_followed() -> None:
    ours = result("hot-spot shift", 1, 0.5, PERSON)
    assert ours.adaptation_s < traces(1)["hot-spot shift"].duration_s / 3
