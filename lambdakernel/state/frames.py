"""What stands for the content of a pandas frame, so that one that did not change need not be dumped to say so.

A walk of the graph goes into frames and series as into any object, up to what pandas wrote in C: the manager of a
frame's blocks, a block, the texts of an index. Here these are taken apart as far as they are pickled: numbers and
Arrow's columns by their memory, labels one by one. What is not known to the last field (dates, categories, levels) has
no token.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from lambdakernel.state.arrays import array_identity, memory_of, owners

Mark = Callable[[memoryview], bytes]
_MOST_LABELS = 1000
"""Texts of an index that are compared one by one; a dump of more is not much dearer."""
_BLOCKS = ("NumpyBlock", "NumericBlock", "ExtensionBlock")
_FIELDS_OF_ARROW = {"_pa_array", "_dtype", "_cache"}
"""Of an array of pandas in Arrow's memory; what is in its cache is not pickled."""
_LABELS = (str, int, type(None))
_MANAGERS, _INDEXES = "pandas.core.internals.managers", "pandas.core.indexes"


class _Unknown(Exception):
    """It has a part that is not known to the last field."""


def frame_token(obj: Any, mark: Mark) -> tuple[object, set[int]] | None:
    """A token that is equal as long as `obj`, a part of a frame, is pickled alike, and the addresses of what two names
    could share in it. None if `obj` is no such part, or not one of numbers and a few texts."""
    kind = type(obj)
    if "pandas" not in sys.modules or kind.__module__.partition(".")[0] != "pandas":
        return None
    ids: set[int] = {id(obj)}
    try:
        if kind is _kind(_MANAGERS, "BlockManager"):
            ids.add(id(obj.axes))
            return (*_blocks(obj.blocks, mark, ids), *(_axis(axis, mark, ids) for axis in obj.axes)), ids
        if kind.__name__ in _BLOCKS:  # of a series, whose values are pickled as any array
            return tuple(_blocks((obj,), mark, ids)), ids
        if kind is _kind("pandas._libs.internals", "BlockValuesRefs"):  # who else looks at a block: it is pickled empty
            return (), ids
        if kind.__name__ == "StringArray":
            return _texts(obj, ids), ids
        if _is_arrow(obj):
            return _in_arrow(obj, mark, ids), ids
    except (_Unknown, AttributeError):  # of another version of pandas
        pass
    return None


def _kind(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _blocks(blocks: tuple[Any, ...], mark: Mark, ids: set[int]) -> Iterator[object]:
    kinds = [_kind("pandas.core.internals.blocks", name) for name in _BLOCKS]
    for block in blocks:
        if type(block) not in kinds:
            raise _Unknown
        note = getattr(block, "refs", block)
        ids.update(map(id, (block, note, block.values)))
        places = block.mgr_locs.indexer
        where = (places.start, places.stop, places.step) if type(places) is slice else places.tobytes()
        yield (id(block), id(note), block.ndim, where, _values(block.values, mark, ids))


def _values(array: Any, mark: Mark, ids: set[int]) -> object:
    if _is_arrow(array):
        return _in_arrow(array, mark, ids)
    ids.update(map(id, owners(array)))
    return _numbers(array, mark)


def _numbers(array: Any, mark: Mark) -> object:
    memory = memory_of(array)
    if memory is None:
        raise _Unknown
    return (id(array), array_identity(array), mark(memory))


def _axis(axis: Any, mark: Mark, ids: set[int]) -> object:
    kind, name = type(axis), axis._name
    ids.add(id(axis))
    if type(name) not in _LABELS:
        raise _Unknown
    if kind is _kind(f"{_INDEXES}.range", "RangeIndex"):
        steps = axis._range
        return (id(axis), type(name), name, steps.start, steps.stop, steps.step)
    if kind is not _kind(f"{_INDEXES}.base", "Index"):
        raise _Unknown
    data = axis._data
    ids.add(id(data))
    if type(data).__name__ == "StringArray":
        return (id(axis), type(name), name, _texts(data, ids))
    return (id(axis), type(name), name, _values(data, mark, ids))


def _texts(array: Any, ids: set[int]) -> object:
    """Of an array of pandas that holds nothing but texts."""
    inner = array._ndarray
    if array.__dict__ or len(inner) > _MOST_LABELS or not all(type(label) is str for label in inner.ravel().tolist()):
        raise _Unknown
    ids.update(map(id, (array, inner, *owners(inner))))
    identity = (type(array), id(array), id(inner), inner.shape, inner.strides, inner.flags.writeable)
    return (*identity, array._dtype, tuple(inner.ravel().tolist()))


def _is_arrow(array: Any) -> bool:
    kind = _kind("pandas.core.arrays.arrow.array", "ArrowExtensionArray")
    return kind is not None and issubclass(type(array), kind)


def _in_arrow(array: Any, mark: Mark, ids: set[int]) -> object:
    """Of an array of pandas whose column lies in Arrow's memory, in one piece or several."""
    if not vars(array).keys() <= _FIELDS_OF_ARROW:
        raise _Unknown
    kind = array._pa_array.type
    if kind.num_fields or hasattr(kind, "value_type") or hasattr(kind, "storage_type"):  # nested, encoded, of a user's
        raise _Unknown
    ids.add(id(array))
    pieces = [(len(piece), piece.offset, *_marks(piece.buffers(), mark)) for piece in array._pa_array.chunks]
    return (type(array), id(array), array._dtype, str(kind), *pieces)


def _marks(buffers: list[Any], mark: Mark) -> Iterator[object]:
    for buffer in buffers:
        yield (buffer.size, mark(memoryview(buffer))) if buffer is not None else None
