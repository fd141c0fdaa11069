"""A worker's private line to the front: what it said stays readable after it was killed."""

from __future__ import annotations

from lambdakernel.executors import wire


class Link:
    """Says facts to the front and hears its orders; safe from any thread, since each message is one datagram."""

    def __init__(self, fd: int) -> None:
        self._end = wire.adopt(fd)

    def fileno(self) -> int:
        return self._end.fileno()

    def say(self, said: str, **facts: object) -> None:
        """Tell the front. If it is gone nobody listens, and this process is about to be ended."""
        try:
            wire.send(self._end, {"said": said, **facts})
        except wire.PeerGone:
            return

    def hear(self) -> str | None:
        """The next order, or None if there is none.

        Raises:
            wire.PeerGone: the front is gone.
        """
        received = wire.receive(self._end)
        return None if received is None else str(received[0].get("do", ""))
