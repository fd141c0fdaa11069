"""A pytest plugin for ipykernel's own tests: swaps the kernel that they start, and writes down how each test ended.

`WIRE_KERNEL` names the kernel, `WIRE_REPORT` the file for the outcomes. Loaded with `-p swap_kernel` in a process of
its own; it imports nothing of this repository.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

KERNEL = os.environ["WIRE_KERNEL"]
OUTCOMES: dict[str, str] = {}
STARTED: list[str] = []
NATIVE = {"python", "python3"}
WORST = ("passed", "skipped", "failed")


def pytest_addoption(parser: pytest.Parser) -> None:
    if importlib.util.find_spec("pytest_cov") is None:  # some tests ask whether coverage is measured
        parser.addoption("--cov", default=None)


def pytest_configure() -> None:
    # A trait's default is no place to swap: `start_new_kernel` names the native kernel, and classes cache defaults.
    start = KernelManager._async_launch_kernel
    make = KernelManager.__init__

    def made(self: KernelManager, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("kernel_name", "python") in NATIVE:
            kwargs["kernel_name"] = KERNEL
        make(self, *args, **kwargs)

    async def noted(self: KernelManager, *args: Any, **kwargs: Any) -> None:
        STARTED.append(self.kernel_name)
        await start(self, *args, **kwargs)

    KernelManager.__init__ = made  # type: ignore[method-assign]
    KernelManager._async_launch_kernel = noted  # type: ignore[method-assign]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    before = OUTCOMES.get(report.nodeid, "passed")
    outcome = str(report.outcome)
    OUTCOMES[report.nodeid] = max(before, outcome, key=WORST.index)


def pytest_sessionfinish() -> None:
    said = {"outcomes": OUTCOMES, "started": STARTED}
    Path(os.environ["WIRE_REPORT"]).write_text(json.dumps(said, indent=1))
