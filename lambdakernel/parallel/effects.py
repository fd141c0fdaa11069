"""Whether it may be noticed outside that a body runs twice: what it writes, sends or starts.

Theory of operation
- The code of the body is walked, and that of every function and class of the notebook that it names, as Python will run
  it (its bytecode): each global name, each attribute and each import is looked up in tables of what is harmless.
- What a name stands for now is asked of the notebook. A container is looked into; an instance is as harmless as its
  class. What comes out of harmless calls is harmless: so names that the body itself assigns are.
- Everything unknown counts as an effect: a module that no table has, a file, a client, an object of a class from
  elsewhere, too much to look at. A body without any effect may be taken for one with some, and not the other way round.
- What a task prints and displays is ours to keep or drop, so it is no effect. Joins into a `Live` are none where a
  second one changes nothing; a counter that counts in two attempts which see different things would.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvs.lattices import Lattice
from lambdakernel.live import Live
from lambdakernel.parallel import harmless
from lambdakernel.parallel.reading import Imported, Reading, Use

MOST_CODES = 300
"""Functions that are looked into; a library that is reached by its source has more."""
MOST_VALUES = 200_000
"""Elements of containers that are looked at."""
_ATOMS = (
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    bytearray,
    type(None),
    range,
    slice,
    type(Ellipsis),
    type(NotImplemented),
)
_CONTAINERS = (list, tuple, set, frozenset, deque)
_JOINS_AGAIN = frozenset({"max", "min", "bool_or", "grow_set", "map", "pair", "top_k", "hyperloglog", "union_find"})
"""Tags of lattices in which a second writer of the same changes nothing, whatever else each of them has seen."""
_CYTHON = "cython_function_or_method"
"""The class of functions that Cython has compiled, of which there is one in each such library."""
_MISSING = object()


class _Effect(Exception):
    """There may be one; the text says where."""


def effect_of(
    code: types.CodeType, bound: Iterable[str], live: Mapping[str, Any], load: Callable[[str], object], items: object
) -> str:
    """What of a body may reach outside, for a person; empty if nothing does.

    `bound` are the names that the loop binds to `items`, `live` the notebook's variables; `load(name)` brings one that
    is in the store alone.
    """
    look = _Look(load)
    try:
        look.value(items, "an item")
        read = Reading(code)
        look.code(read, live, frozenset({*bound, *read.stored()}))
    except _Effect as e:
        return str(e)
    except Exception as e:  # the user's own `__getattr__` or `__setstate__`, or a container that a thread changes
        return f"it cannot be looked at: {type(e).__name__}: {e}"
    return ""


class _Look:
    """One look at a body."""

    def __init__(self, load: Callable[[str], object]) -> None:
        self._load = load
        self._seen: dict[int, object] = {}
        """By identity; held, so that no other object gets it."""
        self._codes: list[types.CodeType] = []
        self._values = 0

    # -- code

    def code(
        self,
        read: Reading,
        scope: Mapping[str, Any],
        own: frozenset[str] = frozenset(),
        outer: Mapping[str, Imported] = types.MappingProxyType({}),
    ) -> None:
        """Code whose global names are in `scope`, or are its `own`; `outer` are imports of the code around it.

        Raises:
            _Effect: it may reach outside.
        """
        code = read.code
        if id(code) in self._seen:
            return
        self._seen[id(code)] = code
        if len(self._codes) >= MOST_CODES:
            raise _Effect("it reaches more functions than are looked into")
        self._codes.append(code)
        imports = {**outer, **read.imports()}
        for imported in imports.values():
            self._imported(f"line {code.co_firstlineno}", imported)
        for use in read.uses():
            self._use(use, scope, own, imports)
        for inner in read.inner:
            self.code(inner, scope, own, imports)

    def _imported(self, where: str, imported: Imported) -> None:
        if not harmless.is_module(imported.module) and imported.module not in harmless.PARTLY:
            raise _Effect(f"{where} imports {imported.module}")

    def _use(self, use: Use, scope: Mapping[str, Any], own: frozenset[str], imports: Mapping[str, Imported]) -> None:
        for name in use.attributes:
            if not harmless.is_name(name):
                raise _Effect(f"line {use.line} uses .{name}")
        if (imported := imports.get(use.name)) is not None:
            self._module(f"line {use.line}", imported.module, [*imported.part, *use.attributes])
        elif use.is_global:
            self._global(use, scope, own)

    def _global(self, use: Use, scope: Mapping[str, Any], own: frozenset[str]) -> None:
        if use.name in harmless.BUILTINS:
            raise _Effect(f"line {use.line} uses {use.name}")
        if use.name not in scope:
            self._load(use.name)
        value = scope.get(use.name, _MISSING)
        if isinstance(value, types.ModuleType):
            self._module(f"line {use.line}", value.__name__, use.attributes)
        elif value is not _MISSING:
            self.value(value, f"line {use.line}: {use.name}")
        elif use.name not in own and not hasattr(builtins, use.name):
            raise _Effect(f"line {use.line} uses {use.name}, which is not known")

    def _module(self, where: str, name: str, attributes: list[str]) -> None:
        """What is asked of a module: followed through modules in it, to a value."""
        value: Any = sys.modules.get(name)
        for attribute in attributes:
            if name in harmless.PARTLY:
                if attribute not in harmless.PARTLY[name]:
                    raise _Effect(f"{where} uses {name}.{attribute}")
                return
            if not harmless.is_module(name) or not harmless.is_name(attribute):
                raise _Effect(f"{where} uses {name}.{attribute}")
            value = getattr(value, attribute, None)
            if not isinstance(value, types.ModuleType):
                return self.value(value, f"{where}: {name}.{attribute}")
            name = value.__name__
        if not harmless.is_module(name):
            raise _Effect(f"{where} uses the module {name}")
        return None

    # -- values

    def value(self, value: Any, where: str) -> None:
        """Raises:
        _Effect: it may reach outside when it is used.
        """
        kind = type(value)
        if kind in _ATOMS or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        match value:
            case Live():
                self._lattice(value._lattice, where)
            case Lattice():
                return
            case types.FunctionType():
                self._function(value, where)
            case types.MethodType():
                self.value(value.__func__, where)
                self.value(value.__self__, where)
            case functools.partial():
                self.values([value.func, *value.args, *value.keywords.values()], where)
            case types.BuiltinFunctionType():
                self._built_in(value, where)
            case type():
                self._class(value, where)
            case _ if kind.__name__ == _CYTHON:
                if not harmless.is_module(str(value.__module__)):
                    raise _Effect(f"{where} is of {value.__module__}")
            case _ if isinstance(value, _CONTAINERS):
                self._kind(kind, where)
                self.values(value, where)
            case dict():
                self._kind(kind, where)
                self.value(getattr(value, "default_factory", None), where)
                self.values(value.keys(), where)
                self.values(value.values(), where)
            case _:
                self._instance(value, where)

    def values(self, values: Any, where: str) -> None:
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise _Effect(f"{where} holds more than is looked at")
        if not set(map(type, values)).issubset(_ATOMS):
            for value in list(values):
                self.value(value, where)

    def _kind(self, kind: type, where: str) -> None:
        """Of a container: its class may be one of the notebook's."""
        if kind.__module__ != "builtins":
            self.value(kind, where)

    def _lattice(self, lattice: Lattice, where: str) -> None:
        if lattice.tag not in _JOINS_AGAIN:
            raise _Effect(f"{where} is a Live {type(lattice).__name__}, in which a second attempt would count too")

    def _function(self, function: types.FunctionType, where: str) -> None:
        # of its globals, and not what `functools.wraps` has said of it
        home = str(function.__globals__.get("__name__"))
        if harmless.is_module(home):
            return
        if function.__globals__.get("__package__"):
            raise _Effect(f"{where} is of {home}")
        for cell in function.__closure__ or ():
            if cell.cell_contents is not function:
                self.value(cell.cell_contents, where)
        self.values([*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()], where)
        self.code(Reading(function.__code__), function.__globals__)

    def _built_in(self, function: types.BuiltinFunctionType, where: str) -> None:
        owner = function.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            module = function.__module__ or "builtins"
            if not harmless.is_module(module) or function.__name__ in harmless.BUILTINS:
                raise _Effect(f"{where} is {module}.{function.__name__}")
        else:
            self.value(owner, where)

    def _class(self, kind: type, where: str) -> None:
        for cls in kind.__mro__:
            if harmless.is_module(cls.__module__) and harmless.is_name(cls.__name__):
                continue
            if cls.__module__ != "__main__":
                raise _Effect(f"{where} is of {cls.__module__}.{cls.__qualname__}")
            for member in vars(cls).values():
                self._member(member, where)

    def _member(self, member: Any, where: str) -> None:
        match member:
            case staticmethod() | classmethod():
                self.value(member.__func__, where)
            case property():
                self.values([member.fget, member.fset, member.fdel], where)
            case functools.cached_property():
                self.value(member.func, where)
            case types.GetSetDescriptorType() | types.MemberDescriptorType() | types.WrapperDescriptorType():
                return
            case _:
                self.value(member, where)

    def _instance(self, value: Any, where: str) -> None:
        self._class(type(value), where)
        self.values(getattr(value, "__dict__", {}).values(), where)
