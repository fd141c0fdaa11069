"""What code of libraries adds to libraries on a notebook's behalf: it is found where it is registered.

Theory of operation
- An accessor, or `tqdm.pandas()`, adds attributes to the classes of pandas. That is seen by the classes' size: what is
  in them and is not of pandas was added.
- Maps of colours, and functions that say how a type is copied and pickled, are in tables of their own.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.held import Held, Steady


class PandasClasses(Held):
    """What others have added to the classes of pandas, such as accessors."""

    name = "class of pandas"

    def __init__(self) -> None:
        self._classes: dict[str, Any] = {}
        self._sizes: list[int] = []
        self._captured: dict[str, Any] = {}

    def capture(self) -> Mapping[str, Any]:
        if not self._classes:
            self._classes = _classes_of_pandas()
        sizes = self._sizes_now()
        if sizes != self._sizes or not all(self._is_there(*item) for item in self._captured.items()):
            self._sizes = sizes
            self._captured = {
                f"{name} {key}": value
                for name, cls in self._classes.items()
                for key, value in vars(cls).items()
                if _root(value) not in _OF_PANDAS
            }
        return self._captured

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        if values:
            pass
        now, classes = self.capture(), self._classes
        for key in now.keys() - values.keys():
            name, _, attribute = key.partition(" ")
            delattr(classes[name], attribute)
            getattr(classes[name], "_accessors", set()).discard(attribute)
        failed: dict[str, Exception] = {}
        for key, value in values.items():
            name, _, attribute = key.partition(" ")
            try:
                setattr(classes[name], attribute, value)
                if hasattr(value, "_accessor"):
                    classes[name]._accessors.add(attribute)
            except (KeyError, AttributeError) as e:  # of another version of pandas
                failed[key] = e
        self._sizes, self._captured = self._sizes_now(), dict(values)
        return failed

    def _is_there(self, key: str, value: object) -> bool:
        name, _, attribute = key.partition(" ")
        return vars(self._classes[name]).get(attribute) is value

    def _sizes_now(self) -> list[int]:
        return [len(vars(cls)) for cls in self._classes.values()]


_PANDAS = {
    "pandas": ("DataFrame", "Series", "Index"),
    "pandas.core.groupby.generic": ("DataFrameGroupBy", "SeriesGroupBy"),
    "pandas.core.groupby.groupby": ("GroupBy",),
    "pandas.core.window.rolling": ("Rolling",),
    "pandas.core.window.expanding": ("Expanding",),
}


_OF_PANDAS = ("pandas", "builtins", "typing", "_abc", "")
"""Packages that the attributes come from which pandas itself gives its classes."""


def _classes_of_pandas() -> dict[str, Any]:
    """Those that libraries add to, by name; none before pandas is imported whole."""
    if "pandas.core.config_init" not in sys.modules:
        return {}
    return {
        name: cls
        for module, names in _PANDAS.items()
        for name in names
        if (cls := getattr(sys.modules.get(module), name, None)) is not None
    }


def _root(value: Any) -> str:
    """The package that an attribute of a class comes from; empty if it does not say."""
    inner = getattr(value, "_accessor", None) or getattr(value, "fget", None) or value
    module = getattr(inner, "__module__", None)
    if not isinstance(module, str):
        module = type(inner).__module__
    return module.partition(".")[0]


class Reducers(Held):
    """Functions of the notebook that `copyreg.pickle` registered."""

    name = "copyreg"

    def __init__(self) -> None:
        self._seen: dict[type, Any] = {}
        self._steady = Steady()
        self._captured: dict[str, Any] = {}

    def capture(self) -> Mapping[str, Any]:
        table = copyreg.dispatch_table
        if table != self._seen:
            self._seen = dict(table)
            ours = ((cls, function) for cls, function in table.items() if _root(function) == "__main__")
            self._captured = self._steady.of({f"{c.__module__}.{c.__qualname__}": (c, f) for c, f in ours})
        return self._captured

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        now = self.capture()
        for key in now.keys() - values.keys():
            copyreg.dispatch_table.pop(now[key][0], None)
        self._steady.adopt(values)
        for cls, function in values.values():
            copyreg.dispatch_table[cls] = function
        self._seen, self._captured = dict(copyreg.dispatch_table), dict(values)
        return {}


class ColorMaps(Held):
    """Maps of colours that were registered by name, but for those that a library registers when it is imported."""

    name = "colormap"

    def capture(self) -> Mapping[str, Any]:
        registry = _registry()
        if registry is None or len(registry._cmaps) == len(registry._builtin_cmaps):
            return {}
        added = registry._cmaps.keys() - set(registry._builtin_cmaps)
        return {name: registry._cmaps[name] for name in sorted(added) if not _is_of_library(name)}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for name in self.capture().keys() - values.keys():
            _registry().unregister(name)
        if values:
            import matplotlib

            registry: Any = matplotlib.colormaps
            for name, cmap in values.items():
                registry._cmaps[name] = cmap  # itself: to register it would be to copy it
        return {}


_OF_COLOURS = ("seaborn.cm", "cmocean.cm", "cmasher.cm")


def _registry() -> Any:
    registry = getattr(sys.modules.get("matplotlib"), "colormaps", None)
    return registry if hasattr(registry, "_cmaps") and hasattr(registry, "_builtin_cmaps") else None


def _is_of_library(name: str) -> bool:
    """Whether a library that is imported registers a map of that name: it has one as an attribute."""
    base = name.removesuffix("_r").rpartition(".")[2]
    return any(hasattr(sys.modules[module], base) for module in _OF_COLOURS if module in sys.modules)
