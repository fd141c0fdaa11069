"""Which sockets and descriptors can be read: one system call a turn, whatever their number.

Theory of operation
- A zmq socket has a descriptor that becomes readable when *something* happened to it. Whether a message can be read is
  then asked of the socket, which also clears the descriptor.
- Sending on a socket, or reading from it, may swallow that signal. So every socket that was sent to or was ready is
  asked once more before the next wait. Nothing is ever left unread, and nothing is asked for no reason.
  Source: the manual of libzmq, `zmq_getsockopt(3)`, ZMQ_FD.
- `zmq.Poller` asks every socket twice a turn; with a dozen of them that was half of what the front cost a cell.
"""

from __future__ import annotations

import select
from typing import Any

import zmq

Source = Any
"""A zmq socket, or the number of a descriptor."""


class Ready:
    """Waits for any of its sources. Use from one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._again: set[Source] = set()

    def register(self, source: Source) -> None:
        fd = source if isinstance(source, int) else int(source.getsockopt(zmq.FD))
        self._sources[fd] = source
        self._epoll.register(fd, select.EPOLLIN)
        self.touched(source)

    def unregister(self, source: Source) -> None:
        """Forget a source; call it before the source is closed."""
        fd = next(fd for fd, known in self._sources.items() if known is source or known == source)
        del self._sources[fd]
        self._again.discard(source)
        self._epoll.unregister(fd)

    def touched(self, source: Source) -> None:
        """It was sent to: ask it again before the next wait."""
        if not isinstance(source, int):
            self._again.add(source)

    def poll(self, timeout_ms: int | None) -> set[Source]:
        """Sources that can be read, after at most `timeout_ms` milliseconds (None: no limit)."""
        again, self._again = self._again, set()
        ready = {source for source in again if _readable(source)}
        timeout_s = 0 if ready else -1 if timeout_ms is None else timeout_ms / 1000
        for fd, _ in self._epoll.poll(timeout_s):
            source = self._sources[fd]
            if isinstance(source, int) or _readable(source):
                ready.add(source)
        self._again.update(source for source in ready if not isinstance(source, int))
        return ready

    def close(self) -> None:
        self._epoll.close()


def _readable(socket: Source) -> bool:
    return bool(socket.getsockopt(zmq.EVENTS) & zmq.POLLIN)
