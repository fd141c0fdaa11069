"""Solve-time races: p tasks look for the same solution with luck of their own, and the first one wins.

    python benchmarks/parallel_races.py [--quick] [--seed N] [--mean S]

Motion planners that draw samples take a time with a heavy tail, so p of them that race are faster than one by more than
a processor is busy: this is what is gained by many small functions of a cloud (Ichnowski et al., "Fog robotics
algorithms for distributed motion planning using Lambda serverless computing", ICRA 2020). The times are drawn and
replayed by tasks that sleep, so that 128 of them run on any machine, and what is lost is ours:

- ideal: the least of the p times that were drawn, as if all had begun at once and everybody knew at once;
- births: what the winner's solution came later than that, for tasks begin one after another;
- news: from the solution in its task to the notebook's next line.

"from nothing" is a `%%parallel --background` cell, `solved.wait(...)` in the notebook, and `%cancel`. "all there" is
one cell whose tasks wait for each other by a live set, and then race; its news is the end of the cell, with all of its
tasks. "fork by hand" is a process for each by `multiprocessing`, with an event: no notebook's variables, no results, no
output, no bar. Speed-up is the mean time of one over the mean of the race.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
WAIT_S = 200.0
LONGEST = 10.0
"""Means of the longest time that is drawn: who waits for one task must wait for all of it."""
LAWS: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda rng: rng.expovariate(1.0),
    "lognormal, sigma 1.5": lambda rng: rng.lognormvariate(-1.125, 1.5),
}
"""Each with a mean of 1."""

SETUP = """
import time
from kvs.lattices import GrowSet, Min
from lambdakernel import Live

BODY = "if not solved.wait(lambda s: s.value is not None, seconds): solved.merge(time.time())"

def race(times):
    globals().update(solved=Live(Min()), solve_times=times)
    began = time.time()
    get_ipython().run_cell_magic(
        "parallel", "--background --again no --workers 128 for seconds in solve_times", BODY
    )
    assert solved.wait(lambda s: s.value is not None, 180)
    heard = time.time()
    get_ipython().run_line_magic("cancel", "")
    return solved.value - began, heard - began
"""
TOGETHER = """%%parallel --again no --workers 128 for i, seconds in enumerate(solve_times) -> gun
there.add((i, time.time()))
there.wait(lambda s: len(s) == len(solve_times), 60)
gun = max(moment for _, moment in there) + 0.3
time.sleep(max(0.0, gun - time.time()))
if not solved.wait(lambda s: s.value is not None, seconds):
    solved.merge(time.time())
"""


class Race(NamedTuple):
    """Seconds from the beginning to the first solution, and until who waits for it knew."""

    solved: float
    heard: float


def from_nothing(kernel: Any, times: list[float]) -> Race:
    return Race(*kernel.value(f"race({times!r})", WAIT_S))


def all_there(kernel: Any, times: list[float]) -> Race:
    kernel.run(f"solved, there, solve_times = Live(Min()), Live(GrowSet()), {times!r}")
    result = kernel.run(TOGETHER, timeout=WAIT_S)
    if result.status != "ok":
        raise SystemExit(result.shown)
    ended = time.time()
    gun, solved = kernel.value("(gun[0], solved.value)")
    return Race(solved - gun, ended - gun)


def by_hand(_: Any, times: list[float]) -> Race:
    fork = multiprocessing.get_context("fork")
    event, found = fork.Event(), fork.SimpleQueue()

    def solve(seconds: float) -> None:
        if not event.wait(seconds):
            event.set()
            found.put(time.time())

    began = time.time()
    processes = [fork.Process(target=solve, args=(seconds,)) for seconds in times]
    for process in processes:
        if not event.is_set():
            process.start()
    solved, heard = found.get(), time.time()
    for process in processes:
        if process.pid is not None:
            process.join()
    return Race(solved - began, heard - began)


def show(law: str, mean: float, draws: list[list[float]], ways: dict[str, dict[int, list[Race]]]) -> None:
    """One line for each number of tasks: means over the rounds."""
    one = statistics.mean(seconds for round in draws for seconds in round)
    print(f"\n{law}, mean {mean:g} s ({one:.2f} s drawn); {len(draws)} rounds")
    print(f"{'p':>5}{'ideal s':>10}{'speed-up':>10}", *(f"| {name:<42}" for name in ways), sep="")
    head = f"{'s':>7}{'speed-up':>10}{'of ideal':>9}{'births':>9}{'news':>7} "
    print(f"{'':>25}", *(f"|{head}" for _ in ways), sep="")
    for p in SIZES:
        ideal = statistics.mean(min(round[:p]) for round in draws)
        cells = []
        for races in ways.values():
            heard = statistics.mean(race.heard for race in races[p])
            births = 1000 * (statistics.mean(race.solved for race in races[p]) - ideal)
            news = 1000 * statistics.mean(race.heard - race.solved for race in races[p])
            cells.append(f"|{heard:>7.2f}{one / heard:>10.1f}{100 * ideal / heard:>8.0f}%{births:>9.0f}{news:>7.0f} ")
        print(f"{p:>5}{ideal:>10.3f}{one / ideal:>10.1f}", *cells, sep="", flush=True)


def main() -> None:
    from tests.kernels import running

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mean", type=float, help="seconds that one takes on average")
    arguments = parser.parse_args()
    rounds, mean = (1, 1.0) if arguments.quick else (3, 10.0)
    mean = arguments.mean or mean
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    workers = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {workers} processors, Python {platform.python_version()}, {commit or 'no commit'}")
    print(f"seed {arguments.seed}; births and news in milliseconds")
    rng = random.Random(arguments.seed)
    runs = {"from nothing": from_nothing, "all there": all_there, "fork by hand": by_hand}
    with running(Path(tempfile.mkdtemp(prefix="lk-bench-")) / "store", session="races") as kernel:
        kernel.run(SETUP)
        kernel.run("race([0.1, 0.2])")
        for law, draw in LAWS.items():
            draws = [[mean * min(LONGEST, draw(rng)) for _ in range(max(SIZES))] for _ in range(rounds)]
            ways: dict[str, dict[int, list[Race]]] = {name: {p: [] for p in SIZES} for name in runs}
            for round in draws:
                for p in SIZES:
                    for name, run in runs.items():
                        ways[name][p].append(run(kernel, round[:p]))
            show(law, mean, draws, ways)


if __name__ == "__main__":
    main()
