"""Units in the store: what a co-variable's record says, under which keys, and who wins when two claim one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

K = TypeVar("K")
B = TypeVar("B")


class Lost(msgspec.Struct, frozen=True):
    """Why a unit has no value in the store."""

    reason: str
    path: str
    type: str
    worker: str


class Unit(msgspec.Struct, frozen=True):
    """One co-variable as it was committed: everything but its value."""

    id: str
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """Identities of classes whose definition is in it."""
    refs: tuple[str, ...] = ()
    """Global names that code in it may use."""
    dynamic: bool = False
    uses: tuple[str, ...] = ()
    """Identities of classes that it refers to."""
    types: Mapping[str, str] = {}
    fingerprint: tuple[bytes, ...] = ()
    nbytes: int = 0
    layers: tuple[int, ...] = ()
    """How many of its blobs make up each of its buffers; empty: one each."""
    edited: bool = False
    """Its value is edits of a base, which is the first of its blobs (see `edits`)."""
    cell: int = 0
    """Number of the cell that wrote it."""
    resident: Lost | None = None

    def layers_of(self, blobs: Sequence[B]) -> tuple[tuple[B, ...], ...]:
        """The blobs of its value, by the buffer that they make up.

        Raises:
            ValueError: there are more or fewer of them than the unit says.
        """
        counts = self.layers or (1,) * len(blobs)
        if sum(counts) != len(blobs) or 0 in counts:
            raise ValueError(f"its value has {len(blobs)} blobs, and its record says {sum(counts)}")
        at = 0
        found = []
        for count in counts:
            found.append(tuple(blobs[at : at + count]))
            at += count
        return tuple(found)

    def to_bytes(self) -> bytes:
        return _ENCODER.encode(self)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Unit)


def unit_of(data: bytes) -> Unit:
    """The unit that `to_bytes` wrote; unknown fields of a later version are ignored.

    Raises:
        msgspec.MsgspecError: the bytes are no unit.
    """
    return _DECODER.decode(data)


class Keys:
    """Keys of one epoch; names are data in records, never parts of a key or a path."""

    CURRENT = b"epoch"

    def __init__(self, epoch: int) -> None:
        self._prefix = b"e/%08d/" % epoch

    def unit(self, unit_id: str) -> bytes:
        return self._prefix + b"u/" + unit_id.encode()

    def head(self, unit_id: str) -> bytes:
        return self._prefix + b"h/" + unit_id.encode()

    def ambient(self, name: str) -> bytes:
        return self._prefix + b"a/" + name.encode()

    @property
    def units(self) -> bytes:
        return self._prefix + b"u/"

    @property
    def ambients(self) -> bytes:
        return self._prefix + b"a/"


def resolve(claims: Iterable[tuple[Any, Unit]]) -> tuple[dict[str, Unit], list[Unit]]:
    """Units by id that hold, and those that lost: each claim is an order (larger wins) and a unit.

    Two units that claim a name in common conflict as a whole, so that half an alias group never comes from each side.
    The result depends on the set of claims alone, not on their order.
    """
    won: dict[str, Unit] = {}
    lost: list[Unit] = []
    taken: set[str] = set()
    for _, unit in sorted(claims, key=lambda claim: (claim[0], claim[1].id), reverse=True):
        members = {*(f"n{n}" for n in unit.names), *(f"c{c}" for c in unit.classes)}
        if unit.id in won or not members.isdisjoint(taken):
            lost.append(unit)
        else:
            won[unit.id] = unit
            taken |= members
    return won, lost
