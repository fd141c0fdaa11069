"""Functions of a script or cell as bytes that a worker reads with nothing but what is built in.

For functions whose surroundings are plain (see `steady`); any other goes by cloudpickle, which takes a fresh worker
milliseconds to load. Functions that had one module's namespace share one again; what is in it is what they read.
"""

from __future__ import annotations

import builtins
import marshal
import sys
from _functools import _lru_cache_wrapper  # type: ignore[import-not-found] # `functools` takes milliseconds
from _pickle import Pickler
from types import CellType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from typing import Any

CACHE: Any = _lru_cache_wrapper
"""What `functools.cache` and `lru_cache` make of a function."""
_SOURCE = 32_000
"""Characters of a cell's source up to which it goes with its functions."""


class RecipePickler(Pickler):
    """Writes functions, and what a cache made of one, for which `goes_whole` says so, with the names that `reads` says
    a function reads; and modules by name.
    """

    def __init__(
        self, file: io.BytesIO, goes_whole: Callable[[FunctionType], bool], reads: Callable[[FunctionType], Any]
    ) -> None:
        super().__init__(file, 5)
        self._goes_whole, self._reads = goes_whole, reads
        self._spaces: dict[int, dict[str, Any]] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is ModuleType:
            return _module, (obj.__name__,)
        live = sys.modules.get("lambdakernel.live")
        if live is not None and kind is live.Live:
            from lambdakernel.futures import joins

            return joins.arrived, obj.__reduce__()[1]
        if (kind is not FunctionType and kind is not CACHE) or not self._goes_whole(obj):
            return NotImplemented
        if kind is CACHE:
            kept = obj.cache_parameters()
            _, makings, state, *_ = self._recipe(obj.__wrapped__)
            return make_cached, (kept["maxsize"], kept["typed"], makings), state, None, None, fill_cached
        return self._recipe(obj)

    def _recipe(self, obj: FunctionType) -> tuple[Any, ...]:
        space = obj.__globals__
        shared = self._spaces.setdefault(id(space), {"__name__": space.get("__name__")})
        found = {name: space[name] for name in self._reads(obj) if name in space}
        closure = [cell.cell_contents for cell in obj.__closure__ or ()]
        state = found, closure, obj.__defaults__, obj.__kwdefaults__, obj.__annotations__
        makings = marshal.dumps(obj.__code__), shared, obj.__name__, obj.__qualname__, source_of(obj.__code__)
        return make_function, makings, state, None, None, fill_function


def source_of(code: Any) -> tuple[str, tuple[str, ...]] | None:
    """The file's name and lines of `code` if only this process has them, as those of a cell: for tracebacks."""
    cache = sys.modules.get("linecache")
    known = cache.cache.get(code.co_filename) if cache is not None else None
    if known is None or len(known) == 1 or known[1] is not None or known[0] > _SOURCE:  # a file, or too long
        return None
    return code.co_filename, tuple(known[2])


def keep_source(source: tuple[str, tuple[str, ...]] | None) -> None:
    """Let tracebacks of this process show `source`."""
    if source is not None:
        import linecache

        name, lines = source
        linecache.cache.setdefault(name, (sum(map(len, lines)), None, list(lines), name))


def make_function(
    code: bytes, space: dict[str, Any], name: str, qualname: str, source: tuple[str, tuple[str, ...]] | None
) -> Any:
    """The function, without what it refers to: that may be the function itself."""
    keep_source(source)
    space.setdefault("__builtins__", builtins.__dict__)
    body = marshal.loads(code)
    made = FunctionType(body, space, name, None, tuple(CellType() for _ in body.co_freevars))
    made.__qualname__ = qualname
    return made


def make_cached(maxsize: int | None, typed: bool, makings: tuple[Any, ...]) -> Any:
    """The function with a cache, without what the function refers to."""
    return with_cache(maxsize, typed, make_function(*makings))


def with_cache(maxsize: int | None, typed: bool, function: Any) -> Any:
    """`function` with a cache, which is empty."""
    import functools

    return functools.lru_cache(maxsize, typed)(function)


def fill_cached(made: Any, state: tuple[Any, ...]) -> None:
    fill_function(made.__wrapped__, state)


def fill_function(made: Any, state: tuple[Any, ...]) -> None:
    found, closure, made.__defaults__, made.__kwdefaults__, made.__annotations__ = state
    made.__globals__.update(found)
    for cell, value in zip(made.__closure__ or (), closure, strict=True):
        cell.cell_contents = value


def _module(name: str) -> Any:
    __import__(name)
    return sys.modules[name]
