"""What cells register in the IPython shell: magics and aliases, formatters, hooks, transformers, a handler of errors.

Each is ambient state: what differs from a worker that has run no cell is kept, and registered again in the next one.
What an extension registered is left to the extension, which is loaded again.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.core import formatters
from IPython.core.alias import Alias

from lambdakernel.state import Ambient, Held
from lambdakernel.state.ambient.held import Steady
from lambdakernel.state.fixtures import Fixtures, LateFixtures, of_python
from lambdakernel.worker.options import Options, formatters_of, made_formatters_of

_OF_OTHERS = (
    "IPython.core.formatters.", "IPython.core.magics.", "IPython.core.pylabtools.", "IPython.lib.pretty.",
    "matplotlib.", "matplotlib_inline.", "ipykernel.", "lambdakernel.",
)  # fmt: skip
"""Modules whose registrations are made again by who made them: IPython loads its own magics at their first use."""
_PRINTERS = ("type_printers", "deferred_printers", "singleton_printers")


def customs_of(shell: Any) -> tuple[Ambient | Held, ...]:
    """One of each, to be made before any cell has run."""
    return (
        Directories(shell),
        Modes(shell),
        Options(shell),
        Magics(shell),
        Printers(shell),
        Hooks(shell),
        Catcher(shell),
    )


def fixtures_of(shell: Any) -> Fixtures:
    """The objects of the shell that values may refer to; formatters are made when they are first needed."""
    parts = {
        "kernel": shell.kernel,
        "events": shell.events,
        "display_pub": shell.display_pub,
        "display_formatter": shell.display_formatter,
        "displayhook": shell.displayhook,
        "history_manager": shell.history_manager,
        "magics_manager": shell.magics_manager,
        "input_transformer_manager": shell.input_transformer_manager,
        **{f"magics {name}": magics for name, magics in shell.magics_manager.registry.items()},
    }

    def late(make: bool) -> dict[str, object]:
        found = formatters_of(shell) if make else made_formatters_of(shell)
        return {f"shell's formatter of {mime}": formatter for mime, formatter in found.items()}

    listed = [kind for kind in vars(formatters).values() if isinstance(kind, type)]
    kinds = tuple(kind for kind in listed if issubclass(kind, formatters.BaseFormatter))
    named = {f"shell's {name}": part for name, part in parts.items()}
    return Fixtures({**of_python(), "shell": shell, **named}, LateFixtures(late, kinds))


class Directories:
    """Where `%cd -` goes back to. Implements `state.Ambient`."""

    name = "ipython.directories"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def capture(self) -> Any:
        visited = self._shell.user_ns.get("_dh")
        return list(map(str, visited)) if isinstance(visited, list) else None

    def restore(self, value: Any) -> None:
        visited = self._shell.user_ns["_dh"]
        visited[:] = [Path(value[0]), *value[1:]] if value else []  # the first is where the shell began


class Modes:
    """How errors are shown, and whether a debugger is started for them. Implements `state.Ambient`."""

    name = "ipython.modes"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def capture(self) -> Any:
        shown = self._shell.InteractiveTB
        return (shown.mode, shown.skip_hidden, self._shell.call_pdb)

    def restore(self, value: Any) -> None:
        mode, self._shell.InteractiveTB.skip_hidden, debugger = value
        self._shell.InteractiveTB.set_mode(mode)
        if debugger != self._shell.call_pdb:
            self._shell.call_pdb = debugger


class Magics(Held):
    """Line and cell magics by name; aliases are line magics. None: one that was there is gone."""

    name = "magic"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._start = {kind: dict(table) for kind, table in self._tables.items()}
        self._seen = self._start
        self._captured: dict[str, Any] = {}

    @property
    def _tables(self) -> dict[str, dict[str, Any]]:
        tables: dict[str, dict[str, Any]] = self._shell.magics_manager.magics
        return tables

    def capture(self) -> Mapping[str, Any]:
        if self._tables != self._seen:
            self._seen = {kind: dict(table) for kind, table in self._tables.items()}
            self._captured = dict(self._changes())
        return self._captured

    def _changes(self) -> Iterator[tuple[str, Any]]:
        for kind, table in self._seen.items():
            start = self._start[kind]
            for name, function in table.items():
                if not _is_same_magic(function, start.get(name)) and not _is_of_others(function, self._shell):
                    yield f"{kind} {name}", function
            yield from ((f"{kind} {name}", None) for name in start.keys() - table.keys())

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for key in self.capture().keys() - values.keys():
            kind, _, name = key.partition(" ")
            self._tables[kind].pop(name, None)
            if name in self._start[kind]:
                self._tables[kind][name] = self._start[kind][name]
        for key, function in values.items():
            kind, _, name = key.partition(" ")
            if function is None:
                self._tables[kind].pop(name, None)
            else:
                self._shell.magics_manager.register_function(function, kind, name)
        return {}


def _is_same_magic(function: Any, before: Any) -> bool:
    """`%reset` makes the default aliases again."""
    if type(function) is Alias and type(before) is Alias:
        return (function.name, function.cmd) == (before.name, before.cmd)
    return function is before


class Printers(Held):
    """Functions that show values of a type, by format. Several classes of the notebook may have one name, so entries
    are told apart by their number as well."""

    name = "formatter"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._traits: list[tuple[dict[str, Any], str]] = []
        self._made: list[Any] = []
        self._seen: list[Any] = []
        self._steady = Steady()
        self._captured: dict[str, Any] = {}

    def _start(self, formatter: Any, kind: str) -> dict[Any, Any]:
        start: dict[Any, Any] = formatter.trait_defaults(kind)
        return start

    def capture(self) -> Mapping[str, Any]:
        made = list(made_formatters_of(self._shell).values())
        if made != self._made:
            self._made = made
            self._traits = [(each._trait_values, kind) for each in made for kind in _PRINTERS]
        now = [values.get(kind) for values, kind in self._traits]
        if now != self._seen:
            self._seen = [None if table is None else dict(table) for table in now]
            self._captured = self._steady.of(dict(self._changes()))
        return self._captured

    def _changes(self) -> Iterator[tuple[str, Sequence[Any]]]:
        for mime, formatter in made_formatters_of(self._shell).items():
            for kind in _PRINTERS:
                table, start = formatter._trait_values.get(kind), self._start(formatter, kind)
                if table is None or table == start:
                    continue
                changed = [(key, function) for key, function in table.items() if start.get(key) is not function]
                if kind != "deferred_printers":  # one goes from there to the others when its type is first shown
                    changed += [(key, None) for key in start if key not in table]
                for number, (key, function) in enumerate(changed):
                    if not _is_of_others(function, self._shell):
                        label = getattr(key, "__qualname__", key) if kind == "type_printers" else key
                        yield f"{mime} {label} {number}", (mime, kind, key, function)

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for mime, kind, key, _ in self.capture().values():
            formatter = made_formatters_of(self._shell)[mime]
            _put(getattr(formatter, kind), key, self._start(formatter, kind).get(key))
        there = formatters_of(self._shell) if values else {}
        for mime, kind, key, function in values.values():
            _put(getattr(there[mime], kind), key, function)
        self._steady.adopt(values)
        self._seen = []
        return {}


def _put(table: dict[Any, Any], key: Any, function: Any) -> None:
    if function is None:
        table.pop(key, None)
    else:
        table[key] = function


class Hooks(Held):
    """Callbacks of events, and transformers of source and of syntax trees, in their order.

    A list is kept as it differs from that of the beginning: a number stands for one of those that were there.
    """

    name = "hook"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._start = {key: list(hooks) for key, hooks in self._lists().items()}
        self._seen = self._start
        self._steady = Steady()
        self._captured: dict[str, Any] = {}

    def _lists(self) -> dict[str, list[Any]]:
        shell = self._shell
        manager = shell.input_transformer_manager
        return {
            "input_transformers_cleanup": shell.input_transformers_cleanup,
            "input_transformers_post": shell.input_transformers_post,
            "line_transforms": manager.line_transforms,
            "token_transformers": manager.token_transformers,
            "ast_transformers": shell.ast_transformers,
            **shell.events.callbacks,
        }

    def capture(self) -> Mapping[str, Any]:
        now = self._lists()
        if now != self._seen:
            self._seen = {key: list(hooks) for key, hooks in now.items()}
            self._captured = self._steady.of(dict(self._changes()))
        return self._captured

    def _changes(self) -> Iterator[tuple[str, Sequence[Any]]]:
        for key, hooks in self._seen.items():
            start = self._start.get(key, [])
            own = [hook for hook in hooks if hook in start or not _is_of_others(hook, self._shell)]
            if own != start:
                yield key, [start.index(hook) if hook in start else hook for hook in own]

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for key, hooks in self._lists().items():
            start = self._start.get(key, [])
            others = [hook for hook in hooks if hook not in start and _is_of_others(hook, self._shell)]
            wanted = [start[hook] if type(hook) is int else hook for hook in values.get(key, range(len(start)))]
            if hooks != [*wanted, *others]:
                hooks[:] = [*wanted, *others]
        self._seen, self._captured = {key: list(hooks) for key, hooks in self._lists().items()}, dict(values)
        self._steady.adopt(values)
        return {}


class Catcher(Held):
    """The handler of `set_custom_exc`, and the types that it is called for."""

    name = "set_custom_exc"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._start = (shell.custom_exceptions, shell.CustomTB)
        self._steady = Steady()

    def capture(self) -> Mapping[str, Any]:
        shell = self._shell
        if not shell.custom_exceptions or not isinstance(shell.CustomTB, types.MethodType):
            return self._steady.of({})
        return self._steady.of({"handler": (shell.CustomTB.__func__, *shell.custom_exceptions)})

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        self._steady.adopt(values)
        self._shell.custom_exceptions, self._shell.CustomTB = self._start
        for function, *kinds in values.values():
            self._shell.custom_exceptions = tuple(kinds)
            self._shell.CustomTB = types.MethodType(function, self._shell)
        return {}


def _is_of_others(function: Any, shell: Any) -> bool:
    """Whether it was registered by a library or an extension that does so again when it is loaded."""
    inner = function.func if isinstance(function, functools.partial) else function
    module = getattr(getattr(inner, "__func__", inner), "__module__", None)
    if not isinstance(module, str):
        return False
    return f"{module}.".startswith(_OF_OTHERS) or module in shell.extension_manager.loaded
