"""Real kernels for tests: started through jupyter_client, in a store and a runtime directory of their own.

Every process that a kernel makes inherits a marker in its environment. By that marker a test finds them all, also those
that were orphaned or that a cell started, and by it `Kernel.close` makes sure that none outlives its test.
"""

from __future__ import annotations

import ast
import atexit
import itertools
import os
import queue
import shutil
import signal
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

_LOOP = ensure_event_loop()
"""The loop on which jupyter_client's blocking calls run: it makes one and never closes it, so we own it."""
atexit.register(_LOOP.close)

NAME = "lambdakernel"
MARKER = "LAMBDAKERNEL_TEST_MARKER"
READY_S = 40.0
CELL_S = 30.0
_ROLES = {role: f"lk-{role}" for role in ("zygote", "worker", "task", "idle", "template", "scrub")}


@dataclass(slots=True)
class Result:
    """What a client saw of one request: the reply's content and the messages on iopub, in order of arrival."""

    reply: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def status(self) -> str:
        return str(self.reply["status"])

    @property
    def ename(self) -> str:
        return str(self.reply.get("ename", ""))

    @property
    def evalue(self) -> str:
        return str(self.reply.get("evalue", ""))

    @property
    def types(self) -> list[str]:
        return [m["msg_type"] for m in self.messages]

    @property
    def stdout(self) -> str:
        streams = [m["content"] for m in self.messages if m["msg_type"] == "stream"]
        return "".join(c["text"] for c in streams if c["name"] == "stdout")

    @property
    def value(self) -> str | None:
        """The text of the cell's last expression, if it had one."""
        found = [m["content"]["data"]["text/plain"] for m in self.messages if m["msg_type"] == "execute_result"]
        return found[-1] if found else None

    @property
    def shown(self) -> str:
        """Plain text of every display, error and stream."""
        parts: list[str] = []
        for m in self.messages:
            content = m["content"]
            parts.append(str(content.get("text", "")))
            parts.append(str(content.get("data", {}).get("text/plain", "")) if m["msg_type"] != "status" else "")
            parts.append(str(content.get("evalue", "")))
        return "\n".join(filter(None, parts))


class Client:
    """One connected client; messages are sorted by the request that they answer, so several may be under way."""

    def __init__(self, manager: KernelManager) -> None:
        # Not `manager.client()`: those share one session, and so one identity, of which the latest gets every reply.
        self._manager = manager
        self.raw = BlockingKernelClient(connection_file=manager.connection_file)
        self.raw.load_connection_file()
        self.raw.start_channels()
        self._replies: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._idle: set[str] = set()

    def wait_for_ready(self, timeout: float = READY_S) -> None:
        """Wait for the first answer. A second without a heartbeat is not a death: on a busy machine, ipykernel's thread
        for it waits that long while the kernel imports."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.raw.wait_for_ready(timeout=min(5.0, max(1.0, end - time.monotonic())))
                return
            except RuntimeError as error:
                if not self._manager.is_alive():
                    raise RuntimeError("the kernel died before it was ready") from error
                if time.monotonic() > end:
                    raise

    def send(self, code: str, **options: Any) -> str:
        """Send a cell; its message id."""
        return str(self.raw.execute(code, **options))

    def run(self, code: str, timeout: float = CELL_S, **options: Any) -> Result:
        """Run a cell to its reply and its idle."""
        return self.result(self.send(code, **options), timeout)

    def result(self, msg_id: str, timeout: float = CELL_S) -> Result:
        """Reply and output of an earlier request.

        Raises:
            TimeoutError: they did not come within `timeout` seconds; says what did.
        """
        start = time.monotonic()
        while msg_id not in self._replies or msg_id not in self._idle:
            left = timeout - (time.monotonic() - start)
            if left <= 0:
                had = [m["msg_type"] for m in self._outputs[msg_id]]
                raise TimeoutError(f"no answer in {timeout} s; replied: {msg_id in self._replies}, iopub: {had}")
            self._take(min(left, 0.25), prefer_reply=msg_id not in self._replies)
        return Result(self._replies[msg_id], self._outputs.pop(msg_id, []), time.monotonic() - start)

    def _take(self, timeout: float, *, prefer_reply: bool) -> None:
        """Take in what has come, waiting on one channel for at most `timeout` seconds if nothing has."""
        if self._take_iopub(0) or self._take_shell(0):
            return
        if prefer_reply:
            self._take_shell(min(timeout, 0.02)) or self._take_iopub(min(timeout, 0.02))
        else:
            self._take_iopub(timeout)

    def _take_iopub(self, timeout: float) -> bool:
        try:
            message = self.raw.get_iopub_msg(timeout=timeout)
        except queue.Empty:
            return False
        parent = str(message["parent_header"].get("msg_id", ""))
        self._outputs[parent].append(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            self._idle.add(parent)
        return True

    def _take_shell(self, timeout: float) -> bool:
        try:
            message = self.raw.get_shell_msg(timeout=timeout)
        except queue.Empty:
            return False
        self._replies[str(message["parent_header"].get("msg_id", ""))] = message["content"]
        return True

    def reply_so_far(self, msg_id: str) -> dict[str, Any] | None:
        """The reply's content, if it has come."""
        return self._replies.get(msg_id)

    def await_output(self, msg_id: str, kind: str, timeout: float = CELL_S) -> dict[str, Any]:
        """The first message of type `kind` that a running request publishes."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for message in self._outputs[msg_id]:
                if message["msg_type"] == kind:
                    return message
            self._take_iopub(0.1)
        raise TimeoutError(f"no {kind} in {timeout} s")

    def await_debug_event(self, event: str, timeout: float = CELL_S) -> dict[str, Any]:
        """The body of the first `debug_event` of this name, whatever request it is said to belong to."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for message in itertools.chain.from_iterable(self._outputs.values()):
                if message["msg_type"] == "debug_event" and message["content"]["event"] == event:
                    return dict(message["content"]["body"])
            self._take_iopub(0.1)
        raise TimeoutError(f"no event {event} in {timeout} s")

    def close(self) -> None:
        self.raw.stop_channels()


class Kernel:
    """One kernel of ours with one client. Use as a context manager, or call `close`."""

    def __init__(
        self,
        store: Path | str,
        *,
        session: str | None = None,
        env: dict[str, str] | None = None,
        unset: tuple[str, ...] = (),
        name: str = NAME,
        cwd: Path | None = None,
        manager: KernelManager | None = None,
        **start: Any,
    ) -> None:
        self.store = Path(store)
        self.runtime = Path(tempfile.mkdtemp(prefix="lk-"))
        self.marker = uuid.uuid4().hex
        self.env = clean_environment(self.runtime, self.marker)
        self.env["LAMBDAKERNEL_STORE"] = str(store)
        if session is not None:
            self.env["LAMBDAKERNEL_SESSION"] = session
        self.env.update(env or {})
        for variable in unset:
            self.env.pop(variable, None)
        self.manager = manager or KernelManager(kernel_name=name)
        self.manager.start_kernel(env=self.env, cwd=str(cwd or self.runtime), **start)
        self.client = Client(self.manager)
        self._clients = [self.client]
        try:
            self.client.wait_for_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- cells

    def run(self, code: str, timeout: float = CELL_S, **options: Any) -> Result:
        return self.client.run(code, timeout, **options)

    def value(self, expression: str, timeout: float = CELL_S) -> Any:
        """The value of a plain expression in the kernel: `repr` there, `literal_eval` here."""
        result = self.run(expression, timeout)
        assert result.status == "ok", result.shown
        assert result.value is not None
        return ast.literal_eval(result.value)

    def another_client(self) -> Client:
        client = Client(self.manager)
        self._clients.append(client)
        client.wait_for_ready()
        return client

    # -- processes

    @property
    def front(self) -> psutil.Process:
        provisioner: Any = self.manager.provisioner
        return psutil.Process(provisioner.pid)

    def processes(self) -> list[psutil.Process]:
        """Every live process that came from this kernel, orphans included."""
        return processes_marked(self.marker)

    def pids(self, role: str) -> list[int]:
        """Processes of `zygote`, `worker`, `task`, `idle`, `template` or `scrub`, oldest first."""
        found = [p for p in self.processes() if name_of(p) == _ROLES[role]]
        if role == "worker":  # what a worker forks, as a cell's own pool, has its name
            found = [p for p in found if name_of_parent(p) == _ROLES["zygote"]]
        return [p.pid for p in sorted(found, key=lambda p: (p.create_time(), p.pid))]

    def worker(self, timeout: float = 10.0) -> int:
        """The pid of the worker, once there is one."""
        return int(eventually(lambda: self.pids("worker"), timeout, "a worker")[-1])

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal; for SIGKILL, return once the process is gone."""
        try:
            process = psutil.Process(pid)
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        if number == signal.SIGKILL:
            gone_within([process], 5.0)

    def kill_worker(self) -> int:
        pid = self.worker()
        self.kill(pid)
        return pid

    def kill_everything(self) -> None:
        """SIGKILL to every process of the kernel, the front first."""
        for process in [self.front, *self.processes()]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        eventually(lambda: not self.processes(), 5.0, "everything killed")

    def restart_as_jupyter_does(self) -> None:
        """What a restarter does once it saw that the front is dead: a new one on the same connection file."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready()

    def directories(self) -> list[str]:
        """Names of the kernel's runtime directories that exist now."""
        return sorted(p.name for p in self.runtime.iterdir() if p.name.startswith("lambdakernel-"))

    # -- the end

    def shutdown(self) -> None:
        """Politely, as a user does; the store stays."""
        self.manager.shutdown_kernel()

    def close(self) -> None:
        """End everything, politely if it still answers, and leave no process and no file but the store."""
        for client in self._clients:
            client.close()
        try:
            if self.manager.has_kernel:
                self.manager.shutdown_kernel(now=True)
        finally:
            for process in self.processes():
                process.kill()
            shutil.rmtree(self.runtime, ignore_errors=True)


def clean_environment(runtime: Path, marker: str) -> dict[str, str]:
    """The tests' own environment without what could leak in from a developer's machine."""
    dropped = ("LAMBDAKERNEL_", "JPY_", "PYTEST_", "MPLBACKEND")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env |= {MARKER: marker, "XDG_RUNTIME_DIR": str(runtime), "IPYTHONDIR": str(runtime / "ipython")}
    return env


def processes_marked(marker: str) -> list[psutil.Process]:
    """Live processes (zombies are not) whose environment holds `marker`, but for this one."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if wanted in Path(f"/proc/{entry}/environ").read_bytes():
                found.append(psutil.Process(int(entry)))
        except (OSError, psutil.NoSuchProcess):
            continue
    return found


def name_of(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def name_of_parent(process: psutil.Process) -> str:
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return ""
    return "" if parent is None else name_of(parent)


def gone_within(processes: list[psutil.Process], seconds: float) -> None:
    """Return once all have ended.

    Raises:
        AssertionError: some still live after `seconds`.
    """
    eventually(lambda: not any(lives(p.pid) and p.is_running() for p in processes), seconds, f"gone: {processes}")


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`, looked at every 20 ms.

    Raises:
        AssertionError: it did not come within `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextmanager
def running(store: Path | str, **options: Any) -> Iterator[Kernel]:
    """A kernel for the length of a block; afterwards none of its processes and none of its files is left."""
    kernel = Kernel(store, **options)
    try:
        yield kernel
    finally:
        kernel.close()
