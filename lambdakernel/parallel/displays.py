"""Displays of a task: `display(...)`, figures and values as in a cell, sent to the notebook as bundles.

IPython's `display` asks for the shell, and prints where there is none. A task has one that can format and publish and
nothing else; it is made when something first asks for it, since most tasks never do.
"""

from __future__ import annotations

import base64
import builtins
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.displaypub import DisplayPublisher
from IPython.core.events import EventManager, available_events
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.rich import Display, nbytes_of, text_only

TASK_NBYTES = 4 * 1024 * 1024
"""Bytes of displays that one task sends: some dozens of figures. Of what is beyond, the text."""
Send = Callable[[str, bytes], None]
"""Takes what is said (`display`, `clear`) and what goes with it."""


class NoShell(LambdaKernelError):
    """The body asked its shell for what only a cell has."""


class Displays:
    """What one task displays. `install` makes it the task's; `close` shows the figures that the body left open."""

    def __init__(self, send: Send, live: dict[str, Any]) -> None:
        self._send = send
        self._live = live
        self._left = TASK_NBYTES
        self._sending = threading.Lock()  # the body may display from threads
        self._figures: frozenset[int] = frozenset()

    def install(self) -> None:
        """Let everything in this process that looks for a shell find ours."""
        from IPython.core.display_functions import display
        from IPython.core.getipython import get_ipython

        names: Any = builtins
        names.display, names.get_ipython = display, get_ipython
        self._figures = _open_figures()
        shells: Any = InteractiveShell
        shells.initialized = self._make_once

    def _make_once(self) -> bool:
        shells: Any = InteractiveShell
        if shells._instance is None:
            shells._instance = TaskShell(self)
            _let_figures_be_formatted()
        return True

    def publish(self, data: dict[str, Any], metadata: dict[str, Any], name: str) -> None:
        """Send one bundle; of one that is too large, its text."""
        display = Display(_encoded(data), metadata, name)
        if nbytes_of(display.data) > self._left:
            display = text_only(display)
        self._left -= nbytes_of(display.data)
        try:
            message = json.dumps({"data": display.data, "metadata": display.metadata, "id": name}, default=repr)
        except (TypeError, ValueError):  # keys that JSON has no word for
            message = json.dumps({"data": {"text/plain": str(data.get("text/plain", "<display>"))}})
        with self._sending:
            self._send("display", message.encode())

    def clear(self) -> None:
        with self._sending:
            self._send("clear", b"")

    def value(self, value: Any) -> None:
        """Show the value of the body's last expression, as a cell does."""
        if value is not None:
            builtins.display(value)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Show figures that the body made and neither showed nor closed."""
        figures = _open_figures() - self._figures
        if not figures:
            return
        managers = sys.modules["matplotlib._pylab_helpers"].Gcf
        for number in sorted(figures):
            builtins.display(managers.figs[number].canvas.figure)  # type: ignore[attr-defined]
        for number in figures:
            managers.destroy(number)


class TaskShell(InteractiveShell):
    """What a task has for a shell: it formats and publishes."""

    def __init__(self, displays: Displays) -> None:
        above: Any = super(InteractiveShell, self)  # not InteractiveShell's: a task has no history, magics, completion
        above.__init__()
        whole: Any = self
        whole.configurables = [self]
        whole.user_ns = displays._live
        whole.mime_renderers = {}
        whole.events = EventManager(self, available_events)
        whole.display_formatter = DisplayFormatter(parent=self)
        whole.display_pub = Publisher(displays)

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise NoShell(
            "a task has no shell for magics, commands and cells. Use Python instead, or move the line to a cell of its"
            " own."
        )

    run_cell = run_line_magic = run_cell_magic = system = getoutput = magic = _refuse


class Publisher(DisplayPublisher):
    """Publishes through the task's line to its cell."""

    def __init__(self, displays: Displays) -> None:
        super().__init__()
        self._displays = displays

    def publish(  # type: ignore[override]
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        **_how: Any,
    ) -> None:
        _flush()
        self._displays.publish(data, metadata or {}, str((transient or {}).get("display_id", "")))

    def clear_output(self, wait: bool = False) -> None:
        _flush()
        self._displays.clear()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _encoded(data: dict[str, Any]) -> dict[str, Any]:
    """As the wire wants it: bytes in base64."""
    return {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}


def _open_figures() -> frozenset[int]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return frozenset() if helpers is None else frozenset(helpers.Gcf.figs)


def _let_figures_be_formatted() -> None:
    """What the inline backend does for a shell when it is imported; a fork has it already, and had no shell then."""
    inline = sys.modules.get("matplotlib_inline.backend_inline")
    if inline is not None and hasattr(inline, "_enable_matplotlib_integration"):
        inline._enable_matplotlib_integration()
