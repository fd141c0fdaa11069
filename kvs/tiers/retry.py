"""Trying again: until an answer, a refusal or the deadline, with waits that grow and are spread at random."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kvs.tiers.failures import TierUnreachable

T = TypeVar("T")


class Passing(Exception):
    """A failure that may not be there the next time; its text says what it was."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long an operation may take, and how it waits between attempts.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
    """

    deadline_s: float = 60.0
    """Of one operation; 60 s is longer than a usual throttling or failover of an object store."""
    first_wait_s: float = 0.05
    longest_wait_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    uniform: Callable[[float, float], float] = field(default_factory=lambda: random.Random().uniform)

    def call(self, attempt: Callable[[], T], where: str, *, end_s: float = float("inf")) -> T:
        """What `attempt` returns; it is tried again after each `Passing`.

        Raises:
            TierUnreachable: the next attempt would begin after the deadline, or after `end_s`. Others as they come.
        """
        start_s = self.clock()
        end_s = min(end_s, start_s + self.deadline_s)
        if start_s >= end_s:
            raise TierUnreachable(where, 0.0, "no time was left for it")
        wait_s = self.first_wait_s
        while True:
            try:
                return attempt()
            except Passing as e:
                pause_s = self.uniform(0.0, wait_s)
                if self.clock() + pause_s >= end_s:
                    raise TierUnreachable(where, self.clock() - start_s, str(e)) from e
            self.sleep(pause_s)
            wait_s = min(2 * wait_s, self.longest_wait_s)
