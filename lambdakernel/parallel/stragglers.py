"""Which tasks take so long beside the others that they are worth a second attempt, in another process. Pure.

What is chosen, and where from
- MapReduce (Dean and Ghemawat, OSDI 2004) starts backup tasks when a job is almost done; Spark, when three quarters of
  the tasks have ended and one has taken 1.5 times their median; a hedged request (Dean and Barroso, "The tail at
  scale", 2013) goes out after what 95 % take; Dolly (Ananthanarayanan et al., NSDI 2013) starts small jobs twice.
- Here: three quarters of the tasks have ended, three at least, and no other task waits for a worker. A task is late
  that has run for more than twice what nine tenths of the ended ones took, and `FLOOR_S` at least. Its second attempt
  costs a worker that has nothing to do, and may be first if the first one is stuck; if the task is merely longer, the
  first attempt ends first, as if nothing had been.
- A task has two attempts at a time, not more.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

LEAST = 3
"""Tasks that must have ended before it is known what is usual."""
PART = 0.75
"""Of all tasks, that must have ended."""
QUANTILE = 0.9
FACTOR = 2.0
FLOOR_S = 1.0
"""Below this, a second attempt is hardly begun before it would help: a process takes tens of milliseconds to begin."""


class Stragglers:
    """What tasks of one fan-out have taken. Used by the thread that runs it."""

    def __init__(self, total: int) -> None:
        self._least = max(LEAST, math.ceil(PART * total))
        self._seconds: list[float] = []

    def ended(self, seconds: float) -> None:
        """A task gave its result `seconds` after its process had begun."""
        bisect.insort(self._seconds, seconds)

    @property
    def limit_s(self) -> float:
        """Seconds from which on a task is late; inf where that is not known."""
        if len(self._seconds) < self._least:
            return math.inf
        usual = self._seconds[math.ceil(QUANTILE * len(self._seconds)) - 1]
        return max(FLOOR_S, FACTOR * usual)

    def late(self, running: Iterable[tuple[int, float]], now: float) -> list[int]:
        """Of `running` (what it is, and when it began), those that are late, the longest first."""
        limit = self.limit_s
        found = sorted((began, what) for what, began in running if now - began > limit)
        return [what for _, what in found]
