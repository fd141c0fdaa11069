"""A counter and a map that tasks share, beside shared memory, Redis and actors, in one run, in turn.

    python benchmarks/parallel_shared.py [--quick] [--seed N]

Two rows are of a thousand tasks with one small write each, in a warm pool of two workers, to the last result: add 1 to
a counter, and join a number into each of ten entries of a map. Ours are calls of a `lambdakernel.Executor` that write
to a `Live`, and calls that write to a shared map of `kvs`, which outlives all of them. Beside them, in a
ProcessPoolExecutor: a `Value` with its lock, a manager's dictionary joined under a lock, a Redis server on a unix
socket (a join is one script); and actors of Dask and Ray, called by their own tasks.

Two rows are of two tasks that write many times: the time of one write. Ours are tasks of a `%%parallel` cell of a real
kernel: a write of theirs is a join here and at most 20 ms later everywhere; one of the others is there for all when it
returns. Shared memory costs less than a join of ours: it is a number of one machine and one size, which is lost with
its process. Rows run the peers in turn, the order drawn anew each round, and every write is counted in the end: a lost
one ends the run. What is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from shutil import which
from typing import Any

from _calls import noop
from _kernels import PEERS, Notebook
from _pools import US, WORKERS, installed, tools_of_this_python
from _stores import Redis, redis_server
from _turns import Turns

import kvs
from kvs.lattices import GCounter, Map, Max
from lambdakernel import Executor, Live

KEYS = 10
ADD, JOIN = "tasks that add 1 to a counter", f"tasks that join {KEYS} entries of a map"
ONE, ONE_JOIN = "one increment of two writers", f"one join of two writers, {KEYS} keys"
SHARED_MAP = f"{US}, a shared map of kvs"

Run = Callable[[int], object]
"""So many tasks, to the last result."""


class Both:
    """How one peer does the two rows of small tasks. `counted` says what the counter and the map hold in the end."""

    def __init__(self, add: Run, join: Run, counted: Callable[[], tuple[int, int]]) -> None:
        self.add, self.join, self.counted = add, join, counted
        self.adds = self.joins = 0

    def run_add(self, tasks: int) -> None:
        self.adds += tasks
        self.add(tasks)

    def run_join(self, tasks: int) -> None:
        self.joins += 1
        self.join(tasks)


# -- ours

count, scores = Live(GCounter()), Live(Map())


def add(_: int) -> None:
    count.increment()


def join(n: int) -> None:
    for k in range(KEYS):
        scores.merge(f"k{k}", Max(n))


def _each(pool: Any, function: Callable[[int], object], tasks: int) -> None:
    """As tasks of one call each."""
    for future in [pool.submit(function, n) for n in range(tasks)]:
        future.result()


@contextmanager
def with_live() -> Iterator[Both]:
    with Executor(WORKERS) as pool:
        _each(pool, noop, 50)
        yield Both(partial(_each, pool, add), partial(_each, pool, join), lambda: (count.total(), len(scores.lattice)))


@functools.cache
def shared_maps(path: str) -> tuple[Any, Any]:
    """In the process that writes."""
    replica = kvs.open(path).space("shared").replica()
    return replica.shared_map(b"count", GCounter, int), replica.shared_map(b"scores", Max, int)


def add_to_map(path: str, _: int) -> None:
    shared_maps(path)[0].add("n")


def join_into_map(path: str, n: int) -> None:
    table = shared_maps(path)[1]
    for k in range(KEYS):
        table.join(f"k{k}", n)


@contextmanager
def with_shared_map(folder: str) -> Iterator[Both]:
    path = f"{folder}/kvs"

    def counted() -> tuple[int, int]:
        total, table = shared_maps(path)
        return int(total.get("n")), len(table.numbers())

    with Executor(WORKERS) as pool:
        _each(pool, noop, 50)

        def each(function: Callable[[str, int], object], tasks: int) -> None:
            for future in [pool.submit(function, path, n) for n in range(tasks)]:
                future.result()

        yield Both(partial(each, add_to_map), partial(each, join_into_map), counted)


# -- by hand, in the standard library's pool

_held: dict[str, Any] = {}
"""What forked workers inherit: a shared value, a manager's dictionary with its lock, and the socket of Redis."""


def _hold(**given: Any) -> None:
    _held.update(given)


def _add_by_hand(_: int) -> None:
    with _held["value"].get_lock():
        _held["value"].value += 1


def _join_by_hand(n: int) -> None:
    table = _held["table"]
    with _held["lock"]:
        table.update({k: n for k in range(KEYS) if n > table.get(k, -1)})


def _client() -> Redis:
    if "client" not in _held:
        _held["client"] = Redis(_held["socket"])
    found: Redis = _held["client"]
    return found


def _add_in_redis(_: int) -> None:
    _client().client.incr("n")


def _join_in_redis(n: int) -> None:
    _client().join_many(dict.fromkeys(range(KEYS), n))


@contextmanager
def _pool(**given: Any) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(WORKERS, context, initializer=partial(_hold, **given)) as pool:
        _each(pool, noop, 50)
        yield pool


@contextmanager
def with_shared_memory() -> Iterator[Both]:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        value, table, lock = context.Value("q", 0), manager.dict(), manager.Lock()
        with _pool(value=value, table=table, lock=lock) as pool:
            yield Both(
                partial(_each, pool, _add_by_hand),
                partial(_each, pool, _join_by_hand),
                lambda: (value.value, len(table)),
            )


@contextmanager
def with_redis(folder: str) -> Iterator[Both]:
    with redis_server(f"{folder}/redis") as socket, _pool(socket=socket) as pool:
        client = Redis(socket)
        yield Both(
            partial(_each, pool, _add_in_redis),
            partial(_each, pool, _join_in_redis),
            lambda: (int(client.client.get("n") or 0), len(client.joined())),
        )
        client.close()


# -- actors


class Board:
    """An actor: a counter and a map of greatest numbers."""

    def __init__(self) -> None:
        self.n = 0
        self.table: dict[int, int] = {}

    def add(self) -> None:
        self.n += 1

    def join(self, numbers: dict[int, int]) -> None:
        for key, number in numbers.items():
            if number > self.table.get(key, -1):
                self.table[key] = number

    def counted(self) -> tuple[int, int]:
        return self.n, len(self.table)


@contextmanager
def with_dask() -> Iterator[tuple[Both, Callable[[int], tuple[float, float]]]]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=WORKERS + 1, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        board = client.submit(Board, actor=True).result()
        places = [place for place in client.scheduler_info(-1)["workers"] if place != board._address][:WORKERS]

        def each(function: Callable[[int], object], tasks: int) -> None:
            client.gather(client.map(function, range(tasks), pure=False, workers=places))

        def one_write(writes: int) -> tuple[float, float]:
            def mean_of(write: Callable[[int], object]) -> float:
                tasks = [client.submit(lambda: _timed(write, writes), pure=False, workers=[place]) for place in places]
                return statistics.mean(client.gather(tasks))

            both.adds += writes * WORKERS
            return (
                mean_of(lambda _: board.add().result()),
                mean_of(lambda k: board.join({k % KEYS: k}).result()),
            )

        both = Both(
            partial(each, lambda _: board.add().result()),
            partial(each, lambda n: board.join(dict.fromkeys(range(KEYS), n)).result()),
            lambda: board.counted().result(),
        )
        yield both, one_write


@contextmanager
def with_ray() -> Iterator[tuple[Both, Callable[[int], tuple[float, float]]]]:
    import ray

    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False, logging_level=40)
    try:
        board = ray.remote(Board).remote()
        add_one = ray.remote(lambda _: ray.get(board.add.remote()))
        join_ten = ray.remote(lambda n: ray.get(board.join.remote(dict.fromkeys(range(KEYS), n))))

        def one_write(writes: int) -> tuple[float, float]:
            run = ray.remote(lambda kind: _timed(kind, writes))

            def mean_of(write: Callable[[int], object]) -> float:
                return statistics.mean(ray.get([run.remote(write) for _ in range(WORKERS)]))

            both.adds += writes * WORKERS
            return (
                mean_of(lambda _: ray.get(board.add.remote())),
                mean_of(lambda k: ray.get(board.join.remote({k % KEYS: k}))),
            )

        both = Both(
            lambda tasks: ray.get([add_one.remote(n) for n in range(tasks)]),
            lambda tasks: ray.get([join_ten.remote(n) for n in range(tasks)]),
            lambda: ray.get(board.counted.remote()),
        )
        yield both, one_write
    finally:
        ray.shutdown()


# -- rows


def has_redis() -> bool:
    """Says so if not."""
    if find_spec("redis") and (which("redis-server") or which("valkey-server")):
        return True
    print("left out, not installed: Redis (pip install 'lambdakernel[bench]', and a redis-server)")
    return False


def small_tasks(bench: Turns, folder: str, tasks: int) -> dict[str, tuple[list[float], list[float]]]:
    """The two rows of small tasks; microseconds of one write of the actors, which are there only here."""
    repeats, writes = (1, 100) if bench.quick else (5, 1_000)
    found: dict[str, tuple[list[float], list[float]]] = {}
    with ExitStack() as owned:
        peers = {US: owned.enter_context(with_live()), SHARED_MAP: owned.enter_context(with_shared_map(folder))}
        peers["shared memory, a lock"] = owned.enter_context(with_shared_memory())
        if has_redis():
            peers["Redis"] = owned.enter_context(with_redis(folder))
        actors = {"Dask": with_dask, "Ray": with_ray}
        for name in installed(actors):
            both, one_write = owned.enter_context(actors[name]())
            peers[f"{name} actor"] = both
            found[f"{name} actor"] = ([], [])
            for _ in range(repeats):
                for times, us in zip(found[f"{name} actor"], one_write(writes), strict=True):
                    times.append(us)
        titles = f"{tasks} {ADD}", f"{tasks} {JOIN}"
        bench.turns(titles[0], {name: partial(both.run_add, tasks) for name, both in peers.items()}, 15)
        bench.turns(titles[1], {name: partial(both.run_join, tasks) for name, both in peers.items()}, 15)
        for name, both in peers.items():
            if both.counted() != (both.adds, KEYS):
                raise SystemExit(f"{name} lost writes: {both.counted()} of {(both.adds, KEYS)}")
    for title in titles:
        bench.ahead(title, "Redis")
        bench.ahead(title, "Dask", 20)
        bench.ahead(title, "Ray", 20)
        bench.ahead(title, "Redis", us=SHARED_MAP)
    return found


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


def many_writes(bench: Turns, folder: str, actors: dict[str, tuple[list[float], list[float]]]) -> None:
    """The two rows of one write."""
    repeats, writes = (1, 2_000) if bench.quick else (5, 20_000)
    counter: dict[str, list[float]] = {}
    table: dict[str, list[float]] = {}
    of_cells(folder, counter, table, repeats, writes)
    by_hand(counter, table, repeats, writes)
    if has_redis():
        of_redis(folder, counter, table, repeats, writes)
    for name, times in actors.items():
        counter[name], table[name] = times
    bench.unit = "us"
    bench.show(ONE, counter)
    bench.show(ONE_JOIN, table)
    for title in (ONE, ONE_JOIN):
        bench.ahead(title, "Redis")
        bench.ahead(title, "Dask", 20)
        bench.ahead(title, "Ray", 20)


Times = dict[str, list[float]]


def of_cells(folder: str, counter: Times, table: Times, repeats: int, writes: int) -> None:
    with Notebook(PEERS[US], f"{folder}/store") as book:
        book.run("from lambdakernel import Live\nfrom kvs.lattices import GCounter, Map, Max")
        for _ in range(repeats):
            book.run("n, scores = Live(GCounter()), Live(Map())")
            for body, times in ((COUNTER, counter), (MAP, table)):
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


def _join_one_by_hand(n: int) -> None:
    with _held["lock"]:
        if n > _held["table"].get(n % KEYS, -1):
            _held["table"][n % KEYS] = n


def _join_one_in_redis(n: int) -> None:
    _client().join(n % KEYS, n)


def _mean_of(pool: ProcessPoolExecutor, write: Callable[[int], object], writes: int) -> float:
    found = [pool.submit(_timed, write, writes) for _ in range(WORKERS)]
    return statistics.mean(future.result() for future in found)


def by_hand(counter: Times, table: Times, repeats: int, writes: int) -> None:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        value = context.Value("q", 0)
        with _pool(value=value, table=manager.dict(), lock=manager.Lock()) as pool:
            for _ in range(repeats):
                counter.setdefault("shared memory, a lock", []).append(_mean_of(pool, _add_by_hand, writes))
                us = _mean_of(pool, _join_one_by_hand, writes // 20)
                table.setdefault("a manager's dict, a lock", []).append(us)
            if value.value != repeats * writes * WORKERS:
                raise SystemExit("writes to shared memory were lost")


def of_redis(folder: str, counter: Times, table: Times, repeats: int, writes: int) -> None:
    with redis_server(f"{folder}/redis-of-two") as socket, _pool(socket=socket) as pool:
        for _ in range(repeats):
            counter.setdefault("Redis, INCR", []).append(_mean_of(pool, _add_in_redis, writes))
            table.setdefault("Redis, a join in Lua", []).append(_mean_of(pool, _join_one_in_redis, writes))
        client = Redis(socket)
        if int(client.client.get("n") or 0) != WORKERS * writes * repeats:
            raise SystemExit("writes of Redis were lost")
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, a tenth of the tasks")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of the peers (default 1)")
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    with tempfile.TemporaryDirectory(prefix="lk-bench-", ignore_cleanup_errors=True) as folder:
        actors = small_tasks(bench, folder, 100 if given.quick else 1_000)
        many_writes(bench, folder, actors)
    bench.goals()


if __name__ == "__main__":
    main()
