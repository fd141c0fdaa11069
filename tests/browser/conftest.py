"""A server and a browser for each test of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def lab() -> Iterator[Any]:
    from lab_page import Lab

    directory = Path(tempfile.mkdtemp(prefix="lk-lab-"))
    for name in ("home", "run", "config", "notebooks"):
        (directory / name).mkdir(mode=0o700)
    server = Lab(directory)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def open_page() -> Iterator[Callable[[], Any]]:
    from lab_page import CHROMIUM, playwright

    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield lambda: browser.new_page(viewport={"width": 1300, "height": 5200})
        browser.close()
