"""The kernel in a worker: an IPython kernel that says when a cell starts and makes it durable before it replies.

Nothing of ipykernel is replaced; each override adds one step around the method it extends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from traitlets import Type, default

from lambdakernel.worker.shell import NamespaceModule, WorkerShell


class WorkerKernel(IPythonKernel):
    """See the module."""

    shell_class = Type(WorkerShell)
    _execute_sleep = 0.0
    """ipykernel sleeps half a millisecond so that output precedes the reply; here the front keeps that order."""

    @default("user_module")
    def _default_user_module(self) -> NamespaceModule:
        return NamespaceModule("__main__", "Automatically created module for IPython interactive environment")

    @property
    def link(self) -> Any:
        return self.parent.link

    def announce(self) -> None:
        """Tell the front that this worker can take requests."""
        self.link.say("ready", execution_count=self.shell.execution_count, committed={})

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        if status != "starting":  # the kernel started when the front did
            super()._publish_status(status, channel, parent)

    async def do_execute(
        self, code: str, silent: bool, *args: Any, cell_meta: Any = None, cell_id: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        msg_id = self.get_parent("shell")["header"]["msg_id"]
        self.link.say("started", msg_id=msg_id)
        reply = await super().do_execute(code, silent, *args, cell_meta=cell_meta, cell_id=cell_id, **kwargs)
        return dict(reply)

    @contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Iterator[None]:
        """As in ipykernel, but an interrupt wakes a sleeping event loop (ipykernel#881: it did not)."""
        loop = asyncio.get_running_loop()

        def cancel(_number: int, _frame: Any) -> None:
            loop.call_soon_threadsafe(partial(_cancel_unless_done, future))

        saved = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, saved)


def _cancel_unless_done(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.cancel()
