"""The kernel in a worker: an IPython kernel that says when a cell starts and makes it durable before it replies.

Nothing of ipykernel is replaced; each override adds one step around the method it extends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 -- not later: imported beside a fork, it releases a lock it never took
import inspect
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from traitlets import Type, default

from lambdakernel import magics
from lambdakernel.errors import NotSaved
from lambdakernel.executors.frames import DELIMITER
from lambdakernel.state import Cell
from lambdakernel.worker import processes
from lambdakernel.worker.config import settings_of
from lambdakernel.worker.debugging import LateDebugger
from lambdakernel.worker.durable import Durable
from lambdakernel.worker.shell import NamespaceModule, WorkerShell
from lambdakernel.worker.underscores import text_of_output

_HEAD = 8
"""Frames among which the header is: after the identities of its sender, of which there are one or two."""
_ROUTED = re.compile(rb'"subshell_id"\s*:(?!\s*null)|"comm_|\\u')
"""What the header of a message has that may go to a subshell; an escape can hide it."""
COMM_MESSAGES = ("comm_open", "comm_msg", "comm_close")
EXIT_NO_REPLY = 70
"""Code with which a worker ends that could not reply: the front does, and the store says what was kept of the cell."""
CLOSING_COMMIT_S = 1.0
"""Seconds that a shutdown waits for the last commit of what changed outside cells."""
BIND_S = 5.0
"""Seconds that the debugger waits for names to be bound; then it shows those that are."""
PREPARE_AFTER_S = 0.5
"""Seconds without a request before the debugger is loaded, which nobody asked for yet."""


class WorkerKernel(LateDebugger):
    """See the module."""

    shell: Any
    parent: Any
    shell_class = Type(WorkerShell)
    _execute_sleep = 0.0
    """ipykernel sleeps half a millisecond so that output precedes the reply; here the front keeps that order."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings_of(self.parent)
        self.main_loop = asyncio.get_event_loop()
        self.running_cells = 0
        self.cells_run = 0
        self._forget = self._came_early = False
        self._last_request = time.monotonic()
        self.durable = Durable(self, self.settings, self.parent.params)
        for kind in COMM_MESSAGES:
            self.shell_handlers[kind] = self._then_commit(self.shell_handlers[kind])

    @default("user_module")
    def _default_user_module(self) -> NamespaceModule:
        return NamespaceModule("__main__", "Automatically created module for IPython interactive environment")

    @property
    def link(self) -> Any:
        return self.parent.link

    def attach(self) -> None:
        """Find the session's state; afterwards cells are durable. Our magics are there before: they are no cell's."""
        self.durable.at_cells.append(magics.load(self.shell, self.durable, self))
        self.durable.attach()
        self.shell.durable = self.durable

    def announce(self) -> None:
        """Tell the front that this worker can take requests."""
        self.link.say(
            "ready",
            execution_count=self.shell.execution_count,
            committed=self.durable.committed_cells(),
            cold=self.settings.cold,
        )
        self._rest_when_idle()
        self._prepare_when_idle()

    def _rest_when_idle(self) -> None:
        """Offer to end after `idle_s` without a request; the front decides, since one may be on its way."""
        if self.settings.idle_s <= 0:
            return
        left = self._last_request + self.settings.idle_s - time.monotonic()
        if left <= 0:
            is_used = self.running_cells or self.comm_manager.comms or self.is_debugged
            if not is_used and not self.durable.is_pinned():
                self.link.say("idle")
            left = self.settings.idle_s
        self.main_loop.call_later(left, self._rest_when_idle)

    def _prepare_when_idle(self) -> None:
        left = self._last_request + PREPARE_AFTER_S - time.monotonic()
        if left > 0 or self.running_cells:
            self.main_loop.call_later(max(left, PREPARE_AFTER_S), self._prepare_when_idle)
        else:
            self.prepare_debugger()

    async def bind_all(self) -> None:
        """A cell that runs has bound them before, if it was sent to a kernel that is debugged."""
        if self.running_cells:
            return
        bound: Future[None] = Future()

        def bind() -> None:
            try:
                self.shell.load_all()
            finally:
                bound.set_result(None)

        self.main_loop.call_soon_threadsafe(bind)
        await asyncio.wait([asyncio.wrap_future(bound)], timeout=BIND_S)

    def set_parent(self, ident: Any, parent: Any, channel: str = "shell") -> None:
        self._last_request = time.monotonic()
        super().set_parent(ident, parent, channel)

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        if status != "starting":  # the kernel started when the front did
            super()._publish_status(status, channel, parent)

    async def shell_channel_thread_main(self, msg: list[Any]) -> None:
        """As ipykernel's, which reads the header of each message to find its subshell. One that names none is for the
        main shell, which reads and verifies it."""
        if not _is_for_main_shell(msg):
            await super().shell_channel_thread_main(msg)
            return
        channel = self.shell_channel_thread
        async with channel.asyncio_lock:
            channel.manager.get_shell_channel_to_subshell_socket(None).send_multipart(msg, copy=False)

    # -- cells

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Any = None,
        cell_id: Any = None,
    ) -> dict[str, Any]:
        msg_id = self.get_parent("shell")["header"]["msg_id"]
        if not self.parent.journal.note(msg_id):
            self.link.say("started", msg_id=msg_id)
        started = time.time()
        self.shell.ran_as = ""
        try:
            self.running_cells += 1
            reply: dict[str, Any] = await super().do_execute(
                code, silent, store_history, user_expressions, allow_stdin, cell_meta=cell_meta, cell_id=cell_id
            )
        finally:
            self.running_cells -= 1
        self.cells_run += 1
        _ignore_interrupts()
        if self.running_cells:  # a subshell's cell ended beside another: the other's commit has both
            return reply
        cell = None if silent or not store_history else _cell(code, msg_id, started, reply, self.shell)
        return self._commit(cell, reply)

    def pre_handler_hook(self) -> None:
        """As ipykernel's; but an interrupt that comes before `execute_request` can answer for it waits until it can."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or self.get_parent("shell")["header"]["msg_type"] != "execute_request":
            super().pre_handler_hook()
            return
        self._came_early = False
        self.saved_sigint_handler = signal.signal(signal.SIGINT, self._note_interrupt)

    def _note_interrupt(self, _number: int, _frame: Any) -> None:
        self._came_early = True

    def _hear_interrupts(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._came_early:
                raise KeyboardInterrupt

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """As ipykernel's, but no client waits for ever: not after an interrupt just past the cell's own code, and not
        when the reply cannot be made (no memory is left): then this worker ends, and the front answers."""
        started, number = time.time(), int(self.shell.execution_count)
        try:
            self._hear_interrupts()
            await super().execute_request(stream, ident, parent)
        except KeyboardInterrupt:
            _ignore_interrupts()
            self.shell.showtraceback()
            self.shell.execution_count = number + 1
            code, msg_id = str(parent["content"].get("code", "")), parent["header"]["msg_id"]
            reply = {"status": "error", "execution_count": number, "ename": "KeyboardInterrupt", "evalue": ""}
            reply |= {"traceback": [], "user_expressions": {}, "payload": []}
            reply = self._commit(_cell(code, msg_id, started, reply, self.shell), reply)
            assert self.session is not None
            self.session.send(stream, "execute_reply", reply, parent, ident=ident)
            self._abort_queues(parent["header"].get("subshell_id"))
        except Exception:
            try:  # not through the redirected descriptor: who reads that ends with us
                os.write(sys.stderr.fileno(), traceback.format_exc().encode())
            finally:
                os._exit(EXIT_NO_REPLY)

    def _commit(self, cell: Cell | None, reply: dict[str, Any]) -> dict[str, Any]:
        """Make the cell durable; a reply that cannot promise that is an error."""
        try:
            self.durable.after(cell)
        except NotSaved as e:
            self.shell.showtraceback((type(e), e, None), exception_only=True)
            return {**reply, "status": "error", "ename": "NotSaved", "evalue": str(e), "traceback": [str(e)]}
        return reply

    def _then_commit(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A widget's callback may change variables: commit them soon."""

        async def handle(stream: Any, ident: Any, message: Any) -> None:
            result = handler(stream, ident, message)
            if inspect.isawaitable(result):
                await result
            self.durable.soon()

        return handle

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

    # -- the end, and what a client asks about

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """Save what changed outside cells; a restart seals the epoch, so that the next kernel begins empty."""
        self._forget = not restart
        if not self.running_cells:
            await asyncio.to_thread(self._commit_on_main_thread)
        if restart and self.durable.namespace is not None:
            self.durable.namespace.begin_epoch()
        reply = super().do_shutdown(restart)
        return dict(await reply if inspect.isawaitable(reply) else reply)

    def _commit_on_main_thread(self) -> None:
        done = threading.Event()

        def commit() -> None:
            try:
                if self.durable.namespace is not None and not self.running_cells:
                    self.durable.namespace.touch_all()
                    self.durable.after(None)
            except NotSaved as e:
                self.log.error("%s", e)
            finally:
                done.set()

        self.main_loop.call_soon_threadsafe(commit)
        done.wait(CLOSING_COMMIT_S)

    def release(self) -> None:
        """Let go of the session, after the last cell; called once, at the end of the process."""
        self.durable.close(forget=self._forget)

    async def usage_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """As ipykernel answers, with the memory and processor time of every process of the kernel."""
        if self.session:
            self.processes, content = processes.usage(self.parent.params["front_pid"], self.processes)
            self.session.send(stream, "usage_reply", content, parent, ident)


def _ignore_interrupts() -> None:
    """From here on an interrupt is too late for the cell, and must not tear its commit or its reply.

    ipykernel's `post_handler_hook` brings back the handler of before the cell.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_for_main_shell(frames: list[Any]) -> bool:
    """Whether it surely is, to be told without decoding: a request that has no subshell and is about no comm, which may
    have one."""
    raw = [bytes(frame.buffer) for frame in frames[:_HEAD]]
    at = raw.index(DELIMITER) + 2 if DELIMITER in raw else len(raw)
    return at < len(raw) and _ROUTED.search(raw[at]) is None


def _cell(code: str, msg_id: str, started: float, reply: dict[str, Any], shell: Any) -> Cell:
    number = int(reply["execution_count"])
    return Cell(
        number=number,
        source=code,
        msg_id=msg_id,
        status=str(reply["status"]),
        ename=str(reply.get("ename", "")),
        evalue=str(reply.get("evalue", ""))[:2000],
        filename=shell.ran_as,
        started_s=started,
        seconds=time.time() - started,
        output=text_of_output(shell, number),
    )


def _cancel_unless_done(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.cancel()
