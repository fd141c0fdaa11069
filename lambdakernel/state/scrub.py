"""A look at every live value: what changed where no analysis could see it, and what would not come back as it was.

Both are found by encoding, in a process forked for that, so that a worker that is asked for the next cell is not kept:
see `worker.scrub`. What a value's own code does there (loading it runs some) is seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lambdakernel.state.changes import Detector
from lambdakernel.state.classes import ClassBook, kind_of
from lambdakernel.state.codec import Dump, dump, unmarked
from lambdakernel.state.decoding import load
from lambdakernel.state.here import Live

_LIMIT = 20_000
"""Pairs of objects that are compared for one value."""


class Findings(NamedTuple):
    """What a scrub found. Kinds are names of types, `module.qualname`."""

    changed: tuple[str, ...] = ()
    """Ids of units that are not as they were committed."""
    untrue: Mapping[str, str] = {}
    """Kinds of which a value did not come back as it was, and how."""
    kinds: tuple[str, ...] = ()
    """Kinds that were loaded back for the first time."""


def examine(detector: Detector, live: dict[str, Any], book: ClassBook, known: frozenset[str]) -> Findings:
    """Encode every live unit; load back those with a kind that is not `known`.

    What has a finalizer is not loaded: a copy that dies here would close or remove what the value of the worker uses.
    Buffers are not looked at: that costs their size here, and next to nothing where they are watched.
    """
    changed: list[str] = []
    untrue: dict[str, str] = {}
    kinds: set[str] = set()
    for unit_id, unit in list(detector.here.units.items()):
        if not unit.fingerprint or detector.here.is_atom(unit):
            continue
        try:
            found, memo = detector.dumper.encode_again(unit.items)
        except (Exception, RecursionError):  # what it holds cannot move any more: a commit will say so
            changed.append(unit_id)
            continue
        if found.fingerprint[0] != unit.fingerprint[0] and (
            unit.base is None or not detector.here.is_surely_same(unit)
        ):
            changed.append(unit_id)
        new = {kind: obj for _, obj in memo.values() if (kind := kind_of(type(obj))) not in known | kinds}
        new = {kind: obj for kind, obj in new.items() if _makes_own_bytes(type(obj))}
        if new and not any(hasattr(type(obj), "__del__") for _, obj in memo.values()):
            untrue |= _verify(unit, found, new, live, book)
            kinds |= new.keys()
    return Findings(tuple(changed), untrue, tuple(sorted(kinds)))


def _makes_own_bytes(cls: type) -> bool:
    """Whether code of a library or of the notebook decides what becomes of a value."""
    kind: Any = cls
    own = (kind.__reduce__, kind.__reduce_ex__) != _PLAIN or hasattr(cls, "__setstate__")
    return own and cls.__module__ != "builtins"


_PLAIN: Any = (object.__reduce__, object.__reduce_ex__)


def _verify(unit: Live, found: Dump, new: Mapping[str, Any], live: dict[str, Any], book: ClassBook) -> dict[str, str]:
    """The kinds in a unit that lie: what they came back as, said for the user. `new` holds a value of each kind."""
    try:
        first, second = _load(found, live, book)["names"], _load(found, live, book)["names"]
    except Exception:
        return {kind: why for kind, obj in new.items() if (why := _cannot_be_loaded(obj, live, book))}
    names = [key for kind, key in unit.items if kind == "n"]
    return dict(lie for name in names for lie in _lies(live[name], first[name], second[name]))


def _load(found: Dump, live: dict[str, Any], book: ClassBook) -> Any:
    buffers = [memoryview(bytearray(view)) for view in found.buffers]
    return load("it", found.head, buffers, live, book, _unknown, live.__getitem__)


def _cannot_be_loaded(obj: Any, live: dict[str, Any], book: ClassBook) -> str:
    """Why `obj` alone does not come back from its bytes; empty if it does."""
    try:
        _load(dump(obj, live, book, mark=unmarked)[0], live, book)
    except Exception as e:
        return f"it does not come back from its bytes ({e})"
    return ""


def _unknown(uid: str) -> type:
    raise LookupError(f"class {uid} is not loaded here")


def _lies(value: Any, first: Any, second: Any) -> Iterator[tuple[str, str]]:
    """Where `value` differs from what was loaded from its bytes, twice.

    A type that says of two equal loads that they differ (a field is not a number) says nothing of a difference.
    """
    stack = [(value, first, second)]
    seen: set[int] = set()
    while stack and len(seen) < _LIMIT:
        a, b, c = stack.pop()
        if a is b or id(a) in seen:
            continue
        seen.add(id(a))
        kind = type(a)
        if type(b) is not kind:
            yield kind_of(kind), f"it comes back as {type(b).__name__}"
        elif kind in _PARTS:
            stack += zip(*map(_PARTS[kind], (a, b, c)), strict=False)
        elif kind.__module__ == "builtins":
            continue
        elif _is_false(a, b) and not _is_false(b, c):
            yield kind_of(kind), "it comes back as something that is not equal to it"
        elif isinstance(getattr(a, "__dict__", None), dict):
            common = [key for key in vars(a) if key in vars(b) and key in vars(c)]
            stack += [(vars(a)[key], vars(b)[key], vars(c)[key]) for key in common]


_PARTS: dict[type, Callable[[Any], Any]] = {list: iter, tuple: iter, dict: lambda d: iter(d.values())}


def _is_false(a: Any, b: Any) -> bool:
    """Whether the type of `a` itself says that the two differ."""
    kind: Any = type(a)
    if kind.__eq__ is object.__eq__:
        return False
    try:
        return (a == b) is False
    except Exception:
        return False
