"""Functions with a cache to bytes and back: what `functools.lru_cache` remembers, in its order, with its counts.

The cache is C, and has no way in. What it holds is read off the objects that it refers to, which come in the order of
their last use. It is filled by calling it, with a function in place of the real one that knows the answers: the cache
calls through a `partial`, whose function can be exchanged, so that nothing of this is left when it is done.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

COUNTED = 100_000
"""Hits, and misses, that are counted again one by one; more would take longer than they are worth."""
CACHE: type = type(functools.lru_cache(len))


class Entry(NamedTuple):
    """One call that is remembered."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


def entries_of(wrapper: Any) -> list[Entry]:
    """What `wrapper` remembers, least recently used first; empty if this interpreter keeps it in another way."""
    parameters, size = wrapper.cache_parameters(), wrapper.cache_info().currsize
    held = gc.get_referents(wrapper)
    try:
        dicts = [n for n, obj in enumerate(held) if type(obj) is dict and obj is not wrapper.__dict__]
        at = dicts[-1]  # after what it holds, which may be dicts too
        mark = held[at + 2]  # the cache is followed by the function and by what separates keywords in a key
        pairs = list(held[at].items()) if parameters["maxsize"] is None else list(_links(held[:at], held[at]))
    except IndexError:
        return []
    if len(pairs) != size:
        return []
    return [Entry(*_call_of(key, mark, parameters["typed"]), result) for key, result in pairs]


def _links(held: Sequence[Any], cache: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Each link of the list in use is told as its key, its result and its type."""
    link_type = next((type(link) for link in cache.values()), None)
    for n in range(len(held) - 2):
        if held[n + 2] is link_type and held[n] in cache:
            yield held[n], held[n + 1]


def _call_of(key: Any, mark: object, typed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of which a cache made `key`."""
    if type(key) is not tuple:
        return (key,), {}
    count = next((n for n, part in enumerate(key) if part is mark), -1)
    if count < 0:
        return (key[: len(key) // 2] if typed else key), {}
    named = (len(key) - 2 * count - 1) // 3 if typed else (len(key) - count - 1) // 2
    pairs = key[count + 1 : count + 1 + 2 * named]
    return key[:count], dict(zip(pairs[::2], pairs[1::2], strict=True))


def reduce_lru_cache(wrapper: Any, entries: Sequence[Entry]) -> tuple[Any, ...]:
    """How to rebuild a cached function that remembers `entries`."""
    parameters, info = wrapper.cache_parameters(), wrapper.cache_info()
    state = {
        "dict": dict(wrapper.__dict__),
        "entries": [tuple(entry) for entry in entries],
        "hits": info.hits,
        "misses": info.misses,
    }
    arguments = (wrapper.__wrapped__, parameters["maxsize"], parameters["typed"])
    return (make_lru_cache, arguments, state, None, None, fill_lru_cache)


def make_lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    wrapper: Any = functools.lru_cache(maxsize=maxsize, typed=typed)(functools.partial(function))
    return functools.update_wrapper(wrapper, function)


def fill_lru_cache(wrapper: Any, state: dict[str, Any]) -> None:
    real = wrapper.__wrapped__
    inner: Any = next(
        obj for obj in gc.get_referents(wrapper) if isinstance(obj, functools.partial) and obj.func is real
    )
    entries = [Entry(*entry) for entry in state["entries"]]
    answer: list[Any] = []
    inner.__setstate__((_refuse, (), {}, None))
    for _ in range(min(state["misses"] - len(entries), COUNTED)):
        try:
            wrapper()  # a call that fails is a miss, and leaves nothing
        except _Refused:
            continue
    inner.__setstate__((lambda *_, **__: answer[0], (), {}, None))
    known = [entry for entry in entries if _remember(wrapper, entry, answer)]
    for _ in range(min(state["hits"], COUNTED) if known else 0):
        wrapper(*known[-1].args, **known[-1].kwargs)
    inner.__setstate__((real, (), {}, None))
    wrapper.__dict__.update(state["dict"])


def _remember(wrapper: Any, entry: Entry, answer: list[Any]) -> bool:
    """Whether it does now: arguments that are still being loaded may not have their hash yet."""
    answer[:] = [entry.result]
    try:
        wrapper(*entry.args, **entry.kwargs)
    except Exception:
        return False
    return True


class _Refused(Exception):
    """Says that a call is only to be counted."""


def _refuse(*_: Any, **__: Any) -> Any:
    raise _Refused
