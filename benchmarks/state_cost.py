"""What keeping the state costs: lambdakernel beside ipykernel, dill after every cell, and Kishu, in one run.

    python benchmarks/state_cost.py [--quick] [--seed N]

Peers that are not installed are left out, and said so: `pip install 'lambdakernel[bench]'` brings them. Every kernel
runs the same cells, in turn; a time is from the request to its reply and idle. A whole notebook is timed from the start
of its kernel, as "restart and run all" is: lambdakernel says that it is ready before a worker is, and its first cell
waits for that. For ipykernel nothing is kept; with dill the whole session is written after each cell, by a request of
its own that counts; Kishu keeps it in its own hook.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from _bytecode import compile_ours
from jupyter_client.manager import KernelManager

MIB = 1 << 20
NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "pandas exploration": (
        "import numpy as np, pandas as pd\nrng = np.random.default_rng(1)",
        "n = 400_000; k = rng.integers(0, 100, n)\n"
        "df = pd.DataFrame({'k': k, 'x': rng.normal(size=n), 'y': rng.normal(size=n)})",
        "df.head()",
        "df['z'] = df.x * 2 + df.y",
        "top = df.groupby('k').z.mean().sort_values().tail(5); top",
        "df.describe()",
        "small = df[df.z > 2]; len(small)",
        "df.iloc[5, 1] = 1.0",
        "pivot = df.pivot_table(index='k', values=['x', 'z'], aggfunc='mean'); pivot.shape",
        "df.x.mean(), df.y.std()",
    ),
    "text": (
        "import re, collections\nwords = ('the quick brown fox jumps over the lazy dog ' * 40_000).split()",
        "counts = collections.Counter(words); counts.most_common(2)",
        "index = collections.defaultdict(list)\nfor n, w in enumerate(words[:60_000]): index[w].append(n)",
        "def find(w): return len(index[w])",
        "find('fox')",
        "vocabulary = sorted(counts); vocabulary[:3]",
        "codes = {w: n for n, w in enumerate(vocabulary)}; encoded = [codes[w] for w in words]",
        "encoded[0] = 5; sum(encoded)",
        "index['fox'].append(-1); find('fox')",
        "pattern = re.compile('o.'); sum(bool(pattern.search(w)) for w in words[:20_000])",
    ),
    "simulation": (
        "import numpy as np\nstate = np.zeros((2000, 2000)); rng = np.random.default_rng(2)",
        "view = state[::2, ::2]",
        "def step(n):\n    for _ in range(n): state[1:-1, 1:-1] += 0.1 * rng.normal(size=(1998, 1998))",
        "step(1)",
        "state.mean()",
        "history = [float(state.mean())]",
        "step(1); history.append(float(state.mean()))",
        "view[5, 5] = 9; state[10, 10]",
        "state.std(), len(history)",
        "history",
    ),
    "models": (
        "import numpy as np\nrng = np.random.default_rng(3)\n"
        "X = rng.normal(size=(50_000, 40)); w = rng.normal(size=40); y = X @ w",
        "class Model:\n    def __init__(self): self.w = np.zeros(40); self.losses = []\n    def fit(self, X, y, n):\n"
        "        for _ in range(n):\n            g = X.T @ (X @ self.w - y) / len(y); self.w -= 0.1 * g\n"
        "            self.losses.append(float(((X @ self.w - y) ** 2).mean()))\n        return self",
        "model = Model().fit(X, y, 5); model.losses[-1]",
        "model.fit(X, y, 5).losses[-1]",
        "folds = np.array_split(np.arange(50_000), 5); len(folds)",
        "scores = {n: Model().fit(X[f], y[f], 3).losses[-1] for n, f in enumerate(folds)}; scores[0]",
        "best = min(scores, key=scores.get); best",
        "model.w[:3]",
        "models = [Model().fit(X[:1000], y[:1000], n) for n in range(1, 6)]; len(models)",
        "[m.losses[-1] for m in models]",
    ),
    "objects": (
        "class Node:\n    def __init__(self, v): self.v = v; self.next = None; self.tags = [v]",
        "nodes = [Node(n) for n in range(20_000)]\nfor a, b in zip(nodes, nodes[1:]): a.next = b",
        "by_value = {n.v: n for n in nodes}",
        "sum(n.v for n in nodes)",
        "by_value[5].tags.append('x'); nodes[5].tags",
        "head = nodes[0]; head.next.v",
        "def total(): return sum(len(n.tags) for n in nodes)",
        "total()",
        "nodes[7].v = -1; by_value[7].v",
        "len(by_value)",
    ),
}
LIVE = (
    "import numpy as np, pandas as pd\n"
    "frames = [pd.DataFrame(np.ones((125_000, 10))) for _ in range(50)]\n"
    "class Node: pass\nmodel = []\n"
    "for n in range(100_000): node = Node(); node.v = n; model.append(node)\n"
    "small = []"
)
GIGABYTE = "import numpy as np; big = np.ones(125_000_000)"


@dataclass(slots=True)
class Kept:
    """One way to keep a notebook's state, and a running kernel that is kept in it."""

    name: str
    folder: Path
    kernel: str = "python3"
    before: str = ""
    after: str = ""
    env: dict[str, str] | None = None
    restore: str = ""
    manager: Any = None
    client: Any = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manager = KernelManager(kernel_name=self.kernel)
        self.manager.start_kernel(
            env={**os.environ, **(self.env or {})}, cwd=str(self.folder), stderr=subprocess.DEVNULL
        )
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def open(self) -> Kept:
        self.start()
        if self.before:
            self._request(self.before)
        return self

    def _request(self, code: str) -> None:
        reply = self.client.execute_interactive(code, timeout=1200, output_hook=_ignore)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{self.name}: {code[:60]!r} failed: {reply['content'].get('evalue')}")

    def run(self, code: str) -> float:
        """Seconds from the request to its reply and idle, with what keeps the state."""
        start = time.perf_counter()
        self._request(code)
        if self.after:
            self._request(self.after)
        return time.perf_counter() - start

    def resume(self, code: str) -> float:
        """Seconds from a kill -9 of what holds the values to the first result of the next cell."""
        start = time.perf_counter()
        if self.kernel == "python3":
            self.manager.signal_kernel(signal.SIGKILL)
            self.close()
            self.start()
            self._request(self.restore)
        else:
            _kill_worker(self.manager.provisioner.pid)
        self._request(code)
        return time.perf_counter() - start

    def stored(self) -> int:
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def _kill_worker(front: int) -> None:
    workers = [p for p in psutil.Process(front).children(recursive=True) if p.name() == "lk-worker"]
    for worker in workers:
        worker.kill()


def _ignore(_message: Any) -> None:
    """Output is not what is timed."""


def ways(folder: Path) -> list[Kept]:
    """The ways to keep state that are installed here, ipykernel's (which is none) first."""
    found = [Kept("ipykernel", folder / "ipykernel")]
    found.append(
        Kept(
            "lambdakernel", folder / "ours", "lambdakernel", env={"LAMBDAKERNEL_STORE": str(folder / "ours" / "store")}
        )
    )
    if find_spec("dill"):
        path = str(folder / "dill" / "session")
        found.append(
            Kept(
                "dill each cell",
                folder / "dill",
                before="import dill",
                after=f"dill.dump_session({path!r})",
                restore=f"import dill; dill.load_session({path!r})",
            )
        )
    if find_spec("kishu"):
        found.append(_kishu(folder / "kishu"))
    missing = [name for name in ("dill", "kishu") if not find_spec(name)]
    if missing:
        print(f"left out, not installed: {', '.join(missing)} (pip install 'lambdakernel[bench]')")
    return found


def _kishu(folder: Path) -> Kept:
    """Kishu without its front end: in its own test mode, on a notebook file that holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = folder / "notebook.ipynb"
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.write_text(
        json.dumps({"cells": [], "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5})
    )
    env = {"ENV_KISHU_TEST_MODE": "1", "TEST_NOTEBOOK_PATH": str(notebook), "KISHU_PATH_ROOT": str(folder)}
    init = f"from kishu import init_kishu; init_kishu({str(notebook)!r})"
    restore = (
        f"{init}\nkishu = get_ipython().user_ns['_kishu']\n"
        "names = kishu._kishu_commit.keys_like('')\n"
        "kishu.checkout(max(names, key=lambda name: [int(n) for n in name.split(':')]))"
    )
    return Kept("Kishu", folder, before=init, env=env, restore=restore)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, 100 MB in place of 1 GB")
    parser.add_argument("--seed", type=int, default=1, help="draws which kernel goes first (default 1)")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
        f" commit {found.stdout.strip()}, seed {arguments.seed}, load {os.getloadavg()[0]:.1f}"
    )
    compile_ours()
    with tempfile.TemporaryDirectory() as name:
        notebooks(Path(name) / "notebooks", 1 if arguments.quick else 3, rng)
        cells(Path(name) / "cells", 5 if arguments.quick else 30, rng)
        gigabyte(Path(name) / "gigabyte", quick=arguments.quick)


def notebooks(folder: Path, repeats: int, rng: random.Random) -> None:
    """Five notebooks from the start of the kernel to the last reply, then their cells alone; the median over `repeats`,
    and the ratio to ipykernel."""
    print("\nwhole notebooks, s                ", end="")
    for number, (title, sources) in enumerate(NOTEBOOKS.items()):
        totals: dict[str, list[tuple[float, float]]] = {}
        for repeat in range(repeats):
            all_ways = ways(folder / f"{number}-{repeat}")
            if not number and not repeat:
                print("".join(f"{way.name:>22}" for way in all_ways))
            for way in rng.sample(all_ways, len(all_ways)):
                totals.setdefault(way.name, []).append(_whole(way, sources))
        for at, what in enumerate((title, "  its cells alone")):
            medians = [statistics.median(times[at] for times in totals[way.name]) for way in all_ways]
            print(f"  {what:<32}" + "".join(f"{s:>13.2f} ({s / medians[0]:>4.2f}x)" for s in medians))


def _whole(way: Kept, sources: tuple[str, ...]) -> tuple[float, float]:
    """Seconds from the start of the kernel, and of the cells alone."""
    start = time.perf_counter()
    way.open()
    try:
        cells = sum(way.run(source) for source in sources)
        return time.perf_counter() - start, cells
    except RuntimeError as e:
        print(f"  {e}", file=sys.stderr)
        return float("nan"), float("nan")
    finally:
        way.close()


def cells(folder: Path, repeats: int, rng: random.Random) -> None:
    """Single cells with 500 MB of frames and 100,000 objects live: median, and what is above ipykernel."""
    kept = [way.open() for way in ways(folder)]
    try:
        for way in kept:
            way.run(LIVE)
        time.sleep(1)
        for title, source in (
            ("changes nothing", "pass"),
            ("changes little", "small.append(1)"),
            ("reads a frame", "frames[3].iloc[5, 5]"),
            ("reads the objects", "model[7].v"),
            ("changes an object", "model[7].v += 1"),
            ("adds an object", "node = Node(); node.v = 0; model.append(node)"),
            ("names an object", "found = model[9]"),
        ):
            times: dict[str, list[float]] = {way.name: [] for way in kept}
            for repeat in range(repeats + 2):
                for way in rng.sample(kept, len(kept)):
                    if repeat >= 5 and way.name not in ("ipykernel", "lambdakernel"):
                        continue  # seconds each
                    seconds = way.run(source)
                    if repeat >= 2:
                        times[way.name].append(seconds * 1e3)
            base = statistics.median(times["ipykernel"])
            shown = ((name, statistics.median(found)) for name, found in times.items())
            print(f"  {title:<32}" + "".join(f"{ms:>13.2f} (+{ms - base:>6.1f})" for _, ms in shown) + "  ms")
    finally:
        for way in kept:
            way.close()


def gigabyte(folder: Path, *, quick: bool) -> None:
    """One element changed, and the way back after kill -9, one kernel after the other."""
    source = GIGABYTE.replace("125_000_000", "12_500_000") if quick else GIGABYTE
    title = "100 MB array" if quick else "1 GB array"
    print(f"\n{title:<34}{'create s':>12}{'change one ms':>15}{'stored KB':>12}{'resume s':>12}")
    for way in ways(folder):
        way.open()
        try:
            created = way.run(source)
            way.run("big[1] += 1")
            before = way.stored()
            changes = [way.run(f"big[{n} * 1_000_000] += 1") for n in range(3)]
            stored = (way.stored() - before) / len(changes) / 1024
            resumed = way.resume("big[2_000_000]") if way.kernel != "python3" or way.restore else float("nan")
            change = statistics.median(changes) * 1e3
            print(f"  {way.name:<32}{created:>12.2f}{change:>15.1f}{stored:>12.0f}{resumed:>12.2f}")
        except RuntimeError as e:
            print(f"  {way.name:<32}{e}")
        finally:
            way.close()


if __name__ == "__main__":
    main()
