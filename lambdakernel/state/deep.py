"""Values that are nested deeper than a pickler can recurse: a list in a list in a list, a chain of instances.

Theory of operation
- A pickler that meets an object again writes a reference, and does not go into it. So a graph of any depth is dumped
  without deep recursion once parts of it are dumped first, the innermost ones before those that hold them. What comes
  back is the same graph: only the order of the bytes is another. Loading does not recurse.
- A walk that does not recurse finds these parts. An object's *height* is how far a dump of it recurses; where it would
  be more than `STRIDE`, the object becomes a part, and counts as 0 for what holds it.
- In a cycle nothing is innermost. There every plain instance is made first, empty, and its attributes follow: the
  cycle's other objects are dumped in between. That is done only where no object's own code can notice.
- Only what the pickler itself would reach is looked into: built-in containers, and instances that have no code of
  their own for this. What is nested deeply through anything else stays where it is.
"""

from __future__ import annotations

import copyreg
import gc
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lambdakernel.state import graph

STRIDE = 64
"""Objects on one way between two parts. A dump calls itself up to six times for one (a closure's cell), and Python
gives it 1000 calls where nobody asks for more."""
SAFE_LIMIT = 3000
"""Calls that fit into a stack of 8 MB, whatever makes them."""
WHY = "nested too deeply to be encoded, or its own code recurses without end"


def is_too_deep(error: BaseException) -> bool:
    """Whether a dump ended because it recursed too deeply."""
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


@contextmanager
def shallow() -> Iterator[None]:
    """Within it, recursion ends with an error where a limit that the notebook raised would let it end the process.

    Python 3.12 and later count calls of C by themselves.
    """
    limit = sys.getrecursionlimit()
    if limit <= SAFE_LIMIT or sys.version_info >= (3, 12):
        yield
        return
    sys.setrecursionlimit(SAFE_LIMIT)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def last(values: list[Any]) -> Any:
    """The last of them: the others were there to be dumped before it."""
    return values[-1]


class InPieces:
    """Dumps as its value, after the parts of it."""

    def __init__(self, parts: list[Any], value: Any, apart: Sequence[Any] = ()) -> None:
        fillings = list(map(Filling, apart))
        self._values = [*apart, *parts, *fillings, value]
        self.empty = frozenset(map(id, apart))
        """Addresses of the instances that are to be dumped without their attributes."""
        self.made = [self, self._values, *fillings]
        """What is dumped and is no part of the value."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (last, (self._values,))


class Filling:
    """Dumps as what gives an instance its attributes."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        return (fill, (self._obj, self._obj.__reduce_ex__(5)[2]))


def fill(obj: Any, state: Any) -> None:
    """As an unpickler does it: a dictionary, or that and the values of slots."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for name, value in (attributes or {}).items():
        vars(obj)[sys.intern(name) if type(name) is str else name] = value
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def in_pieces(obj: Any, live: dict[str, Any]) -> InPieces:
    """`obj`, to be dumped in pieces. Costs about 5 us an object that it reaches, a hundredth of it with the extension
    and without cycles."""
    nested = graph.nested(obj, live, STRIDE, is_plain)
    if nested is not None and not nested[1]:
        return InPieces(nested[0], obj)
    walk = _Walk(live)
    parts = walk.parts_of(obj)
    if not walk.is_cyclic or not walk.is_inert:
        return InPieces(parts, obj)
    walk = _Walk(live, instances_apart=True)
    parts = walk.parts_of(obj)
    return InPieces(parts, obj, walk.apart)


class _Step(msgspec.Struct):
    """An object that a walk is in."""

    obj: Any
    children: Iterator[Any]
    height: int = 0


class _Walk:
    """One walk over a graph, depth first, in the order of a dump. Holds every object that it met."""

    def __init__(self, live: dict[str, Any], *, instances_apart: bool = False) -> None:
        self._live, self._instances_apart = live, instances_apart
        self._heights: dict[int, int] = {}
        self._met: list[Any] = []
        """Keeps what the walk was given for a moment, and so every address in `_heights`, alive."""
        self.apart: list[Any] = []
        """Instances to be made empty first."""
        self.is_cyclic = False
        self.is_inert = True
        """No code of an object that it met can look at others while they are loaded."""

    def parts_of(self, root: Any) -> list[Any]:
        parts: list[Any] = []
        above: list[_Step] = []
        self._enter(root, above)
        while above:
            step = above[-1]
            if any(self._enter(child, above) for child in step.children):
                continue
            above.pop()
            height = step.height + 1
            if self._instances_apart and may_be_empty(type(step.obj)):
                self.apart.append(step.obj)
                height = 0
            elif height >= STRIDE:
                parts.append(step.obj)
                height = 0
            self._heights[id(step.obj)] = height
            if above:
                above[-1].height = max(above[-1].height, height)
        return parts

    def _enter(self, obj: Any, above: list[_Step]) -> bool:
        """Go into `obj`; False if it is known, or there is nothing in it."""
        known = self._heights.get(id(obj))
        if known is not None:
            self.is_cyclic |= known == _INSIDE
            above[-1].height = max(above[-1].height, known)
            return False
        children = self._children(obj)
        if children is None:
            self.is_inert &= not gc.is_tracked(obj) or isinstance(obj, _INERT)
            return False
        self._heights[id(obj)] = _INSIDE
        self._met.append(obj)
        above.append(_Step(obj, iter(children)))
        return True

    def _children(self, obj: Any) -> list[Any] | None:
        kind = type(obj)
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            return list(obj)
        if kind is dict:
            return None if obj is self._live else [*obj.keys(), *obj.values()]
        if kind is types.FunctionType:
            return list(obj.__closure__ or ())
        if kind is types.CellType:
            return _content(obj)
        return attributes(obj) if is_plain(kind) else None


_INSIDE = -1
_INERT = (type, types.ModuleType, types.BuiltinFunctionType)


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


def is_plain(kind: type) -> bool:
    """Whether instances are dumped as their attributes, without any code of theirs."""
    cls: Any = kind
    return (
        bool(kind.__flags__ & _HEAP_TYPE)
        and not issubclass(kind, type)
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls.__getstate__ is object.__getstate__
        and cls.__getattribute__ is object.__getattribute__
        and not hasattr(cls, "__getattr__")
        and kind not in copyreg.dispatch_table
    )


def may_be_empty(kind: type) -> bool:
    """Whether nothing notices that an instance has no attributes for a while."""
    cls: Any = kind
    return (
        is_plain(kind)
        and cls.__new__ is object.__new__
        and cls.__hash__ in (object.__hash__, None)
        and cls.__setattr__ is object.__setattr__
        and not hasattr(cls, "__setstate__")
    )


_HEAP_TYPE = 1 << 9


def attributes(obj: Any) -> list[Any]:
    """Values of the attributes of a plain instance."""
    found = list(vars(obj).values()) if hasattr(obj, "__dict__") else []
    for name in copyreg._slotnames(type(obj)):  # type: ignore[attr-defined]
        if hasattr(obj, name):
            found.append(getattr(obj, name))
    return found
