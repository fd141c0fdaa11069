"""What a worker sends to clients: output and replies, in one order, each message in one step.

Theory of operation
- ipykernel hands every message on iopub to a thread, and every reply to another. Each hand-over wakes a thread that
  then competes with the cell for the interpreter's lock. Here the thread that makes a message sends it, under a lock;
  a zmq socket may be used by several threads, one at a time.
- Output and replies go by the same socket, so that a reply never overtakes the output that it answers for.
- A message is one frame (`executors.frames`), so that an interrupt can come before it or after it, never inside.
- The text of `print` is still gathered and sent by ipykernel's thread, every 0.2 s or when flushed: it must flow while
  a cell computes. A flush that finds nothing to send asks no thread, and one that no interrupt can tear, as that at
  the end of a cell, sends what there is itself.
- What a process that a cell started has written by then lies in a pipe that another thread watches. That flush reads
  the pipe first, so that such output, too, comes before the reply, and belongs to its cell.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import sys
import threading
from collections import deque
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread, OutStream

from lambdakernel.executors.frames import OUTPUT, REPLY, pack

_PIPE_BYTES = 1 << 16
"""As much as a pipe holds."""


class Outlet:
    """The socket to the front, shared by every thread that has something to say."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket: zmq.Socket[bytes] | None = socket
        self._lock = threading.RLock()  # a signal handler may print while its thread is sending

    def send(self, where: int, frames: list[Any]) -> None:
        """Send one message; after `close`, drop it."""
        packed = pack(where, frames)
        with self._lock:
            if self._socket is not None:
                self._socket.send(packed)

    def close(self) -> None:
        with self._lock:
            socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()


class Replies:
    """Where the main thread's replies go: what a session takes for a socket."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def send_multipart(self, frames: list[Any], *_args: Any, **_options: Any) -> None:
        self._outlet.send(REPLY, frames)


class Output(IOPubThread):
    """ipykernel's thread for output, that leaves the sending to whoever has a message."""

    def __init__(self, socket: zmq.Socket[bytes], session: Any) -> None:
        super().__init__(socket, pipe=True, session=session)
        self.outlet = Outlet(socket)

    def send_multipart(self, msg: list[Any], *args: Any, **kwargs: Any) -> None:
        if self._is_master_process():
            self.outlet.send(OUTPUT, msg)
        else:  # a process that a cell forked: it sends through a pipe to the thread
            super().send_multipart(msg, *args, **kwargs)

    def close(self) -> None:
        """End it; what is sent afterwards goes nowhere."""
        self.outlet.close()
        self.socket = None


class Stream(OutStream):
    """`sys.stdout` and `sys.stderr` of a worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sending, self._reading = threading.RLock(), threading.RLock()  # a signal handler may print meanwhile
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._to_echo: deque[bytes] = deque()
        super().__init__(*args, **kwargs)

    def flush(self) -> None:
        """As ipykernel's. With nothing written and nothing under way, it is done at once."""
        if self.echo is not None or not self._is_master_process():
            super().flush()
            return
        is_safe = not _may_be_interrupted()
        if is_safe:
            self._take_from_pipe()
        if not self._buffers:
            with self._sending:  # taken by the thread, but not sent yet
                return
        elif is_safe:
            self._flush()
        else:  # between what was taken and what was sent, text would be lost
            super().flush()

    def _flush(self) -> None:
        if not self._is_master_process():  # the lock may have been held by a thread that the fork left behind
            super()._flush()
            return
        with self._sending:
            super()._flush()

    def _watch_pipe_fd(self) -> None:
        """The thread that shows, and passes on to the original stream, what is written to the descriptor."""
        if self._fid is None:
            return
        try:
            is_open = True
            while is_open and self._should_watch:
                _has_news(self._fid, None)
                is_open = self._take_from_pipe()
                while self._to_echo:
                    os.write(self._original_stdstream_copy, self._to_echo.popleft())
        except Exception:
            self._exc = sys.exc_info()

    def _take_from_pipe(self) -> bool:
        """Put what the pipe holds now among what was printed. False once nobody can write to it."""
        if self._fid is None:
            return False
        with self._reading:
            if not _has_news(self._fid, 0):  # nothing there, or another thread has taken it
                return True
            data = os.read(self._fid, _PIPE_BYTES)
            if self._should_watch:
                self._to_echo.append(data)
                self.write(self._decoder.decode(data, final=not data))
            return bool(data)


def _has_news(fd: int, timeout_ms: int | None) -> bool:
    """Whether a read does not wait; None: wait until it does not."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_ms))


def _may_be_interrupted() -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
