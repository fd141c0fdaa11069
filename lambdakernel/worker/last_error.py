"""`sys.last_type`, `sys.last_value` and `sys.last_traceback`, which outlive the worker in which a cell failed.

They are encoded once, when a cell has left another error there, and decoded by the first code that asks `sys` for one
of them: until then `sys` has a `__getattr__`. A cell without an error pays for a comparison of pointers. An exception
that cannot move (it holds a lock, its class is in no variable) is stood in for by one with its name and text.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from lambdakernel.errors import ValueDamaged
from lambdakernel.state import Namespace

LIMIT = 4 << 20
"""Bytes of an encoded exception above which it is stood in for: it may hold a table, which nobody asked to keep."""
_NAMES = ("last_type", "last_value", "last_traceback", "last_exc")
_HOOK = "__getattr__"
Pickled = tuple[bytes, tuple[bytes, ...]]


class LastError:
    """See the module. Implements `state.Ambient`. `namespace` encodes and decodes; set it before the first error."""

    name = "sys.last_value"

    def __init__(self) -> None:
        self.namespace: Namespace | None = None
        self._waiting: Waiting | None = None

    def capture(self) -> Any:
        there = vars(sys)
        if _HOOK in there and there[_HOOK] is self._waiting:
            if "last_value" not in there:
                return self._waiting
            del there[_HOOK]  # an error came after it
        value = there.get("last_value")
        return Error(value, there.get("last_traceback"), self.namespace) if isinstance(value, BaseException) else ()

    def restore(self, value: Any) -> None:
        for name in (*_NAMES, _HOOK):
            vars(sys).pop(name, None)
        if value:
            assert self.namespace is not None
            vars(sys)[_HOOK] = self._waiting = Waiting(value, self.namespace)


class Error:
    """What was raised, and where; equal if it is the same object. Pickled as what `Waiting` takes."""

    def __init__(
        self, value: BaseException | None, tb: types.TracebackType | None, namespace: Namespace | None
    ) -> None:
        self.value, self.traceback = value, tb
        self._namespace = namespace

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Error) and self.value is other.value and self.traceback is other.traceback

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        assert self.value is not None
        kind = type(self.value)
        described = (kind.__module__, kind.__qualname__, _text(self.value), self.traceback)
        names = tuple(name for name in _NAMES if name in vars(sys))
        return (tuple, ((names, self._whole(), self._pickled(described)),))

    def _whole(self) -> Pickled | None:
        try:
            pickled = self._pickled((self.value, self.traceback))
        except Exception:  # a reducer of the user's, or of what it holds: `described` is kept
            return None
        return pickled if len(pickled[0]) + sum(map(len, pickled[1])) <= LIMIT else None

    def _pickled(self, value: Any) -> Pickled:
        assert self._namespace is not None
        found = self._namespace.encode(value)
        return found.head, tuple(map(bytes, found.buffers))


class Waiting(Error):
    """An error of another worker, as `sys.__getattr__` until it is asked for."""

    def __init__(self, stored: tuple[tuple[str, ...], Pickled | None, Pickled], namespace: Namespace) -> None:
        super().__init__(None, None, namespace)
        self._names, self._stored_whole, self._described = stored

    def __call__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"module 'sys' has no attribute {name!r}", name=name, obj=sys)
        del vars(sys)[_HOOK]
        if "last_value" not in vars(sys):  # else an error of this worker came after it
            self._bring_back()
        return getattr(sys, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, ((self._names, self._stored_whole, self._described),))

    def _bring_back(self) -> None:
        value, tb = self._decoded()
        self.value, self.traceback = value, tb
        found = dict(zip(_NAMES, (type(value), value, tb, value), strict=True))
        vars(sys).update({name: found[name] for name in self._names})

    def _decoded(self) -> tuple[BaseException, types.TracebackType | None]:
        assert self._namespace is not None
        if self._stored_whole is not None:
            try:
                value, tb = self._namespace.decode(*self._stored_whole)
                return value, tb
            except ValueDamaged:  # its class is not in the store, or its module not on this machine
                pass
        module, qualname, text, tb = self._namespace.decode(*self._described)
        return stand_in(module, qualname, text, tb), tb


def stand_in(module: str, qualname: str, text: str, tb: types.TracebackType | None) -> Exception:
    """An exception that shows as one of that class would."""
    namespace = {"__module__": module, "__qualname__": qualname}
    kind = type(qualname.rpartition(".")[2], (Exception,), namespace)
    error: Exception = kind(text)
    return error.with_traceback(tb)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the user's own `__str__`
        return "<exception str() failed>"
