"""The benchmark of the store's operations runs to its end on tiny sizes and prints every row; no speed is judged."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kvs_ops.py"
ROWS = (
    *(f"{what}, {size}" for what in ("hot read", "put", "get") for size in ("100 B", "10 KB")),
    *(f"{what}, 1 MB" for what in ("put", "get", "publish", "handle")),
    *(f"commit of 10 variables, {level}" for level in ("process", "disk")),
    *(f"join, {writers} writers" for writers in (1, 2, 4)),
    *(f"read beside {writers} joining writers" for writers in (1, 2, 4)),
    "join 100 at once, 4 writers",
    "read beside 4 writers of 100",
    "join, 4 writers, 250 a second each",
    "read beside 4 writers, 250 joins/s each",
    "attach to 300 keys",
    *(f"read, Zipf {exponent}, {processes} processes" for exponent in ("0.5", "4") for processes in (1, 2, 4)),
)


def test_the_benchmark_of_operations_prints_every_row_and_judges_every_goal() -> None:
    sizes = ["--large", "1", "--keys", "300", "--repeats", "20", "--seconds", "0.05"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", *sizes], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for row in ROWS:
        at = next((n for n, line in enumerate(lines) if line.startswith(row) and "p50 us" in line), None)
        assert at is not None, f"{row} was not printed"
        assert lines[at + 1].startswith("  kvs "), lines[at + 1]
    goals = lines[lines.index("goals") + 1 :]
    assert len(goals) == 16
    assert all(line.endswith(("met", "missed")) or "not measured" in line for line in goals)
    for peer, there in (("lmdb", find_spec("lmdb")), ("diskcache", find_spec("diskcache"))):
        assert there or any(line.startswith("left out, not installed") and peer in line for line in lines)
    if not (which("redis-server") or which("valkey-server")):
        assert any(line.startswith("left out: Redis") for line in lines)
