"""Arrays of subclasses of numpy's: they share memory as plain arrays do, and one that is mapped from a file is mapped
again.

Such an array travels as a plain one, seen as its class, with its attributes. A class that pickles in a way of its own
is left to that, and its memory is a copy after a move.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from lambdakernel.state.arrays import Owners, owners, reduce_array, reduce_object_array
from lambdakernel.state.specials import CannotMove

_PICKLING = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")


def reduce_derived(array: Any, shared: Owners) -> tuple[Any, ...] | None:
    """None if `array` is none of these, or its class has a way of its own.

    Raises:
        CannotMove: it is mapped from a file that has no name, or is gone.
    """
    np = sys.modules.get("numpy")
    kind = type(array)
    if np is None or not issubclass(kind, np.ndarray):
        return None
    if kind is np.memmap and array._mmap is not None and array.mode != "c":
        return _reduce_mapped(array, shared, np)
    if issubclass(kind, np.matrix) and array.ndim != 2:  # it would make two dimensions of them
        return None
    if not _is_pickled_as(kind, np.ndarray) and not _is_pickled_as(kind, np.ma.MaskedArray):
        return None
    made = reduce_array(array, shared) if not array.dtype.hasobject else _reduce_objects(array)
    if made is None:
        return None
    make, arguments = made
    attributes = {} if kind is np.memmap else getattr(array, "__dict__", {})
    return (derived_of, (kind, make, *arguments), attributes, None, None, give_attributes)


def _reduce_objects(array: Any) -> tuple[Any, ...] | None:
    """One of Python objects, if it looks into another."""
    made = reduce_object_array(array) if array.dtype.kind == "O" else None
    return made if isinstance(made, tuple) and len(made) == 2 else None


def _is_pickled_as(kind: type, base: Any) -> bool:
    return issubclass(kind, base) and all(getattr(kind, name, 0) is getattr(base, name, 0) for name in _PICKLING)


def derived_of(kind: Any, make: Any, *arguments: Any) -> Any:
    plain = make(*arguments)
    return type(plain).view(plain, kind)


def give_attributes(array: Any, attributes: dict[str, Any]) -> None:
    vars(array).update(attributes)


def _reduce_mapped(array: Any, shared: Owners, np: Any) -> tuple[Any, ...]:
    """By its file, or as a part of one that is."""
    root = next((below for below in reversed(owners(array)) if type(below) is np.memmap), array)
    if root is not array:
        make, arguments = reduce_array(array, shared)
        return (part_of_mapped, (root, make, *arguments))
    if array.filename is None or not os.path.exists(array.filename):
        raise CannotMove(array, "memory of a file that has no name, or is gone")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    place = (os.fspath(array.filename), array.dtype, array.mode, int(array.offset), array.shape, order)
    return (mapped_of, place)


def mapped_of(path: str, dtype: Any, mode: Any, offset: int, shape: tuple[int, ...], order: Any) -> Any:
    np: Any = sys.modules.get("numpy") or __import__("numpy")
    mapped = np.memmap(path, dtype, "r+" if mode == "w+" else mode, offset, shape, order)
    mapped.mode = mode
    return mapped


def part_of_mapped(root: Any, make: Any, *arguments: Any) -> Any:
    part = derived_of(type(root), make, *arguments)
    vars(part).update(vars(root))
    return part
