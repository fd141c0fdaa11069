"""Kernels with a way to fan out: ours, and each peer in ipykernel, with the cells that its own guide shows."""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from _pools import US, WORKERS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.kernels import Kernel, Result

DEADLINE_S = 180.0


@dataclass(frozen=True, slots=True)
class Peer:
    """`setup` is a cell, once a kernel; `call` gives the list of `work(item)` for `items`, in the cell that fans out.

    Ours is a magic: `call` is empty.
    """

    module: str
    setup: str
    call: str
    kernel: str = "python3"
    end: str = ""


PEERS = {
    US: Peer("", "", "", "lambdakernel"),
    f"{US}.Executor": Peer(
        "", f"import lambdakernel; pool = lambdakernel.Executor({WORKERS})", "list(pool.map(work, items))"
    ),
    "plain loop": Peer("", "", "[work(item) for item in items]"),
    "ProcessPoolExecutor": Peer(
        "",
        f"from concurrent.futures import ProcessPoolExecutor\ndef fan(work, items):\n"
        f"    with ProcessPoolExecutor({WORKERS}) as pool: return list(pool.map(work, items))",
        "fan(work, items)",
    ),
    "loky": Peer(
        "loky", f"import loky; pool = loky.get_reusable_executor({WORKERS}, timeout=600)", "list(pool.map(work, items))"
    ),
    "joblib": Peer(
        "joblib",
        "from joblib import Parallel, delayed",
        f"Parallel(n_jobs={WORKERS})(delayed(work)(item) for item in items)",
    ),
    "ipyparallel": Peer(
        "ipyparallel",
        f"import ipyparallel; cluster = ipyparallel.Cluster(n={WORKERS}, log_level=40);"
        " client = cluster.start_and_connect_sync(activate=False); view = client.load_balanced_view()",
        "view.map_sync(work, list(items))",
        end="client.close(); cluster.stop_cluster_sync()",
    ),
    "Dask": Peer(
        "distributed",
        f"import distributed; client = distributed.Client(distributed.LocalCluster(n_workers={WORKERS},"
        " threads_per_worker=1, dashboard_address=None, silence_logs=50))",
        "client.gather(client.map(work, list(items), pure=False))",
        end="client.cluster.close(); client.close()",
    ),
    "Ray": Peer(
        "ray",
        f"import ray; ray.init(num_cpus={WORKERS}, include_dashboard=False, log_to_driver=True, logging_level=40);"
        " remotes = {}\ndef fan(work, items):\n    remote = remotes.setdefault(work, ray.remote(work))\n"
        "    return ray.get([remote.remote(item) for item in items])",
        "fan(work, items)",
        end="ray.shutdown()",
    ),
}


def peers(names: Iterable[str]) -> dict[str, Peer]:
    """Those that are there."""
    return {name: PEERS[name] for name in names if not PEERS[name].module or find_spec(PEERS[name].module)}


class CellFailed(Exception):
    """A cell that should not have."""


@contextmanager
def excused(name: str, failed: set[str]) -> Iterator[None]:
    """A peer that fails, or does not answer, is one of `failed` from then on, and said to be; ours ends all."""
    try:
        yield
    except (CellFailed, TimeoutError, AssertionError, RuntimeError) as e:
        if name.startswith(US):
            raise
        failed.add(name)
        print(f"left out, it failed: {name}: {e}", flush=True)


class Notebook:
    """A running kernel of one peer. A context manager."""

    def __init__(self, peer: Peer, store: str, *, setup: bool = True) -> None:
        self.peer = peer
        self.kernel = Kernel(
            store, session="bench" if peer.kernel == US else None, name=peer.kernel, stdout=DEVNULL, stderr=DEVNULL
        )
        if setup:
            self.run(peer.setup or "pass")

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.peer.end and self.kernel.manager.is_alive():
                self.kernel.run(self.peer.end, 30)
        except TimeoutError:  # it hangs since something that was measured; its processes are ended all the same
            print(f"could not be ended: {self.peer.end}", flush=True)
        finally:
            self.kernel.close()

    def run(self, code: str, *, fails: bool = False) -> Result:
        result = self.kernel.run(code, DEADLINE_S)
        if result.status != "ok" and not fails:
            raise CellFailed(f"{result.ename}: {result.evalue:.300} in {code!r}")
        return result

    def value(self, expression: str) -> Any:
        result = self.run(expression)
        return ast.literal_eval(result.value or "None")

    def cell(self, body: str, items: int, options: str = "") -> str:
        """A cell that binds `found` to the values of `body`, whose last line is an expression, for `range(items)`."""
        if not self.peer.call:
            return f"%%parallel {options} for item in range({items}) -> found\n{body}"
        *lines, last = body.split("\n")
        if not lines and last == "work(item)":
            return f"items = range({items})\nfound = {self.peer.call}"
        function = "\n    ".join(["def work(item):", *lines, f"return {last}"])
        return f"{function}\nitems = range({items})\nfound = {self.peer.call}"

    def fan_out(self, body: str, items: int) -> float:
        """Seconds from the request of such a cell to its reply and idle."""
        code, began = self.cell(body, items), time.perf_counter()
        self.run(code)
        return time.perf_counter() - began
