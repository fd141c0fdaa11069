"""JupyterLab's debugger on our kernel: it stops where it was told to, lists every variable, and goes on.

Leaves a screenshot, `tests/artifacts/lab-debugger.png`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from lab_page import CELL_S, ROOT, Lab, Page, needs_chromium, playwright

from tests.kernels import name_of, processes_marked

SCREENSHOT = ROOT / "tests" / "artifacts" / "lab-debugger.png"
CELLS = {
    "values": "early = [1, 2]\nearly",
    "later": "later = 1",
    "loop": "total = 0\nfor n in range(3):\n    total += n\ntotal",
}
IDLE_S = 2.5
"""After so long without a cell, an idle worker has looked at its values."""

pytestmark = [needs_chromium, pytest.mark.timeout(200)]


def test_the_debugger_stops_at_a_breakpoint_lists_variables_and_goes_on(
    lab: Lab, open_page: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (lab.directory / "notebooks" / "debug.ipynb").write_text(notebook())
    page = Page(open_page(), list(CELLS))
    try:
        page.open(f"{lab.url}/lab/tree/debug.ipynb")
        page.run("values")
        for process in processes_marked(lab.marker):
            if name_of(process) == "lk-worker":
                process.kill()
        page.run("later")
        page.page.locator(".jp-DebuggerBugButton").click()
        playwright.expect(variables(page)).to_contain_text("early", timeout=CELL_S * 1000)
        time.sleep(IDLE_S)
        page.cell("loop").locator(".cm-breakpoint-gutter .cm-gutterElement").nth(4).click()
        page.start("loop")
        stopped = page.page.get_by_text("Paused in Debugger")
        playwright.expect(stopped).to_be_visible(timeout=CELL_S * 1000)
        for name in ("early", "later", "total", "n"):
            playwright.expect(variables(page)).to_contain_text(name, timeout=CELL_S * 1000)
        screenshot(page, capsys)
        page.page.locator("[title^=Continue]").first.click()
        page.ended("loop")
        page.says("loop", "3")
    finally:
        if not SCREENSHOT.exists():
            screenshot(page, capsys)


def notebook() -> str:
    cells = [
        {"cell_type": "code", "id": id, "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for id, source in CELLS.items()
    ]
    kernel = {"name": "lambdakernel", "display_name": "Lambda (serverless)", "language": "python"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def variables(page: Page) -> Any:
    return page.page.locator(".jp-DebuggerVariables-body").first


def screenshot(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.page.screenshot(path=SCREENSHOT, clip={"x": 0, "y": 0, "width": 1300, "height": 900})
    with capsys.disabled():
        print(f"\nscreenshot: {os.path.relpath(SCREENSHOT, ROOT)}")
