"""What keeps which bytes where, at what price: kvs's policy beside published ones, on the same traces, in one run.

    python benchmarks/kvs_movement.py [--quick] [--seed N] [--traces notebook,scan] [--wait USD_PER_S]

One fast tier of 0.1, 0.5, 2 and 8 GB over an object store, at list prices (`kvs.movement.simulator.mid_2026`). For each
policy: hit rate, byte hit rate, mean and 99th percentile of a read, dollars (rent of the fast tier, requests, waiting
workers), both also as ratios to LRU's, and the seconds until the hit rate is back after a shift. `known` is the least
that any policy could spend: it knows the future and has room without limit. The numbers depend on the seed and on
nothing else; only `CPU s` is measured. `kvs, person` prices a person's wait, `kvs, worker` only the worker's, which is
what the dollars here count; neither is told which trace it runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time

from kvs.movement.baselines import BASELINES
from kvs.movement.bids import PERSON, WORKER, Terms
from kvs.movement.ours import Ours
from kvs.movement.simulator import Cache, Result, Setting, clairvoyant_usd, mid_2026, replay
from kvs.movement.traces import Trace, all_traces

SIZES_GB = (0.1, 0.5, 2.0, 8.0)
QUICK_SIZES_GB = (0.1, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="traces of a fifth, tiers of 0.1 and 2 GB only")
    parser.add_argument("--seed", type=int, default=1, help="draws the traces (default 1)")
    parser.add_argument("--traces", default="", help="names, or parts of names, with commas (default: all)")
    parser.add_argument("--wait", type=float, default=PERSON.wait_usd_per_s, help="dollars a second of waiting")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
        f" commit {commit.stdout.strip()}, seed {arguments.seed}, waiting priced at ${arguments.wait:g} a second"
    )
    wanted = [part for part in arguments.traces.split(",") if part]
    for trace in all_traces(arguments.seed, 0.2 if arguments.quick else 1.0):
        if not wanted or any(part in trace.name for part in wanted):
            table(trace, QUICK_SIZES_GB if arguments.quick else SIZES_GB, Terms(arguments.wait))


def table(trace: Trace, sizes_gb: tuple[float, ...], terms: Terms) -> None:
    unique = sum({access.key: access.nbytes for access in trace.accesses}.values()) / 1e9
    least = clairvoyant_usd(trace, mid_2026(1e9))
    about = f"{trace.reads} reads in {trace.duration_s / 3600:.1f} h, {unique:.1f} GB of keys; known ${least:.4f}"
    print(f"\n{trace.name}: {about}")
    print(
        f"  {'GB':>4} {'policy':<12}{'hits':>7}{'bytes':>7}{'mean ms':>9}{'/ LRU':>7}{'p99 ms':>8}"
        f"{'$':>9}{'/ LRU':>7}{'rent':>9}{'requests':>9}{'waiting':>9}{'adapts s':>9}{'CPU s':>7}"
    )
    for gb in sizes_gb:
        setting = mid_2026(gb * 1e9)
        base: Result | None = None
        for cache in (
            *(make(setting) for make in BASELINES),
            Ours(setting, terms),
            Ours(setting, WORKER, "kvs, worker"),
        ):
            result, cpu_s = timed(trace, cache, setting)
            base = base or result
            print(row(gb, result, base, cpu_s, shifts=bool(trace.shifts_s)), flush=True)


def timed(trace: Trace, cache: Cache, setting: Setting) -> tuple[Result, float]:
    start = time.process_time()
    result = replay(trace, cache, setting)
    return result, time.process_time() - start


def row(gb: float, result: Result, base: Result, cpu_s: float, *, shifts: bool) -> str:
    adapts = f"{result.adaptation_s:.0f}" if shifts else "-"
    return (
        f"  {gb:>4g} {result.policy:<12}{result.hit_rate:>7.3f}{result.byte_hit_rate:>7.3f}"
        f"{result.mean_read_s * 1e3:>9.1f}{result.mean_read_s / base.mean_read_s:>7.2f}{result.p99_read_s * 1e3:>8.0f}"
        f"{result.usd:>9.4f}{result.usd / base.usd:>7.2f}{result.rent_usd:>9.4f}{result.request_usd:>9.4f}"
        f"{result.waiting_usd:>9.4f}{adapts:>9}{cpu_s:>7.1f}"
    )


if __name__ == "__main__":
    main()
