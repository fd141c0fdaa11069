"""A hybrid logical clock: close to wall time, never backwards, advanced by everything that was seen.

48 bits of milliseconds, 16 bits of counter. It orders concurrent writes and nothing else; causality is the version
vectors' business, so a wrong wall clock can pick a surprising winner but never loses a write.
Source: Kulkarni et al., "Logical Physical Clocks", 2014.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class HybridClock:
    """Ticks grow strictly; `wall_ms` is injected so that a test needs no sleep."""

    def __init__(self, wall_ms: Callable[[], int] | None = None) -> None:
        self._wall_ms = wall_ms or _wall_ms
        self._last = 0

    def tick(self) -> int:
        """A time above every earlier one and every one seen."""
        self._last = max(self._last + 1, self._wall_ms() << 16)
        return self._last

    def see(self, other: int) -> None:
        """Never tick at or below `other`."""
        self._last = max(self._last, other)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def seconds(tick: int) -> float:
    """The wall time in a tick, in seconds since 1970."""
    return (tick >> 16) / 1000
