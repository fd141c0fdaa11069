"""Deltas of live lattices as one message of a task's line.

They are between processes of one cell, which run the same code: so a lattice goes as its fields, without the canonical
form that the store has, whose order and checks take ten times as long.
"""

from __future__ import annotations

import base64
import functools
import io
import pickle
from collections.abc import Mapping
from typing import Any

from kvs.errors import KvsError
from kvs.lattices import Lattice
from kvs.lattices.base import set_field
from kvs.lattices.codec import type_of
from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.parcels import ParcelDamaged, pack, unpack

DELTAS = "deltas"
"""What a message has that holds some."""
INLINE_NBYTES = 32 * 1024
"""Bytes above which deltas go as a parcel."""


class BadJoins(LambdaKernelError):
    """What a task joined into live lattices cannot be read."""


def packed(news: Mapping[str, Lattice]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What to send, and the descriptor to send with it, which the caller closes."""
    with io.BytesIO() as file:
        _Pickler(file, protocol=5).dump(dict(news))
        data = file.getvalue()
    if len(data) <= INLINE_NBYTES:
        return {DELTAS: base64.b64encode(data).decode()}, ()
    return {DELTAS: None}, (pack(data),)


def unpacked(message: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Lattice]:
    """By the identity of their `Live`, the deltas of a message; `fds` stay the caller's.

    Raises:
        BadJoins: they did not arrive, or hold a lattice that nothing here defines.
    """
    try:
        if message[DELTAS] is not None:
            data: Any = base64.b64decode(message[DELTAS])
        elif fds:
            data = unpack(fds[0]).head
        else:
            raise OSError("this process has too many open files")
        news: dict[str, Lattice] = pickle.loads(data)
        return news
    except (
        OSError,
        ParcelDamaged,
        KvsError,
        ValueError,
        LookupError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as e:
        raise BadJoins(f"what a task joined into a live lattice cannot be read: {e}") from e


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Lattice):
            return NotImplemented
        return _made, (obj.tag, [getattr(obj, name, None) for name in _fields(type(obj))])


def _made(tag: str, values: list[Any]) -> Lattice:
    kind = type_of(tag)
    made: Lattice = kind.__new__(kind)
    for name, value in zip(_fields(kind), values, strict=True):
        set_field(made, name, value)
    return made


@functools.lru_cache(maxsize=256)
def _fields(kind: type[Lattice]) -> tuple[str, ...]:
    slots = [vars(cls).get("__slots__", ("__dict__",)) for cls in kind.__mro__ if cls is not object]
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    return tuple(name for name in names if name != "__weakref__")
