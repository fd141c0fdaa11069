"""What a fan-out looks like in JupyterLab: the bar, a fold for each task, a task that failed.

The cells are the first of `notebooks/02_parallel.ipynb`, with a few more for what it does not show. Leaves a
screenshot, `tests/artifacts/lab-folds.png`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from lab_page import CELL_S, ROOT, Lab, Page, needs_chromium, playwright, with_additions

NOTEBOOK = ROOT / "notebooks" / "02_parallel.ipynb"
SCREENSHOT = ROOT / "tests" / "artifacts" / "lab-folds.png"
SLOW = "%%parallel --workers 2 for i in range(6)\nimport time\ntime.sleep(0.5)"
FOLDS = """%%parallel for digit in range(3)
print("digit", digit)
plt.figure(figsize=(1.2, 1.2))
plt.imshow(images[digit].reshape(8, 8), cmap="gray_r")
plt.axis("off");"""
FAILED = """%%parallel for depth in [1, 0, 2] -> inverse
print("depth", depth)
1 / depth"""
BAR = "[role=progressbar]"
RED = "div[style*='#d04437'], div[style*='rgb(208, 68, 55)']"

pytestmark = [needs_chromium, pytest.mark.timeout(200)]


def test_a_fan_out_shows_a_bar_folds_and_what_failed(
    lab: Lab, open_page: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    source, ids = with_additions(NOTEBOOK, {"data": ("slow", SLOW, "folds", FOLDS, "failed", FAILED)}, upto="data")
    (lab.directory / "notebooks" / "parallel.ipynb").write_text(source)
    page = Page(open_page(), ids)
    try:
        page.open(f"{lab.url}/lab/tree/parallel.ipynb")
        page.run("imports")
        page.run("data")
        check_bar(page)
        check_folds(page)
        check_failed(page)
    finally:
        SCREENSHOT.parent.mkdir(exist_ok=True)
        page.page.screenshot(path=SCREENSHOT, clip={"x": 0, "y": 0, "width": 1300, "height": 2200})
        with capsys.disabled():
            print(f"\nscreenshot: {os.path.relpath(SCREENSHOT, ROOT)}")


def check_bar(page: Page) -> None:
    """One bar, updated in place until all are done."""
    page.start("slow")
    bar = page.shows("slow", BAR)
    assert int(bar.get_attribute("aria-valuenow")) < 6
    assert bar.get_attribute("aria-valuemax") == "6"
    page.says("slow", "2 running", "left")
    page.ended("slow")
    playwright.expect(page.output("slow").locator(BAR)).to_have_attribute("aria-valuenow", "6", timeout=CELL_S * 1000)
    assert page.output("slow").locator(BAR).count() == 1
    page.says("slow", "6 of 6 done")


def check_folds(page: Page) -> None:
    """One fold for each task, in their order, with what it printed and its figure; a click closes one and no other."""
    page.run("folds")
    folds = page.output("folds").locator("details")
    playwright.expect(folds).to_have_count(3, timeout=CELL_S * 1000)
    for digit in range(3):
        fold = folds.nth(digit)
        assert fold.locator("summary").inner_text() == f"task {digit} (digit={digit})"
        assert f"digit {digit}" in fold.locator("pre").inner_text()
        assert fold.locator("img").evaluate("i => i.complete && i.naturalWidth") > 50
    folds.nth(1).locator("summary").click()
    playwright.expect(folds.nth(1).locator("img")).to_be_hidden()
    playwright.expect(folds.nth(0).locator("img")).to_be_visible()
    playwright.expect(folds.nth(2).locator("img")).to_be_visible()


def check_failed(page: Page) -> None:
    """The bar has a red part, the error the item and the cell's line; what the others printed is there."""
    page.run("failed")
    page.says(
        "failed", "3 of 3 done, 1 failed", "task 1 (depth=0): ZeroDivisionError", "line 3", "----> 3 1 / depth"[-9:]
    )
    page.says("failed", "depth 1", "depth 2", "a TaskFailed in each failed place")
    red = page.output("failed").locator(BAR).locator(RED)
    assert red.evaluate("d => d.getBoundingClientRect().width") > 10
