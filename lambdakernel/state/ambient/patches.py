"""What a notebook puts into modules and classes of libraries: `pandas.DataFrame.head2 = f`, `settings.DEBUG = True`.

Theory of operation
- Code says where it puts something: a cell's syntax tree has the dotted name of each attribute that it assigns or
  deletes (`reach.Reach.stores`). Of these, the ones that lead to a module which is imported by its name, or to a class
  in one, are *places*: from then on what is there is kept, whoever put it there.
- What was there before stays what it is for variables that refer to it: `real = time.sleep` (`fixtures.Originals`).
- A library that adds attributes to the classes of pandas on a cell's behalf (an accessor, `tqdm.pandas()`) is seen by
  the classes' size: what is in them and is not of pandas was added.
- Maps of colours, and functions that say how a type is copied and pickled, are registered.
- All is brought back before the first cell, since code of a library may meet it, too: the library is imported for that.
"""

from __future__ import annotations

import copyreg
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from types import ModuleType
from typing import Any, NamedTuple

from lambdakernel.state.ambient.held import Held, Steady
from lambdakernel.state.fixtures import Originals

_OTHERS = frozenset({
    "sys.argv", "sys.path", "sys.stdout", "sys.stderr", "sys.stdin", "sys.last_value", "sys.last_type",
    "sys.last_traceback", "sys.last_exc", "os.environ", "builtins._", "matplotlib.rcParams", "logging.raiseExceptions",
})  # fmt: skip
"""Kept by items of their own, or each worker's."""
_ABSENT, _UNKNOWN = object(), object()


class Place(NamedTuple):
    """An attribute of a module, or of a class in one."""

    module: str
    qualname: str
    """Of the class; empty for the module itself."""
    attribute: str

    def __str__(self) -> str:
        return ".".join(filter(None, self))

    def owner(self) -> Any:
        """The module or the class, imported if it is not.

        Raises:
            ImportError, AttributeError: there is none.
        """
        found: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for part in filter(None, self.qualname.split(".")):
            found = getattr(found, part)
        return found


class Patches(Held):
    """See the module."""

    name = "patch"

    def __init__(self) -> None:
        self.originals = Originals()
        """What libraries had in these places, for what refers to it."""
        self._places: dict[str, Place] = {}
        self._later: set[str] = set()
        """Places in libraries that are not imported here yet."""
        self._before: dict[str, Any] = {}
        """What was in a place before the notebook put something there; `_ABSENT` where nothing was, `_UNKNOWN` if the
        same cell imported the library."""

    def notice(self, stores: Iterable[tuple[str, ...]], names: Mapping[str, Any], *, ran: bool) -> None:
        for path in stores:
            place = _place(path, names)
            if place is not None and str(place) not in _OTHERS:
                self._know(_key(place), place, _UNKNOWN if ran else _content(place))

    def _know(self, key: str, place: Place, before: Any) -> None:
        if key not in self._places:
            self._places[key], self._before[key] = place, before
            if before is not _ABSENT and before is not _UNKNOWN:
                self.originals.keep(str(place), before)

    @property
    def keys(self) -> frozenset[str]:
        """All places that are known, by key."""
        return frozenset(self._places) | self._later

    def learn(self, keys: Set[str]) -> None:
        """Places that other workers have come to know, where nothing was put in this process yet."""
        self._later.update(keys - self._places.keys())
        self._look_up(_content)

    def _look_up(self, before: Callable[[Place], Any]) -> None:
        for key in [key for key in self._later if _place_of(key).module in sys.modules]:
            self._later.remove(key)
            self._know(key, _place_of(key), before(_place_of(key)))

    def capture(self) -> Mapping[str, Any]:
        if self._later:
            self._look_up(lambda _: _UNKNOWN)
        found = {}
        for key, place in self._places.items():
            value = _content(place)
            if value is not _ABSENT and value is not self._before[key]:
                found[key] = value
        return found

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        failed: dict[str, Exception] = {}
        for key in self.capture().keys() - values.keys():
            if self._before[key] is not _UNKNOWN:
                _put(self._places[key], self._before[key])
        for key, value in values.items():
            place = _place_of(key)
            try:
                place.owner()
                self._know(key, place, _content(place))
                if _content(place) is not value:
                    _put(place, value)
            except Exception as e:  # the library is gone, or refuses it
                failed[key] = e
        return failed


class Places:
    """Which attributes are watched: a function that puts something there may run in any worker. An `Ambient`."""

    name = "patch.places"

    def __init__(self, patches: Patches) -> None:
        self._patches = patches

    def capture(self) -> Any:
        return self._patches.keys or None

    def restore(self, value: Any) -> None:
        self._patches.learn(value)


def _key(place: Place) -> str:
    return " ".join(filter(None, place))


def _place_of(key: str) -> Place:
    module, *qualname, attribute = key.split(" ")
    return Place(module, "".join(qualname), attribute)


def _place(path: tuple[str, ...], live: Mapping[str, Any]) -> Place | None:
    """Where a dotted name leads to, found without running code: what is no module and no class ends the way."""
    *way, attribute = path
    owner = live.get(way[0])
    for part in way[1:]:
        if not isinstance(owner, ModuleType | type):
            return None
        owner = vars(owner).get(part)
    if isinstance(owner, ModuleType):
        is_found = owner.__spec__ is not None and sys.modules.get(owner.__name__) is owner  # by whoever imports it
        return Place(owner.__name__, "", attribute) if is_found and owner.__name__ != "__main__" else None
    return _place_in_class(owner, attribute) if isinstance(owner, type) else None


def _place_in_class(owner: type, attribute: str) -> Place | None:
    found: Any = sys.modules.get(owner.__module__) if owner.__module__ != "__main__" else None
    for part in owner.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return Place(owner.__module__, owner.__qualname__, attribute) if found is owner else None


def _content(place: Place) -> Any:
    """What is there now; `_ABSENT` if there is nothing, or the library is not imported."""
    module = sys.modules.get(place.module)
    found: Any = module
    for part in filter(None, place.qualname.split(".")):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return _ABSENT if found is None else vars(found).get(place.attribute, _ABSENT)


def _put(place: Place, value: Any) -> None:
    if value is _ABSENT:
        delattr(place.owner(), place.attribute)
    else:
        setattr(place.owner(), place.attribute, value)


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
