"""What a notebook puts into modules and classes of libraries: `pandas.DataFrame.head2 = f`, `settings.DEBUG = True`.

Theory of operation
- Code says where it puts something: a cell's syntax tree has the dotted name of each attribute that it assigns or
  deletes (`reach.Reach.stores`). Of these, the ones that lead to a module which is imported by its name, to a class in
  one, or to an object that a library keeps in one (`mpmath.mp.dps = 30`), are *places*: from then on what is there is
  kept, whoever put it there.
- Of the user's own modules, the globals that their functions change are places, too (`own`).
- What was there before stays what it is for variables that refer to it: `real = time.sleep` (`fixtures.Originals`).
- All is brought back before the first cell, since code of a library may meet it, too: the library is imported for that.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from types import ModuleType
from typing import Any, NamedTuple

from lambdakernel.state.ambient.held import Held
from lambdakernel.state.ambient.own import OwnModules
from lambdakernel.state.fixtures import Originals

_OTHERS = frozenset({
    "sys.argv", "sys.path", "sys.stdout", "sys.stderr", "sys.stdin", "sys.last_value", "sys.last_type",
    "sys.last_traceback", "sys.last_exc", "os.environ", "builtins._", "matplotlib.rcParams", "logging.raiseExceptions",
})  # fmt: skip
"""Kept by items of their own, or each worker's."""
_ABSENT, _UNKNOWN = object(), object()


class Place(NamedTuple):
    """An attribute of a module, or of a class or an object in one."""

    module: str
    qualname: str
    """Of the class or the object; empty for the module itself."""
    attribute: str

    def __str__(self) -> str:
        return ".".join(filter(None, self))

    def owner(self) -> Any:
        """The module, the class or the object, imported if it is not.

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
        self._own = OwnModules(os.getcwd())
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
        for module, attribute in self._own.new():
            place = Place(module, "", attribute)
            self._know(_key(place), place, _UNKNOWN)
        found = {}
        for key, place in self._places.items():
            value = _content(place)
            if value is not _ABSENT and not _is_same(value, self._before[key]):
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


def _place(path: tuple[str, ...], names: Mapping[str, Any]) -> Place | None:
    """Where a dotted name leads to; None if no library has it. No code of what is on the way runs."""
    first, *way, attribute = path
    owner = names.get(first)
    home = _home_of(owner)
    for part in way:
        owner = vars(owner).get(part) if isinstance(owner, ModuleType | type) else None
        home = _home_of(owner) or (_below(home, part) if home is not None and _is_of(owner, home.module) else None)
    return home._replace(attribute=attribute) if home is not None else None


def _below(home: Place, part: str) -> Place:
    return home._replace(qualname=".".join(filter(None, (home.qualname, part))))


def _is_of(owner: object, module: str) -> bool:
    """Whether an object that a module has is of the same library, and its to change."""
    return _package(type(owner)) == module.partition(".")[0]


def _home_of(owner: object) -> Place | None:
    """The place of a module, of a class in one, or of an object that a library keeps under a name of its package."""
    if isinstance(owner, ModuleType):
        is_found = getattr(owner, "__spec__", None) is not None and sys.modules.get(owner.__name__) is owner
        return Place(owner.__name__, "", "") if is_found and owner.__name__ != "__main__" else None
    if isinstance(owner, type):
        return _home_of_class(owner)
    package = _package(type(owner))
    if package in ("", "builtins", "__main__"):
        return None
    for module in filter(None, map(sys.modules.get, (package, type(owner).__module__))):
        name = next((name for name, value in [*vars(module).items()] if value is owner), "")
        if name:
            return Place(module.__name__, name, "")
    return None


def _home_of_class(owner: type) -> Place | None:
    found: Any = sys.modules.get(owner.__module__) if owner.__module__ != "__main__" else None
    for part in owner.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return Place(owner.__module__, owner.__qualname__, "") if found is owner else None


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def _content(place: Place) -> Any:
    """What is there now; `_ABSENT` if there is nothing, or the library is not imported."""
    found: Any = sys.modules.get(place.module)
    for part in filter(None, place.qualname.split(".")):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    if isinstance(found, ModuleType | type):
        return vars(found).get(place.attribute, _ABSENT)
    try:
        return _ABSENT if found is None else getattr(found, place.attribute, _ABSENT)
    except Exception:  # a property of the library
        return _ABSENT


def _is_same(value: Any, before: Any) -> bool:
    return value is before or (type(value) is type(before) and type(value) in _ATOMS and value == before)


_ATOMS = (int, float, bool, str, bytes)


def _put(place: Place, value: Any) -> None:
    if value is _ABSENT:
        delattr(place.owner(), place.attribute)
    else:
        setattr(place.owner(), place.attribute, value)
