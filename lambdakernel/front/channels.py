"""The sockets of a kernel: those that clients connect to, and those of one worker.

Towards a worker every channel is a DEALER that carries the client's frames unchanged: no hop is added, so that the
worker sees identities as if clients had connected to it. Back come output and the main shell's replies by one socket,
in the order in which they were sent (`executors.frames`).
"""

from __future__ import annotations

import os

import zmq

from lambdakernel.errors import BadConnectionFile
from lambdakernel.front.connection import Connection
from lambdakernel.front.messages import Frames

LINGER_MS = 1000
WORKER_CHANNELS = ("shell", "control", "stdin", "out")


class ClientPorts:
    """The five sockets of the connection file, bound.

    Raises:
        BadConnectionFile: an address is taken or not ours to bind; names it.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], connection: Connection) -> None:
        kinds = {
            "shell": zmq.ROUTER,
            "control": zmq.ROUTER,
            "stdin": zmq.ROUTER,
            "iopub": zmq.XPUB,
            "hb": zmq.REP,
        }
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel, kind in kinds.items():
            socket = self._sockets[channel] = context.socket(kind)
            socket.linger = LINGER_MS
            if kind == zmq.ROUTER:
                socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            if connection.curve:
                socket.curve_publickey, socket.curve_secretkey = connection.curve
                socket.curve_server = True
            try:
                socket.bind(connection.endpoint(channel))
            except zmq.ZMQError as e:
                raise BadConnectionFile(connection.path, f"cannot bind {connection.endpoint(channel)} ({e})") from e
        self.shell, self.control, self.stdin = (self._sockets[c] for c in ("shell", "control", "stdin"))
        self.iopub, self.hb = self._sockets["iopub"], self._sockets["hb"]

    def __getitem__(self, channel: str) -> zmq.Socket[bytes]:
        return self._sockets[channel]

    def close(self) -> None:
        for socket in self._sockets.values():
            socket.close()


class WorkerPorts:
    """The front's ends of one worker's channels, in the runtime directory (0700) under the worker's number."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], directory: str, generation: int) -> None:
        self.endpoints = {c: f"ipc://{directory}/{generation}-{c}" for c in WORKER_CHANNELS}
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel, endpoint in self.endpoints.items():
            socket = self._sockets[channel] = context.socket(zmq.PULL if channel == "out" else zmq.DEALER)
            socket.linger = 0
            socket.setsockopt(zmq.SNDHWM, 0)  # what a client sent is never dropped on the way to a busy worker
            socket.bind(endpoint)
        self.shell, self.control, self.stdin, self.out = (self._sockets[c] for c in WORKER_CHANNELS)

    def __getitem__(self, channel: str) -> zmq.Socket[bytes]:
        return self._sockets[channel]

    def sockets(self) -> list[zmq.Socket[bytes]]:
        return list(self._sockets.values())

    def close(self) -> None:
        """Close the sockets and remove their files."""
        for channel, socket in self._sockets.items():
            socket.close()
            path = self.endpoints[channel].removeprefix("ipc://")
            if os.path.exists(path):
                os.unlink(path)


def receive(socket: zmq.Socket[bytes]) -> Frames | None:
    """The next message, or None if there is none now."""
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


def receive_one(socket: zmq.Socket[bytes]) -> bytes | None:
    """The next message of one frame, or None if there is none now."""
    try:
        return socket.recv(zmq.DONTWAIT)
    except zmq.Again:
        return None


def send(socket: zmq.Socket[bytes], frames: Frames) -> bool:
    """Send without waiting; False if nobody can take it (a client that left, a worker that is gone)."""
    try:
        socket.send_multipart(frames, zmq.DONTWAIT)
    except zmq.ZMQError:
        return False
    return True
