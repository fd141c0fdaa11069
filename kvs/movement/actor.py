"""Carries decisions out: on each step it asks for samples, calls the policy, and moves what it may in one step.

The actor has no thread. `step` does one bounded piece of work and says what became of it; `run` steps until a deadline
or until it is cancelled, from whatever thread calls it, and sleeps in between. A move that failed waits, with a delay
that doubles and jitters, before it is tried again; meanwhile the others go on. A move that frees bytes and failed holds
back those that would need them: what does not fit is left for a later step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvs.movement.bids import PERSON, Terms, next_terms
from kvs.movement.copies import choose_scale
from kvs.movement.decisions import Copy, Demote, Drop, Move, Promote, Scale
from kvs.movement.movable import Movable
from kvs.movement.policy import decide
from kvs.movement.reuse import PRIOR, ReuseModel
from kvs.movement.samples import Budget, Key, Sample, Tier

TICK_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may do, and how a failure waits: `retry_s` doubles up to `retry_most_s`, half of it by chance."""

    moves: int = 64
    nbytes: float = 1e9
    seconds: float = 10.0
    retry_s: float = 1.0
    retry_most_s: float = 300.0

    def __post_init__(self) -> None:
        if self.moves < 1 or not self.nbytes > 0 or not self.seconds > 0:
            raise ValueError(f"{self} would never move anything. Set moves, nbytes and seconds above 0.")
        if not 0 < self.retry_s <= self.retry_most_s:
            raise ValueError(f"retry_s is {self.retry_s!r}. Set it above 0, and to at most retry_most_s.")


@dataclass(frozen=True, slots=True)
class Failed:
    """One move that raised; it is not tried again before `retry_s` of the actor's clock."""

    move: Move
    error: Exception
    attempts: int
    retry_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one step did. `left`: moves that the limits, the room or an earlier failure put off. `scale`: advice."""

    done: tuple[Move, ...] = ()
    failed: tuple[Failed, ...] = ()
    left: int = 0
    moved_bytes: int = 0
    scale: tuple[Scale, ...] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """What was measured since the last step, for the budget: mean read in seconds, dollars at this rate a month."""

    mean_read_s: float
    usd_per_month: float


class Mover:
    """Moves keys between tiers; owns nothing but its retries and its price of waiting. One thread at a time."""

    def __init__(
        self,
        movable: Movable,
        tiers: Sequence[Tier],
        budget: Budget,
        *,
        terms: Terms = PERSON,
        limits: Limits | None = None,
        model: Callable[[], ReuseModel] = lambda: PRIOR,
        spent: Callable[[], Spent] | None = None,
        report: Callable[[Report], None] = lambda report: None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`model` and `spent` are asked once a step; `report` gets what `run` did, each step."""
        self._movable, self._tiers, self._budget = movable, tuple(tiers), budget
        self.terms = terms
        self._limits = limits or Limits()
        self._model, self._spent, self._report = model, spent, report
        self._clock, self._rng = clock, rng or random.Random()
        self._waiting: dict[Key, Failed] = {}
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End after the move that is under way; from any thread, once and for all."""
        self._cancelled.set()

    def run(self, deadline_s: float, tick_s: float = TICK_S) -> None:
        """Step every `tick_s` seconds until the clock passes `deadline_s`, or until `cancel`."""
        while not self._cancelled.is_set() and (left := deadline_s - self._clock()) > 0:
            report = self.step()
            self._report(report)
            self._cancelled.wait(min(left, tick_s))

    def step(self) -> Report:
        """One plan, and as much of it as the limits allow.

        Raises:
            Exception: what `samples`, `loads`, `model` or `spent` raised; nothing was moved. A move never raises here.
        """
        now_s = self._clock()
        if self._spent is not None:
            spent = self._spent()
            self.terms = next_terms(
                self.terms, self._budget, mean_read_s=spent.mean_read_s, usd_per_month=spent.usd_per_month
            )
        samples, loads = list(self._movable.samples()), list(self._movable.loads())
        plan = decide(
            samples, self._tiers, self._budget, now_s=now_s, terms=self.terms, model=self._model(), loads=loads
        )
        wanted = {move.key for move in plan.moves}
        self._waiting = {key: failed for key, failed in self._waiting.items() if key in wanted}
        copies = [move for move in plan.moves if isinstance(move, Copy)]
        scale = tuple(choose_scale(loads, self._tiers, self._budget, copies, now_s))
        return self._carry_out(plan.moves, {sample.key: sample for sample in samples}, now_s, scale)

    def _carry_out(
        self, moves: Sequence[Move], samples: dict[Key, Sample], now_s: float, scale: tuple[Scale, ...]
    ) -> Report:
        done: list[Move] = []
        failed: list[Failed] = []
        left = moved = 0
        for move in moves:
            waiting = self._waiting.get(move.key)
            nbytes = _more(move, samples[move.key])
            over = len(done) + len(failed) >= self._limits.moves or (moved and moved + nbytes > self._limits.nbytes)
            late = self._clock() - now_s > self._limits.seconds
            held_back = waiting is not None and now_s < waiting.retry_s
            if self._cancelled.is_set() or over or late or held_back or not self._fits(move, nbytes):
                left += 1
                continue
            try:
                self._carry(move)
            except Exception as e:
                self._waiting[move.key] = self._failure(move, e, now_s)
                failed.append(self._waiting[move.key])
            else:
                self._waiting.pop(move.key, None)
                done.append(move)
                moved += max(0, nbytes)
        return Report(tuple(done), tuple(failed), left, moved, scale)

    def _carry(self, move: Move) -> None:
        match move:
            case Promote(key, source, to):
                self._movable.promote(key, source, to)
            case Demote(key, source, to):
                self._movable.demote(key, source, to)
            case Drop(key, tier):
                self._movable.drop(key, tier)
            case Copy(key, tier, copies):
                self._movable.copy(key, tier, copies)

    def _fits(self, move: Move, nbytes: int) -> bool:
        """Whether the bytes that a move adds have room now, whatever became of the moves before it."""
        if isinstance(move, Drop) or nbytes <= 0:
            return True
        to = move.tier if isinstance(move, Copy) else move.to
        if to == self._tiers[-1].name:
            return True
        used = {tier.name: self._movable.used(tier.name) for tier in self._tiers[:-1]}
        limit = next(tier.nbytes for tier in self._tiers if tier.name == to)
        more = 0 if isinstance(move, Demote) else nbytes  # a demotion frees above what it takes below
        return used[to] + nbytes <= limit and sum(used.values()) + more <= self._budget.nbytes

    def _failure(self, move: Move, error: Exception, now_s: float) -> Failed:
        before = self._waiting.get(move.key)
        attempts = 1 if before is None else before.attempts + 1
        delay = min(self._limits.retry_s * 2.0 ** min(attempts - 1, 60), self._limits.retry_most_s)
        return Failed(move, error, attempts, now_s + delay * self._rng.uniform(0.5, 1.0))


def _more(move: Move, sample: Sample) -> int:
    """Bytes that a move transfers; below 0 where copies go."""
    if isinstance(move, Drop):
        return 0
    if isinstance(move, Copy):
        return (move.copies - sample.count(move.tier)) * sample.nbytes
    return sample.nbytes
