"""What the tasks of a fan-out have taken: what a serverless bill would be made of. Pure."""

from __future__ import annotations

import msgspec

GB = 1e9
SAID_FROM = 1.0
"""CPU-seconds, or GB-seconds, from which on they are worth a word."""


class Cost(msgspec.Struct, frozen=True):
    """Of all attempts, lost ones too."""

    cpu_s: float = 0.0
    """Seconds of processors, those of processes that tasks have started and waited for included."""
    gb_s: float = 0.0
    """For each attempt, the most memory (10**9 bytes) that its process has held, times the seconds that it lived."""

    def plus(self, cpu_s: float, seconds: float, nbytes: int) -> Cost:
        """With one more attempt."""
        return Cost(self.cpu_s + cpu_s, self.gb_s + seconds * nbytes / GB)

    def said(self, price: float) -> str:
        """`12 CPU-s, 3.4 GB-s`, with dollars where a GB-second has a price; empty where it is too little to matter."""
        if not price and max(self.cpu_s, self.gb_s) < SAID_FROM:
            return ""
        dollars = f", ${self.gb_s * price:.2g}" if price else ""
        return f"{_number(self.cpu_s)} CPU-s, {_number(self.gb_s)} GB-s{dollars}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
