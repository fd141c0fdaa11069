"""What every test gets: an environment of its own, kernels that end with their test, and a check that nothing is left.

Each process that a test starts inherits `LK_TEST_RUN` in its environment, however it was started and whoever orphaned
it. When all tests are done, no live process may carry this run's value: one that does fails the run, and is named.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel

RUN = "LK_TEST_RUN"
LEFT_DEADLINE_S = 5.0
"""Seconds that processes of the last test may still take to end."""
ORDER = ("scenarios", "conformance", "notebooks", "browser")
"""Folders whose tests start real kernels, in this order after all others: what fails fast runs first."""
_FOREIGN = ("LAMBDAKERNEL_", "JPY_", "JUPYTER_", "IPYTHON")


class Run:
    """One run of pytest: its directory, its mark, and what it left behind."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.directory = Path(tempfile.mkdtemp(prefix="lk-run-"))
        self.left: list[str] = []

    def isolate(self) -> None:
        """Keep this run away from the store, the settings and the files of whoever runs it; and an interrupt is one,
        also if a shell started this run in its background and had it ignored."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
            del os.environ[name]
        os.environ |= {
            RUN: self.mark,
            "LAMBDAKERNEL_STORE": str(self.directory / "store"),
            "IPYTHONDIR": str(self.directory / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.directory / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "runtime"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "XDG_RUNTIME_DIR": str(self.directory),
        }

    def end(self) -> None:
        """Find what the tests left running, and delete the run's directory."""
        if (shuffle := sys.modules.get("lambdakernel.parallel.shuffle")) is not None:
            shuffle.end_workers()
        end = time.monotonic() + LEFT_DEADLINE_S
        pause = 0.02
        while (left := marked(self.mark)) and time.monotonic() < end:
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        self.left = left
        shutil.rmtree(self.directory, ignore_errors=True)


def marked(mark: str) -> list[str]:
    """`PID COMMAND` of each live process but this one whose environment holds the mark; zombies have no environment."""
    wanted = f"{RUN}={mark}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{process.name} {command.strip()}")
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return sorted(found)


_run = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    run = config.stash[_run] = Run()
    run.isolate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank)


def rank(item: pytest.Item) -> int:
    folders = [ORDER.index(part) + 1 for part in item.path.parts if part in ORDER]
    return max(folders, default=0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash[_run]
    run.end()
    if run.left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left = config.stash[_run].left
    if left:
        terminalreporter.section("processes that outlived the tests", red=True)
        for line in left:
            terminalreporter.line(line)


@pytest.fixture
def start_kernel(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """Starts kernels of ours in one store of this test; takes what `Kernel` takes. All end with the test."""
    kernels: list[Kernel] = []

    def start(**options: object) -> Kernel:
        kernels.append(Kernel(tmp_path / "store", **options))  # type: ignore[arg-type]
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.close()
