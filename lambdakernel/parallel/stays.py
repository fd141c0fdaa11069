"""Whether a process that ran the body of a fan-out for one item may run it for another: what the text shows of it.

Theory of operation
- Tasks run the same body. So a trace in the process matters only if this very body, or a function that it calls, can
  leave it and see it. The code of the body and of the notebook's functions is walked as Python will run it, and all
  that it names must be known to do neither (`traceless`). What is not known has a process for each item.
- Nothing sets an attribute, defines a class, or holds a module as a value: so no module, class or function can change.
  No generator has anything to do when it is thrown away. No variable of the notebook has a finalizer, or a cache.
- A variable of the notebook that the body changes in place is an error of that task (`LostUpdate`), after which its
  process is not used again. That is not looked for in a name that the body binds itself: so the names are found out
  whose value of the notebook could be met by the body, or by a function of the notebook, all the same.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from typing import Any

import msgspec

from lambdakernel.parallel import traceless
from lambdakernel.parallel.effects import MOST_CODES, MOST_VALUES, Use, imports_of, stored_by, uses_of

ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, bytearray, type(None), range, slice, type(Ellipsis), type(NotImplemented)}
)
_CONTAINERS = (list, tuple, set, frozenset, deque)
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
        ("re", "RegexFlag"),
        ("sys", "float_info"),
        ("sys", "version_info"),
    }
)
"""Classes whose instances hold nothing but what they show, and nothing of others."""
_REFUSED = frozenset({"STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS", "IMPORT_STAR", "MATCH_CLASS"})
_COROUTINES = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
MOST_LOOKED = 5000
"""Values, other than atoms, that are looked at: as many as take some milliseconds, which every fan-out waits for."""
_MISSING = object()


class Stays(msgspec.Struct, frozen=True):
    """What a walk over a body has found. `why` is empty if a process may be used again; else it says what is not known
    of the body. `met` are the names by which it may meet values of the notebook."""

    why: str
    met: frozenset[str] = frozenset()


NEVER = Stays("nobody has looked")


class _Unknown(Exception):
    """The text says what."""


def stays(tree: ast.Module, target: str, bound: Iterable[str], live: Mapping[str, Any]) -> Stays:
    """Of the body `tree`, for items that are bound to `target`, in a notebook with the variables `live`."""
    names = frozenset(bound)
    try:
        if target and not all(isinstance(node, _TARGETS) for node in ast.walk(ast.parse(f"{target} = 0").body[0])):
            raise _Unknown(f"it binds {target}")
        code = compile(tree, "<body>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        walk = _Walk(live, names | frozenset(stored_by(code)))
        walk.code(code)
    except _Unknown as e:
        return Stays(str(e))
    except (RecursionError, ValueError, LookupError, TypeError) as e:  # nested too deeply, or odd in another way
        return Stays(f"it cannot be looked at: {type(e).__name__}: {e}")
    return Stays("", frozenset(walk.met) | (_met_at_top(tree) - names))


_TARGETS = (ast.Assign, ast.Name, ast.Tuple, ast.List, ast.Starred, ast.Constant, ast.expr_context)


def is_passive(value: Any) -> bool:
    """Whether an item holds nothing that could reach code or variables of the notebook: atoms, containers, arrays."""
    queue, left = [value], MOST_VALUES
    while queue:
        one = queue.pop()
        kind = type(one)
        if kind in ATOMS or _is_array(one):
            continue
        if kind not in (list, tuple, set, frozenset, dict):
            return False
        left -= len(one)
        if left < 0:
            return False
        queue += [part for part in ([*one, *one.values()] if kind is dict else one) if type(part) not in ATOMS]
    return True


class _Walk:
    """One walk. `met` are global names that functions read, so that their value may be the notebook's."""

    def __init__(self, live: Mapping[str, Any], own: frozenset[str]) -> None:
        self.met: set[str] = set()
        self._live = live
        self._own = own
        """Names that the body binds: what comes out of known things is known."""
        self._seen: dict[int, object] = {}
        """By identity; held, so that no other object gets it."""
        self._codes = self._values = 0

    # -- code

    def code(self, code: types.CodeType, outer: Mapping[str, Any] = types.MappingProxyType({})) -> None:
        """Raises:
        _Unknown: it may leave a trace, or see one.
        """
        if id(code) in self._seen:
            return
        self._seen[id(code)] = code
        self._codes += 1
        if self._codes > MOST_CODES:
            raise _Unknown("it reaches more functions than are looked into")
        _refuse_instructions(code)
        for name in _imported_by(code):
            if not traceless.is_module(name) or _of_python(name) is None:
                raise _Unknown(f"line {code.co_firstlineno} imports {name}")
        imports = {**outer, **imports_of(code)}
        for use in uses_of(code):
            where = f"line {use.line}"
            for name in use.attributes:
                if not traceless.is_attribute(name):
                    raise _Unknown(f"{where} uses .{name}")
            if use.name in imports:
                imported = imports[use.name]
                self._module(where, imported.module, [*imported.part, *use.attributes])
            elif use.is_global:
                self._global(use)
        _refuse_modules_in_pairs(code, imports)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self.code(inner, imports)

    def _global(self, use: Use) -> None:
        where, value = f"line {use.line}", self._live.get(use.name, _MISSING)
        if isinstance(value, types.ModuleType):
            self._module(where, value.__name__, use.attributes)
        elif value is not _MISSING:
            self.value(value, f"{where}: {use.name}")
        elif hasattr(builtins, use.name):
            built_in = getattr(builtins, use.name)
            if use.name not in traceless.BUILTINS and not _is_exception(built_in):
                raise _Unknown(f"{where} uses {use.name}")
            self.value(built_in, f"{where}: {use.name}")
        elif use.name not in self._own:
            raise _Unknown(f"{where} uses {use.name}, which is not known")

    def _module(self, where: str, name: str, attributes: list[str]) -> None:
        """What is asked of a module: a function, a class or an atom that is known. A module itself is no value."""
        said = name
        for n, attribute in enumerate(attributes):
            if not traceless.allows(name, attribute):
                raise _Unknown(f"{where} uses {said}.{attribute}")
            module = _of_python(name)
            if module is None:
                raise _Unknown(f"{where} uses {said}, which is not Python's own")
            value = getattr(module, attribute, None)
            if not isinstance(value, types.ModuleType):
                if value is not sys.stdout and value is not sys.stderr:
                    self.value(value, f"{where}: {said}.{attribute}")
                return
            said = f"{said}.{attribute}"
            name = said if traceless.is_module(said) else value.__name__
            if not traceless.is_module(name) or n == len(attributes) - 1:
                break
        raise _Unknown(f"{where} uses the module {said}")

    # -- values

    def value(self, value: Any, where: str) -> None:
        """Raises:
        _Unknown: it may leave a trace when it is used, or see one.
        """
        kind = type(value)
        if kind in ATOMS or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if len(self._seen) > MOST_LOOKED:
            raise _Unknown(f"{where} holds more than is looked into")
        if kind in _CONTAINERS:
            self._all(value, where)
        elif kind is dict:
            self._all(value.keys(), where)
            self._all(value.values(), where)
        elif kind is types.FunctionType:
            self._function(value, where)
        elif kind is functools.partial:
            self._all([value.func, *value.args, *value.keywords.values()], where)
        elif isinstance(value, type):
            if not (traceless.allows(value.__module__, value.__qualname__) or _is_built_in(value)):
                raise _Unknown(f"{where} is {value.__module__}.{value.__qualname__}")
        elif not (_is_known_callable(value) or _is_array(value) or _is_instance(kind)):
            raise _Unknown(f"{where} is of {kind.__module__}.{kind.__qualname__}")

    def _all(self, values: Any, where: str) -> None:
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise _Unknown(f"{where} holds more than is looked at")
        if not ATOMS.issuperset(map(type, values)):
            for value in list(values):
                self.value(value, where)

    def _function(self, function: types.FunctionType, where: str) -> None:
        if function.__globals__ is not self._live:
            # of its globals, and not what `functools.wraps` has said of it
            home, name = str(function.__globals__.get("__name__")), function.__code__.co_name
            if home.startswith("numpy."):
                home, name = str(function.__module__), function.__name__
            if not traceless.allows(home, name):
                raise _Unknown(f"{where} is {home}.{name}")
            return
        if function.__dict__:
            raise _Unknown(f"{where} has attributes")
        self._all([*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()], where)
        for cell in function.__closure__ or ():
            try:
                self.value(cell.cell_contents, where)
            except ValueError:  # it is empty yet
                continue
        self.met.update(use.name for use in _all_uses(function.__code__) if use.is_global)
        self.code(function.__code__)


def _all_uses(code: types.CodeType) -> Iterator[Use]:
    yield from uses_of(code)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _all_uses(inner)


def _refuse_instructions(code: types.CodeType) -> None:
    """Raises:
    _Unknown: it does what no code of such a body may.
    """
    if code.co_flags & _COROUTINES:
        raise _Unknown(f"line {code.co_firstlineno} awaits")
    refused = _REFUSED | {"PUSH_EXC_INFO"} if code.co_flags & inspect.CO_GENERATOR else _REFUSED
    for instruction in dis.get_instructions(code):
        if instruction.opname in refused or "IMPORT_STAR" in instruction.argrepr:
            line = instruction.positions.lineno if instruction.positions else code.co_firstlineno
            raise _Unknown(f"line {line}: {instruction.opname}")


def _imported_by(code: types.CodeType) -> Iterator[str]:
    """Modules, whether or not a name of them is used."""
    return (str(one.argval) for one in dis.get_instructions(code) if one.opname == "IMPORT_NAME")


def _refuse_modules_in_pairs(code: types.CodeType, imports: Mapping[str, Any]) -> None:
    """Of instructions that load two names at once, only the second is a `Use`."""
    for instruction in dis.get_instructions(code):
        names = instruction.argval if isinstance(instruction.argval, tuple) else ()
        if instruction.opname.startswith(("LOAD_FAST", "STORE_FAST")) and not imports.keys().isdisjoint(names):
            raise _Unknown(f"it uses the module {instruction.argval}")


def _of_python(name: str) -> types.ModuleType | None:
    """The module, if it is there and comes with Python, or is numpy's; one that Python brings is imported."""
    if name not in sys.modules and not traceless.is_numpy(name):
        spec = PathFinder.find_spec(name.partition(".")[0])
        if name in sys.builtin_module_names or (spec is not None and is_pythons_file(spec.origin)):
            __import__(name)
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return None
    if traceless.is_numpy(name):
        return module if "site-packages" in (found := str(module.__file__)) or "dist-packages" in found else None
    return module if is_pythons(module) else None


def is_pythons(module: types.ModuleType) -> bool:
    """Whether it comes with Python."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    return origin in ("built-in", "frozen") or is_pythons_file(origin)


def is_pythons_file(path: object) -> bool:
    if not isinstance(path, str) or "site-packages" in path or "dist-packages" in path:
        return False
    return path.startswith(_PYTHONS)


_PYTHONS = tuple(
    {sysconfig.get_path(name).rstrip("/") + "/" for name in ("stdlib", "platstdlib")}
)  # extension modules are in a folder of it


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _is_built_in(kind: type) -> bool:
    return kind.__module__ == "builtins" and (kind.__name__ in traceless.BUILTINS or _is_exception(kind))


def _is_known_callable(value: Any) -> bool:
    """A function of a known module, in C or bound to the generator of all random numbers; or a function of arrays."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ufunc:
        return True
    name = str(getattr(value, "__name__", ""))
    if isinstance(value, (types.BuiltinFunctionType, types.MethodType)):
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            module = str(getattr(value, "__module__", None) or "builtins")
            return name in traceless.BUILTINS if module == "builtins" else traceless.allows(module, name)
        return any(owner is one for one in _generators()) and traceless.is_attribute(name)
    if type(value).__name__ in ("_ArrayFunctionDispatcher", "cython_function_or_method"):
        return traceless.allows(str(value.__module__), name)
    return False


def _generators() -> Iterator[object]:
    """Those of `random` and `numpy.random`, which begin anew with each item."""
    for module, name in (("random", "_inst"), ("numpy.random.mtrand", "_rand")):
        if module in sys.modules:
            yield getattr(sys.modules[module], name, None)


def _is_array(value: Any) -> bool:
    """An array or a number of numpy's, that holds no objects."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return False
    if type(value) is numpy.ndarray:
        return not value.dtype.hasobject
    return isinstance(value, (numpy.generic, numpy.dtype)) and type(value).__module__.startswith("numpy")


def _is_instance(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) in _INSTANCES


# -- names that are bound before they are read


def _met_at_top(tree: ast.Module) -> set[str]:
    """Names that the body may read before it has bound them itself. Only a statement that is run for sure binds for
    sure: where one fails, the task has failed, too."""
    sure, met = set[str](), set[str]()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                met |= _named(value) - sure
                for target in targets:
                    if all(isinstance(node, _TARGETS) for node in ast.walk(target)):
                        sure |= _named(target) - met
                    else:
                        met |= _named(target) - sure
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                sure |= {alias.asname or alias.name.partition(".")[0] for alias in names} - met
            case ast.FunctionDef(name=name, decorator_list=[]):
                defaults = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
                met |= set().union(*map(_named, defaults)) - sure
                sure |= {name} - met
                met |= _named(statement) - sure
            case _:
                met |= _named(statement) - sure
    return met


def _named(node: ast.AST) -> set[str]:
    """Every name in it, however it is used."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} | {
        name for one in ast.walk(node) if isinstance(one, ast.Global) for name in one.names
    }
