"""Operations of several stores timed in turn, in one process or in several, and a row printed for each."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from _stores import US

DEADLINE_S = 120.0
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Op:
    """What is timed, how many operations that is, what comes before each time, untimed, and how often at most."""

    run: Callable[[], object]
    count: int = 1
    before: Callable[[], object] | None = None
    most: int = 1 << 30


Figures = dict[str, tuple[float, float]]
"""For each store, the median and the 99th percentile of one operation, us."""


class Bench:
    """Runs rows and prints them; `figures` has what was printed, `rates` operations a second of all processes.

    Names that begin with `us`, or one of them, are no peers; `unit` (us or ms) is what is printed, figures are in
    microseconds.
    """

    def __init__(self, seed: int, us: str | tuple[str, ...] = US, unit: str = "us") -> None:
        self.rng = random.Random(seed)
        self.us, self.unit = us, unit
        self.figures: dict[str, Figures] = {}
        self.rates: dict[tuple[str, str], float] = {}

    def row(self, title: str, ops: Mapping[str, Op], repeats: int, *, nbytes: int = 0) -> None:
        """Time each of `ops` `repeats` times, in up to ten rounds; the first of each is not counted."""
        times: dict[str, list[float]] = {name: [] for name in ops}
        for op in ops.values():
            timed(op)
        rounds = min(10, repeats)
        for _ in range(rounds):
            for name in self.rng.sample(list(ops), len(ops)):
                left = ops[name].most - len(times[name])
                times[name] += [timed(ops[name]) for _ in range(min(left, max(1, repeats // rounds)))]
        self.show(title, times, nbytes=nbytes)

    def show(
        self,
        title: str,
        times: Mapping[str, Sequence[float]],
        more: Mapping[str, str] | None = None,
        *,
        nbytes: int = 0,
        suffix: str = "",
    ) -> None:
        """Print `times`, in microseconds; `more` is a column of its own, and `nbytes` makes one of MB/s."""
        scale = {"us": 1.0, "ms": 1000.0}[self.unit]
        found = {name: (statistics.median(us), p99_of(us)) for name, us in times.items()}
        self.figures[title] = found
        best = min((p50 for name, (p50, _) in found.items() if not name.startswith(self.us)), default=float("nan"))
        print(f"\n{title + suffix:<44}{f'p50 {self.unit}':>12}{f'p99 {self.unit}':>12}{'/ best peer':>13}")
        for name, (p50, p99) in found.items():
            extra = f"{nbytes / p50:>10.0f} MB/s" if nbytes else (more or {}).get(name, "")
            print(f"  {name:<42}{p50 / scale:>12.2f}{p99 / scale:>12.2f}{p50 / best:>12.2f}x{extra}", flush=True)


def timed(op: Op) -> float:
    if op.before is not None:
        op.before()
    start = time.perf_counter_ns()
    op.run()
    return (time.perf_counter_ns() - start) / 1000 / op.count


def p99_of(us: Sequence[float]) -> float:
    return sorted(us)[min(len(us) - 1, int(len(us) * 0.99))]


def tenfold(action: Callable[[], object]) -> Op:
    def run() -> None:
        for _ in range(10):
            action()

    return Op(run, 10)


Make = Callable[[], Any]
"""Opens a store; called in the process that uses it."""


def together(
    works: Sequence[Callable[[Callable[[], bool], Any], Any]], makes: Sequence[Make], seconds: float
) -> list[Any]:
    """What each of `works(go_on, store)` returns, run at the same time in a process each for so many seconds."""
    children = []
    try:
        for work, make in zip(works, makes, strict=True):
            ours, theirs = _fork.Pipe()
            process = _fork.Process(target=_child, args=(theirs, work, make, seconds), daemon=True)
            process.start()
            theirs.close()
            children.append((process, ours))
        for _, pipe in children:
            received(pipe)
        for _, pipe in children:
            pipe.send("go")
        return [received(pipe) for _, pipe in children]
    finally:
        for process, pipe in children:
            pipe.close()
            process.kill()
            process.join(10)


def received(pipe: Connection) -> Any:
    if not pipe.poll(DEADLINE_S):
        raise SystemExit(f"a process of the benchmark did not answer within {DEADLINE_S:g} s")
    try:
        return pipe.recv()
    except EOFError as e:
        raise SystemExit("a process of the benchmark died; its own error is above") from e


def _child(pipe: Connection, work: Callable[..., Any], make: Make, seconds: float) -> None:
    store = make()
    pipe.send("ready")
    received(pipe)
    end = time.monotonic() + seconds
    found = work(lambda: time.monotonic() < end, store)
    store.close()
    pipe.send(found)
