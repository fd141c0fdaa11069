"""Configuration of `logging`: levels, handlers and filters of each logger, and the switches for all of them."""

from __future__ import annotations

import contextlib
import importlib
import logging
import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambdakernel.state.ambient.held import Held, Steady

_CONTENT = ("level", "propagate", "disabled", "handlers", "filters")
_content: Any = operator.attrgetter(*_CONTENT)
_PLAIN: Any = (logging.NOTSET, True, False, [], [])
ROOT = "root"


class LoggingSwitches:
    """What holds for all loggers: `disable`, `captureWarnings`, `raiseExceptions`, names of levels."""

    name = "logging"

    def __init__(self) -> None:
        self._names = dict(logging._levelToName)

    def capture(self) -> Any:
        named = logging._levelToName
        changed = {} if named == self._names else {k: v for k, v in named.items() if self._names.get(k) != v}
        return (logging.root.manager.disable, _captures_warnings(), logging.raiseExceptions, changed)

    def restore(self, value: Any) -> None:
        disabled, captures, raises, changed = value
        logging.disable(disabled)
        if captures != _captures_warnings():
            logging.captureWarnings(captures)
        logging.raiseExceptions = raises
        for level, name in changed.items():
            logging.addLevelName(level, name)


def _captures_warnings() -> bool:
    return logging._warnings_showwarning is not None  # type: ignore[attr-defined]


class Loggers(Held):
    """Each logger that is not as it was when the process began, nor as it is when it is made.

    What a library gave its own logger is brought back as what a cell gave it: the library is imported before, since it
    would do so again.
    """

    name = "logger"

    def __init__(self) -> None:
        self._steady = Steady()
        self._entries: list[Any] = []
        self._loggers: list[logging.Logger] = []
        self._seen: list[Any] = []
        self._captured: dict[str, Any] = {}
        self._start = {name: _copied(_content(logger)) for name, logger in _all_loggers().items()}

    def capture(self) -> Mapping[str, Any]:
        entries = list(logging.root.manager.loggerDict.values())
        if entries != self._entries:
            self._entries, self._loggers = entries, list(_all_loggers().values())
        now = list(map(_content, self._loggers))
        if now != self._seen:
            self._seen = list(map(_copied, now))
            self._captured = self._steady.of(dict(self._changes()))
        return self._captured

    def _changes(self) -> Iterator[tuple[str, Sequence[Any]]]:
        for logger, content in zip(self._loggers, self._seen, strict=True):
            name = logger.name
            if content != self._start.get(name, _PLAIN) and not _is_quiet_library(name, content):
                level, propagate, disabled, handlers, filters = content
                library = name.partition(".")[0] if handlers and _is_of_library(name) else ""
                yield name, (library, level, propagate, disabled, len(handlers), *handlers, *filters)

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        for name in self.capture().keys() - values.keys():
            _configure(name, self._start.get(name, _PLAIN))
        self._steady.adopt(values)
        self._captured = dict(values)
        for name, (library, level, propagate, disabled, count, *objects) in values.items():
            if library and library not in sys.modules:
                with contextlib.suppress(ImportError):  # its logger is there all the same
                    importlib.import_module(library)
            _configure(name, (level, propagate, disabled, objects[:count], objects[count:]))
        self._seen = list(map(_copied, map(_content, self._loggers)))
        return {}


def _all_loggers() -> dict[str, logging.Logger]:
    found = {n: log for n, log in logging.root.manager.loggerDict.items() if isinstance(log, logging.Logger)}
    found[ROOT] = logging.root
    return found


def _copied(content: Any) -> Any:
    level, propagate, disabled, handlers, filters = content
    return (level, propagate, disabled, list(handlers), list(filters))


def _configure(name: str, content: Any) -> None:
    logger = logging.root if name == ROOT else logging.getLogger(name)
    level, logger.propagate, logger.disabled, handlers, filters = content
    logger.setLevel(level)
    logger.handlers[:], logger.filters[:] = handlers, filters


def _is_of_library(name: str) -> bool:
    module = sys.modules.get(name.partition(".")[0])
    return module is not None and module.__name__ != "__main__"


def _is_quiet_library(name: str, content: Any) -> bool:
    """Whether a logger is as libraries leave theirs: nothing but a handler that does nothing."""
    *rest, handlers, filters = content
    quiet = all(type(handler) is logging.NullHandler for handler in handlers)
    return quiet and (*rest, [], filters) == _PLAIN and _is_of_library(name)
