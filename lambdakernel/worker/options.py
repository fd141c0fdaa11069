"""Options of the shell and its parts that `%config` lists, and the magics that set them: `%precision`, `%automagic`.

Some parts are made when they are first needed: the formatters of values, and the inline backend of matplotlib, which
take then what `%config` had said of them before. So none is made here in order to be looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from traitlets.config import Config

from lambdakernel.state import Held

_LISTED = frozenset({"ast_transformers", "type_printers", "deferred_printers", "singleton_printers"})
"""Options that are kept entry by entry, by others."""
_PARTS = (
    "display_formatter", "display_pub", "displayhook", "prefilter_manager", "Completer", "magics_manager",
    "alias_manager",
)  # fmt: skip
_INLINE = "InlineBackend"
_SAID = "config "
"""Before what was said of a class that nothing was made of."""
_ABSENT = object()


def formatters_of(shell: Any) -> dict[str, Any]:
    """All formatters of values, by format; they are made if they were not yet."""
    formatter = shell.display_formatter
    special = {"display": formatter.ipython_display_formatter, "mimebundle": formatter.mimebundle_formatter}
    return {**formatter.formatters, **special}


def made_formatters_of(shell: Any) -> dict[str, Any]:
    """Those that have been made."""
    there = shell.display_formatter._trait_values
    special = {"display": "ipython_display_formatter", "mimebundle": "mimebundle_formatter"}
    found = dict(there.get("formatters") or {})
    found.update((mime, there[name]) for mime, name in special.items() if there.get(name) is not None)
    return found


class Options(Held):
    """Those that are not what they were when the worker began, by class and name as `%config` spells them."""

    name = "option"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._config = copy.deepcopy(shell.config)
        self._parts: dict[str, Any] = {}
        self._names: list[tuple[dict[str, Any], str, str]] = []
        self._start: dict[str, Any] = {}
        self._made: list[Any] = []
        for part in (shell, *(getattr(shell, name) for name in _PARTS)):
            self._know(part, part._trait_values)
        self._seen: list[Any] = []
        self._captured: dict[str, Any] = {}

    def _know(self, part: Any, start: Mapping[str, Any]) -> None:
        key = type(part).__name__
        self._parts[key] = part
        for name in _options(part):
            self._names.append((part._trait_values, key, name))
            if name in start:
                self._start[f"{key}.{name}"] = _copied(start[name])

    def _know_what_was_made(self) -> None:
        """Each began as its class and the configuration of the beginning say."""
        made = [c for c in self._shell.configurables if type(c).__name__ == _INLINE]
        made += made_formatters_of(self._shell).values()
        if made == self._made:
            return
        for part in made:
            if type(part).__name__ not in self._parts:
                self._know(part, dict.get(self._config, type(part).__name__, {}))
        self._made = made

    def capture(self) -> Mapping[str, Any]:
        self._know_what_was_made()
        now = [values.get(name, _ABSENT) for values, _, name in self._names]
        said = self._shell.config
        if [said, *now] != self._seen:
            self._seen = [copy.deepcopy(said), *map(_copied, now)]
            before = self._captured
            self._captured = {key: _as_before(value, before.get(key)) for key, value in self._changes(said)}
        return self._captured

    def _changes(self, said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for values, key, name in self._names:
            value = values.get(name, _ABSENT)
            if value is not _ABSENT and value != self._start_of(key, name):
                yield f"{key}.{name}", value
        for key, section in said.items():
            if key not in self._parts and isinstance(section, Config):
                start = dict.get(self._config, key, {})
                changed = ((name, value) for name, value in section.items() if start.get(name) != value)
                yield from ((f"{_SAID}{key}.{name}", value) for name, value in changed)

    def _start_of(self, key: str, name: str) -> Any:
        """What was set when the worker began, or what it would be if it were never set."""
        start = self._start.get(f"{key}.{name}", _ABSENT)
        return self._parts[key].trait_defaults(name) if start is _ABSENT else start

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        failed: dict[str, Exception] = {}
        gone = dict.fromkeys(self.capture().keys() - values.keys(), _ABSENT)
        for key, value in {**gone, **values}.items():
            owner, _, name = key.removeprefix(_SAID).partition(".")
            try:
                self._set(owner, name, value, made=not key.startswith(_SAID))
            except Exception as e:  # its observer refuses it
                failed[key] = e
        self._captured = dict(values)
        return failed

    def _set(self, key: str, name: str, value: Any, *, made: bool) -> None:
        """As `%config` does it: who is not made yet will take it then. Absent: as it was at the beginning."""
        if made and key not in self._parts and key != _INLINE:  # making that one takes matplotlib
            formatters_of(self._shell)
            self._know_what_was_made()
        if key in self._parts:
            setattr(self._parts[key], name, _copied(self._start_of(key, name)) if value is _ABSENT else value)
        elif value is not _ABSENT:
            for configurable in self._shell.configurables:
                configurable.update_config(Config({key: {name: value}}))


def _options(part: Any) -> list[str]:
    return sorted(part.traits(config=True).keys() - _LISTED)


def _as_before(value: Any, before: Any) -> Any:
    """A trait makes a container of its own of what it is given."""
    return before if type(value) is type(before) and value == before else value


def _copied(value: Any) -> Any:
    return value.copy() if type(value) in (list, dict, set) else value
