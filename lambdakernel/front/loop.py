"""The front's loop: one thread, one poll, no work of its own.

Each turn it moves what is ready: output first, so that a reply never overtakes the output that it answers for; then
replies, then requests. What to do with a request or a death is the lane's to decide (`lanes`, pure); this module
carries it out on sockets and processes. It never waits for a worker, never opens the store, never runs user code.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import Any

import zmq

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, ExecutorLost, Exited, Invocation, Refused, Started
from lambdakernel.executors.frames import REPLY, unpack
from lambdakernel.executors.journal import Journal
from lambdakernel.executors.local import LocalExecutor, spawn_zygote
from lambdakernel.front import lanes
from lambdakernel.front.channels import ClientPorts, WorkerPorts, receive, receive_one, send
from lambdakernel.front.connection import Connection
from lambdakernel.front.messages import Frames, Signer, idle_parents
from lambdakernel.front.ready import Ready, Source
from lambdakernel.settings import from_env

BATCH = 256
"""Messages moved from one socket in one turn, so that a flood of output cannot starve requests."""
DRAIN_S = 0.05
"""Seconds that the ports of a worker that ended stay open for output still on its way."""
STATUSES = 16
"""Status messages of a worker that are kept, to know after its death which requests it declared done."""
GREETING = b"lambdakernel"
"""The one frame that a worker sends first on each channel."""
Socket = zmq.Socket[bytes]
_GREETED = {"shell", "control", "stdin"}


class Worker:
    """One generation of the lane: its ports, its link (our end), and its process once we know it."""

    __slots__ = (
        "drained_at",
        "generation",
        "greeted",
        "journal",
        "kill_at",
        "link",
        "pid",
        "ports",
        "ready",
        "statuses",
    )

    def __init__(self, generation: int, ports: WorkerPorts, link: Any, journal: Journal, kill_at: float) -> None:
        self.generation = generation
        self.ports = ports
        self.link = link
        self.journal = journal
        self.pid = 0
        self.drained_at = 0.0
        self.kill_at = kill_at
        self.greeted: set[str] = set()
        self.ready: dict[str, Any] | None = None
        self.statuses: deque[Frames] = deque(maxlen=STATUSES)


class Front:
    """See the module. Owns every socket, the executor and the runtime directory's contents; `close` ends them."""

    def __init__(self, connection: Connection, directory: str, executor: LocalExecutor, argv: list[str]) -> None:
        self._connection = connection
        self._directory = directory
        self._executor: LocalExecutor | None = executor
        self._argv = argv
        self._history = 0
        self._settings = from_env()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._clients = ClientPorts(self._context, connection)
        self._signer = Signer(connection.key)
        self._lane = lanes.Lane(self._signer, cold=self._settings.cold)
        self._workers: dict[int, Worker] = {}
        self._ready = Ready()
        self._deadline: float | None = None
        self._leaving = False
        self._wake, self._parent = _watch_signals(), _watch_parent()
        clients = self._clients
        for socket in (clients.hb, clients.control, clients.shell, clients.stdin, clients.iopub):
            self._ready.register(socket)
        for fd in (self._wake, executor.fileno(), self._parent):
            if fd is not None:
                self._ready.register(fd)

    # -- the loop

    def run(self) -> int:
        """Serve until told to end."""
        self._act([self._lane.status("starting")])
        self._act(self._lane.start())
        while not self._leaving:
            self._turn(self._ready.poll(self._timeout_ms()))
            self._expire()
        return 0

    def _timeout_ms(self) -> int | None:
        ends = [at for w in self._workers.values() for at in (w.drained_at, w.kill_at) if at]
        if self._deadline is not None:
            ends.append(self._deadline)
        return max(0, int((min(ends) - time.monotonic()) * 1000) + 1) if ends else None

    def _turn(self, ready: set[Source]) -> None:
        for worker in list(self._workers.values()):
            self._from_worker(worker, ready)
        for channel in ("control", "shell"):
            if self._clients[channel] in ready:
                self._from_clients(channel)
        if self._clients.stdin in ready:
            self._forward_input()
        if self._clients.iopub in ready:
            self._welcome()
        if self._clients.hb in ready:
            beat = receive(self._clients.hb)
            if beat is not None:
                self._send(self._clients.hb, beat)
        if self._executor is not None and self._executor.fileno() in ready:
            self._from_executor()
        if self._wake in ready:
            self._on_signals()
        if self._parent in ready:  # whoever started us is gone, and nobody can reach us any more
            self._leaving = True

    def _from_worker(self, worker: Worker, ready: set[Source]) -> None:
        ports = worker.ports
        if worker.link.fileno() in ready:
            self._hear(worker)
        if ports.shell in ready or ports.control in ready or ports.out in ready:
            self._from_out(worker)
        for channel in ("shell", "control"):
            if ports[channel] in ready:
                self._replies(worker, channel)
        if ports.stdin in ready:
            self._prompts(worker)

    def _prompts(self, worker: Worker) -> None:
        for _ in range(BATCH):
            frames = receive(worker.ports.stdin)
            if frames is None:
                break
            if frames == [GREETING]:
                self._greet(worker, "stdin")
            else:
                self._send(self._clients.stdin, frames)

    def _from_out(self, worker: Worker) -> None:
        for _ in range(BATCH):
            packed = receive_one(worker.ports.out)
            if packed is None:
                break
            try:
                where, frames = unpack(packed)
            except ValueError:  # a cell found the socket and sent what nobody can read
                continue
            if where == REPLY:
                self._reply(worker, "shell", frames)
                continue
            if frames[0].endswith(b".status"):
                worker.statuses.append(frames)
            self._publish(frames)

    def _publish(self, frames: Frames) -> None:
        self._clients.iopub.send_multipart(frames)
        self._ready.touched(self._clients.iopub)

    def _send(self, socket: Socket, frames: Frames) -> None:
        send(socket, frames)
        self._ready.touched(socket)

    def _replies(self, worker: Worker, channel: str) -> None:
        for _ in range(BATCH):
            frames = receive(worker.ports[channel])
            if frames is None:
                break
            if frames == [GREETING]:
                self._greet(worker, channel)
            else:
                self._reply(worker, channel, frames)

    def _reply(self, worker: Worker, channel: str, frames: Frames) -> None:
        self._act(self._lane.reply(worker.generation, channel, frames))
        if self._lane.closing and lanes.is_shutdown_reply(frames):
            self._deadline = time.monotonic() + self._settings.shutdown_grace_s

    def _greet(self, worker: Worker, channel: str = "", ready: dict[str, Any] | None = None) -> None:
        """A worker is ready once it said so and can be reached: a socket has no peer before its first frame."""
        worker.greeted.add(channel)
        worker.ready = ready or worker.ready
        if worker.ready is not None and worker.greeted >= _GREETED:
            message, worker.ready = worker.ready, None
            worker.kill_at = 0.0
            self._act(self._lane.said(worker.generation, message))

    def _from_clients(self, channel: str) -> None:
        for _ in range(BATCH):
            frames = receive(self._clients[channel])
            if frames is None:
                break
            self._act(self._lane.request(channel, frames))
            if self._lane.closing and self._deadline is None:
                self._deadline = time.monotonic() + 2 * self._settings.shutdown_grace_s

    def _forward_input(self) -> None:
        for _ in range(BATCH):
            frames = receive(self._clients.stdin)
            if frames is None:
                break
            worker = self._workers.get(self._lane.generation)
            if worker is not None:
                self._send(worker.ports.stdin, frames)

    def _welcome(self) -> None:
        """Greet a new subscriber, as ipykernel does since protocol 5.5."""
        for _ in range(BATCH):
            frames = receive(self._clients.iopub)
            if frames is None:
                break
            topic = frames[0][1:]
            if frames[0][:1] == b"\x01":
                content = {"subscription": topic.decode(errors="replace")}
                greeting = self._signer.message("iopub_welcome", content, idents=[topic] if topic else [])
                self._publish(greeting)

    # -- links, executor, signals

    def _hear(self, worker: Worker) -> None:
        """What the worker says on its link; at its end, stop listening (its death is the executor's to report)."""
        try:
            while (received := wire.receive(worker.link)) is not None:
                message, _ = received
                if message.get("said") == "modules" and self._executor is not None:
                    self._executor.warm(tuple(message["names"]), now=message["now"])
                elif message.get("said") == "history":
                    self._history = int(message["session"])
                elif message.get("said") == "ready":
                    self._greet(worker, ready=message)
                else:
                    self._act(self._lane.said(worker.generation, message))
        except wire.PeerGone:
            self._ready.unregister(worker.link.fileno())
            worker.link.close()

    def _from_executor(self) -> None:
        assert self._executor is not None
        for event in self._executor.events():
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Started(id, pid):
                self._workers[int(id)].pid = pid
            case Refused(id, reason):
                self._drop(self._workers[int(id)])
                self._act(self._lane.refused(int(id), reason))
            case Exited(id):
                self._on_exit(self._workers[int(id)], event)
            case ExecutorLost(reason):
                self._on_executor_lost(reason)

    def _on_exit(self, worker: Worker, event: Exited) -> None:
        """First hear everything that it said, then judge what it owed."""
        if worker.link.fileno() >= 0:
            self._hear(worker)
        self._from_out(worker)
        for channel in ("shell", "control"):
            self._replies(worker, channel)
        for msg_id in worker.journal.notes():
            self._act(self._lane.said(worker.generation, {"said": "started", "msg_id": msg_id}))
        worker.kill_at = 0.0
        worker.drained_at = time.monotonic() + DRAIN_S
        self._act(self._lane.exited(event, worker.generation, idle_parents(worker.statuses)))

    def _on_executor_lost(self, reason: str) -> None:
        """The zygote is gone, and by the system's doing all its workers: the next start makes another."""
        if self._executor is None:
            return
        self._ready.unregister(self._executor.fileno())
        self._executor.close(0.0)
        self._executor = None
        current = self._workers.get(self._lane.generation)
        for worker in list(self._workers.values()):
            if worker is not current:
                self._drop(worker)
        if current is None:
            return
        if current.pid:
            self._on_exit(current, Exited(str(current.generation), current.pid, -signal.SIGKILL, False, 0))
        else:
            self._drop(current)
            self._act(self._lane.unborn(current.generation, reason))

    def _on_signals(self) -> None:
        """An interrupt goes to the worker's process group, once; a request to terminate ends the kernel."""
        assert self._wake is not None
        for number in os.read(self._wake, 64):
            if number == signal.SIGTERM:
                self._leaving = True
            elif number == signal.SIGINT:
                self._interrupt()

    def _interrupt(self) -> None:
        worker = self._workers.get(self._lane.generation)
        if worker is None or not worker.pid or not self._lane.ready:
            return
        try:
            os.killpg(worker.pid, signal.SIGINT)
        except ProcessLookupError:
            return

    # -- actions

    def _act(self, actions: list[lanes.Action]) -> None:
        for action in actions:
            match action:
                case lanes.ToWorker(channel, frames):
                    self._send(self._workers[self._lane.generation].ports[channel], frames)
                case lanes.ToClient(channel, frames):
                    self._send(self._clients[channel], frames)
                case lanes.Publish(frames):
                    self._publish(frames)
                case lanes.StartWorker(generation):
                    self._start(generation)
                case lanes.RetireWorker(generation):
                    self._retire(self._workers[generation])
                case lanes.Rest():
                    self._rest()
                case lanes.Leave():
                    self._leaving = True

    def _start(self, generation: int) -> None:
        if self._executor is None:
            self._executor = spawn_zygote(self._directory)
            self._ready.register(self._executor.fileno())
        ours, theirs = wire.pair()
        ours.setblocking(False)
        ports = WorkerPorts(self._context, self._directory, generation)
        journal_fd = Journal.create()
        kill_at = time.monotonic() + self._settings.boot_deadline_s
        worker = Worker(generation, ports, ours, Journal(journal_fd), kill_at)
        self._workers[generation] = worker
        for socket in worker.ports.sockets():
            self._ready.register(socket)
        self._ready.register(ours.fileno())
        self._executor.start(Invocation(str(generation), "kernel", self._params(worker)), (theirs.fileno(), journal_fd))
        theirs.close()
        os.close(journal_fd)

    def _params(self, worker: Worker) -> dict[str, object]:
        """What a worker must know; it travels on a private socket, since it holds the connection's key."""
        connection = self._connection
        return {
            "generation": worker.generation,
            "endpoints": worker.ports.endpoints,
            "directory": self._directory,
            "connection_file": connection.path,
            "transport": connection.transport,
            "ip": connection.ip,
            "shell": connection.endpoint("shell"),
            "curve": [key.decode() for key in connection.curve or ()],
            "ports": connection.ports,
            "key": connection.key.decode(),
            "greeting": GREETING.decode(),
            "session_id": self._signer.session,
            "front_pid": os.getpid(),
            "argv": self._argv,
            "history": self._history,
        }

    def _retire(self, worker: Worker) -> None:
        """Tell it to end, and kill it past its time: a stopped one would hold its lane of the store for ever."""
        worker.kill_at = time.monotonic() + self._settings.shutdown_grace_s
        try:
            wire.send(worker.link, {"do": "retire"})
        except (wire.PeerGone, OSError):
            return

    def _kill(self, worker: Worker) -> None:
        if worker.pid:
            try:
                os.kill(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _rest(self) -> None:
        """End the zygote too; the next start makes another. What a cell waits for it then is an interpreter's start."""
        if self._executor is not None:
            self._ready.unregister(self._executor.fileno())
            self._executor.release()
            self._executor = None

    def _drop(self, worker: Worker) -> None:
        """Forget a worker that is gone, with its sockets and their files."""
        self._workers.pop(worker.generation, None)
        for socket in worker.ports.sockets():
            self._ready.unregister(socket)
        worker.ports.close()
        worker.journal.close()
        if worker.link.fileno() >= 0:
            self._ready.unregister(worker.link.fileno())
            worker.link.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for worker in [w for w in self._workers.values() if w.drained_at and w.drained_at <= now]:
            self._from_out(worker)
            self._drop(worker)
        for worker in [w for w in self._workers.values() if w.kill_at and w.kill_at <= now]:
            worker.kill_at = 0.0
            self._kill(worker)  # one that never got ready counts as a failed start, like one that ended by itself
        if self._deadline is not None and self._deadline <= now:
            gone = Exited(str(self._lane.generation), 0, -signal.SIGKILL, False, 0)
            self._act(self._lane.exited(gone, self._lane.generation))
            self._leaving = True

    def close(self) -> None:
        """End every worker, then let clients have what is still on its way to them."""
        if self._executor is not None:
            self._executor.close(2.0)
        for worker in list(self._workers.values()):
            self._from_out(worker)
            self._drop(worker)
        self._ready.close()
        self._clients.close()
        self._context.term()


def _watch_signals() -> int:
    """A descriptor that yields the numbers of signals that arrive."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _noted)
    return read_end


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has it; the loop acts on it."""


def _watch_parent() -> int | None:
    """A descriptor that becomes readable when the process that started us ends; None if there is no such one."""
    parent = int(os.environ.get("JPY_PARENT_PID") or 0)
    if parent <= 1:
        return None
    try:
        return os.pidfd_open(parent)
    except OSError:
        return None
