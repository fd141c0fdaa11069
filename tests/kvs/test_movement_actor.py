"""The actor over tiers that really hold bytes: what it moves, what a failure leaves, and how it ends."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvs.movement import Budget, Copy, Demote, Drop, Limits, Load, MemoryTiers, Mover, Promote, Refused, Spent, Tier

FAST = Tier("fast", 1000, 0.0005, 1e9, 0.084, max_copies=4)
HOME = Tier("home", math.inf, 0.020, 9e7, 0.00003, 0.4e-6, 5e-6)
TIERS = (FAST, HOME)
NO_LIMIT = Budget()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Flaky(MemoryTiers):
    """Raises for the keys in `broken`, after `before` has been called for each move."""

    broken: set[bytes]
    before: Callable[[bytes], None]

    def promote(self, key: bytes, source: str, to: str) -> None:
        self._trouble(key)
        super().promote(key, source, to)

    def demote(self, key: bytes, source: str, to: str) -> None:
        self._trouble(key)
        super().demote(key, source, to)

    def drop(self, key: bytes, tier: str) -> None:
        self._trouble(key)
        super().drop(key, tier)

    def _trouble(self, key: bytes) -> None:
        self.before(key)
        if key in self.broken:
            raise OSError("the other side is gone")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tiers(clock: Clock) -> Flaky:
    made = Flaky(["fast", "home"], {"fast": 1000}, clock=clock)
    made.broken, made.before = set(), lambda key: None
    return made


def mover(tiers: MemoryTiers, clock: Callable[[], float], budget: Budget = NO_LIMIT, **more: Any) -> Mover:
    return Mover(tiers, TIERS, budget, clock=clock, rng=random.Random(1), **more)


def values(tiers: MemoryTiers, keys: range) -> dict[int, bytes]:
    return {n: tiers.get(b"%d" % n) for n in keys}


def test_bytes_follow_their_readers_up_and_down(tiers: Flaky, clock: Clock) -> None:
    for n in range(5):
        tiers.put(b"%d" % n, bytes([n]) * 100, "home")
    report = mover(tiers, clock).step()
    assert set(report.done) == {Promote(b"%d" % n, "home", "fast") for n in range(5)}
    assert (report.moved_bytes, tiers.used("fast"), tiers.used("home")) == (500, 500, 500)
    clock.now_s += 7300
    assert all(isinstance(move, Drop) for move in mover(tiers, clock).step().done)
    assert (tiers.used("fast"), tiers.used("home")) == (0, 500)
    assert values(tiers, range(5)) == {n: bytes([n]) * 100 for n in range(5)}


def test_what_only_the_fast_tier_holds_is_copied_down_before_it_is_deleted(tiers: Flaky, clock: Clock) -> None:
    tiers.put(b"a", b"x" * 100, "fast")
    clock.now_s += 7300
    assert mover(tiers, clock).step().done == (Demote(b"a", "fast", "home"),)
    assert (tiers.holders(b"a"), tiers.get(b"a")) == ({"home"}, b"x" * 100)


def test_a_failure_is_reported_and_tried_again_later_with_growing_delays(tiers: Flaky, clock: Clock) -> None:
    for key in (b"a", b"b"):
        tiers.put(key, b"x" * 100, "home")
    tiers.broken = {b"a"}
    actor = mover(tiers, clock, limits=Limits(retry_s=10, retry_most_s=35))
    first = actor.step()
    assert first.done == (Promote(b"b", "home", "fast"),)
    (failed,) = first.failed
    assert (failed.move.key, failed.attempts, str(failed.error)) == (b"a", 1, "the other side is gone")
    assert tiers.holders(b"a") == {"home"}
    delays = [failed.retry_s - clock.now_s]
    for _ in range(3):
        waiting = actor.step()
        assert (waiting.failed, waiting.left) == ((), 1)
        clock.now_s = failed.retry_s
        (failed,) = actor.step().failed
        delays.append(failed.retry_s - clock.now_s)
    assert all(low <= delay <= 2 * low for delay, low in zip(delays, (5, 10, 17.5, 17.5), strict=True)), delays
    tiers.broken = set()
    clock.now_s = failed.retry_s
    tiers.get(b"a")
    assert actor.step().done == (Promote(b"a", "home", "fast"),)


def test_room_that_a_failed_move_did_not_free_is_not_given_away(tiers: Flaky, clock: Clock) -> None:
    tiers.put(b"old", b"x" * 900, "fast")
    clock.now_s += 7300
    tiers.put(b"new", b"y" * 900, "home")
    tiers.broken = {b"old"}
    actor = mover(tiers, clock)
    report = actor.step()
    assert ([failed.move.key for failed in report.failed], report.left, report.done) == ([b"old"], 1, ())
    assert tiers.used("fast") == 900
    tiers.broken = set()
    clock.now_s += 10
    assert actor.step().done == (Demote(b"old", "fast", "home"), Promote(b"new", "home", "fast"))


def test_a_pin_that_comes_during_the_step_wins(tiers: Flaky, clock: Clock) -> None:
    tiers.put(b"a", b"x" * 100, "fast")
    clock.now_s += 7300
    tiers.before = lambda key: tiers.pin(key, "fast")
    (failed,) = mover(tiers, clock).step().failed
    assert isinstance(failed.error, Refused)
    assert tiers.holders(b"a") >= {"fast"}
    tiers.unpin(b"a", "fast")
    tiers.before = lambda key: None
    assert mover(tiers, clock).step().failed == ()


def test_a_step_is_bounded_in_moves_bytes_and_seconds(tiers: Flaky, clock: Clock) -> None:
    for n in range(8):
        tiers.put(b"%d" % n, b"x" * 100, "home")
    by_moves = mover(tiers, clock, limits=Limits(moves=2)).step()
    assert (len(by_moves.done), by_moves.left) == (2, 6)
    by_bytes = mover(tiers, clock, limits=Limits(nbytes=350)).step()
    assert (len(by_bytes.done), by_bytes.left, by_bytes.moved_bytes) == (3, 3, 300)

    def slow(key: bytes) -> None:
        clock.now_s += 3

    tiers.before = slow
    by_seconds = mover(tiers, clock, limits=Limits(seconds=5)).step()
    assert (len(by_seconds.done), by_seconds.left) == (2, 1)


def test_the_budget_holds_over_random_work_and_random_failures(tiers: Flaky, clock: Clock) -> None:
    """Two thousand accesses with one move in five failing: never above the limit, and no value is lost or mixed up."""
    rng = random.Random(7)
    written: dict[bytes, bytes] = {}
    actor = mover(tiers, clock, Budget(nbytes=800))
    failures = 0
    for n in range(2000):
        key = b"%d" % rng.randrange(40)
        clock.now_s += rng.expovariate(0.2)
        if key not in written or rng.random() < 0.2:
            written[key] = b"%d" % n * rng.randrange(1, 60)
            tiers.put(key, written[key], "home")
        else:
            assert tiers.get(key) == written[key]
        if n % 5 == 0:
            tiers.broken = {b"%d" % k for k in range(40) if rng.random() < 0.2}
            failures += len(actor.step().failed)
            assert tiers.used("fast") <= 800
    assert failures > 20
    assert {key: tiers.get(key) for key in written} == written


def test_a_hot_key_gets_its_copies_and_the_tier_its_advice(tiers: Flaky, clock: Clock) -> None:
    class Busy(MemoryTiers):
        def loads(self) -> list[Load]:
            return [Load("fast", 2, 1000, self.used("fast"), 1, 10, 0.001)]

    busy = Busy(["fast", "home"], {"fast": 1000}, clock=clock)
    busy.put(b"a", b"x" * 100, "home")
    for _ in range(1200):
        clock.now_s += 0.05
        busy.get(b"a")
    report = mover(busy, clock).step()
    assert report.done == (Promote(b"a", "home", "fast"), Copy(b"a", "fast", 3))
    assert (busy.used("fast"), busy.copies(b"a")) == (300, {"fast": 3})
    (scale,) = report.scale
    assert (scale.tier, scale.shards, scale.copies) == ("fast", 3, 3)
    clock.now_s += 600
    assert mover(busy, clock).step().done == (Copy(b"a", "fast", 1),)


def test_what_was_spent_moves_the_price_of_waiting(tiers: Flaky, clock: Clock) -> None:
    actor = mover(tiers, clock, Budget(latency_s=0.1), spent=lambda: Spent(0.3, 0.0))
    before = actor.terms.wait_usd_per_s
    actor.step()
    assert actor.terms.wait_usd_per_s == pytest.approx(1.25 * before)


def test_what_samples_raise_reaches_the_caller_and_nothing_is_moved(tiers: Flaky, clock: Clock) -> None:
    tiers.put(b"a", b"x", "home")

    def broken() -> Spent:
        raise OSError("no numbers")

    with pytest.raises(OSError, match="no numbers"):
        mover(tiers, clock, Budget(), spent=broken).step()
    assert tiers.holders(b"a") == {"home"}


def test_run_ends_at_its_deadline_and_when_it_is_cancelled() -> None:
    tiers = MemoryTiers(["fast", "home"], {"fast": 1000})
    tiers.put(b"a", b"x" * 100, "home")
    reports: list[Any] = []
    actor = mover(tiers, time.monotonic, report=reports.append)
    actor.run(time.monotonic() + 0.2, tick_s=0.01)
    assert [move for report in reports for move in report.done] == [Promote(b"a", "home", "fast")]

    thread = threading.Thread(target=actor.run, args=(time.monotonic() + 600, 600))
    thread.start()
    actor.cancel()
    thread.join(30)
    assert not thread.is_alive()


def test_a_cancelled_step_ends_after_the_move_under_way(tiers: Flaky, clock: Clock) -> None:
    for n in range(4):
        tiers.put(b"%d" % n, b"x" * 100, "home")
    actor = mover(tiers, clock)
    tiers.before = lambda key: actor.cancel()
    report = actor.step()
    assert (len(report.done), report.left) == (1, 3)


def test_the_tiers_refuse_what_would_lose_bytes_or_pass_their_limit(tiers: Flaky) -> None:
    tiers.put(b"a", b"x" * 600, "fast")
    tiers.put(b"b", b"y" * 600, "home")
    for move in (
        lambda: tiers.drop(b"a", "fast"),
        lambda: tiers.promote(b"b", "home", "fast"),
        lambda: tiers.promote(b"c", "home", "fast"),
        lambda: tiers.copy(b"a", "fast", 2),
        lambda: tiers.copy(b"a", "fast", 9),
        lambda: tiers.put(b"c", b"z" * 600, "fast"),
    ):
        with pytest.raises(Refused):
            move()
    assert (tiers.get(b"a"), tiers.get(b"b"), tiers.used("fast")) == (b"x" * 600, b"y" * 600, 600)


def test_limits_that_would_never_move_anything_are_refused() -> None:
    for change in ({"moves": 0}, {"nbytes": 0}, {"seconds": 0}, {"retry_s": 0}, {"retry_s": 1000}):
        with pytest.raises(ValueError, match="Set"):
            replace(Limits(), **change)  # type: ignore[arg-type]
