"""The tour in a real JupyterLab in a real browser, as a newcomer runs it; leaves a screenshot of how it looks.

`tests/artifacts/lab-tour.png` is that screenshot. Every cell of `notebooks/01_tour.ipynb` is run through the page; a
few cells are added to the test's copy for what the tour has no room for: a widget's way back, and an interrupt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import NAME, clean_environment, processes_marked

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[test]")
CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "notebooks" / "01_tour.ipynb"
SCREENSHOT = ROOT / "tests" / "artifacts" / "lab-tour.png"
DISPLAY_NAME = "Lambda (serverless)"
SERVER_S, CELL_S = 60.0, 30.0
INTERRUPT_S = 10.0
"""Seconds an interrupt may take from the key to the traceback on the page."""
ADDED = {
    "slider": ("slider-value", "slider.value"),
    "after": ("long", "print('started', flush=True)\ntime.sleep(300)"),
}
"""After the cell named by the key, a cell of this id and source."""
TILED = (
    "Array.from(document.querySelectorAll('.jp-Notebook')).every(n => n.querySelectorAll('.jp-CodeCell').length === %d)"
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
    pytest.mark.timeout(300),
]


@dataclass(slots=True)
class Lab:
    """A JupyterLab server in a home of its own; `close` ends it and all that it started."""

    directory: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = free_port()
        configure(self.directory / "config", self.port)
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        with (self.directory / "lab.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory / "notebooks", env=self._environment(), stdout=log, stderr=log
            )
        self._wait_until_it_serves()

    def _environment(self) -> dict[str, str]:
        env = clean_environment(self.directory / "run", self.marker)
        return env | {
            "HOME": str(self.directory / "home"),
            "JUPYTER_CONFIG_DIR": str(self.directory / "config"),
            "JUPYTER_DATA_DIR": str(self.directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "run"),
            "LAMBDAKERNEL_STORE": str(self.directory / "store"),
        }

    def _wait_until_it_serves(self) -> None:
        end = time.monotonic() + SERVER_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                assert self._process is not None
                alive = self._process.poll() is None
                assert alive and time.monotonic() < end, f"JupyterLab does not serve:\n{self.log()[-2000:]}"
                time.sleep(0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return (self.directory / "lab.log").read_text(errors="replace")

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        for process in processes_marked(self.marker):
            os.kill(process.pid, signal.SIGKILL)


def as_bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(config: Path, port: int) -> None:
    """A server without token, news or update checks, and a notebook whose cells are all in the page."""
    settings = {
        "ServerApp": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "disable_check_xsrf": True},
        "IdentityProvider": {"token": ""},
    }
    users = {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    for name, values in users.items():
        path = config / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    (config / "jupyter_server_config.json").write_text(json.dumps(settings))


def tour_with_additions() -> tuple[str, list[str]]:
    """The test's copy of the tour, and the ids of its code cells in order."""
    notebook = json.loads(TOUR.read_text())
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        cells.append(cell)
        if cell["id"] in ADDED:
            id, source = ADDED[cell["id"]]
            added = {"cell_type": "code", "id": id, "metadata": {}, "source": source, "outputs": []}
            cells.append(added | {"execution_count": None})
    notebook["cells"] = cells
    return json.dumps(notebook), [cell["id"] for cell in cells if cell["cell_type"] == "code"]


class Page:
    """The notebook in the browser, its code cells by id."""

    def __init__(self, page: Any, ids: list[str]) -> None:
        self.page = page
        self._ids = ids

    def open(self, url: str) -> None:
        """Load the notebook and wait until its kernel has answered and is idle.

        The page says idle already before it has asked for a kernel, and drops a cell that is run then.
        """
        timeout = SERVER_S * 1000
        with self.page.expect_websocket(lambda socket: "/channels" in socket.url, timeout=timeout) as opened:
            self.page.goto(url)
        opened.value.wait_for_event(
            "framereceived", lambda frame: b"kernel_info_reply" in as_bytes(frame), timeout=timeout
        )
        self.page.wait_for_function(TILED % len(self._ids), timeout=timeout)
        for dialog in self.page.locator(".jp-Dialog").all():
            dialog.locator("button").first.click()
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=SERVER_S * 1000)

    def cell(self, id: str) -> Any:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(self._ids.index(id))

    def output(self, id: str) -> Any:
        return self.cell(id).locator(".jp-OutputArea")

    def start(self, id: str) -> None:
        """Run the cell; return at once."""
        self.cell(id).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def ended(self, id: str) -> None:
        """Wait until the cell has its number."""
        prompt = self.cell(id).locator(".jp-InputPrompt")
        playwright.expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=CELL_S * 1000)

    def run(self, id: str) -> str:
        """Run the cell to its end; the text of its output."""
        self.start(id)
        self.ended(id)
        area = self.output(id)
        return str(area.inner_text()) if area.count() else ""

    def shows(self, id: str, selector: str) -> Any:
        """The part of the cell's output that `selector` names, once it can be seen."""
        found = self.output(id).locator(selector).first
        playwright.expect(found).to_be_visible(timeout=CELL_S * 1000)
        return found

    def says(self, id: str, *parts: str, within_s: float = CELL_S) -> None:
        for part in parts:
            playwright.expect(self.output(id)).to_contain_text(part, timeout=within_s * 1000)


@pytest.fixture
def lab() -> Iterator[Lab]:
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
    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield lambda: browser.new_page(viewport={"width": 1300, "height": 5200})
        browser.close()


def test_the_tour_runs_top_to_bottom_in_jupyterlab(
    lab: Lab, open_page: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source, ids = tour_with_additions()
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
