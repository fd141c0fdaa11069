"""What cannot move: where in a value the culprit is, and what stands in for it in another worker."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from lambdakernel.errors import ResidentLost
from lambdakernel.state import bounds
from lambdakernel.state.cells import Resident

_DEPTH = 12
_BREADTH = 2000


def culprit(name: str, obj: Any, cannot: Callable[[Any], bool]) -> tuple[str, Any]:
    """The expression that leads to the innermost part of `obj` that cannot be encoded, and that part."""
    path, seen = name, {id(obj)}
    for _ in range(_DEPTH):
        step = next(((p, c) for p, c in _parts(obj) if id(c) not in seen and cannot(c)), None)
        if step is None:
            break
        path, obj = path + step[0], step[1]
        seen.add(id(obj))
    return path, obj


def _parts(obj: Any) -> list[tuple[str, Any]]:
    """What `obj` holds, with the expression that reads it; nothing if it cannot be asked (a proxy of what is gone, code
    of its own that hangs)."""
    if (here := bounds.current()) is not None:
        here.arm()
    try:
        return bounds.run(lambda: list(_parts_of(obj)), lambda: obj)
    except Exception:
        return []


def _parts_of(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, dict):
        for key, value in list(obj.items())[:_BREADTH]:
            yield f"[{key!r:.40}]", value
    elif isinstance(obj, (list, tuple)):
        for at, value in enumerate(obj[:_BREADTH]):
            yield f"[{at}]", value
    elif isinstance(obj, (set, frozenset)):
        for value in list(obj)[:_BREADTH]:
            yield f" (holding {type(value).__name__})", value
    yield from _attributes(obj)
    for at, cell in enumerate(getattr(obj, "__closure__", None) or ()):
        try:
            yield f".__closure__[{at}].cell_contents", cell.cell_contents
        except ValueError:
            continue


def _attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict):
        for key, value in list(attributes.items())[:_BREADTH]:
            yield f".{key}", value


def is_storable(name: object) -> bool:
    """Whether the store can hold a variable of that name: `globals()` takes any key, a record only text."""
    if type(name) is not str:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def nameless(live: dict[Any, Any], worker: str) -> list[Resident]:
    """What is bound in `live` under a key that is no name that can be stored."""
    why = "bound to a key that is no text which can be stored"
    return [
        Resident(f"globals()[{key!r:.60}]", type(live[key]).__name__, why, f"globals()[{key!r:.60}]", 0, worker)
        for key in list(live)
        if not is_storable(key)
    ]


def never_freed(objects: list[Any]) -> None:
    """Keep them past the end of the interpreter."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(objects))


class LostValue:
    """Bound to a name whose value was lost: any use of it says so. `del` and binding anew work."""

    def __init__(self, resident: Resident) -> None:
        object.__setattr__(self, "_resident", resident)

    def _raise(self, *_: Any, **__: Any) -> NoReturn:
        raise lost_error(object.__getattribute__(self, "_resident"))

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "_raise"):
            return object.__getattribute__(self, name)
        raise lost_error(object.__getattribute__(self, "_resident"))


_USES = """call repr str bool len iter next contains getitem setitem delitem enter exit add radd sub rsub mul rmul
truediv floordiv mod pow neg pos abs int float index lt le gt ge eq ne hash await aiter anext setattr delattr format
and or xor matmul iadd isub imul bytes""".split()
for _use in _USES:
    setattr(LostValue, f"__{_use}__", LostValue._raise)


def is_lost(obj: Any) -> bool:
    return type(obj) is LostValue


def lost_error(resident: Resident) -> ResidentLost:
    return ResidentLost(resident.name, resident.path, resident.type, resident.reason, resident.cell, resident.worker)
