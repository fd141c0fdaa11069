"""Encoded values to messages and back: what is small travels in the message, the rest in sealed memory files.

A value is a head (its pickle) and the buffers that the pickle leaves out. A large buffer has a memory file of its own,
which the receiver maps: writable, and copied page by page as it is written. Workers load this module before their first
call, so it imports next to nothing; what maps files is imported when there is one.
"""

from __future__ import annotations

import os
from _pickle import loads

from lambdakernel.futures.line import FDS, LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

INLINE = LIMIT // 2
"""Bytes of a value up to which it travels in the message."""
LARGE = 1 << 20
"""Bytes of a buffer from which on it has a memory file of its own."""
_PLAIN = frozenset({int, float, bool, str, bytes, type(None), complex})


class Sealed:
    """A value ready to be sent. An int in `head` or `places` is the index of the descriptor that has it."""

    __slots__ = ("fds", "head", "places")

    def __init__(self, head: bytes | int, places: tuple[bytes | int, ...] = (), fds: tuple[int, ...] = ()) -> None:
        self.head, self.places, self.fds = head, places, fds


def is_plain(value: Any) -> bool:
    """Whether plain pickle writes `value` the same in every process: an atom, or a flat list, tuple or dict of them."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is tuple or kind is list:
        return _PLAIN.issuperset(map(type, value))
    return kind is dict and _PLAIN.issuperset(map(type, value)) and _PLAIN.issuperset(map(type, value.values()))


def seal(head: bytes, buffers: list[memoryview], share: Callable[[memoryview], int] | None = None) -> Sealed:
    """The value in message and files; the descriptors are the caller's. `share` gives a file for a large buffer.

    Raises:
        OSError: the system has no memory for the files; none stays open.
    """
    if len(head) + sum(view.nbytes for view in buffers) <= INLINE:
        return Sealed(head, tuple(map(bytes, buffers)))
    from lambdakernel.parallel.parcels import pack

    fds: list[int] = []
    places: list[bytes | int] = []
    small = len(head)
    try:
        for view in buffers:
            if view.nbytes >= LARGE and len(fds) < FDS - 1:
                fds.append(share(view) if share else pack(view))
                places.append(len(fds) - 1)
            else:
                small += view.nbytes
                places.append(b"")
        rest = [i for i, place in enumerate(places) if place == b""]
        if small <= INLINE:
            for i in rest:
                places[i] = bytes(buffers[i])
            return Sealed(head, tuple(places), tuple(fds))
        fds.append(pack(head, [buffers[i] for i in rest]))
        return Sealed(len(fds) - 1, tuple(places), tuple(fds))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def decode(head: bytes | int, places: tuple[bytes | int, ...], fds: tuple[int, ...]) -> Any:
    """The value; its large buffers are writable maps of the files. The descriptors stay the caller's.

    Raises:
        Exception: whatever the value's own code raises as it is made.
    """
    if not places and isinstance(head, bytes):
        return loads(head)
    from lambdakernel.parallel.parcels import unpack

    rest: Any = iter(())
    body: Any = head
    if isinstance(head, int):
        parcel = unpack(fds[head])
        body, rest = parcel.head, iter(parcel.buffers)
    buffers: list[Any] = []
    for place in places:
        if isinstance(place, int):
            buffers.append(unpack(fds[place]).head)
        else:
            buffers.append(bytearray(place) if place else next(rest))
    return loads(body, buffers=buffers)
