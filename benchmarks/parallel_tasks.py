"""What one small call in another process costs: lambdakernel.Executor beside the usual pools, in one run, in turn.

    python benchmarks/parallel_tasks.py [--quick] [--seed N] [--only NAME,NAME]

Rows: start to first result, from the death of a worker to the next result, no-op round trip, no-ops of one task each,
no-ops by a batching `map`, and the processor time of a no-op in all processes. Every pool has two workers. Rows run the
pools in turn, the order drawn anew each round, and print median and 99th percentile, and the median over the best
peer's (below 1: ours is faster). Pools whose calls take milliseconds have a tenth of the calls of a row, and the start
of those that take seconds is in `parallel_cell.py`. A pool that the death breaks is made anew, as its user must.

What ours does not win is the start: the first worker comes from a fresh Python, which takes longer than a fork of the
program does. That is the price of never forking a process that may have threads; `python -c pass` is most of it, and
has a row. Parsl is left out: processes of it outlive a program that does not close it, and hold its output open.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import psutil
from _calls import noop
from _pools import US, WORKERS, Pool, installed, tools_of_this_python
from _turns import Turns

NAMES = (US, "ProcessPoolExecutor", "loky", "joblib", "ipyparallel", "Dask", "Ray")
STARTS, DEATHS, TRIP = "start to first result", "killed worker to next result", "no-op round trip"
BREAKS = ("ProcessPoolExecutor", "loky")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def starts(bench: Turns, kinds: dict[str, type[Pool]]) -> None:
    def start(kind: type[Pool]) -> None:
        running.append(kind())
        running[-1].call(noop)

    def close() -> None:
        while running:
            running.pop().close()

    running: list[Pool] = []
    runs: dict[str, Any] = {name: partial(start, kinds[name]) for name in (US, *BREAKS) if name in kinds}
    runs[f"{US}, of it `python -c pass`"] = lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)
    bench.turns(STARTS, runs, 10, before=close)
    close()


def deaths(bench: Turns, kinds: dict[str, type[Pool]]) -> None:
    """With a new pool where the old one is broken by it. Every peer has its own error for that."""
    pools = {name: kinds[name]() for name in (US, *BREAKS) if name in kinds}

    def kill(name: str) -> None:
        pools[name].executor.submit(die).exception(60)
        try:
            pools[name].call(noop)
        except Exception:
            pools[name].close()
            pools[name] = kinds[name]()
            pools[name].call(noop)

    def warm() -> None:
        for pool in pools.values():
            pool.all(noop, times=20)
        time.sleep(0.1)

    try:
        bench.turns(DEATHS, {name: partial(kill, name) for name in pools}, 10, before=warm)
    finally:
        for pool in pools.values():
            pool.close()


def calls(bench: Turns, kinds: dict[str, type[Pool]]) -> None:
    many = 2_000 if bench.quick else 10_000
    with ExitStack() as owned:
        pools, families = {}, {}
        for name, kind in kinds.items():
            before = set(psutil.Process().children(recursive=True))
            pools[name] = kind()
            owned.callback(pools[name].close)
            pools[name].all(noop, times=20)
            families[name] = set(psutil.Process().children(recursive=True)) - before
        counts = {name: many // 10 if pool.is_slow else many for name, pool in pools.items()}

        bench.turns(TRIP, {name: partial(pool.call, noop) for name, pool in pools.items()}, 2_000, budget_s=5)
        spent: dict[str, list[float]] = {name: [] for name in pools}

        def run(name: str) -> None:
            began = cpu_of(families[name])
            pools[name].all(noop, times=counts[name])
            spent[name].append((cpu_of(families[name]) - began) * 1e6 / counts[name])

        bench.turns(f"{many:,} no-ops, each", {name: partial(run, name) for name in pools}, 7, counts=counts)
        bench.show("processor time of each, all processes", spent)
        maps = {name: partial(pools[name].map, noop, range(n), n // 20) for name, n in counts.items()}
        bench.turns(f"{many:,} no-ops by a batching map, each", maps, 15, counts=counts)
    bench.ahead(TRIP)
    bench.ahead(TRIP, "ProcessPoolExecutor")
    bench.ahead(f"{many:,} no-ops, each")
    bench.ahead(f"{many:,} no-ops by a batching map, each")
    bench.ahead("processor time of each, all processes")


def cpu_of(family: set[psutil.Process]) -> float:
    """Seconds of processor time that this process and the living ones of `family`, with their own, have used."""
    found = {*family, *(child for one in family if one.is_running() for child in one.children(recursive=True))}
    total = 0.0
    for process in (psutil.Process(), *found):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, and of the calls")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of the pools (default 1)")
    parser.add_argument("--only", default=",".join(NAMES), help="names of pools, ours among them")
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    print(f"{WORKERS} workers")
    kinds = installed(given.only.split(","))
    starts(bench, kinds)
    deaths(bench, kinds)
    calls(bench, kinds)
    bench.ahead(STARTS)
    bench.ahead(DEATHS)
    bench.goals()


if __name__ == "__main__":
    main()
