"""Any value to bytes, by cloudpickle, with its buffers out of band."""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from types import CodeType
from typing import Any

from cloudpickle import cloudpickle as cp

from lambdakernel.futures.calls import is_importable
from lambdakernel.futures.recipes import CACHE, keep_source, source_of, with_cache

_APART = 4096
"""Bytes of a buffer from which on it is kept out of the pickle."""


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """As cloudpickle, but with the file's name, and the source that only this process has: for tracebacks."""
    make, args = cp._code_reduce(code)
    named = tuple(code.co_filename if type(a) is str and a == "<dynamic-code>" else a for a in args)
    source = source_of(code)
    return (make, named) if source is None else (_make_code, (source, named))


def _make_code(source: tuple[str, tuple[str, ...]], args: tuple[Any, ...]) -> CodeType:
    keep_source(source)
    return CodeType(*args)


class _Pickler(cp.Pickler):
    dispatch_table = ChainMap({CodeType: _reduce_code}, cp.Pickler.dispatch_table)  # noqa: RUF012 (as in the class it extends)

    is_result = False

    def reducer_override(self, obj: Any) -> Any:
        """As cloudpickle, but a proxy of multiprocessing takes its manager's key along, as it does to children, and
        what is joined into a `Live` comes back."""
        live = sys.modules.get("lambdakernel.live")
        if live is not None and type(obj) is live.Live:
            from lambdakernel.futures import joins

            return joins.returned if self.is_result else joins.arrived, obj.__reduce__()[1]
        if type(obj) is CACHE and not is_importable(obj):
            kept = obj.cache_parameters()
            return with_cache, (kept["maxsize"], kept["typed"], obj.__wrapped__)
        managers = sys.modules.get("multiprocessing.managers")
        if managers is not None and isinstance(obj, managers.BaseProxy):
            make, (kind, token, serializer, options) = obj.__reduce__()
            return make, (kind, token, serializer, {**options, "authkey": bytes(obj._authkey)})
        return super().reducer_override(obj)


def encode(value: Any, *, is_result: bool = False) -> tuple[bytes, list[memoryview]]:
    """The head and the buffers of `value`, which must not change until they are sealed.

    Raises:
        Exception: whatever the value's own `__reduce__` raises; it cannot be sent.
    """
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _APART:
            return True
        buffers.append(view)
        return False

    with io.BytesIO() as file:
        pickler = _Pickler(file, protocol=5, buffer_callback=keep)
        pickler.is_result = is_result
        pickler.dump(value)
        return file.getvalue(), buffers
