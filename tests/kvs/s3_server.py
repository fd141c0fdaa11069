"""moto's S3 over real HTTP, in a process of its own, and a proxy before it that fails on demand.

The proxy does to a request what its `plan` says: answers instead of the server, breaks the connection before or after
the server has seen it, keeps the answer until the client has given up, or sends the request twice.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

DEADLINE_S = 60.0
_SERVE = """
import os, sys, threading
def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""
"""Its standard input is a pipe on which nothing is written: its end is ours, however we end."""


@contextmanager
def moto_server() -> Iterator[int]:
    """Its port; the process ends with the block, and with this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command, nowhere = [sys.executable, "-c", _SERVE, str(port)], subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True)
    try:
        end_s = time.monotonic() + DEADLINE_S
        while True:
            assert process.poll() is None, "moto's server did not start"
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert time.monotonic() < end_s, "moto's server did not listen in time"
                time.sleep(0.05)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        assert process.stdin is not None
        process.stdin.close()


Plan = Callable[[str, str], str]
"""(method, path with query) to one of the words that `_Handler._act` knows; `pass` for no harm."""


class Proxy:
    """Owns its thread and its socket; `close` ends both. `seen` has (method, path, what was done) of each request."""

    def __init__(self, target: int) -> None:
        self.plan: Plan = lambda method, path: "pass"
        self.seen: list[tuple[str, str, str]] = []
        self.released = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner, port = proxy, target

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address, block_on_close = True, True, False

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that gave up is what many plans are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def fail_first(self, count: int, word: str, *, method: str = "", part: str = "") -> None:
        """Do `word` to the first `count` requests of that method whose path has `part`."""
        left, lock = [count], threading.Lock()

        def plan(found_method: str, path: str) -> str:
            with lock:
                if left[0] and (not method or found_method == method) and part in path:
                    left[0] -= 1
                    return word
                return "pass"

        self.plan = plan

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms for the client to have seen its head
    owner: Proxy
    port: int

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    def _act(self) -> None:
        body = self._body()
        word = self.owner.plan(self.command, self.path)
        self.owner.seen.append((self.command, self.path, word))
        if word.isdecimal():
            return self._answer(int(word), f"<Error><Code>{_CODES.get(word, 'Injected')}</Code></Error>".encode())
        if word == "reset":
            return self._break()
        if word == "twice":
            self._forward(body)
        status, headers, data = self._forward(body)
        if word == "reset after":
            return self._break()
        if word == "silence after":  # longer than the client waits
            self.owner.released.wait(DEADLINE_S)
            return self._break()
        if word == "cut":
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            return self._break()
        self._answer(status, data, headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        skip = ("transfer-encoding", "content-length", "connection", "expect")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skip}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in (*skip, "server", "date")}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.getheader("Content-Length") or "0"
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": str(len(data)), **(headers or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _break(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _act


_CODES = {"409": "ConditionalRequestConflict", "412": "PreconditionFailed", "429": "SlowDown", "503": "SlowDown",
          "500": "InternalError", "403": "SignatureDoesNotMatch"}  # fmt: skip
