"""What of pandas, scipy, scikit-learn and our lattices is known as `traceless` means it: public parts, and who defines
them.

They keep what they compute to themselves: caches that do not show, and parts of themselves that are imported late. What
of them has settings, draws, writes, registers, or runs code that is given as text, is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from typing import Any

ANY = frozenset({"*"})
_OFFSETS = "pandas.tseries.offsets"
_SCIPY = (
    "cluster cluster.hierarchy cluster.vq constants fft integrate interpolate linalg ndimage optimize signal sparse"
    " sparse.csgraph sparse.linalg spatial spatial.distance spatial.transform special stats stats.qmc"
).split()
_SKLEARN = (
    "base calibration cluster compose covariance cross_decomposition datasets decomposition discriminant_analysis dummy"
    " ensemble exceptions feature_extraction feature_extraction.text feature_selection gaussian_process"
    " gaussian_process.kernels impute inspection isotonic kernel_approximation kernel_ridge linear_model manifold"
    " metrics metrics.cluster metrics.pairwise mixture model_selection multiclass multioutput naive_bayes neighbors"
    " neural_network pipeline preprocessing random_projection semi_supervised svm tree"
).split()
_PANDAS = frozenset(
    "DataFrame Series Index MultiIndex RangeIndex DatetimeIndex TimedeltaIndex PeriodIndex IntervalIndex"
    " CategoricalIndex Categorical Timestamp Timedelta Period Interval NaT NA DateOffset Grouper NamedAgg"
    " CategoricalDtype DatetimeTZDtype IntervalDtype PeriodDtype SparseDtype StringDtype BooleanDtype Int8Dtype"
    " Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype Float32Dtype Float64Dtype"
    " array bdate_range concat crosstab cut date_range factorize from_dummies get_dummies infer_freq interval_range"
    " isna isnull json_normalize lreshape melt merge merge_asof merge_ordered notna notnull period_range pivot"
    " pivot_table qcut read_csv read_feather read_fwf read_json read_parquet read_table timedelta_range to_datetime"
    " to_numeric to_timedelta unique value_counts wide_to_long api errors offsets tseries".split()
)


def _first(names: list[str]) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in names)


PARTS: Mapping[str, frozenset[str]] = {
    "kvs": frozenset({"lattices", "causal"}),
    "kvs.causal": ANY,
    "kvs.lattices": ANY,
    "pandas": _PANDAS,
    "pandas.api": frozenset({"types"}),
    "pandas.api.types": ANY,
    "pandas.errors": ANY,
    "pandas.tseries": frozenset({"offsets"}),
    _OFFSETS: ANY,
    "scipy": _first(_SCIPY),
    **{f"scipy.{name}": ANY for name in _SCIPY},
    "sklearn": _first(_SKLEARN) | {"clone"},
    **{f"sklearn.{name}": ANY for name in _SKLEARN},
}
DENIED = frozenset(
    "plot hist boxplot style attrs eval options option_context set_option reset_option get_option describe_option"
    " set_config get_config config_context set_workers set_backend skip_backend set_global_backend clear_data_home"
    " get_data_home set_eng_float_format".split()
)
"""What nobody is asked for, whoever it is."""
RUNS_TEXT = "query"
"""What a table of pandas runs as code; a tree of scipy looks for its neighbours."""
SET = frozenset({"columns", "index"})
"""Attributes that may be set: of tables, where nothing else is known that has them."""
_BROUGHT = frozenset("pandas scipy sklearn numpy joblib threadpoolctl pyarrow dateutil pytz tzdata".split())
"""Packages of which a part that is imported late shows nowhere."""


def is_one(name: str) -> bool:
    """Whether a module is one of theirs, or in one."""
    return name.partition(".")[0] in ("pandas", "scipy", "sklearn", "kvs")


def is_to_come(name: str) -> bool:
    """Whether it is a public module of theirs that is not imported yet, and is the installation's."""
    if name in sys.modules or name not in PARTS:
        return False
    top = name.partition(".")[0]
    known: Any = sys.modules.get(top) or PathFinder.find_spec(top)
    return is_installed(getattr(known, "__file__", None) or getattr(known, "origin", None))


def is_installed(path: object) -> bool:
    """Whether a module's file is one of the installation, and not of the notebook's folder."""
    return isinstance(path, str) and ("site-packages" in path or "dist-packages" in path)


def is_denied(name: str) -> bool:
    return name in DENIED or name.startswith(("register", "plot_")) or name.endswith("Display")


def home(module: str) -> str:
    """The public module that shows what one of theirs defines."""
    parts = module.split(".")
    if parts[0] == "pandas":
        return module if module in PARTS else _OFFSETS if parts[-1] == "offsets" else "pandas"
    if parts[0] == "kvs":
        return ".".join(parts[:2])
    public = next((n for n, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:public])


def shows(value: Any, name: str) -> str:
    """The public module that shows `value`, a function or a class of that name; empty if none that is known does."""
    found = home(str(value.__module__))
    is_shown = found in PARTS and getattr(sys.modules.get(found), name, None) is value
    return found if is_shown else ""


def defines(kind: type) -> bool:
    """Whether a class is one of theirs, which is where it says that it is."""
    module = kind.__module__
    if type(module) is not str or not is_one(module):
        return False
    found: Any = sys.modules.get(module)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def is_brought(module: object) -> bool:
    """Whether a module belongs to a package that brings parts of itself in late."""
    name = str(getattr(module, "__name__", ""))
    return name.partition(".")[0] in _BROUGHT and is_installed(getattr(module, "__file__", None))


def is_table(value: Any) -> bool:
    """A table or a column of pandas, or an index of one; not of a class that is made of these."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not defines(type(value)):
        return False
    return isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index))


def objects_in(table: Any) -> list[Any]:
    """What a table holds that is a Python object, or that nothing is known of: lists of it, or the thing itself."""
    pandas: Any = sys.modules["pandas"]
    if isinstance(table, pandas.MultiIndex):
        return [[*table.names], *(part for level in table.levels for part in objects_in(level))]
    if isinstance(table, pandas.Index):
        return [[table.name], *_objects_among(table, table.dtype)]
    found = [table.attrs, *objects_in(table.index)]
    if isinstance(table, pandas.Series):
        return [*found, [table.name], *_objects_among(table, table.dtype)]
    found += objects_in(table.columns)
    for n, dtype in enumerate(table.dtypes):
        if not _is_plain(dtype):
            found += _objects_among(table.iloc[:, n], dtype)
    return found


def _is_plain(dtype: Any) -> bool:
    return getattr(dtype, "hasobject", True) is False


def _objects_among(values: Any, dtype: Any) -> list[Any]:
    """Of one column. What a type of pandas keeps is no object of Python, but for its categories, or its own type."""
    if _is_plain(dtype):
        return []
    if not defines(type(dtype)):
        return [list(values)] if hasattr(dtype, "hasobject") else [values.array]
    if (categories := getattr(dtype, "categories", None)) is not None:
        return objects_in(categories)
    subtype = getattr(dtype, "subtype", None)
    return [list(values)] if getattr(subtype, "hasobject", False) else []


def held_by(value: Any) -> list[Any]:
    """What an instance of one of their classes holds, as far as Python can tell."""
    found = [*getattr(value, "__dict__", {}).values()]
    if isinstance(value, dict):
        found += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        found += value
    return found
