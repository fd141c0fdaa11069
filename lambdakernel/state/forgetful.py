"""Whether two values are the same but for what caches remember: to remember an answer is no change that anyone sees."""

from __future__ import annotations

import functools
from typing import Any

from lambdakernel.state.caches import CACHE
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Encoder, dump


class _Forgetful(Encoder):
    """A dump that nobody loads, without what `functools.lru_cache` and `functools.cached_property` have kept."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CACHE:
            wrapper: Any = obj
            return (functools.lru_cache, (wrapper.__wrapped__, *wrapper.cache_parameters().values()), vars(wrapper))
        made = obj.__reduce_ex__(4) if (cached := _cached_in(type(obj))) else ""
        if isinstance(made, str):
            return super().reducer_override(obj)
        constructor, arguments, state, *rest = (*made, None)[:5]
        attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if isinstance(attributes, dict):
            attributes = {name: value for name, value in attributes.items() if name not in cached}
        return (constructor, arguments, (attributes, slots), *rest)


def fingerprint(value: Any, live: dict[str, Any], book: ClassBook) -> tuple[bytes, ...]:
    """Hashes of a value as it is encoded without what caches in it remember.

    Raises:
        Exception: as `dump`.
    """
    roots = (value,) if isinstance(value, type) else ()
    return dump(value, live, book, roots, kind=_Forgetful)[0].fingerprint


def _cached_in(kind: type) -> frozenset[str]:
    """Attributes of its instances that are answers of a method, kept."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property)
    )
