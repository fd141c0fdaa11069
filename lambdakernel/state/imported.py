"""What every process has that imports the same: modules, and functions in C."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from cloudpickle import cloudpickle as cp

dict_of_module: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]
_mro_of: Any = type.__dict__["__mro__"].__get__


def is_under(cls: type, base: type) -> bool:
    """As `issubclass`, without asking anybody."""
    return any(above is base for above in _mro_of(cls))


def are_of_module(globals_: dict[str, Any]) -> bool:
    name = globals_.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return is_under(type(module), types.ModuleType) and dict_of_module(module) is globals_


def is_made_by_hand(name: str, module: object) -> bool:
    """Whether what `sys.modules` has under `name` is a module that nothing was imported for."""
    if type(module) is not types.ModuleType or "." in name or name in _MAIN:
        return False
    content = dict_of_module(module)
    return content.get("__spec__") is None and "__file__" not in content


_MAIN = ("__main__", "__mp_main__")


def is_of_process(obj: object) -> bool:
    """An imported module, or a function in C that belongs to no object: every process has the same."""
    kind = type(obj)  # a proxy would be asked what it stands for, and may be dead
    if is_under(kind, types.ModuleType):
        name = (dict_of_module(obj) or {}).get("__name__")
        return type(name) is str and sys.modules.get(name) is obj and not is_made_by_hand(name, obj)
    if kind is not types.BuiltinFunctionType:
        return False
    owner = obj.__self__  # type: ignore[attr-defined]
    return owner is None or is_under(type(owner), types.ModuleType) or is_under(type(owner), type)


def is_by_name(obj: Any) -> bool:
    """Whether a class or function is found where its module and name say, so that those stand for it.

    A library may name a module of its own that nothing imported so far (`numpy.rec` for `numpy.recarray`): it is
    imported here, as it would be where the name is read.
    """
    name = getattr(obj, "__module__", None)
    if type(name) is str and name not in sys.modules and name.partition(".")[0] in sys.modules:
        try:
            importlib.import_module(name)
        except Exception:  # whatever it raises: nothing can be found there
            return False
    return bool(cp._should_pickle_by_reference(obj))
