"""The benchmark of small calls runs to its end and prints every row; no speed is judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "parallel_tasks.py"
ROWS = (
    "start to first result",
    "killed worker to next result",
    "no-op round trip",
    "2,000 no-ops, each",
    "processor time of each, all processes",
    "2,000 no-ops by a batching map, each",
)


def test_the_benchmark_of_small_calls_prints_every_row_and_judges_every_goal() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--only", "lambdakernel,ProcessPoolExecutor"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for row in ROWS:
        at = next((n for n, line in enumerate(lines) if line.startswith(row) and "p50 ms" in line), None)
        assert at is not None, f"{row} was not printed"
        assert any(line.startswith("  lambdakernel ") for line in lines[at + 1 : at + 3]), lines[at + 1 : at + 3]
    goals = lines[lines.index("goals") + 1 :]
    assert len(goals) == 7
    assert all(line.endswith(("met", "missed")) for line in goals)
