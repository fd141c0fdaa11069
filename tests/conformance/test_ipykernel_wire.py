"""ipykernel's own tests over the wire, run against our kernel: what passes on plain ipykernel passes here.

Its source distribution, of the version that is installed, is downloaded at run time and never copied into this
repository. Runs are subprocesses in which a plugin (`swap_kernel`) swaps the kernel by name. All tests run on ours;
those that do not pass then run on plain ipykernel, where they must not pass either. The distribution is kept in
`build/wire/` (or `WIRE_CACHE`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.kernels import NAME

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("WIRE_CACHE") or ROOT / "build" / "wire")
FILES = (
    "test_async.py",
    "test_connect.py",
    "test_debugger.py",
    "test_eventloop.py",
    "test_kernel.py",
    "test_kernelapp.py",
    "test_matplotlib_eventloops.py",
    "test_message_spec.py",
    "test_subshells.py",
)
"""Every file of theirs with a test that starts a kernel through jupyter_client."""
AT_LEAST = 80
"""Tests that pass in these files; fewer means that the run itself is broken."""
DOWNLOAD_S = 120
RUN_S = 420

pytestmark = [pytest.mark.timeout(3 * RUN_S)]


@dataclass(frozen=True, slots=True)
class Run:
    """Outcome by test, and which kernels the tests started."""

    outcomes: dict[str, str]
    started: tuple[str, ...]

    def passed(self) -> set[str]:
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}


def source() -> Path:
    """The unpacked source distribution of the installed ipykernel; skips the test where it cannot be had."""
    wanted = version("ipykernel")
    folder = CACHE / f"ipykernel-{wanted}"
    if not (folder / "tests").is_dir():
        with tarfile.open(_download(wanted)) as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def _download(wanted: str) -> Path:
    archive = CACHE / f"ipykernel-{wanted}.tar.gz"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", "ipykernel", "--dest", str(CACHE), f"ipykernel=={wanted}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S)
        except subprocess.TimeoutExpired:
            pytest.skip(f"ipykernel's source distribution did not come within {DOWNLOAD_S} s")
        if done.returncode:
            pytest.skip(f"ipykernel's source distribution cannot be downloaded: {done.stderr.strip()[-300:]}")
    return archive


def run_suite(folder: Path, kernel: str, report: Path, tests: tuple[str, ...]) -> Run:
    """Run `tests` of the distribution in `folder` against `kernel`."""
    report.unlink(missing_ok=True)
    # Their tests ship without an installed package of that name around them: ours is the one of the environment.
    command = [sys.executable, "-m", "pytest", "-p", "swap_kernel", "-q", "--rootdir", str(folder), "--no-header"]
    command += ["-c", os.devnull, "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "--timeout", "60", *tests]
    with (report.parent / (report.stem + ".log")).open("w") as log:
        subprocess.run(command, cwd=folder / "tests", env=_env(kernel, report), stdout=log, stderr=log, timeout=RUN_S)
    said = json.loads(report.read_text())
    return Run(said["outcomes"], tuple(said["started"]))


def _env(kernel: str, report: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LAMBDAKERNEL_", "JPY_", "PYTEST_"))}
    env |= {"WIRE_KERNEL": kernel, "WIRE_REPORT": str(report), "PYTHONPATH": str(Path(__file__).parent)}
    env["LAMBDAKERNEL_STORE"] = str(report.parent / f"store-{os.getpid()}")
    return env


def test_what_passes_on_ipykernel_passes_on_ours(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = source()
    ours = run_suite(folder, NAME, tmp_path / "ours.json", FILES)
    assert set(ours.started) == {NAME}, "some test did not start our kernel"
    assert len(ours.started) > 5
    assert len(ours.passed()) >= AT_LEAST, "the run is broken; see the .log file beside its report"
    others = {test for test, outcome in ours.outcomes.items() if outcome not in ("passed", "skipped")}
    missing: set[str] = set()
    if others:
        missing = run_suite(folder, "python3", tmp_path / "plain.json", _paths(others)).passed()
    if missing:  # their suite is timing-sensitive; a test that passes on its own does not count as ours to fix
        missing -= run_suite(folder, NAME, tmp_path / "again.json", _paths(missing)).passed()
    with capsys.disabled():
        print(f"\nipykernel's wire tests: {len(ours.passed())} pass on ours, {len(others)} do not; of these, on plain")
        print(f"ipykernel, {len(missing)} pass")
    assert sorted(missing) == []


def _paths(tests: set[str]) -> tuple[str, ...]:
    """Node ids as arguments for a run in the tests' own folder."""
    return tuple(sorted(test.removeprefix("tests/") for test in tests))
