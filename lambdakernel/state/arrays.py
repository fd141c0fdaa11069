"""Arrays to bytes and back: buffers out of band, views on their base.

numpy is looked at only if the user imported it. An array that looks into another's memory travels as a view of it, so
that writing through one still shows in the other.
"""

from __future__ import annotations

import pickle
import sys
from array import array as array_type
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def numpy() -> Any:
    return sys.modules.get("numpy")


def owners(obj: Any) -> list[Any]:
    """What an array looks into, from near to far: arrays, then perhaps the `bytearray` or `array.array` below.

    Empty for anything else.
    """
    np = numpy()
    found: list[Any] = []
    while np is not None and isinstance(obj, np.ndarray):
        obj = obj.base
        if type(obj).__name__ == "DummyArray":  # numpy's as_strided puts it between a view and its array
            obj = obj.base
        below = obj.obj if isinstance(obj, memoryview) else obj
        if isinstance(obj, np.ndarray) or isinstance(below, _GROWING):
            found.append(obj if isinstance(obj, np.ndarray) else below)
    return found


_GROWING = (bytearray, array_type)
"""What arrays look into and is none."""


class Owners:
    """In one dump: which array stands for each piece of memory, so that views of it refer to one object."""

    def __init__(self) -> None:
        self._by_root: dict[int, Any] = {}

    def owner_of(self, array: Any) -> Any:
        """The array that owns the memory of `array` in this dump: itself, if it covers all of it and is first."""
        root = next(reversed(owners(array)), array)
        if isinstance(root, _GROWING):
            return root
        covers = array is root or (_is_contiguous(array) and array.nbytes == root.nbytes)
        return self._by_root.setdefault(id(root), array if covers else root)


def _is_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def is_plain_array(obj: Any) -> bool:
    """An exact numpy array whose elements are bytes and nothing else."""
    np = numpy()
    return np is not None and type(obj) is np.ndarray and not obj.dtype.hasobject


def memory_of(obj: Any) -> memoryview | None:
    """All the memory that a plain array looks into, its base's included; None for anything else, and for an array
    that does not own one whole piece of it."""
    if not is_plain_array(obj):
        return None
    root = next(reversed(owners(obj)), obj)
    if isinstance(root, _GROWING):
        return memoryview(root).cast("B")
    if root.dtype.hasobject or _is_mapped(root) or not _is_contiguous(root) or not root.nbytes:
        return None
    return memoryview(_plain(root).ravel(order="K").view("u1"))


def _is_mapped(array: Any) -> bool:
    """Whether a file has its content."""
    return type(array) is numpy().memmap and array._mmap is not None and array.mode != "c"


def _plain(array: Any) -> Any:
    """An array of a subclass, which may do things its own way, as a plain one."""
    np = numpy()
    return np.ndarray.view(array, np.ndarray)


def array_identity(array: Any) -> tuple[Any, ...]:
    """What two arrays have in common if one can stand for the other, but for the bytes in memory."""
    place = array.__array_interface__["data"]
    return (place, array.dtype, array.shape, array.strides, array.flags.writeable, *map(id, owners(array)))


def reduce_array(array: Any, owners: Owners) -> tuple[Any, ...]:
    owner = owners.owner_of(array)
    if owner is array:
        return reduce_by_value(_plain(array))
    start = _address(owner)
    offset = array.__array_interface__["data"][0] - start
    shape = (array.dtype, array.shape, array.strides, offset, bool(array.flags.writeable))
    return (view_of, (owner, *shape))


def reduce_by_value(array: Any) -> tuple[Any, ...]:
    """The elements, in the order in which they lie in memory if that is possible."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = array.ravel(order="K" if _is_contiguous(array) else "C")
    raw = flat.view("u1") if flat.dtype.itemsize else flat.view()
    buffer = pickle.PickleBuffer(raw) if raw.nbytes else b""
    return (array_of, (buffer, array.dtype, array.shape, order, bool(array.flags.writeable)))


def array_of(buffer: Any, dtype: Any, shape: tuple[int, ...], order: str, writeable: bool) -> Any:
    np = sys.modules.get("numpy") or __import__("numpy")
    if not len(memoryview(buffer)):
        array = np.empty(shape, dtype, order=order)
    else:
        buffer = bytearray(buffer) if memoryview(buffer).readonly else buffer
        array = np.ndarray(shape, dtype, buffer=buffer, order=order)
        if isinstance(buffer, bytearray):
            array = array.copy(order)  # small: its own memory, so that it can be resized
    array.flags.writeable = writeable
    return array


def view_of(owner: Any, dtype: Any, shape: Any, strides: Any, offset: int, writeable: bool) -> Any:
    np = sys.modules["numpy"]
    with _unlocked(owner if writeable else None):
        flat = _plain(owner).ravel(order="K").view("u1") if isinstance(owner, np.ndarray) else owner
        view = np.ndarray(shape, dtype, buffer=flat, offset=offset, strides=strides)
    if not writeable:
        view.flags.writeable = False
    return view


@contextmanager
def _unlocked(array: Any) -> Iterator[None]:
    """What may not be written to may be meanwhile: a view that is made then stays writeable."""
    arrays = (found for found in (array, *owners(array)) if isinstance(found, numpy().ndarray))
    locked = [found for found in arrays if not found.flags.writeable]
    for found in reversed(locked):
        found.flags.writeable = True
    try:
        yield
    finally:
        for found in locked:
            found.flags.writeable = False


def _address(owner: Any) -> int:
    if isinstance(owner, _GROWING):
        owner = sys.modules["numpy"].frombuffer(owner, "u1")
    return int(owner.__array_interface__["data"][0])


def is_object_array(obj: Any) -> bool:
    """An exact numpy array of Python objects."""
    np = numpy()
    return np is not None and type(obj) is np.ndarray and obj.dtype.kind == "O"


def reduce_object_array(array: Any) -> Any:
    """A view of objects goes on sharing them with the array that holds them; an owner travels as numpy does it."""
    root = next(reversed(owners(array)), array)
    if root is array or root.dtype.kind != "O" or not _is_contiguous(root):
        if array.flags.writeable:
            return NotImplemented
        return (*array.__reduce__(), None, None, fill_and_lock)
    offset = _address(array) - _address(root)
    return (object_view_of, (root, offset // array.itemsize, array.shape, array.strides, bool(array.flags.writeable)))


def fill_and_lock(array: Any, state: Any) -> None:
    array.__setstate__(state)
    array.flags.writeable = False


def object_view_of(owner: Any, first: int, shape: Any, strides: Any, writeable: bool) -> Any:
    np = sys.modules["numpy"]
    with _unlocked(owner if writeable else None):
        flat = _plain(owner).ravel(order="K")
        return np.lib.stride_tricks.as_strided(flat[first:], shape, strides, writeable=writeable)


class ByValue:
    """Wraps an array whose memory is not shared after a move: nobody else looks into it."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array
