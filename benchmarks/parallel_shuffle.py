"""Word count, all-to-all, and one variable that tasks share, beside pools, actors and Redis, in one run, in turn.

    python benchmarks/parallel_shuffle.py [--quick] [--seed N]

Every pool is warm and has two workers. Rows run each peer in turn, the order drawn anew each round, and print median
and 99th percentile, and the median over the best peer's (below 1: faster). Peers do a shuffle as their guides show:
with a pool, a map whose results are split by key comes back to the caller, who hands the pieces to a second map; Dask
and Ray keep the pieces where they are and hand on references. A check compares all results with one loop's. Ours runs
on `lambdakernel.Executor`, and on two of the peers' pools too.

The shared variable is written by two tasks at once and read in the end. Ours are tasks of a `%%parallel` cell of a real
kernel; Redis is a server of its own on a unix socket with two client processes; shared memory is a `Value` with its
lock, a manager's dictionary is joined under a lock; an actor of Dask or Ray is called by two of its tasks. One write of
ours is a join here and at most 20 ms later everywhere; one of the others is there for all when it returns. Writes to
shared memory under a lock cost less than a join of ours: they are a number of one machine and one size, which is lost
with its process. What is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import operator
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from shutil import which
from typing import Any
from zlib import crc32

import numpy as np
from _calls import noop
from _pools import US, WORKERS, Pool, installed, tools_of_this_python
from _turns import Turns

from lambdakernel import all_to_all, shuffle

PARTS = 8
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


NAMES = (US, "ProcessPoolExecutor", "loky", "joblib", "Dask", "Ray")
CARRIERS = ("ProcessPoolExecutor", "loky")


def shuffles(bench: Turns, rng: random.Random) -> None:
    vocabulary = [f"w{n}" for n in range(20_000)]
    texts = [" ".join(rng.choices(vocabulary, k=10_000 if bench.quick else 160_000)) for _ in range(PARTS)]
    expected = dict(Counter(word for text in texts for word in text.split()))
    nbytes = (1 if bench.quick else 10) << 20
    items = [(seed, nbytes) for seed in range(PARTS)]
    parts = [digest(list(pieces)) for pieces in zip(*(split(item) for item in items), strict=True)]
    with ExitStack() as owned:
        counts: dict[str, Callable[[], Any]] = {}
        exchanges: dict[str, Callable[[], Any]] = {}
        for name, kind in installed(NAMES).items():
            pool = kind()
            owned.callback(pool.close)
            pool.all(noop, times=50)
            if name in (US, *CARRIERS):
                ours, runs_on = name if name == US else f"{US} on {name}", pool.executor
                counts[ours] = partial(shuffle, texts, pairs, operator.add, executor=runs_on, workers=WORKERS)
                exchanges[ours] = partial(
                    all_to_all, items, split, digest, into=PARTS, executor=runs_on, workers=WORKERS
                )
            if name != US:
                counts[name] = partial(_merged, pool, texts)
                exchanges[name] = partial(pool.exchange, split, items, digest, PARTS)
        for found, wanted in ((counts, expected), (exchanges, parts)):
            for name, run in found.items():
                if run() != wanted:
                    raise SystemExit(f"{name} gave another result")
        words, blocks = (
            f"word count of {sum(map(len, texts)) / 1e6:.0f} MB",
            f"all-to-all of {PARTS * nbytes >> 20} MiB",
        )
        bench.turns(words, counts, 15, budget_s=20)
        bench.turns(blocks, exchanges, 15, budget_s=20)
    for title in (words, blocks):
        bench.ahead(title)
        bench.ahead(title, "loky")


def _merged(pool: Pool, texts: list[str]) -> dict[str, int]:
    return {word: n for part in pool.exchange(count_words, texts, add_counts, PARTS) for word, n in part.items()}


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


ONE, JOIN = "one increment of two writers", f"one join of two writers, {KEYS} keys"


def shared(bench: Turns, folder: str) -> None:
    repeats, writes = (1, 2_000) if bench.quick else (5, 20_000)
    counter: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    ours(bench, folder, counter, scores, repeats, writes)
    by_hand(counter, scores, repeats, writes)
    if not find_spec("redis") or not (which("redis-server") or which("valkey-server")):
        print("left out, not installed: Redis (pip install 'lambdakernel[bench]', and a redis-server)")
    else:
        with_redis(folder, repeats, writes, counter, scores)
    for name, times in actors(repeats, writes // 20).items():
        counter[name], scores[name] = times
    bench.unit = "us"
    bench.show(ONE, counter)
    bench.show(JOIN, scores)
    for title in (ONE, JOIN):
        bench.ahead(title, "Redis")
        bench.ahead(title, "Dask", 20)
        bench.ahead(title, "Ray", 20)


def ours(
    bench: Turns,
    folder: str,
    counter: dict[str, list[float]],
    scores: dict[str, list[float]],
    repeats: int,
    writes: int,
) -> None:
    from _kernels import PEERS, Notebook

    with Notebook(PEERS[US], f"{folder}/store") as book:
        book.run("from lambdakernel import Live\nfrom kvs.lattices import GCounter, Map, Max")
        for _ in range(repeats):
            book.run("n, scores = Live(GCounter()), Live(Map())")
            for body, times in ((COUNTER, counter), (MAP, scores)):
                cell = body.strip().format(writes=writes, keys=KEYS)
                book.run(f"%%parallel --workers {WORKERS} for i in range({WORKERS}) -> us\n{cell}")
                times.setdefault(US, []).append(statistics.mean(book.value("us")))
            if book.value("n.total(), len(scores)") != (WORKERS * writes, KEYS):
                raise SystemExit("writes of ours were lost")


def _timed(write: Callable[[int], object], writes: int) -> float:
    start = time.perf_counter()
    for n in range(writes):
        write(n)
    return (time.perf_counter() - start) * 1e6 / writes


_held: dict[str, Any] = {}
"""What forked workers inherit: a shared value, and a manager's dictionary with its lock."""


def _hold(value: Any, table: Any, lock: Any) -> None:
    _held.update(value=value, table=table, lock=lock)


def _add_by_hand(_: int) -> None:
    with _held["value"].get_lock():
        _held["value"].value += 1


def _join_by_hand(n: int) -> None:
    with _held["lock"]:
        if n > _held["table"].get(n % KEYS, -1):
            _held["table"][n % KEYS] = n


def by_hand(counter: dict[str, list[float]], scores: dict[str, list[float]], repeats: int, writes: int) -> None:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        value, table, lock = context.Value("q", 0), manager.dict(), manager.Lock()
        pool = ProcessPoolExecutor(WORKERS, context, initializer=_hold, initargs=(value, table, lock))
        with pool:
            for _ in range(repeats):
                found = [pool.submit(_timed, _add_by_hand, writes) for _ in range(WORKERS)]
                counter.setdefault("shared memory, a lock", []).append(statistics.mean(f.result() for f in found))
                found = [pool.submit(_timed, _join_by_hand, writes // 20) for _ in range(WORKERS)]
                scores.setdefault("a manager's dict, a lock", []).append(statistics.mean(f.result() for f in found))
            if value.value != repeats * writes * WORKERS:
                raise SystemExit("writes to shared memory were lost")


def with_redis(
    folder: str, repeats: int, writes: int, counter: dict[str, list[float]], scores: dict[str, list[float]]
) -> None:
    import redis
    from _rows import together
    from _stores import Redis, redis_server

    def count(_: Callable[[], bool], store: Any) -> float:
        return _timed(lambda _: store.client.incr("n"), writes)

    def merge(_: Callable[[], bool], store: Any) -> float:
        return _timed(lambda k: store.join(k % KEYS, k), writes)

    with redis_server(f"{folder}/redis") as socket:
        for _ in range(repeats):
            for work, times, name in ((count, counter, "Redis, INCR"), (merge, scores, "Redis, a join in Lua")):
                found = together([work] * WORKERS, [lambda: Redis(socket)] * WORKERS, 1.0)
                times.setdefault(name, []).append(statistics.mean(found))
        client = redis.Redis(unix_socket_path=socket)
        if int(client.get("n") or 0) != WORKERS * writes * repeats:
            raise SystemExit("writes of Redis were lost")
        client.close()


class Board:
    """An actor: a counter and a map of greatest numbers."""

    def __init__(self) -> None:
        self.n = 0
        self.table: dict[int, int] = {}

    def add(self) -> None:
        self.n += 1

    def join(self, key: int, number: int) -> None:
        if number > self.table.get(key, -1):
            self.table[key] = number

    def count(self) -> int:
        return self.n


def actors(repeats: int, writes: int) -> dict[str, tuple[list[float], list[float]]]:
    """Microseconds of an increment and of a join, of those that are installed."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    chosen = installed(["Dask", "Ray"])
    if "Dask" in chosen:
        found["Dask actor"] = _dask_actor(repeats, writes)
    if "Ray" in chosen:
        found["Ray actor"] = _ray_actor(repeats, writes)
    return found


def _dask_actor(repeats: int, writes: int) -> tuple[list[float], list[float]]:
    import distributed

    kinds = (lambda board: lambda _: board.add().result(), lambda board: lambda k: board.join(k % KEYS, k).result())
    with (
        distributed.LocalCluster(
            n_workers=WORKERS + 1, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        board = client.submit(Board, actor=True).result()
        places = [place for place in client.scheduler_info(-1)["workers"] if place != board._address][:WORKERS]
        both: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for times, kind in zip(both, kinds, strict=True):
                tasks = [
                    client.submit(lambda kind=kind: _timed(kind(board), writes), pure=False, workers=[place])
                    for place in places
                ]
                times.append(statistics.mean(client.gather(tasks)))
        if board.count().result() != repeats * writes * WORKERS:
            raise SystemExit("writes to Dask's actor were lost")
    return both


def _ray_actor(repeats: int, writes: int) -> tuple[list[float], list[float]]:
    import ray

    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False, logging_level=40)
    try:
        board = ray.remote(Board).remote()
        run = ray.remote(lambda kind: _timed(kind, writes))
        kinds = (lambda _: ray.get(board.add.remote()), lambda k: ray.get(board.join.remote(k % KEYS, k)))
        both: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for times, kind in zip(both, kinds, strict=True):
                times.append(statistics.mean(ray.get([run.remote(kind) for _ in range(WORKERS)])))
        if ray.get(board.count.remote()) != repeats * writes * WORKERS:
            raise SystemExit("writes to Ray's actor were lost")
    finally:
        ray.shutdown()
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, a tenth of the data")
    parser.add_argument("--seed", type=int, default=1, help="draws the words and the order of the peers (default 1)")
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    shuffles(bench, random.Random(given.seed))
    with tempfile.TemporaryDirectory(prefix="lk-bench-", ignore_cleanup_errors=True) as folder:
        shared(bench, folder)
    bench.goals()


if __name__ == "__main__":
    main()
