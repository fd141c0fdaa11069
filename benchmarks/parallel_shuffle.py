"""Word count, all-to-all, and one variable that tasks share, beside pools and Redis, in one run.

    python benchmarks/parallel_shuffle.py [--quick] [--seed N]

Every pool is warm and has one worker a processor. Rows run each peer in turn, the order drawn anew each round, and
print median and slowest in milliseconds, and the median over the best peer's (below 1: faster). Peers do a shuffle as
one does with a pool: a map whose results are split by key comes back to the caller, who hands the pieces to a second
map; a check compares all results with one loop's. Ours runs on `lambdakernel.Executor` where there is one, and on each
peer's pool too.

The shared variable is written by two tasks of a `%%parallel` cell of a real kernel, and read in the end by the
notebook; Redis is a server of its own on a unix socket with two client processes. One write of ours is a join here and
at most 20 ms later everywhere; one of Redis is there for all when it returns. What is not installed is left out, and
said so.
"""

from __future__ import annotations

import argparse
import operator
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any
from zlib import crc32

import numpy as np

import lambdakernel
from lambdakernel import all_to_all, shuffle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
PARTS = 8
WRITES = 20_000
KEYS = 10


# -- the work, as a peer does it


def count_words(text: str) -> list[dict[str, int]]:
    """The counts of one text, split by key."""
    parts: list[dict[str, int]] = [{} for _ in range(PARTS)]
    for word, n in Counter(text.split()).items():
        parts[crc32(word.encode()) % PARTS][word] = n
    return parts


def add_counts(pieces: list[dict[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for piece in pieces:
        found.update(piece)
    return dict(found)


def pairs(text: str) -> Iterable[tuple[str, int]]:
    return Counter(text.split()).items()


def make(seed: int, nbytes: int) -> Any:
    return np.random.default_rng(seed).integers(0, 1 << 40, nbytes // 8)


def split(seed_and_nbytes: tuple[int, int], n: int = PARTS) -> list[Any]:
    made = make(*seed_and_nbytes)
    ends = np.linspace(0, 1 << 40, n + 1)
    return [made[(made >= low) & (made < high)] for low, high in pairwise(ends)]


def digest(pieces: list[Any]) -> tuple[int, int]:
    joined = np.concatenate(pieces)
    return joined.size, int(joined.sum())


def pool_shuffle(
    pool: Executor, first: Callable[[Any], Any], items: list[Any], second: Callable[[Any], Any]
) -> list[Any]:
    split_items = list(pool.map(first, items))
    return list(pool.map(second, [[pieces[k] for pieces in split_items] for k in range(PARTS)]))


# -- rows


class Bench:
    def __init__(self, repeats: int, rng: random.Random) -> None:
        self._repeats, self._rng = repeats, rng

    def row(self, title: str, runs: dict[str, Callable[[], Any]], expected: Any) -> None:
        times: dict[str, list[float]] = {name: [] for name in runs}
        for name, run in runs.items():
            if run() != expected:
                raise SystemExit(f"{title}: {name} gave another result")
        for _ in range(self._repeats):
            for name in self._rng.sample(list(runs), len(runs)):
                start = time.perf_counter()
                runs[name]()
                times[name].append((time.perf_counter() - start) * 1000)
        show(title, "ms", times)


def show(title: str, unit: str, times: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min((m for name, m in medians.items() if not name.startswith("lambdakernel")), default=float("nan"))
    print(f"\n{title:<44}{'p50 ' + unit:>12}{'max ' + unit:>12}{'/ best peer':>13}")
    for name, median in medians.items():
        print(f"  {name:<42}{median:>12.2f}{max(times[name]):>12.2f}{median / best:>12.2f}x", flush=True)


def pools(owned: ExitStack, workers: int) -> dict[str, Executor]:
    """Warm pools, by name."""
    found: dict[str, Executor] = {"ProcessPoolExecutor": owned.enter_context(ProcessPoolExecutor(workers))}
    list(found["ProcessPoolExecutor"].map(abs, range(100)))  # forks its workers before anything has threads
    if find_spec("loky"):
        import loky

        pool = loky.get_reusable_executor(workers, timeout=600)
        owned.callback(pool.shutdown)
        found["loky"] = pool
    else:
        print("loky: not installed (pip install loky)")
    ours: Any = getattr(lambdakernel, "Executor", None)
    if ours is not None:
        found["lambdakernel"] = owned.enter_context(ours(max_workers=workers))
    for pool in found.values():
        list(pool.map(abs, range(100)))
    return found


def shuffles(bench: Bench, workers: int, rng: random.Random, quick: bool) -> None:
    vocabulary = [f"w{n}" for n in range(20_000)]
    texts = [" ".join(rng.choices(vocabulary, k=10_000 if quick else 160_000)) for _ in range(PARTS)]
    expected = dict(Counter(word for text in texts for word in text.split()))
    nbytes = (1 if quick else 10) << 20
    items = [(seed, nbytes) for seed in range(PARTS)]
    parts = [digest(list(pieces)) for pieces in zip(*(split(item) for item in items), strict=True)]
    with ExitStack() as owned:
        found = pools(owned, workers)

        def merged(pool: Executor) -> dict[str, int]:
            return {word: n for part in pool_shuffle(pool, count_words, texts, add_counts) for word, n in part.items()}

        counts: dict[str, Callable[[], Any]] = {}
        exchanges: dict[str, Callable[[], Any]] = {}
        for name, pool in found.items():
            if name != "lambdakernel":
                counts[name] = lambda pool=pool: merged(pool)
                exchanges[name] = lambda pool=pool: pool_shuffle(pool, split, items, digest)
            ours = name if name == "lambdakernel" else f"lambdakernel on {name}"
            counts[ours] = lambda pool=pool: shuffle(texts, pairs, operator.add, executor=pool)
            exchanges[ours] = lambda pool=pool: all_to_all(items, split, digest, into=PARTS, executor=pool)
        size = sum(map(len, texts)) / 1e6
        bench.row(f"word count of {size:.0f} MB, {PARTS} texts", counts, expected)
        bench.row(f"all-to-all {PARTS}x{PARTS} of {PARTS * nbytes >> 20} MiB", exchanges, parts)


# -- one variable that tasks share

COUNTER = """
import time
start = time.perf_counter()
for _ in range({writes}): n.increment()
(time.perf_counter() - start) * 1e6 / {writes}
"""
MAP = """
import time
start = time.perf_counter()
for k in range({writes}): scores.merge(k % {keys}, Max(k))
(time.perf_counter() - start) * 1e6 / {writes}
"""


def shared(repeats: int, writes: int) -> None:
    from tests.kernels import running

    folder = tempfile.mkdtemp(prefix="lk-bench-")
    counter: dict[str, list[float]] = {"lambdakernel, Live(GCounter)": []}
    scores: dict[str, list[float]] = {"lambdakernel, Live(Map)": []}
    with running(Path(folder) / "store", session="bench") as kernel:
        kernel.run("from lambdakernel import Live\nfrom kvs.lattices import GCounter, Map, Max")
        for _ in range(repeats):
            kernel.run("n, scores = Live(GCounter()), Live(Map())")
            for body, times in ((COUNTER, counter), (MAP, scores)):
                cell = body.strip().format(writes=writes, keys=KEYS)
                kernel.run(f"%%parallel --workers 2 for i in range(2) -> us\n{cell}", timeout=120)
                next(iter(times.values())).append(statistics.mean(kernel.value("us")))
            if kernel.value("n.total(), len(scores)") != (2 * writes, KEYS):
                raise SystemExit("writes of ours were lost")
    if not find_spec("redis") or not (which("redis-server") or which("valkey-server")):
        print("\nRedis: not installed (pip install 'lambdakernel[bench]', and a redis-server)")
    else:
        with_redis(folder, repeats, writes, counter, scores)
    show("shared counter, one increment of two writers", "us", counter)
    show(f"shared map of {KEYS} keys, one merge of two", "us", scores)


def with_redis(
    folder: str, repeats: int, writes: int, counter: dict[str, list[float]], scores: dict[str, list[float]]
) -> None:
    import redis
    from _rows import together
    from _stores import Redis, redis_server

    def count(_: Callable[[], bool], store: Any) -> float:
        start = time.perf_counter()
        for _n in range(writes):
            store.client.incr("n")
        return (time.perf_counter() - start) * 1e6 / writes

    def merge(_: Callable[[], bool], store: Any) -> float:
        start = time.perf_counter()
        for k in range(writes):
            store.join(k % KEYS, k)
        return (time.perf_counter() - start) * 1e6 / writes

    with redis_server(f"{folder}/redis") as socket:
        for _ in range(repeats):
            for work, times, name in ((count, counter, "Redis, INCR"), (merge, scores, "Redis, a join in Lua")):
                found = together([work] * 2, [lambda: Redis(socket)] * 2, 1.0)
                times.setdefault(name, []).append(statistics.mean(found))
        client = redis.Redis(unix_socket_path=socket)
        if int(client.get("n") or 0) != 2 * writes * repeats:
            raise SystemExit("writes of Redis were lost")
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    workers = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {workers} processors, Python {platform.python_version()}, {commit or 'no commit'}")
    print(f"seed {arguments.seed}")
    rng = random.Random(arguments.seed)
    repeats = 2 if arguments.quick else 9
    shuffles(Bench(repeats, rng), workers, rng, arguments.quick)
    shared(1 if arguments.quick else 5, WRITES // 10 if arguments.quick else WRITES)


if __name__ == "__main__":
    main()
