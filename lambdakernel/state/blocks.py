"""What frames, series and indexes of pandas share, to pickles and back: memory, and the note of who looks into it.

pandas copies when it must: parts of a frame look into the frame's memory, and one note (`BlockValuesRefs`) lists all
that do, so that the first of them to be written to gets memory of its own. The note moves with the memory. Without it
a write to one column would show in another frame after a move.
"""

from __future__ import annotations

import sys
from typing import Any

from lambdakernel.state.arrays import ByValue, is_plain_array, owners

_INTERNALS = "pandas._libs.internals"


class Blocks:
    """The types of pandas that are reduced here; none, if it was not imported."""

    def __init__(self) -> None:
        internals = sys.modules.get(_INTERNALS)
        managers = sys.modules.get("pandas.core.internals.managers")
        self._block: Any = getattr(internals, "Block", None)
        self._note = getattr(internals, "BlockValuesRefs", None)
        self._series = getattr(managers, "SingleBlockManager", None)
        self._index: Any = getattr(sys.modules.get("pandas.core.indexes.base"), "Index", None)

    def reduce(self, obj: Any) -> Any:
        """As pandas would, with what it shares; None if `obj` is nothing of this kind."""
        if self._block is None:
            return None
        kind = type(obj)
        if issubclass(kind, self._block):
            return _reduce_block(obj)
        if kind is self._series:
            return (kind, (obj.blocks[0], obj.axes[0]))
        if kind is self._note:
            return (kind, ())
        if issubclass(kind, self._index) and kind.__module__.partition(".")[0] == "pandas":
            note = vars(obj).get("_references")
            if note is not None:
                make, arguments = obj.__reduce__()[:2]
                return (index_of, (note, make, *arguments))
        return None


def _reduce_block(block: Any) -> tuple[Any, ...]:
    make, (values, *rest) = block.__reduce__()[:2]
    if is_plain_array(values) and _is_alone(values):
        values = ByValue(values)
    note = getattr(block, "refs", None)
    return (block_of, (note, make, values, *rest)) if note is not None else (make, (values, *rest))


def _is_alone(values: Any) -> bool:
    """Whether nothing else looks into the memory that `values` is a part of: then the rest of it is of no use."""
    below = owners(values)
    return len(below) == 1 and sys.getrefcount(below[0]) <= _OF_ONE_VIEW


def block_of(note: Any, make: Any, *arguments: Any) -> Any:
    block = make(*arguments)
    block.refs = note
    note.add_reference(block)
    return block


def index_of(note: Any, make: Any, *arguments: Any) -> Any:
    index = make(*arguments)
    index._references = note
    note.add_index_reference(index)
    return index


class _Memory:
    """As an array, to one that looks into it."""


def _count_of_one_view() -> int:
    """References to what one view looks into, as `_is_alone` counts them."""
    base = [_Memory()]
    below = [base.pop()]
    view = (below[0],)
    count = sys.getrefcount(below[0])
    del view
    return count


_OF_ONE_VIEW = _count_of_one_view()
