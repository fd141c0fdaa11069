"""The house itself: what `make test` runs, and that its safeguards notice what they are there for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.run_tests import LEAVE_S, SLOWEST, Step, checks, run, run_together, suites

ROOT = Path(__file__).resolve().parent.parent
LEAVES_A_PROCESS = """
import subprocess

def test_leaves_a_process():
    nowhere = subprocess.DEVNULL
    subprocess.Popen(["sleep", "100"], start_new_session=True, stdout=nowhere, stderr=nowhere)
"""


def test_a_process_that_outlives_the_tests_fails_the_run(tmp_path: Path) -> None:
    """All tests pass, and yet the run fails and names the process."""
    test = tmp_path / "test_leaves.py"
    test.write_text(LEAVES_A_PROCESS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-W", "ignore"]
    command += ["--rootdir", str(tmp_path), "-c", os.devnull, str(test)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    pids = [int(line.split()[0]) for line in done.stdout.splitlines() if line.endswith("sleep 100")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert "1 passed" in done.stdout
    assert "processes that outlived the tests" in done.stdout
    assert len(pids) == 1
    assert done.returncode == 1


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_all_steps_fit_into_the_half_hour() -> None:
    assert [step.name for step in checks()] == ["ruff check", "ruff format", "mypy"]
    assert max(step.deadline_s for step in suites([])) + LEAVE_S <= 1500
    assert suites(["--only-checks"]) == []
    assert suites(["tests/kvs", "-x"])[-1].command[2:] == ("pytest", "tests/kvs", "-x")


def test_no_test_is_left_out_or_run_twice_where_several_processes_run_them() -> None:
    *named, others = (step.command[3 + len(SLOWEST) :] for step in suites([]))
    folders = [folder for some in named for folder in some]
    assert others == tuple(f"--ignore={folder}" for folder in folders)
    assert len(set(folders)) == len(folders) >= 4
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_steps_at_the_same_time_each_end_and_show_what_they_said(capfd: pytest.CaptureFixture[str]) -> None:
    said = [
        Step(word, (sys.executable, "-c", f"print({word!r} * 2); raise SystemExit({n})"), 30)
        for n, word in enumerate("ab")
    ]
    assert [done.code for done in run_together(said)] == [0, 1]
    shown = capfd.readouterr().out
    assert "aa" in shown
    assert "bb" in shown


def test_a_step_says_how_it_ended() -> None:
    def of(code: str, deadline_s: float = 30.0) -> str:
        return run(Step("step", (sys.executable, "-c", code), deadline_s)).line()

    assert "passed" in of("pass")
    assert "FAILED (3)" in of("raise SystemExit(3)")
    assert "ENDED AT ITS DEADLINE" in of("import time; time.sleep(60)", 0.5)


def test_a_step_that_is_ended_may_say_how_far_it_came(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('came far')"
    done = run_together(
        [Step("slow", (sys.executable, "-c", code), 1.0), Step("fast", (sys.executable, "-c", ""), 9.0)]
    )
    assert [one.code for one in done] == [None, 0]
    assert done[1].seconds < done[0].seconds
    assert "came far" in capfd.readouterr().out
