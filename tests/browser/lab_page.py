"""A real JupyterLab server, and a notebook in its page in a real Chromium, for the tests of this folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import clean_environment, processes_marked

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[test]")
CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).resolve().parents[2]
SERVER_S, CELL_S = 60.0, 30.0
TILED = (
    "Array.from(document.querySelectorAll('.jp-Notebook')).every(n => n.querySelectorAll('.jp-CodeCell').length === %d)"
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


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


def with_additions(path: Path, added: Mapping[str, Sequence[str]], *, upto: str = "") -> tuple[str, list[str]]:
    """A test's copy of a notebook, and the ids of its code cells in order. After the cell that a key of `added` names
    comes one of that id and source, and so on in pairs; after the cell `upto` and what is added to it comes nothing."""
    notebook = json.loads(path.read_text())
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        cells.append(cell)
        new = added.get(cell["id"], ())
        for id, source in zip(new[::2], new[1::2], strict=True):
            cells.append({"cell_type": "code", "id": id, "metadata": {}, "source": source, "outputs": []})
            cells[-1]["execution_count"] = None
        if cell["id"] == upto:
            break
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
