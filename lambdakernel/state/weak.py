"""Weak references to bytes and back: they go on to refer to what the same unit holds, and keep nothing alive.

What nothing else in the unit holds has died when loading ends, as it would have died here without the unit's names.
A finalizer (`weakref.finalize`) is one of them: it is registered anew where it is loaded.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping, Set
from typing import Any

_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)


class _Gone:
    """Something to have referred to."""

    def method(self) -> None: ...


def dead_reference() -> Any:
    return weakref.ref(_Gone())


def dead_proxy() -> Any:
    return weakref.proxy(_Gone())


def dead_method() -> Any:
    return weakref.WeakMethod(_Gone().method)


def reduce_reference(reference: Any) -> tuple[Any, ...]:
    target, callback = reference(), reference.__callback__
    if target is None:
        return (dead_reference, ())
    return (weakref.ref, (target,) if callback is None else (target, callback))


def reduce_proxy(proxy: Any) -> tuple[Any, ...]:
    try:
        (target,) = _Unwrap() | proxy
    except ReferenceError:
        return (dead_proxy, ())
    return (weakref.proxy, (target, *gc.get_referents(proxy)))  # a callback is all that it refers to


def dead_finalizer() -> Any:
    return weakref.finalize(_Gone(), _Gone)


def finalizer(atexit: bool, target: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = weakref.finalize(target, function, *args, **kwargs)
    made.atexit = atexit
    return made


def reduce_finalizer(found: Any) -> tuple[Any, ...]:
    alive = found.peek()
    return (dead_finalizer, ()) if alive is None else (finalizer, (found.atexit, *alive))


def never_finalized(ids: Set[int]) -> None:
    """At the end of this process no finalizer of these objects runs, by their addresses: they live on elsewhere."""
    registry: Mapping[Any, Any] = weakref.finalize._registry  # type: ignore[attr-defined]
    for found in list(registry):
        alive = found.peek()
        if alive is not None and id(alive[0]) in ids:
            found.atexit = False


class _Unwrap:
    """Gets at what a proxy stands for. No attribute leads there: all of them are the target's own, which may lie."""

    def __or__(self, other: Any) -> Any:
        """The interpreter asks with the proxy, then has the proxy put its target in its own place."""
        return NotImplemented if type(other) in _PROXIES else (other,)


def reduce_method(reference: Any) -> tuple[Any, ...]:
    method = reference()
    if method is None:
        return (dead_method, ())
    inner = reference._func_ref.__callback__
    own = dict(zip(inner.__code__.co_freevars, inner.__closure__, strict=True))["callback"].cell_contents
    return (weakref.WeakMethod, (method,) if own is None else (method, own))


def reduce_keys(mapping: Any) -> tuple[Any, ...]:
    return (weakref.WeakKeyDictionary, (dict(mapping),))


def reduce_values(mapping: Any) -> tuple[Any, ...]:
    return (weakref.WeakValueDictionary, (dict(mapping),))


REDUCERS: dict[type, Callable[[Any], Any]] = {
    weakref.ref: reduce_reference,
    **dict.fromkeys(_PROXIES, reduce_proxy),
    weakref.WeakMethod: reduce_method,
    weakref.finalize: reduce_finalizer,
    weakref.WeakKeyDictionary: reduce_keys,
    weakref.WeakValueDictionary: reduce_values,
}
