"""Which objects of a dump two names could have in common, and one could change."""

from __future__ import annotations

import enum
import sys
import types
from typing import Any

from lambdakernel.state.arrays import ByValue, owners
from lambdakernel.state.functions import LiveNamespace, ModuleGlobals
from lambdakernel.state.imported import is_of_process

Memo = dict[int, tuple[int, Any]]
"""What a dump met: by address, when, and the object."""
_IMMUTABLE: tuple[type, ...] = (
    str, bytes, int, float, complex, bool, type(None), tuple, frozenset, range, slice, type, type(...),
    types.BuiltinFunctionType, types.CodeType, LiveNamespace, ModuleGlobals, ByValue,
)  # fmt: skip
_IMMUTABLE_MODULES = frozenset(
    {"datetime", "decimal", "fractions", "uuid", "pathlib", "re", "zoneinfo", "enum", "typing", "dataclasses"}
)


def mutable_ids(memo: Memo, live: dict[str, Any]) -> frozenset[int]:
    """Addresses in `memo` of objects that two names could share and one could change.

    Objects that the dump made itself (a state that `__reduce__` returned) are told by their count of references.
    """
    objects = [entry[1] for entry in memo.values()]
    kinds = list(map(type, objects))
    sharing = {kind: _sharing(kind) for kind in set(kinds)}
    able = {kind for kind, how in sharing.items() if how is not _Sharing.NONE}
    counts = map(sys.getrefcount, objects)  # by what is written in C: this sees every object of a dump
    found = {at for at, kind, count in zip(memo, kinds, counts, strict=True) if kind in able and count > _TEMPORARY}
    special = {kind for kind in able if sharing[kind] is not _Sharing.PLAIN}
    for obj in [obj for obj, kind in zip(objects, kinds, strict=True) if kind in special] if special else ():
        if sharing[type(obj)] is _Sharing.ARRAY:
            found.update(map(id, owners(obj)))
        elif is_of_process(obj) if sharing[type(obj)] is _Sharing.MODULE else obj.__globals__ is not live:
            found.discard(id(obj))
    return frozenset(found)


class _Sharing(enum.Enum):
    """What two names that hold one object of a type have in common."""

    NONE = "nothing that could change"
    PLAIN = "the object"
    FUNCTION = "the object, if it is the notebook's"
    MODULE = "the object, if it was not imported"
    ARRAY = "the object, and the memory that it looks into"


def _sharing(kind: type) -> _Sharing:
    np = sys.modules.get("numpy")
    immutable = (*_IMMUTABLE, *((np.generic, np.dtype) if np is not None else ()))
    if issubclass(kind, immutable) or kind.__module__ in _IMMUTABLE_MODULES:
        return _Sharing.NONE
    if issubclass(kind, types.ModuleType):
        return _Sharing.MODULE
    if issubclass(kind, types.FunctionType):
        return _Sharing.FUNCTION
    return _Sharing.ARRAY if np is not None and issubclass(kind, np.ndarray) else _Sharing.PLAIN


def _count_of_temporary() -> int:
    """References that an object has which nothing but a memo holds, counted as `mutable_ids` counts."""
    memo = {0: (0, object())}
    objects = [entry[1] for entry in memo.values()]
    return next(map(sys.getrefcount, objects))


_TEMPORARY = _count_of_temporary()
