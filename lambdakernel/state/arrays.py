"""Arrays and frames to bytes and back: buffers out of band, views on their base, frames by value.

numpy and pandas are looked at only if the user imported them. An array that looks into another's memory travels as a
view of it, so that writing through one still shows in the other. A frame's blocks travel by value: pandas' copies are
lazy and count on memory that nobody else shares.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any


def numpy() -> Any:
    return sys.modules.get("numpy")


class Owners:
    """In one dump: which array stands for each piece of memory, so that views of it refer to one object."""

    def __init__(self) -> None:
        self._by_root: dict[int, Any] = {}

    def owner_of(self, array: Any) -> Any:
        """The array that owns the memory of `array` in this dump: itself, if it covers all of it and is first."""
        root = array
        while type(root.base) is type(array):
            root = root.base
        covers = array is root or (_is_contiguous(array) and array.nbytes == root.nbytes)
        return self._by_root.setdefault(id(root), array if covers else root)


def _is_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def is_plain_array(obj: Any) -> bool:
    """An exact numpy array whose elements are bytes and nothing else."""
    np = numpy()
    return np is not None and type(obj) is np.ndarray and not obj.dtype.hasobject


def reduce_array(array: Any, owners: Owners) -> tuple[Any, ...]:
    owner = owners.owner_of(array)
    if owner is array:
        return reduce_by_value(array)
    start = owner.__array_interface__["data"][0]
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
        return np.empty(shape, dtype, order=order)
    if memoryview(buffer).readonly:
        buffer = bytearray(buffer)
    array = np.ndarray(shape, dtype, buffer=buffer, order=order)
    array.flags.writeable = writeable
    return array


def view_of(owner: Any, dtype: Any, shape: Any, strides: Any, offset: int, writeable: bool) -> Any:
    np = sys.modules["numpy"]
    flat = owner.ravel(order="K").view("u1")
    view = np.ndarray(shape, dtype, buffer=flat, offset=offset, strides=strides)
    if not writeable:
        view.flags.writeable = False
    return view


class ByValue:
    """Wraps an array whose memory must not be shared after a move."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array


def block_type() -> Any:
    """The type of the pieces of a pandas frame, if pandas is there."""
    internals = sys.modules.get("pandas._libs.internals")
    return getattr(internals, "Block", None)


def reduce_block(block: Any) -> tuple[Any, ...]:
    """As pandas reduces it, with its values by value."""
    make, (values, *rest) = block.__reduce__()[:2]
    return (make, (ByValue(values) if is_plain_array(values) else values, *rest))
