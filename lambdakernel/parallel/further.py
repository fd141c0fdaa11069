"""The items that one task's process takes, one after the other; those of a later fan-out, too.

Theory of operation
- A process that is what it was at its birth, when an item is through, is free: it says so with the result, and waits
  for the next item of its fan-out. It ends when its line to the cell does.
- It is free only if the body returned, its text shows that this may be (`stays`), and a look finds nothing changed
  (`birth`). Whatever else is so, it ends with its item, as a process for each item would.
- What it says and prints of an item is out before it says that it is free; so of two items nothing is mixed up.
- A `Live` is, with each item, what it was when it was loaded, joined with what came with the item. Joins that came too
  late for the item before are among these.
- A free process that is kept until the next fan-out gets its job with its first item. It joins what the session has
  committed since, loads what the new body reaches, and that is its birth.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Any

import msgspec

from lambdakernel.executors import wire
from lambdakernel.parallel.birth import Birth, peak_nbytes
from lambdakernel.parallel.deltas import DELTAS
from lambdakernel.parallel.parcels import Sealed

GREW_NBYTES = 256 * 1024 * 1024
"""Memory that loading for one fan-out after another may have taken; then the process ends with its item."""


class Turn(msgspec.Struct, frozen=True):
    """One attempt at one item."""

    index: int
    attempt: int
    is_guarded: bool
    item: Sealed
    job: int | None = None
    """That of its fan-out's parcel, for a process that has not seen it."""
    lane: int = 0
    """The pair of pipes that it prints to."""
    joins: tuple[dict[str, Any], tuple[int, ...]] | None = None
    """What others have joined into live lattices so far, as one message."""

    @classmethod
    def of(cls, params: dict[str, Any], item: Sealed, job: int | None = None) -> Turn:
        lane = int(params.get("lane", 0))
        return cls(int(params["index"]), int(params["attempt"]), bool(params["is_guarded"]), item, job, lane)

    @property
    def descriptors(self) -> tuple[int, ...]:
        own = tuple(fd for fd in (self.item.fd, self.job) if fd is not None)
        return own if self.joins is None else own + self.joins[1]


class Stay:
    """How long one process stays. `most` are the items that it may take."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._taken = 0
        self._birth: Birth | None = None
        self._started_nbytes = 0
        self.is_first = True
        """Of its fan-out."""

    def begins(self, turn: Turn, live: dict[str, Any]) -> None:
        """Before anything of the item is there. `live` is the namespace."""
        if self.is_first and turn.is_guarded:
            self._left = 1
        if self.is_first and self._left > 1:
            try:
                self._birth = self._born(live, turn.descriptors)
            except (OSError, AttributeError):  # the system, or this Python, does not say what this process is
                self._left = 1

    def _born(self, live: dict[str, Any], but: Collection[int]) -> Birth:
        if self._birth is not None:
            return self._birth.again(live, set(but))
        self._started_nbytes = peak_nbytes()
        return Birth.of(live, set(but))

    def is_free(self, turn: Turn, result: Sealed, live: dict[str, Any], met: Collection[str]) -> bool:
        """Whether this process may take another item after `turn`, with that `result`; the body meets values of the
        notebook by the names `met`. It is ready for that, then."""
        self._left -= 1
        self._taken += 1
        self.is_first = False
        if self._left < 1 or self._birth is None:
            return False
        own = () if result.fd is None else (result.fd,)
        return self._birth.is_as_now(live, frozenset(met), {*turn.descriptors, *own})

    def goes_on(self, most: int) -> None:
        """With another fan-out, until it has taken `most` items in all."""
        has_grown = peak_nbytes() - self._started_nbytes > GREW_NBYTES
        self._left = 1 if has_grown else max(1, most - self._taken)
        self.is_first = True


def said_of_free(is_free: bool) -> dict[str, int]:
    """What goes along with a result."""
    return {"peak": peak_nbytes()} if is_free else {}


def next_turn(end: socket.socket) -> Turn:
    """Wait for it.

    Raises:
        wire.PeerGone: there is none.
    """
    message, fds = wire.receive(end, wait=True) or ({}, ())
    while "index" not in message:  # joins that came when the item before was over: they are among those of the next
        wire.close_fds(fds)
        message, fds = wire.receive(end, wait=True) or ({}, ())
    item = Sealed.from_message(message, fds)
    more = fds if item.fd is None else fds[1:]
    if DELTAS not in message:
        return Turn.of(message, item, *more)
    count = len(more) - (message[DELTAS] is None)
    return msgspec.structs.replace(Turn.of(message, item, *more[:count]), joins=(message, more[count:]))
