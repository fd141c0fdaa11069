"""Whether a process that ran the body of a fan-out for one item may run it for another: what the text shows of it.

Theory of operation
- Tasks run the same body. So a trace in the process matters only if this very body, or a function that it calls, can
  leave it and see it. The code of the body and of the notebook's functions is walked as Python will run it, and all
  that it names must be known to do neither (`traceless`). What is not known has a process for each item.
- Nothing defines a class, holds a module as a value, or sets an attribute, but for methods, which set those of their
  instance: so no module, class or function can change unseen. No generator has anything to do when it is thrown away.
  No variable of the notebook has a finalizer, or a cache.
- A variable of the notebook that the body changes in place is an error of that task (`LostUpdate`), after which its
  process is not used again. That is not looked for in a name that the body binds itself: so the names are found out
  whose value of the notebook could be met by the body, or by a function of the notebook, all the same.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lambdakernel.live import Live
from lambdakernel.parallel import classes, libraries, traceless
from lambdakernel.parallel.effects import MOST_CODES, MOST_VALUES
from lambdakernel.parallel.known import (
    ATOMS,
    CONTAINERS,
    DICTIONARIES,
    can_change,
    is_array,
    is_built_in,
    is_callable,
    is_exception,
    is_instance,
    is_open,
    module_of_python,
    parts_of,
)
from lambdakernel.parallel.met import is_of_names, met_by
from lambdakernel.parallel.reading import Reading, Use

_REFUSED = frozenset({"STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS", "IMPORT_STAR", "MATCH_CLASS"})
_ITEM = "an item"
_OF_PROCESS = ("/proc", "/dev/fd")
_COROUTINES = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
MOST_LOOKED = 5000
"""Values, other than atoms, that are looked at: as many as take some milliseconds, which every fan-out waits for."""
MOST_LOOKED_OF_ITEM = 20
"""More for each item that holds code or objects: a look at one takes a fraction of what its own process would."""
_MISSING = object()


class Stays(msgspec.Struct, frozen=True):
    """What a walk over a body has found. `why` is empty if a process may be used again; else it says what is not known
    of the body. `met` are the names by which it may meet values of the notebook."""

    why: str
    met: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    """Those of the notebook's functions."""
    modules: frozenset[str] = frozenset()
    """Libraries that it uses."""
    shares: bool = False
    """It may meet a `Live`."""


NEVER = Stays("nobody has looked")


class _Unknown(Exception):
    """The text says what."""


def stays(
    tree: ast.Module, target: str, bound: Iterable[str], live: Mapping[str, Any], items: Sequence[Any] = ()
) -> Stays:
    """Of the body `tree`, for items that are bound to `target`, in a notebook with the variables `live`. `items` are
    those, if they hold more than data."""
    names = frozenset(bound)
    try:
        if target and not is_of_names(ast.parse(f"({target}\n)", mode="eval").body):
            raise _Unknown(f"it binds {target}")
        code = compile(tree, "<body>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        read = Reading(code)
        walk = _Walk(live, names | frozenset(read.stored()), MOST_LOOKED + MOST_LOOKED_OF_ITEM * len(items))
        walk.code(read)
        for item in items:
            walk.value(item, _ITEM)
        walk.end()
    except _Unknown as e:
        return Stays(str(e))
    except Exception as e:  # nested too deeply, no Python, or a value whose own code raises when it is looked at
        return Stays(f"it cannot be looked at: {type(e).__name__}")
    shared = frozenset(walk.met)
    return Stays("", shared | (met_by(tree) - names), shared, frozenset(walk.modules), walk.shares)


class _Walk:
    """One walk. `met` are global names that functions read, so that their value may be the notebook's."""

    def __init__(self, live: Mapping[str, Any], own: frozenset[str], most: int) -> None:
        self.met: set[str] = set()
        self.modules: set[str] = set()
        """Those that do not come with Python."""
        self.shares = False
        self._runs_text = ""
        """Where it asks something for what a table would run as code."""
        self._live, self._most = live, most
        self._own = own
        """Names that the body binds: what comes out of known things is known."""
        self._seen: dict[int, object] = {}
        """By identity; held, so that no other object gets it."""
        self._classes: set[type] = set()
        self._codes = self._values = 0

    # -- code

    def code(
        self, read: Reading, outer: Mapping[str, Any] = types.MappingProxyType({}), *, is_method: bool = False
    ) -> None:
        """Raises:
        _Unknown: it may leave a trace, or see one.
        """
        code = read.code
        if id(code) in self._seen:
            return
        self._seen[id(code)] = code
        self._codes += 1
        if self._codes > MOST_CODES:
            raise _Unknown("it reaches more functions than are looked into")
        _refuse_instructions(read, code.co_varnames[0] if is_method and code.co_argcount else "")
        if any(isinstance(text, str) and text.startswith(_OF_PROCESS) for text in code.co_consts):
            raise _Unknown(f"line {code.co_firstlineno} reads what the system says of this process")
        for name in read.modules():
            is_there = libraries.is_to_come(name) or module_of_python(name) is not None
            if not traceless.is_module(name) or not is_there:
                raise _Unknown(f"line {code.co_firstlineno} imports {name}")
        imports = {**outer, **read.imports()}
        for use in read.uses():
            where = f"line {use.line}"
            for name in use.attributes:
                if not traceless.is_attribute(name):
                    raise _Unknown(f"{where} uses .{name}")
                if name == libraries.RUNS_TEXT:
                    self._runs_text = where
            if use.name in imports:
                imported = imports[use.name]
                self._module(where, imported.module, [*imported.part, *use.attributes])
            elif use.is_global:
                self._global(use)
        _refuse_modules_in_pairs(read, imports)
        for inner in read.inner:
            self.code(inner, imports)

    def end(self) -> None:
        """Raises:
        _Unknown: see `code`.
        """
        if self._runs_text and "pandas" in sys.modules:
            raise _Unknown(f"{self._runs_text} uses .{libraries.RUNS_TEXT}")

    def _global(self, use: Use) -> None:
        where, value = f"line {use.line}", self._live.get(use.name, _MISSING)
        if isinstance(value, types.ModuleType):
            self._module(where, value.__name__, use.attributes)
        elif value is not _MISSING:
            self.value(value, f"{where}: {use.name}")
        elif hasattr(builtins, use.name):
            built_in = getattr(builtins, use.name)
            if use.name not in traceless.BUILTINS and not is_exception(built_in):
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
            if libraries.is_to_come(name):
                self._to_come(where, name, attributes[n:])
                return
            module = module_of_python(name)
            if module is None:
                raise _Unknown(f"{where} uses {said}, which is not Python's own")
            if libraries.is_one(name):
                self.modules.add(name)
            self._uses(name)
            value = getattr(module, attribute, None)
            if not isinstance(value, types.ModuleType):
                self._of_library(value, attributes[n + 1 :], f"{where}: {said}.{attribute}")
                return
            said = f"{said}.{attribute}"
            name = said if traceless.is_module(said) else value.__name__
            if not traceless.is_module(name) or n == len(attributes) - 1:
                break
        raise _Unknown(f"{where} uses the module {said}")

    def _to_come(self, where: str, name: str, attributes: list[str]) -> None:
        """The same of a module that is not imported yet, so that its names are all that is known."""
        for attribute in attributes:
            if not traceless.allows(name, attribute):
                raise _Unknown(f"{where} uses {name}.{attribute}")
            if f"{name}.{attribute}" not in libraries.PARTS:
                self.modules.add(name)
                return
            name = f"{name}.{attribute}"
        raise _Unknown(f"{where} uses the module {name}")

    def _of_library(self, value: Any, attributes: list[str], where: str) -> None:
        """A value of a module, of which more is asked: it is everybody's, and must not change."""
        if value is sys.stdout or value is sys.stderr:
            return
        if not libraries.defines(type(value)):  # an object of theirs is everybody's, and is what it is
            self.value(value, where)
        for attribute in (None, *attributes):
            value = value if attribute is None else getattr(value, attribute, None)
            if can_change(value):
                raise _Unknown(f"{where} can change")

    # -- values

    def value(self, value: Any, where: str) -> None:
        """Raises:
        _Unknown: it may leave a trace when it is used, or see one.
        """
        kind = type(value)
        if kind in ATOMS or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if len(self._seen) > self._most:
            raise _Unknown(f"{where} holds more than is looked into")
        if kind in CONTAINERS:
            self._all(value, where)
        elif kind in DICTIONARIES:
            self._all([*value.values(), getattr(value, "default_factory", None)], where)
            self._all(value.keys(), where)
        elif kind is types.FunctionType:
            self._function(value, where)
        elif kind is Live and where != _ITEM:
            self.shares = True
            self.value(value._lattice, where)
        elif kind is functools.partial:
            self._all([value.func, *value.args, *value.keywords.values()], where)
        elif kind is type and classes.is_of_notebook(value, self._live):
            self._class(value, where)
        elif isinstance(value, type):
            if libraries.is_one(str(value.__module__)):
                self._shown(value, value.__qualname__, where)
            elif not (traceless.allows(value.__module__, value.__qualname__) or is_built_in(value)):
                raise _Unknown(f"{where} is {value.__module__}.{value.__qualname__}")
            self._uses(value.__module__)
        elif (parts := parts_of(value)) is not None:
            self.modules.add(libraries.home(kind.__module__))
            self._all(parts, where)
        elif classes.is_of_notebook(kind, self._live) and not is_exception(kind):
            self._class(kind, where)
            self._all([*classes.held_by(value)], where)
        elif not (is_callable(value) or is_array(value) or is_instance(kind)):
            raise _Unknown(f"{where} is of {kind.__module__}.{kind.__qualname__}")
        else:
            self._uses(kind.__module__)

    def _uses(self, module: str) -> None:
        if module.partition(".")[0] == "numpy":
            self.modules.add("numpy")

    def _all(self, values: Any, where: str) -> None:
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise _Unknown(f"{where} holds more than is looked at")
        if not ATOMS.issuperset(map(type, values)):
            for value in list(values):
                self.value(value, where)

    def _shown(self, value: Any, name: str, where: str) -> None:
        """A function or a class of a library."""
        home = libraries.shows(value, name)
        if not home or not traceless.allows(home, name):
            raise _Unknown(f"{where} is {value.__module__}.{name}")
        self.modules.add(home)

    def _class(self, kind: type, where: str) -> None:
        """One of the notebook's: its methods, and all else that it has."""
        if kind in self._classes:
            return
        self._classes.add(kind)
        if self._live.get(kind.__name__) is kind:
            self.met.add(kind.__name__)
        for base in kind.__mro__[1:-1]:
            if classes.is_of_notebook(base, self._live):
                self.value(base, where)
            elif not is_exception(base):
                raise _Unknown(f"{where} is a {base.__qualname__}")
        for name, member in classes.members(kind):
            if member is classes.UNKNOWN:
                raise _Unknown(f"{where} has {name}")
            if isinstance(member, classes.Method):
                self._function(member.function, f"{where}.{name}", in_class=True, is_method=member.takes_self)
            elif classes.can_change(member):
                raise _Unknown(f"{where}.{name} can change")
            else:
                self.value(member, f"{where}.{name}")

    def _function(
        self, function: types.FunctionType, where: str, *, in_class: bool = False, is_method: bool = False
    ) -> None:
        if is_open(function):
            return
        if function.__globals__ is not self._live:
            # of its globals, and not what `functools.wraps` has said of it
            home, name = str(function.__globals__.get("__name__")), function.__code__.co_name
            if libraries.is_one(home):
                self._shown(function, function.__name__, where)
                return
            if home.startswith("numpy."):
                home, name = str(function.__module__), function.__name__
            if not traceless.allows(home, name):
                raise _Unknown(f"{where} is {home}.{name}")
            self._uses(home)
            return
        if function.__dict__:
            raise _Unknown(f"{where} has attributes")
        held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # it is empty yet
                continue
        if in_class and any(map(classes.can_change, held)):
            raise _Unknown(f"{where} holds what can change")
        self._all(held, where)
        if id(function.__code__) in self._seen:
            return
        read = Reading(function.__code__)
        self.met.update(use.name for use in read.all_uses() if use.is_global)
        self.code(read, is_method=is_method)


def _refuse_instructions(read: Reading, own: str) -> None:
    """`own` is the name of the instance whose method this is: it may set attributes of that.

    Raises:
        _Unknown: it does what no code of such a body may.
    """
    code = read.code
    if code.co_flags & _COROUTINES:
        raise _Unknown(f"line {code.co_firstlineno} awaits")
    refused = _REFUSED | {"PUSH_EXC_INFO"} if code.co_flags & inspect.CO_GENERATOR else _REFUSED
    sets_own = classes.sets_of(read.instructions, own) if own else frozenset()
    for n, instruction in enumerate(read.instructions):
        name = "IMPORT_STAR" if "IMPORT_STAR" in instruction.argrepr else instruction.opname
        if name in refused and n not in sets_own and not (name == "STORE_ATTR" and instruction.argval in libraries.SET):
            line = (instruction.positions and instruction.positions.lineno) or code.co_firstlineno
            raise _Unknown(f"line {line}: {name}")


def _refuse_modules_in_pairs(read: Reading, imports: Mapping[str, Any]) -> None:
    """Of instructions that load two names at once, only the second is a `Use`."""
    for instruction in read.instructions:
        names = instruction.argval if isinstance(instruction.argval, tuple) else ()
        if instruction.opname.startswith(("LOAD_FAST", "STORE_FAST")) and not imports.keys().isdisjoint(names):
            raise _Unknown(f"it uses the module {instruction.argval}")
