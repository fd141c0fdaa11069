"""What a cell costs: lambdakernel beside ipykernel, in one run, cell by cell in turn.

    python benchmarks/cell_latency.py [--quick] [--seed N]

Each row runs the same cell on both kernels in turn, which one first drawn anew each time, and prints the 10th
percentile and the median of the time from the request to its reply *and* idle, and their ratio. The 10th percentile is
what the machine can do; the median also has what else runs on it. Our cells are committed to the store before they
reply; ipykernel's are not.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
from _bytecode import compile_ours
from jupyter_client.manager import KernelManager

US, PEER = "lambdakernel", "python3"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One question: what is live before, which cell is timed, how often, how much memory it needs."""

    name: str
    setup: str
    cell: str
    repeats: int
    need_mib: int = 0


ROWS = (
    Row("no-op", "", "pass", 300),
    Row("empty", "", "", 150),
    Row("print", "", "print(1)", 150),
    Row("expression", "", "1+1", 150),
    Row("assign", "", "x = 5", 150),
    Row("no-op, 1,000 names", "for i in range(1000): globals()[f'name_{i}'] = [i]", "pass", 150),
    Row("no-op, 200,000 objects", "graph = [{'a': [i]} for i in range(100_000)]", "pass", 150),
    Row("no-op, 200 MB array", "import numpy as np; big = np.ones(25_000_000)", "pass", 150, 1000),
    Row("no-op, 1 GB array", "import numpy as np; big = np.ones(125_000_000)", "pass", 150, 4000),
    Row("read one element of 200 MB", "import numpy as np; big = np.ones(25_000_000)", "big[7]", 50, 1000),
    Row("write one element of 200 MB", "import numpy as np; big = np.ones(25_000_000)", "big[7] += 1", 10, 1000),
    Row("append to a small list", "small = []", "small.append(1)", 150),
)


class Kernel:
    """One running kernel; `seconds` is from its start to the result of its first cell."""

    def __init__(self, name: str, store: str) -> None:
        env = {**os.environ, "LAMBDAKERNEL_STORE": store}
        for variable in ("LAMBDAKERNEL_SESSION", "JPY_SESSION_NAME"):
            env.pop(variable, None)
        start = time.perf_counter()
        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel(env=env, stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.ready_s = time.perf_counter() - start
        self.run("1+1")
        self.seconds = time.perf_counter() - start

    def run(self, code: str) -> float:
        """Seconds from the request to its reply and idle."""
        start = time.perf_counter()
        reply = self.client.execute_interactive(code, timeout=600, output_hook=_ignore)
        seconds = time.perf_counter() - start
        if reply["content"]["status"] != "ok":
            raise SystemExit(f"{code!r} failed: {reply['content']}")
        return seconds

    @property
    def pid(self) -> int:
        provisioner: Any = self.manager.provisioner
        return int(provisioner.pid)

    def pss_mib(self) -> float:
        root = psutil.Process(self.pid)
        return float(sum(p.memory_full_info().pss for p in [root, *root.children(recursive=True)])) / MIB

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()


def _ignore(_message: Any) -> None:
    """Output is not what is timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the repeats, and nothing above 200 MB")
    parser.add_argument("--seed", type=int, default=1, help="draws which kernel goes first (default 1)")
    arguments = parser.parse_args()
    quick, rng = arguments.quick, random.Random(arguments.seed)
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, commit {_commit()},"
        f" seed {arguments.seed}, load {os.getloadavg()[0]:.1f}"
    )
    compile_ours()
    with tempfile.TemporaryDirectory() as folder:
        start_up(folder, 4 if quick else 9)
        memory(folder)
        print(
            f"\n{'cell':<30}{'ipykernel p10':>14}{'ours p10':>10}{'ratio':>7}{'median':>16}{'ours':>8}{'ratio':>7}   ms"
        )
        for row in ROWS:
            cells(row, folder, quick, rng)


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def start_up(folder: str, repeats: int) -> None:
    """From `start_kernel` to kernel info, and to the first cell's result."""
    ready: dict[str, list[float]] = {PEER: [], US: []}
    first: dict[str, list[float]] = {PEER: [], US: []}
    for turn in range(repeats + 1):
        for name in (PEER, US):
            kernel = Kernel(name, f"{folder}/start")
            kernel.close()
            if turn:  # the first of each warms the disk's cache
                ready[name].append(kernel.ready_s)
                first[name].append(kernel.seconds)
    for what, times in (("ready", ready), ("first result", first)):
        ours, peer = statistics.median(times[US]), statistics.median(times[PEER])
        print(f"start to {what:<14} ipykernel {peer:.3f} s, ours {ours:.3f} s, ratio {ours / peer:.2f}")


def memory(folder: str) -> None:
    """Memory of all processes of each kernel after one cell (PSS), and of ours once idle has given its worker back."""
    found = {}
    for name in (PEER, US):
        kernel = Kernel(name, f"{folder}/memory")
        time.sleep(1.0)
        found[name] = kernel.pss_mib()
        kernel.close()
    os.environ["LAMBDAKERNEL_IDLE_S"] = "1"
    try:
        kernel = Kernel(US, f"{folder}/memory")
        _until(lambda: len(psutil.Process(kernel.pid).children(recursive=True)) == 0, 15.0)
        rested = kernel.pss_mib()
        kernel.close()
    finally:
        del os.environ["LAMBDAKERNEL_IDLE_S"]
    ratio = found[US] / found[PEER]
    print(f"memory after a cell      ipykernel {found[PEER]:.1f} MiB, ours {found[US]:.1f} MiB, ratio {ratio:.2f}")
    ratio = rested / found[PEER]
    print(f"memory when given back   ipykernel {found[PEER]:.1f} MiB, ours {rested:.1f} MiB, ratio {ratio:.2f}")


def _until(done: Callable[[], bool], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not done() and time.monotonic() < end:
        time.sleep(0.1)


def cells(row: Row, folder: str, quick: bool, rng: random.Random) -> None:
    if psutil.virtual_memory().available < row.need_mib * MIB or (quick and row.need_mib > 1000):
        print(f"{row.name:<30}skipped: it needs {row.need_mib} MiB of free memory" + (" (--quick)" if quick else ""))
        return
    kernels = {name: Kernel(name, f"{folder}/cells") for name in (PEER, US)}
    times: dict[str, list[float]] = {PEER: [], US: []}
    try:
        for kernel in kernels.values():
            kernel.run(row.setup or "pass")
            for _ in range(5):
                kernel.run(row.cell)
        for _ in range(max(10, row.repeats // (3 if quick else 1))):
            for name in rng.sample((PEER, US), 2):
                times[name].append(kernels[name].run(row.cell) * 1000)
    finally:
        for kernel in kernels.values():
            kernel.close()
    (p10, p50), (our10, our50) = (_figures(times[name]) for name in (PEER, US))
    print(f"{row.name:<30}{p10:>14.2f}{our10:>10.2f}{our10 / p10:>7.2f}{p50:>16.2f}{our50:>8.2f}{our50 / p50:>7.2f}")


def _figures(times: list[float]) -> tuple[float, float]:
    return statistics.quantiles(times, n=10)[0], statistics.median(times)


if __name__ == "__main__":
    main()
