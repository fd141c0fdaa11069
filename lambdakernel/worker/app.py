"""A worker that runs cells: ipykernel's own application, with the front where its clients would be.

What differs from ipykernel, and nothing else does: sockets connect to the front and add no hop; there is no
heartbeat and no connection file to write, since the front has both; a line to the front says when a cell starts and
hears when to retire.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

# These are imported by every shell that is made: with us, and not in each worker.
import IPython.core.completerlib
import IPython.core.debugger
import IPython.extensions.storemagic  # noqa: F401
import tornado.platform.asyncio  # noqa: F401
import zmq
from ipykernel import compiler
from ipykernel.control import ControlThread
from ipykernel.kernelapp import IPKernelApp
from traitlets import Dict, DottedObjectName, Instance, Type

from lambdakernel.executors import wire
from lambdakernel.executors.birth import expect_descriptors
from lambdakernel.executors.journal import Journal
from lambdakernel.worker import debugger
from lambdakernel.worker.kernel import WorkerKernel
from lambdakernel.worker.link import Link
from lambdakernel.worker.output import Output
from lambdakernel.worker.shells import ShellChannel

_DESCRIPTORS = 256
"""Sixty are those of a worker in which no cell has run."""


def run(params: dict[str, Any], fds: tuple[int, ...]) -> int:
    """Be a worker until told to end; its exit code. Called in a process that was just forked."""
    if os.environ.get("PYTHONHASHSEED") == "0":  # the kernelspec's, so that sets keep their order over processes
        del os.environ["PYTHONHASHSEED"]
    _name_cells_after(int(params["front_pid"]))
    expect_descriptors(_DESCRIPTORS)
    # For the threads that are made now: an interrupt is for the main one, and would not wake it if another had it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    app = WorkerApp.instance(params=params, link=Link(fds[0]), journal=Journal(fds[1]))
    os.close(fds[1])
    app.initialize(list(params["argv"]))
    app.kernel.attach()
    try:
        app.start()
    finally:
        app.kernel.release()
    return 0


def _name_cells_after(front_pid: int) -> None:
    """Cell file names carry a process id; use the kernel's, so that breakpoints and sources outlive a worker."""
    import tempfile

    prefix = os.path.join(tempfile.gettempdir(), f"ipykernel_{front_pid}")

    def get_tmp_directory() -> str:
        return prefix

    compiler.get_tmp_directory = get_tmp_directory
    if debugger.is_loaded():  # else it takes the compiler's when it is
        sys.modules[debugger.MODULE].get_tmp_directory = get_tmp_directory  # type: ignore[attr-defined]


class WorkerApp(IPKernelApp):
    """See the module."""

    name = "lambdakernel-worker"
    kernel_class = Type(  # type: ignore[assignment]
        WorkerKernel, klass="ipykernel.kernelbase.Kernel"
    ).tag(config=True)
    classes = [*IPKernelApp.classes, WorkerKernel]  # noqa: RUF012 -- a traitlets convention
    outstream_class = DottedObjectName("lambdakernel.worker.output.Stream").tag(config=True)
    params = Dict()
    link = Instance(Link)
    journal = Instance(Journal)

    def _configure_logging(self) -> None:
        """As traitlets do it; but what no handler would show is not made: several records a cell."""
        super()._configure_logging()
        if self.log.handlers:
            self.log.setLevel(min(handler.level for handler in self.log.handlers))

    # -- connections: the front's

    def init_connection_file(self) -> None:
        said = self.params
        self.connection_file = said["connection_file"]
        self.transport, self.ip = said["transport"], said["ip"]
        for channel, port in said["ports"].items():
            setattr(self, f"{channel}_port", port)
        self.session.key = said["key"].encode()
        self.session.session = said["session_id"]

    def write_connection_file(self, **kwargs: Any) -> None:
        """Jupyter wrote it and the front read it."""

    def log_connection_info(self) -> None:
        self._ports = dict(self.params["ports"])

    def init_poller(self) -> None:
        """The zygote watches over us."""

    def init_heartbeat(self) -> None:
        """The front beats."""

    def init_sockets(self) -> None:
        self.context = zmq.Context()
        self.shell_socket = self._connect("shell", zmq.DEALER)
        self.stdin_socket = self._connect("stdin", zmq.DEALER)
        self.init_iopub(self.context)
        self.init_control(self.context)
        import atexit

        atexit.register(self.close)

    def init_control(self, context: Any) -> None:
        self.control_socket = self._connect("control", zmq.DEALER)
        self.debugpy_socket = context.socket(zmq.STREAM)
        self.debugpy_socket.linger = 1000
        # The debugger runs code as a client of its own kernel would: through the front.
        self.debug_shell_socket = context.socket(zmq.DEALER)
        self.debug_shell_socket.linger = 1000
        if self.params["curve"]:
            self.curve_publickey, self.curve_secretkey = (key.encode() for key in self.params["curve"])
            self._apply_curve_client_options(self.debug_shell_socket)
        self.debug_shell_socket.connect(self.params["shell"])
        self.control_thread = ControlThread(daemon=True)
        self.shell_channel_thread = ShellChannel(context, self.iopub_thread.outlet)

    def init_iopub(self, context: Any) -> None:
        self.configure_tornado_logger()
        self.iopub_thread = Output(self._connect("out", zmq.PUSH), self.session)
        self.iopub_thread.start()
        self.iopub_socket = self.iopub_thread.background_socket

    def _connect(self, channel: str, kind: int) -> Any:
        assert self.context is not None
        socket = self.context.socket(kind)
        socket.linger = 1000
        socket.setsockopt(zmq.SNDHWM, 0)  # output waits in memory, as a pipe would; it is never dropped here
        socket.connect(self.params["endpoints"][channel])
        if kind == zmq.DEALER:
            socket.send(self.params["greeting"].encode())
        return socket

    # -- life

    def start(self) -> None:
        """Serve until the kernel is shut down or this worker is retired."""
        self.kernel.start()
        loop = asyncio.get_event_loop()
        self._listen_to_front(loop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.kernel.announce()
        loop.run_forever()

    def _retire(self, main_loop: asyncio.AbstractEventLoop) -> None:
        self.kernel.shell.history_manager.goes_on = self.kernel.settings.cold
        main_loop.stop()

    def _listen_to_front(self, main_loop: asyncio.AbstractEventLoop) -> None:
        """Hear orders on the control thread, which goes on while a cell runs."""
        control_loop = self.control_thread.io_loop

        def hear(fd: int, events: int) -> None:
            try:
                order = self.link.hear()
            except wire.PeerGone:
                # the front is gone: end, with everything that cells started
                os.killpg(0, signal.SIGKILL)
                return
            if order == "retire":
                main_loop.call_soon_threadsafe(self._retire, main_loop)

        control_loop.add_callback(control_loop.add_handler, self.link.fileno(), hear, control_loop.READ)
