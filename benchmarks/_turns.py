"""What the benchmarks of parallel work have in common: their first line, rows in turns, and goals in the end."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from _bytecode import compile_ours
from _pools import US
from _rows import Bench, Op

NO_PEERS = (US, "plain loop")


class Turns(Bench):
    """Rows in milliseconds, each peer in turn; a slow one has fewer turns, so that it takes `budget_s` a row."""

    def __init__(self, seed: int, *, quick: bool) -> None:
        super().__init__(seed, NO_PEERS, "ms")
        self.quick = quick
        self._said: list[str] = []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that pools, kernels and files go
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        print(
            f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
            f" commit {found.stdout.strip() or 'unknown'}, seed {seed}, load {os.getloadavg()[0]:.1f}"
        )
        compile_ours()

    def turns(
        self,
        title: str,
        runs: Mapping[str, Callable[[], object]],
        repeats: int,
        *,
        counts: Mapping[str, int] | None = None,
        before: Callable[[], object] | None = None,
        budget_s: float = 10.0,
    ) -> None:
        """Time `runs`, at most `repeats` times each, and once or twice at least; `counts`: of how many operations."""
        budget_s, ops = (2.0 if self.quick else budget_s), {}
        for name, run in runs.items():
            took = seconds(run)
            most = max(1 if took > budget_s else 2, min(repeats, int(budget_s / took)))
            ops[name] = Op(run, (counts or {}).get(name, 1), before, most)
        self.row(title, ops, max(2, repeats // 5) if self.quick else repeats)

    # -- goals

    def ahead(self, title: str, of: str = "", by: float = 1.0, us: str = US) -> None:
        """The goal that `us` is first in the row `title`, or so many times faster than the peers named like `of`."""
        row = self.figures.get(title, {})
        peers = [p50 for name, (p50, _) in row.items() if not name.startswith(NO_PEERS) and name.startswith(of)]
        goal = f"ahead of {of or 'all'}" + (f" {by:g} times" if by > 1 else "")
        if us not in row or not peers:
            self._say(title, "not measured", goal, None)
            return
        ratio = min(peers) / row[us][0]
        self._say(title, f"{ratio:.2f}x", goal, ratio >= by)

    def below(self, title: str, limit_ms: float, us: str = US) -> None:
        row = self.figures.get(title, {})
        if us not in row:
            self._say(title, "not measured", f"below {limit_ms:g} ms", None)
            return
        found = row[us][0] / 1000
        self._say(title, f"{found:.1f} ms", f"below {limit_ms:g} ms", found <= limit_ms)

    def holds(self, title: str, found: str, goal: str, met: bool) -> None:
        self._say(title, found, goal, met)

    def _say(self, what: str, found: str, goal: str, met: bool | None) -> None:
        end = "" if met is None else "met" if met else "missed"
        self._said.append(f"  {what:<52}{found:>14}   goal {goal:<34}{end}".rstrip())

    def goals(self) -> None:
        """Print them. A ratio is the best peer's median over ours: above 1 ours is faster."""
        print("\ngoals", *self._said, sep="\n", flush=True)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """The arguments of a benchmark with that docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of the peers (default 1)")
    parser.add_argument("--only", default="", help="names of peers, ours among them")
    return parser


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
