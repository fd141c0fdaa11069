"""CPython's own executor tests pass with our executor, in two processes of their own at a time."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.futures.cpython import CANNOT_BE_HAD, NOT_OURS

ROOT = Path(__file__).resolve().parents[2]


def half(part: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.futures.cpython", part]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.mark.timeout(300)
def test_cpythons_own_tests_pass() -> None:
    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(half, ("0/2", "1/2")))
    if CANNOT_BE_HAD in [done.returncode for done in halves]:
        pytest.skip(halves[0].stdout + halves[1].stdout)
    for done in halves:
        assert done.returncode == 0, done.stderr[-6000:]
        assert "Exception ignored" not in done.stderr
    assert sum(int(ran) for done in halves for ran in re.findall(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)) >= 40


def test_every_exception_to_the_rule_says_why() -> None:
    assert all(len(reason) > 15 for reason in NOT_OURS.values())
    assert len(NOT_OURS) <= 20
