"""Columns in Arrow's memory, to pickles and back without a copy: of polars, and of pandas where that uses pyarrow.

Both pickle by copying their columns together. Then bytes that nobody changed lie at new addresses in each dump, and
have to be read to say that they are the same. Here they are handed out where they lie, and are mapped when they come
back. pyarrow's own tables and arrays do that by themselves.
"""

from __future__ import annotations

import copyreg
import functools
import importlib.util
import pickle
import sys
from typing import Any

_TEMPORAL = ("Date", "Datetime", "Duration", "Time")
_LENGTHY = ("String", "Binary", "Boolean")
_SLACK = 1 << 16
"""Bytes beside its own that a part of an array may keep, before it is copied out of that."""
_ASC, _DESC = "SORTED_ASC", "SORTED_DESC"


class Columns:
    """The types that are reduced here; none, if their libraries were not imported."""

    def __init__(self) -> None:
        polars = sys.modules.get("polars")
        self._frame = getattr(polars, "DataFrame", None)
        self._series = getattr(polars, "Series", None)
        arrow_of_pandas = sys.modules.get("pandas.core.arrays.arrow.array")
        self._arrow: Any = getattr(arrow_of_pandas, "ArrowExtensionArray", ())

    def reduce(self, obj: Any) -> Any:
        """What stands for `obj` in a pickle; None if it is nothing of this kind."""
        kind = type(obj)
        if kind is self._frame:
            return _reduce_frame(obj)
        if kind is self._series:
            return _reduce_series(obj)
        if self._arrow and issubclass(kind, self._arrow) and kind.__module__.partition(".")[0] == "pandas":
            return _reduce_arrow(obj)
        return None


# -- pandas


def _reduce_arrow(array: Any) -> tuple[Any, ...]:
    """As pandas does, with the pieces of the array as they are. A piece that looks into much more memory than it has is
    copied out of that, as pandas would."""
    chunked = vars(array).get("_pa_array")
    if chunked is None or chunked.num_chunks == 0:
        return tuple(array.__reduce_ex__(5))
    if chunked.get_total_buffer_size() > 2 * chunked.nbytes + _SLACK:
        pieces = chunked.combine_chunks()
    else:
        pieces = chunked.chunks
    state = {**vars(array), "_pa_array": pieces}
    if "_cache" in state:
        state["_cache"] = {}
    return (copyreg.__newobj__, (type(array),), state)  # type: ignore[attr-defined]


# -- polars


def _reduce_frame(frame: Any) -> tuple[Any, ...]:
    fits = [_lies_as_in_arrow(kind) for kind in frame.dtypes]
    if not any(fits):
        return tuple(frame.__reduce_ex__(5))
    if not _has_pyarrow():
        return (frame_of, (frame.columns, _orders(frame), list(frame)))
    shared = frame if all(fits) else type(frame)([s for s, fit in zip(frame, fits, strict=True) if fit])
    table = shared.to_arrow(compat_level=_newest())
    others = [None if fit else series for series, fit in zip(frame, fits, strict=True)]
    return (frame_of, (frame.columns, _orders(frame), others, table))


def frame_of(names: list[str], orders: list[str], columns: list[Any], table: Any = None) -> Any:
    """A frame of these columns; those that are None are the columns of `table`, in their order."""
    import polars

    shared = iter(_from_arrow(table) if table is not None else ())
    found = [series if series is not None else next(shared) for series in columns]
    frame = polars.DataFrame([_ordered(series, order) for series, order in zip(found, orders, strict=True)])
    frame.columns = names  # an empty one would be replaced, where it comes with a column
    return frame


def _reduce_series(series: Any) -> tuple[Any, ...]:
    if not _lies_as_in_arrow(series.dtype):
        return tuple(series.__reduce_ex__(5))
    if _has_pyarrow():
        table = series.to_frame("").to_arrow(compat_level=_newest())
        return (series_of, (series.name, table, _order(series)))
    if series.dtype.is_numeric() and not series.null_count() and series.n_chunks() == 1:
        numbers = series.to_numpy(allow_copy=False)
        return (series_of_numbers, (series.name, numbers.dtype.str, pickle.PickleBuffer(numbers), _order(series)))
    return tuple(series.__reduce_ex__(5))


def series_of(name: str, table: Any, order: str) -> Any:
    (series,) = _from_arrow(table)
    return _ordered(series.rename(name), order)


def series_of_numbers(name: str, dtype: str, memory: Any, order: str) -> Any:
    import numpy
    import polars

    return _ordered(polars.Series(name, numpy.frombuffer(memory, dtype)), order)


def _from_arrow(table: Any) -> Any:
    import polars

    return polars.from_arrow(table, rechunk=False)


def _lies_as_in_arrow(kind: Any) -> bool:
    """Whether a column of that type comes back from Arrow as it was, and without a copy."""
    if kind.is_nested() or kind.is_decimal():
        return False
    name = kind.base_type().__name__
    return (kind.is_numeric() and not name.endswith("128")) or name in (*_TEMPORAL, *_LENGTHY)


def _orders(frame: Any) -> list[str]:
    return [_order(series) for series in frame]


def _order(series: Any) -> str:
    """What it is known to be sorted by."""
    flags = series.flags
    return "asc" if flags[_ASC] else "desc" if flags[_DESC] else ""


def _ordered(series: Any, order: str) -> Any:
    return series.set_sorted(descending=order == "desc") if order else series


def _newest() -> Any:
    import polars

    return polars.CompatLevel.newest()


@functools.cache
def _has_pyarrow() -> bool:
    return importlib.util.find_spec("pyarrow") is not None
