"""How long calls in other processes take: lambdakernel.Executor beside the usual pools, in one run.

Rows: a fresh Python to its first result, start to first result, no-op round trip, 10,000 no-ops, as many by a batching
`map`, a 100 MB array to ten calls (the first time and again), a 100 MB array back, and from the death of a worker to
the next result. Prints the median of each pool and how many times ours it is (above 1: ours is faster). The pools take
turns in every row, so that a busy machine is busy for all of them. Peers: `ProcessPoolExecutor` (fork), and loky,
ipyparallel, Dask and Ray where they are installed (the `bench` extra, and `pip install ray`).

    python benchmarks/parallel_tasks.py [--quick] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from _bytecode import compile_ours

import lambdakernel

WORKERS = 2
OURS = "ours"
DEADLINE_S = 120.0


def noop(_: object = None) -> None:
    return None


def ones(count: int) -> Any:
    import numpy

    return numpy.ones(count)


def total(array: Any) -> float:
    return float(array.sum())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Sizes:
    """How often a row is measured, how many calls are many, and how large an array is."""

    rounds: int
    trips: int
    calls: int
    nbytes: int


class Pool(ABC):
    """One peer: a pool of two workers with `submit(f, *args)` and `map`."""

    module = ""
    batches: tuple[str, ...] = ("chunksize",)

    def __init__(self) -> None:
        self.executor: Any = self.start()

    @abstractmethod
    def start(self) -> Any:
        """The peer's own pool, running."""

    def close(self) -> None:
        self.executor.shutdown()

    def all(self, function: Callable[..., Any], *argument: Any, times: int) -> None:
        """Run a call so many times and wait for all."""
        futures = [self.executor.submit(function, *argument) for _ in range(times)]
        for future in futures:
            future.result()

    def to_ten(self, array: Any) -> None:
        """Give `array` to ten calls, in the way that the pool's own guide says."""
        self.all(total, array, times=10)

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> None:
        for _ in self.executor.map(function, items, chunksize=size):
            pass


class Ours(Pool):
    def start(self) -> Any:
        return lambdakernel.Executor(WORKERS)


class Futures(Pool):
    def start(self) -> Any:
        return ProcessPoolExecutor(WORKERS)


class Loky(Pool):
    module = "loky"

    def start(self) -> Any:
        import loky

        return loky.ProcessPoolExecutor(WORKERS)


class IPyParallel(Pool):
    module = "ipyparallel"

    def start(self) -> Any:
        import ipyparallel

        self._cluster = ipyparallel.Cluster(n=WORKERS, log_level=40)
        self._client = self._cluster.start_and_connect_sync(activate=False)
        return self._client.executor()

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> None:
        self._client.load_balanced_view().map_sync(function, list(items), chunksize=size)

    def close(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()


class Dask(Pool):
    module = "distributed"

    def start(self) -> Any:
        import distributed

        cluster = distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self._client = distributed.Client(cluster)
        return self._client.get_executor(pure=False)

    def to_ten(self, array: Any) -> None:
        self.all(total, self._client.scatter(array, hash=False), times=10)

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> None:
        self._client.gather(self._client.map(function, list(items), batch_size=size, pure=False))

    def close(self) -> None:
        self._client.cluster.close()
        self._client.close()


class _Ray:
    def __init__(self) -> None:
        self._remote: dict[Any, Any] = {}

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        import ray

        if function not in self._remote:
            self._remote[function] = ray.remote(max_retries=0)(function)
        return self._remote[function].remote(*args).future()

    def shutdown(self) -> None:
        import ray

        ray.shutdown()


class Ray(Pool):
    module = "ray"

    def start(self) -> Any:
        import ray

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=40)
        return _Ray()

    def to_ten(self, array: Any) -> None:
        import ray

        self.all(total, ray.put(array), times=10)

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> None:
        from ray.util.multiprocessing import Pool as RayPool

        RayPool(WORKERS).map(function, items, chunksize=size)


PEERS: dict[str, type[Pool]] = {
    OURS: Ours,
    "futures": Futures,
    "loky": Loky,
    "ipyparallel": IPyParallel,
    "dask": Dask,
    "ray": Ray,
}
Times = dict[str, list[float]]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(row: str, times: Times) -> None:
    medians = {name: statistics.median(found) for name, found in times.items() if found}
    if OURS not in medians:
        return
    ours = medians.pop(OURS)
    others = "".join(f"  {name} {s * 1e3:.3f} ({s / ours:.2f}x)" for name, s in medians.items())
    print(f"{row:<30}{ours * 1e3:>12.3f} ms{others}", flush=True)


def in_turns(pools: dict[str, Pool], rounds: int, work: Callable[[Pool], object]) -> Times:
    """`rounds` times of `work` with each pool, after one that is not counted."""
    times: Times = {name: [] for name in pools}
    for counted in [False, *[True] * rounds]:
        for name, pool in pools.items():
            took = seconds(lambda pool=pool: work(pool))
            if counted:
                times[name].append(took)
    return times


def fresh_python(chosen: dict[str, type[Pool]], rounds: int) -> Times:
    """From `python` to its first result, of which the start of Python itself is a part."""
    code = "import parallel_tasks as p; pool = p.PEERS[{name!r}](); pool.all(p.noop, times=1); pool.close()"
    here = os.path.dirname(os.path.abspath(__file__))
    times: Times = {name: [] for name in chosen}
    for _ in range(rounds):
        for name in chosen:
            command = [sys.executable, "-c", code.format(name=name)]
            began = time.perf_counter()
            subprocess.run(command, cwd=here, check=True, timeout=DEADLINE_S, capture_output=True)
            times[name].append(time.perf_counter() - began)
    return times


def starts(chosen: dict[str, type[Pool]], rounds: int) -> Times:
    """From nothing to the first result, in a program that has its modules."""
    times: Times = {name: [] for name in chosen}
    for counted in [False, *[True] * rounds]:
        for name, kind in chosen.items():
            began = time.perf_counter()
            pool = kind()
            pool.all(noop, times=1)
            took = time.perf_counter() - began
            pool.close()
            if counted:
                times[name].append(took)
    return times


def deaths(chosen: dict[str, type[Pool]], rounds: int) -> Times:
    """From a call that kills its worker to the next result, with a new pool where the old one is broken by it."""
    times: Times = {name: [] for name in chosen}
    for name, kind in chosen.items():
        pool = kind()
        pool.all(noop, times=20)
        for _ in range(rounds):
            time.sleep(0.2)
            began = time.perf_counter()
            pool.executor.submit(die).exception(DEADLINE_S)
            try:
                pool.all(noop, times=1)
            except Exception:  # each peer has its own error for it
                pool.close()
                pool = kind()
                pool.all(noop, times=1)
            times[name].append(time.perf_counter() - began)
        pool.close()
    return times


def measure(chosen: dict[str, type[Pool]], sizes: Sizes) -> None:
    light = {name: kind for name, kind in chosen.items() if name not in {"ipyparallel", "dask", "ray"}}
    show("fresh python, first result", fresh_python(chosen, 3))
    show("start to first result", starts(light, sizes.rounds))
    show("killed worker to next result", deaths(light, sizes.rounds))
    pools = {name: kind() for name, kind in chosen.items()}
    array = np.ones(sizes.nbytes // 8)
    try:
        for pool in pools.values():
            pool.all(noop, times=50)

        def trips(pool: Pool) -> None:
            for _ in range(sizes.trips):
                pool.all(noop, times=1)

        found = in_turns(pools, sizes.rounds, trips)
        show("no-op round trip", {name: [s / sizes.trips for s in all_of] for name, all_of in found.items()})
        many, mb = f"{sizes.calls:,}", f"{sizes.nbytes / 1e6:.0f} MB"
        show(f"{many} no-ops", in_turns(pools, sizes.rounds, lambda p: p.all(noop, times=sizes.calls)))
        chunks = in_turns(pools, sizes.rounds, lambda p: p.map(noop, range(sizes.calls), sizes.calls // 20))
        show(f"{many} no-ops in chunks", chunks)

        def to_ten(pool: Pool) -> None:
            array[0] += 1.0  # a change, so that nobody may know it already
            pool.to_ten(array)

        show(f"{mb} array to ten calls", in_turns(pools, sizes.rounds, to_ten))
        again = in_turns(pools, sizes.rounds, lambda p: p.to_ten(array))
        show("the same again", again)
        back = in_turns(pools, sizes.rounds, lambda p: p.all(ones, sizes.nbytes // 8, times=1))
        show(f"{mb} array back", back)
    finally:
        for pool in pools.values():
            pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rounds, smaller arrays")
    parser.add_argument("--only", default=",".join(PEERS), help="names of pools, ours among them")
    arguments = parser.parse_args()
    chosen = {}
    for name in arguments.only.split(","):
        if PEERS[name].module and importlib.util.find_spec(PEERS[name].module) is None:
            print(f"{name}: not installed")
        else:
            chosen[name] = PEERS[name]
    sizes = Sizes(3, 100, 2_000, 10**7) if arguments.quick else Sizes(7, 300, 10_000, 10**8)
    print(f"{platform.platform()}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} processors")
    print(f"{WORKERS} workers; medians, ms; in brackets: times ours")
    compile_ours()
    measure(chosen, sizes)


if __name__ == "__main__":
    main()
