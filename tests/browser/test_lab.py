"""The tour in a real JupyterLab in a real browser, as a newcomer runs it; leaves a screenshot of how it looks.

`tests/artifacts/lab-tour.png` is that screenshot. Every cell of `notebooks/01_tour.ipynb` is run through the page; a
few cells are added to the test's copy for what the tour has no room for: a widget's way back, and an interrupt.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from lab_page import CELL_S, ROOT, Lab, Page, needs_chromium, playwright, with_additions

from tests.kernels import NAME

TOUR = ROOT / "notebooks" / "01_tour.ipynb"
SCREENSHOT = ROOT / "tests" / "artifacts" / "lab-tour.png"
DISPLAY_NAME = "Lambda (serverless)"
INTERRUPT_S = 10.0
"""Seconds an interrupt may take from the key to the traceback on the page."""
ADDED = {
    "slider": ("slider-value", "slider.value"),
    "after": ("long", "print('started', flush=True)\ntime.sleep(300)"),
}
"""After the cell named by the key, a cell of this id and source."""

pytestmark = [needs_chromium, pytest.mark.timeout(300)]


def test_the_tour_runs_top_to_bottom_in_jupyterlab(
    lab: Lab, open_page: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source, ids = with_additions(TOUR, ADDED)
    (lab.directory / "notebooks" / "tour.ipynb").write_text(source)
    page = Page(open_page(), ids)
    try:
        page.open(f"{lab.url}/lab/tree/tour.ipynb")
        playwright.expect(page.page.locator(".jp-KernelName").first).to_contain_text(DISPLAY_NAME)
        for id in ids:
            CHECKS[id](page)
    finally:
        SCREENSHOT.parent.mkdir(exist_ok=True)
        page.page.screenshot(path=SCREENSHOT)
        with capsys.disabled():
            print(f"\nscreenshot: {os.path.relpath(SCREENSHOT, ROOT)}")


def test_the_launcher_offers_the_kernel_with_its_logo(lab: Lab) -> None:
    """What the launcher asks the server for, name and picture."""
    with urllib.request.urlopen(f"{lab.url}/api/kernelspecs", timeout=10) as answer:
        spec = json.load(answer)["kernelspecs"][NAME]
    assert spec["spec"]["display_name"] == DISPLAY_NAME
    with urllib.request.urlopen(f"{lab.url}{spec['resources']['logo-svg']}", timeout=10) as answer:
        assert answer.read().startswith(b"<svg")


# -- one check for each code cell of the tour, by id


def check_table(page: Page) -> None:
    page.run("table")
    page.shows("table", "table.dataframe")
    page.says("table", "Oslo", "31")


def check_plot(page: Page) -> None:
    page.run("plot")
    image = page.shows("plot", "img[src^='data:image/png']")
    assert image.evaluate("i => i.naturalWidth") > 100


def check_slider(page: Page) -> None:
    page.run("slider")
    handle = page.shows("slider", ".widget-slider .noUi-handle")
    handle.focus()
    page.page.keyboard.press("ArrowRight")
    playwright.expect(page.output("slider").locator(".widget-readout")).to_have_text("8")


def check_slider_value(page: Page) -> None:
    """The slider that was moved in the browser has moved in the worker."""
    assert page.run("slider-value").strip().endswith("8")


def check_progress(page: Page) -> None:
    page.run("progress")
    page.shows("progress", ".widget-hprogress")
    page.says("progress", "20/20", "190")


def check_input(page: Page) -> None:
    page.start("input")
    box = page.cell("input").locator("input.jp-Stdin-input")
    box.fill("Ada", timeout=CELL_S * 1000)
    box.press("Enter")
    page.ended("input")
    page.says("input", "Hello, Ada!")


def check_error(page: Page) -> None:
    page.run("error")
    page.says("error", "ZeroDivisionError", "share(10, 0)", "division by zero")


def check_namespace(page: Page) -> None:
    page.run("namespace")
    page.says("namespace", "sales", "DataFrame", "durable", "slider")


def check_workers(page: Page) -> None:
    page.run("workers")
    page.says("workers", "front", "worker")


def check_kill(page: Page) -> None:
    page.run("kill")
    page.says("kill", "SIGKILL", "The namespace is as it was before the cell")


def check_after(page: Page) -> None:
    page.run("after")
    page.says("after", "190 1 67 [190, 191, 194]", "2.5")


def check_long(page: Page) -> None:
    """Interrupt by the keys that Jupyter users know: Escape, I, I."""
    page.start("long")
    page.says("long", "started")
    page.cell("long").locator(".cm-content").click()
    for key in ("Escape", "i", "i"):
        page.page.keyboard.press(key)
    page.says("long", "KeyboardInterrupt", within_s=INTERRUPT_S)
    page.ended("long")


def says(id: str, *parts: str) -> Callable[[Page], None]:
    """A check that runs a cell and looks for texts in its output."""

    def check(page: Page) -> None:
        page.run(id)
        page.says(id, *parts)

    return check


CHECKS: dict[str, Callable[[Page], None]] = {
    "table": check_table,
    "plot": check_plot,
    "slider": check_slider,
    "slider-value": check_slider_value,
    "progress": check_progress,
    "input": check_input,
    "error": check_error,
    "await": says("await", "awaited at the top level"),
    "timeit": says("timeit", "per loop"),
    "time": says("time", "Wall time", "1008"),
    "shell": says("shell", "hello from the shell"),
    "namespace": check_namespace,
    "workers": check_workers,
    "parallel": says("parallel"),
    "squares": says("squares", "[190, 191, 194, 199, 206, 215, 226, 239]"),
    "kill": check_kill,
    "after": check_after,
    "long": check_long,
}
