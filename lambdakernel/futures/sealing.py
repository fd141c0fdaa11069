"""Encoded values to messages and back: what is small travels in the message, the rest in sealed memory files.

A value is a head (its pickle) and the buffers that the pickle leaves out. A large buffer has a memory file of its own,
which the receiver maps: writable, and copied page by page as it is written. Workers load this module before their first
call, so it imports next to nothing; what maps files is imported when there is one.
"""

from __future__ import annotations

from _pickle import loads

from lambdakernel.futures.line import FDS, LIMIT, Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from lambdakernel.futures.maps import Maps

_MOST_FILES = FDS - 1
"""Of one value; one more is left for what goes with it."""
INLINE = LIMIT // 2
"""Bytes of a value up to which it travels in the message."""
_EXTRA = LIMIT // 8
"""Bytes up to which what goes with a value travels in the message."""
LARGE = 1 << 20
"""Bytes of a buffer from which on it has a memory file of its own."""
_PLAIN = frozenset({int, float, bool, str, bytes, type(None), complex})


class Kept:
    """An encoded value that waits: its head, and its buffers as bytes, or as files that other values may share.

    It holds no descriptor of its own: thousands of values may wait.
    """

    __slots__ = ("head", "parts")

    def __init__(self, head: bytes, parts: tuple[bytes | Descriptor, ...] = ()) -> None:
        self.head, self.parts = head, parts


class Sealed:
    """A value ready to be sent. An int in `head` or `places` is the index of the file that has it."""

    __slots__ = ("files", "head", "places")

    def __init__(
        self, head: bytes | int, places: tuple[bytes | int, ...] = (), files: tuple[Descriptor, ...] = ()
    ) -> None:
        self.head, self.places, self.files = head, places, files

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(file.fd for file in self.files)


def is_plain(value: Any) -> bool:
    """Whether plain pickle writes `value` the same in every process: an atom, or a flat list, tuple or dict of them."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is tuple or kind is list:
        return _PLAIN.issuperset(map(type, value))
    return kind is dict and _PLAIN.issuperset(map(type, value)) and _PLAIN.issuperset(map(type, value.values()))


def keep(head: bytes, buffers: Sequence[memoryview], share: Callable[[memoryview], Descriptor | None]) -> Kept:
    """The value as it is now. `share` gives a file for a large buffer, or None if there are too many already.

    Raises:
        OSError: the system has no memory for the files.
    """
    parts: list[bytes | Descriptor] = []
    shared = 0
    for view in buffers:
        file = share(view) if view.nbytes >= LARGE and shared < _MOST_FILES - 2 else None
        shared += file is not None
        parts.append(bytes(view) if file is None else file)
    return Kept(head, tuple(parts))


def seal(head: bytes, parts: Sequence[bytes | memoryview | Descriptor]) -> Sealed:
    """The value in message and files.

    Raises:
        OSError: the system has no memory for the files.
    """
    small = len(head) + sum(0 if isinstance(part, Descriptor) else len(part) for part in parts)
    files = [part for part in parts if isinstance(part, Descriptor)]
    if small <= INLINE and not files:
        return Sealed(head, tuple(map(bytes, parts)))  # type: ignore[arg-type]
    from lambdakernel.parallel.parcels import pack

    places: list[bytes | int] = []
    rest: list[bytes | memoryview] = []
    at = 0
    for part in parts:
        if isinstance(part, Descriptor):
            places.append(at)
            at += 1
        elif small > INLINE and len(part) >= LARGE and len(files) < _MOST_FILES - 1:
            files.append(Descriptor(pack(part)))
            places.append(len(files) - 1)
            small -= len(part)
        else:
            rest.append(part)
            places.append(b"")
    if small > INLINE:
        files.append(Descriptor(pack(head, rest)))
        return Sealed(len(files) - 1, tuple(places), tuple(files))
    left = iter(rest)
    return Sealed(head, tuple(bytes(next(left)) if place == b"" else place for place in places), tuple(files))


def seal_extra(data: bytes, beside: Sealed) -> Sealed:
    """Bytes that go with a value, in the same message, whose descriptors come after those of the value.

    Raises:
        OSError: the system has no memory for a file.
    """
    if len(data) <= _EXTRA:
        return Sealed(data)
    from lambdakernel.parallel.parcels import pack

    return Sealed(len(beside.files), (), (Descriptor(pack(data)),))


def decode(head: bytes | int, places: tuple[bytes | int, ...], fds: tuple[int, ...], maps: Maps | None = None) -> Any:
    """The value; its large buffers are writable maps of the files, if they may be used again, out of `maps`. The
    descriptors stay the caller's.

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
            buffers.append(unpack(fds[place]).head if maps is None else maps.get(fds[place]))
        else:
            buffers.append(bytearray(place) if place else next(rest))
    return loads(body, buffers=buffers)
