"""Values and modules that are known to leave no trace in their process when they are used, by `traceless`."""

from __future__ import annotations

import sys
import sysconfig
import types
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from typing import Any

from lambdakernel.parallel import libraries, traceless
from lambdakernel.parallel.effects import MOST_VALUES

ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, bytearray, type(None), range, slice, type(Ellipsis), type(NotImplemented)}
)
CONTAINERS = (list, tuple, set, frozenset, deque)
DICTIONARIES = (dict, OrderedDict, defaultdict, Counter)
_MUTABLE = (list, dict, set, deque, bytearray, array)
_INSTANCES = frozenset(
    {
        ("datetime", "date"),
        ("datetime", "time"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("re", "Pattern"),
        ("array", "array"),
        ("pathlib", "PosixPath"),
        ("pathlib", "PurePosixPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "PurePosixPath"),
        ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"),
        ("re", "RegexFlag"),
        ("sys", "float_info"),
        ("sys", "version_info"),
    }
)
"""Classes whose instances hold nothing but what they show, and nothing of others."""
_PYTHONS = tuple({sysconfig.get_path(name).rstrip("/") + "/" for name in ("stdlib", "platstdlib")})
"""Where Python's library is, its extension modules in a folder of it."""


def libraries_in(items: Sequence[Any]) -> frozenset[str] | None:
    """Modules of libraries whose objects the items are, or hold; None if one holds what could reach code or variables
    of the notebook: all else than atoms, containers, arrays, and tables and objects of known libraries."""
    found = set[str]()
    is_known = ATOMS.issuperset(map(type, items)) or all(_is_passive(item, found) for item in items)
    return frozenset(found) if is_known else None


def _is_passive(value: Any, modules: set[str]) -> bool:
    """The same of one."""
    queue, left = [value], MOST_VALUES
    while queue:
        one = queue.pop()
        kind = type(one)
        if kind in ATOMS:
            continue
        if is_array(one):
            modules.add("numpy")
            continue
        if kind in (list, tuple, set, frozenset, dict):
            parts = [*one, *one.values()] if kind is dict else one
        elif (held := parts_of(one)) is not None:
            modules.add(libraries.home(kind.__module__))
            parts = held
        else:
            return False
        left -= len(parts)
        if left < 0:
            return False
        queue += [part for part in parts if type(part) not in ATOMS]
    return True


def installed_in(live: Mapping[str, Any]) -> list[str]:
    """Modules of the installation that the notebook has names for, or for parts of."""
    found: dict[str, None] = {}
    for value in list(live.values()):
        if type(value) is types.ModuleType:
            name = value.__name__
        elif type(value) in (type, types.FunctionType, types.BuiltinFunctionType):
            name = value.__module__
        else:
            name = type(value).__module__
        if isinstance(name, str) and libraries.is_installed(getattr(sys.modules.get(name), "__file__", None)):
            found[name] = None
    return list(found)


def parts_of(value: Any) -> list[Any] | None:
    """What a table of pandas, or an instance of another class of a known library, holds; None if it is none."""
    if not libraries.defines(type(value)):
        return None
    return libraries.objects_in(value) if libraries.is_table(value) else libraries.held_by(value)


def module_of_python(name: str) -> types.ModuleType | None:
    """The module, if it is there and comes with Python, or is a known library's; one that Python brings is imported."""
    if name not in sys.modules and not traceless.is_of_library(name):
        spec = PathFinder.find_spec(name.partition(".")[0])
        if name in sys.builtin_module_names or (spec is not None and is_pythons_file(spec.origin)):
            __import__(name)
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return None
    if name.startswith("kvs."):  # which is where we are
        return module
    if traceless.is_of_library(name):
        return module if "site-packages" in (found := str(module.__file__)) or "dist-packages" in found else None
    return module if is_pythons(module) else None


def shows_nowhere(module: types.ModuleType) -> bool:
    """Whether nobody can tell that it was imported: it comes with Python, or with a library that imports parts late."""
    return is_pythons(module) or libraries.is_brought(module)


def is_pythons(module: types.ModuleType) -> bool:
    """Whether it comes with Python."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    return origin in ("built-in", "frozen") or is_pythons_file(origin)


def is_pythons_file(path: object) -> bool:
    if not isinstance(path, str) or "site-packages" in path or "dist-packages" in path:
        return False
    return path.startswith(_PYTHONS)


def is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def is_built_in(kind: type) -> bool:
    return kind.__module__ == "builtins" and (kind.__name__ in traceless.BUILTINS or is_exception(kind))


def is_callable(value: Any) -> bool:
    """A function of a known module, in C or bound to the generator of all random numbers; or a function of arrays. Of
    any other value nothing but its type is asked: an attribute may be code of the notebook."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ufunc:
        return True
    kind = type(value)
    if kind in (types.BuiltinFunctionType, types.MethodType):
        owner = value.__self__
        if owner is None or type(owner) is types.ModuleType:
            module, name = str(getattr(value, "__module__", None) or "builtins"), str(value.__name__)
            return name in traceless.BUILTINS if module == "builtins" else traceless.allows(module, name)
        return any(owner is one for one in _generators()) and traceless.is_attribute(str(value.__name__))
    if kind.__name__ in ("_ArrayFunctionDispatcher", "cython_function_or_method"):
        return traceless.allows(str(value.__module__), str(value.__name__))
    return False


def is_open(function: types.FunctionType) -> bool:
    """Whether it is what IPython has put in the place of `open`: it refuses the shell's own streams, and no more."""
    home = function.__globals__.get("__name__")
    return home == "IPython.core.interactiveshell" and function.__code__.co_name == "_modified_open"


def _generators() -> Iterator[object]:
    """Those of `random` and `numpy.random`, which begin anew with each item."""
    for module, name in (("random", "_inst"), ("numpy.random.mtrand", "_rand")):
        if module in sys.modules:
            yield getattr(sys.modules[module], name, None)


def is_array(value: Any) -> bool:
    """An array or a number of numpy's, that holds no objects."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return False
    if isinstance(value, numpy.dtype):
        return not value.hasobject
    is_theirs = type(value) is numpy.ndarray or (isinstance(value, numpy.generic) and _is_of_numpy(type(value)))
    return is_theirs and not value.dtype.hasobject


def _is_of_numpy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "numpy"


def can_change(value: Any) -> bool:
    """Whether it is something that holds others, and that can be changed in place."""
    numpy: Any = sys.modules.get("numpy")
    return isinstance(value, _MUTABLE) or (numpy is not None and isinstance(value, numpy.ndarray))


def is_instance(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) in _INSTANCES
