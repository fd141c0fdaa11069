"""Pools of two worker processes, ours and the peers, as one uses each of them by its own guide.

`python _pools.py NAME` starts one, prints `ready` after its first result, and ends when its input does.
"""

from __future__ import annotations

import operator
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from typing import Any

from _calls import noop

US = "lambdakernel"
WORKERS = 2
DEADLINE_S = 120.0


class Pool(ABC):
    """One peer: `call` runs a call and waits, `all` many of them, `map` in chunks; `share` prepares a large value."""

    module = ""
    is_slow = False
    """Whether a call takes milliseconds: then rows of many calls have a tenth of them."""

    def __init__(self) -> None:
        self.executor: Any = self.start()

    @abstractmethod
    def start(self) -> Any:
        """The peer's own pool, running."""

    def close(self) -> None:
        self.executor.shutdown()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(function, *args).result()

    def all(self, function: Callable[..., Any], *args: Any, times: int) -> list[Any]:
        """The results of so many equal calls, one task each."""
        futures = [self.executor.submit(function, *args) for _ in range(times)]
        return [future.result() for future in futures]

    def to_ten(self, function: Callable[..., Any], value: Any) -> list[Any]:
        """Give a large `value` to ten calls, in the way that the pool's own guide says."""
        return self.all(function, value, times=10)

    def each(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """The results of one task for each item."""
        return list(self.executor.map(function, items))

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> list[Any]:
        """As `each`, `size` items a task."""
        return list(self.executor.map(function, items, chunksize=size))

    def exchange(
        self, first: Callable[[Any], list[Any]], items: Iterable[Any], second: Callable[[list[Any]], Any], parts: int
    ) -> list[Any]:
        """For each k, `second` of the k-th of the `parts` pieces that `first` makes of each item."""
        split = self.each(first, items)
        return self.each(second, [[pieces[k] for pieces in split] for k in range(parts)])


class Ours(Pool):
    def start(self) -> Any:
        import lambdakernel

        return lambdakernel.Executor(WORKERS)


class Futures(Pool):
    def start(self) -> Any:
        return ProcessPoolExecutor(WORKERS)


class Loky(Pool):
    module = "loky"

    def start(self) -> Any:
        import loky

        return loky.ProcessPoolExecutor(WORKERS)


class Joblib(Pool):
    module = "joblib"
    is_slow = True

    def start(self) -> Any:
        import joblib

        return joblib

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def _run(self, calls: Iterable[Any], size: int | str = "auto") -> list[Any]:
        return list(self.executor.Parallel(n_jobs=WORKERS, batch_size=size)(calls))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.all(function, *args, times=1)[0]

    def all(self, function: Callable[..., Any], *args: Any, times: int) -> list[Any]:
        return self._run([self.executor.delayed(function)(*args) for _ in range(times)], 1)

    def each(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self._run([self.executor.delayed(function)(item) for item in items])

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> list[Any]:
        return self._run([self.executor.delayed(function)(item) for item in items], size)


class IPyParallel(Pool):
    module = "ipyparallel"
    is_slow = True

    def start(self) -> Any:
        import ipyparallel

        self._cluster = ipyparallel.Cluster(n=WORKERS, log_level=40)
        self._client = self._cluster.start_and_connect_sync(activate=False)
        return self._client.executor()

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> list[Any]:
        return list(self._client.load_balanced_view().map_sync(function, list(items), chunksize=size))

    def close(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()


class Dask(Pool):
    module = "distributed"
    is_slow = True

    def start(self) -> Any:
        import distributed

        cluster = distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self._client = distributed.Client(cluster)
        return self._client.get_executor(pure=False)

    def to_ten(self, function: Callable[..., Any], value: Any) -> list[Any]:
        return self.all(function, self._client.scatter(value, hash=False), times=10)

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> list[Any]:
        return list(self._client.gather(self._client.map(function, list(items), batch_size=size, pure=False)))

    def exchange(
        self, first: Callable[[Any], list[Any]], items: Iterable[Any], second: Callable[[list[Any]], Any], parts: int
    ) -> list[Any]:
        submit, split = self._client.submit, self._client.map(first, list(items), pure=False)
        pieces = [[submit(operator.getitem, one, k, pure=False) for one in split] for k in range(parts)]
        return list(self._client.gather([submit(second, some, pure=False) for some in pieces]))

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
        return self._remote[function].remote(*args)


class Ray(Pool):
    module = "ray"
    is_slow = True

    def start(self) -> Any:
        import ray

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=40)
        self._pool: Any = None
        return _Ray()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        import ray

        return ray.get(self.executor.submit(function, *args))

    def all(self, function: Callable[..., Any], *args: Any, times: int) -> list[Any]:
        import ray

        return list(ray.get([self.executor.submit(function, *args) for _ in range(times)]))

    def to_ten(self, function: Callable[..., Any], value: Any) -> list[Any]:
        import ray

        return self.all(function, ray.put(value), times=10)

    def each(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        import ray

        return list(ray.get([self.executor.submit(function, item) for item in items]))

    def map(self, function: Callable[..., Any], items: Iterable[Any], size: int) -> list[Any]:
        parts = list(items)
        chunks = [parts[at : at + size] for at in range(0, len(parts), size)]
        return [value for some in self.each(_Chunk.of(function), chunks) for value in some]

    def exchange(
        self, first: Callable[[Any], list[Any]], items: Iterable[Any], second: Callable[[list[Any]], Any], parts: int
    ) -> list[Any]:
        import ray

        split = ray.remote(num_returns=parts)(first)
        pieces = zip(*(split.remote(item) for item in items), strict=True)
        gather = ray.remote(_listed(second))
        return list(ray.get([gather.remote(*some) for some in pieces]))

    def close(self) -> None:
        import ray

        ray.shutdown()


def _listed(function: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    return lambda *pieces: function(list(pieces))


class _Chunk:
    """A function of several items, the same object each time, so that it is sent once."""

    _made: dict[Any, Any] = {}  # noqa: RUF012 (one a program)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Callable[[list[Any]], list[Any]]:
        def chunk(items: list[Any]) -> list[Any]:
            return [function(item) for item in items]

        found: Callable[[list[Any]], list[Any]] = cls._made.setdefault(function, chunk)
        return found


class Lithops(Pool):
    """On this machine, with its own local storage. For the rows of starts alone: a call takes a second."""

    module = "lithops"
    is_slow = True

    def start(self) -> Any:
        import lithops

        mode = {
            "lithops": {"backend": "localhost", "storage": "localhost", "monitoring": "storage", "telemetry": False}
        }
        return lithops.FunctionExecutor(config=mode, log_level="ERROR")

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.call_async(function, args).result()

    def close(self) -> None:
        self.executor.clean()


PEERS: dict[str, type[Pool]] = {
    US: Ours,
    "ProcessPoolExecutor": Futures,
    "loky": Loky,
    "joblib": Joblib,
    "ipyparallel": IPyParallel,
    "Dask": Dask,
    "Ray": Ray,
    "Lithops": Lithops,
}


def installed(names: Iterable[str]) -> dict[str, type[Pool]]:
    """Those that are there; says which are left out."""
    chosen = {name: PEERS[name] for name in names}
    missing = [name for name, kind in chosen.items() if kind.module and find_spec(kind.module) is None]
    if missing:
        print(f"left out, not installed: {', '.join(missing)} (pip install 'lambdakernel[bench]')")
    return {name: kind for name, kind in chosen.items() if name not in missing}


def tools_of_this_python() -> None:
    """Let peers find what they start by its name, a `python` or a program of theirs, and let that import `_calls`."""
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}"
    os.environ["PYTHONPATH"] = f"{os.path.dirname(os.path.abspath(__file__))}:{os.environ.get('PYTHONPATH', '')}"


if __name__ == "__main__":
    tools_of_this_python()
    pool = PEERS[sys.argv[1]]()  # a global, as in a notebook: nobody closes it
    pool.call(noop, 0)
    print("ready", flush=True)
    sys.stdin.read()
