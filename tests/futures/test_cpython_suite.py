"""CPython's own executor tests pass with our executor, as one run in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.futures.cpython import CANNOT_BE_HAD, NOT_OURS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_cpythons_own_tests_pass() -> None:
    command = [sys.executable, "-m", "tests.futures.cpython"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    if done.returncode == CANNOT_BE_HAD:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "Exception ignored" not in done.stderr
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= 50


def test_every_exception_to_the_rule_says_why() -> None:
    assert all(len(reason) > 15 for reason in NOT_OURS.values())
    assert len(NOT_OURS) <= 20
