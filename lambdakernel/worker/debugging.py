"""A kernel whose debugger is made when something asks for it, or when there is nothing else to do.

ipykernel makes it with the kernel; here no cell waits for that. A zygote that had nothing to do for a while has loaded
it for its workers, and a worker without it does so at the first request of a debugger, or once it is idle.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from traitlets import Type, default

from lambdakernel.worker.debugger import left_out, load, loading

_SHOWS_NAMES = ("inspectVariables", "richInspectVariables", "copyToGlobals")


class LateDebugger(IPythonKernel):
    """A kernel whose `debugger` is made when it is first asked for."""

    debugger_class: Any = Type(klass=object)

    def __init__(self, **kwargs: Any) -> None:
        self._debugger: Any = None
        self._is_made: Future[None] = Future()
        with left_out():
            super().__init__(**kwargs)

    @default("debugger_class")
    def _default_debugger_class(self) -> Any:
        return load().Debugger

    @property
    def debugger(self) -> Any:
        """ipykernel's. AttributeError where debugpy is not installed, as there."""
        with loading:
            if self._debugger is None:
                self.debugger = self._make()
            return self._debugger

    @debugger.setter
    def debugger(self, debugger: Any) -> None:
        self._debugger = debugger
        if not self._is_made.done():
            self._is_made.set_result(None)

    def _make(self) -> Any:
        """As ipykernel makes it; what was imported with it is the kernel's, and not the notebook's."""
        before = set(sys.modules)
        if not load()._is_debugpy_available:
            raise AttributeError("this kernel has no debugger: debugpy is not installed")
        added = [sys.modules[name] for name in sys.modules.keys() - before]
        files = [file for module in added if (file := getattr(module, "__file__", None))]
        return self.debugger_class(
            self.log,
            self.debugpy_stream,
            self._publish_debug_event,
            self.debug_shell_socket,
            self.session,
            [*self._kernel_modules, *files],
            self.debug_just_my_code,
            self.filter_internal_frames,
        )

    @property
    def is_debugged(self) -> bool:
        """Whether a client has started the debugger, and has not left it."""
        return self._debugger is not None and bool(self._debugger.is_started)

    async def do_debug_request(self, msg: dict[str, Any]) -> Any:
        load()
        if msg.get("command") in _SHOWS_NAMES:
            await self.bind_all()
        return await super().do_debug_request(msg)

    async def bind_all(self) -> None:
        """Called on the control thread before names are shown: bind those that no cell has asked for yet."""

    async def poll_stopped_queue(self) -> None:
        await asyncio.wrap_future(self._is_made)
        await super().poll_stopped_queue()

    def prepare_debugger(self) -> None:
        """Make it, where debugpy is installed; called when there is nothing else to do."""
        if load()._is_debugpy_available:
            self.debugger  # noqa: B018 -- is made
