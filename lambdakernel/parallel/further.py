"""The items that one task's process takes, one after the other.

Theory of operation
- A process that is what it was at its birth, when an item is through, is free: it says so with the result, and waits
  for the next item of its fan-out. It ends when its line to the cell does.
- It is free only if the body returned, its text shows that this may be (`stays`), and a look finds nothing changed
  (`birth`). Whatever else is so, it ends with its item, as a process for each item would.
- What it says and prints of an item is out before it says that it is free; so of two items nothing is mixed up.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from lambdakernel.executors import wire
from lambdakernel.parallel.birth import Birth, peak_nbytes
from lambdakernel.parallel.stays import Stays


class Turn(msgspec.Struct, frozen=True):
    """One attempt at one item."""

    index: int
    attempt: int
    is_guarded: bool
    item: int
    """The descriptor of its parcel."""

    @classmethod
    def of(cls, params: dict[str, Any], item: int) -> Turn:
        return cls(int(params["index"]), int(params["attempt"]), bool(params["is_guarded"]), item)


class Stay:
    """How long one process stays. `most` are the items that it may take."""

    def __init__(self, found: Stays, live: dict[str, Any], most: int) -> None:
        self._met = found.met
        self._live = live
        self._left = 1 if found.why else most
        self._birth: Birth | None = None
        self.is_first = True

    def begins(self, turn: Turn) -> None:
        """Before anything of the item is there."""
        if self.is_first and turn.is_guarded:
            self._left = 1
        if self.is_first and self._left > 1:
            try:
                self._birth = Birth.of(self._live, {turn.item})
            except (OSError, AttributeError):  # the system, or this Python, does not say what this process is
                self._left = 1

    def is_free(self, turn: Turn, parcel: int) -> bool:
        """Whether this process may take another item after `turn`, whose result is in `parcel`. It is ready for that,
        then."""
        self._left -= 1
        self.is_first = False
        if self._left < 1 or self._birth is None:
            return False
        return self._birth.is_as_now(self._live, self._met, {turn.item, parcel})


def said_of_free(is_free: bool) -> dict[str, int]:
    """What goes along with a result."""
    return {"peak": peak_nbytes()} if is_free else {}


def next_turn(end: socket.socket) -> Turn:
    """Wait for it.

    Raises:
        wire.PeerGone: there is none.
    """
    message, fds = wire.receive(end, wait=True) or ({}, ())
    return Turn.of(message, fds[0])
