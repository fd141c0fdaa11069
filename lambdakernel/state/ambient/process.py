"""What the interpreter and the system keep for a process: directory, environment, arguments, random numbers, limits."""

from __future__ import annotations

import decimal
import locale
import os
import random
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.held import Held, Steady

_SECRET = ("TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH")
_OURS = ("LAMBDAKERNEL_", "JPY_", "KVS_", "PYTHONHASHSEED", "PYDEVD_", "AWS_")


class WorkingDirectory:
    name = "cwd"

    def capture(self) -> Any:
        try:
            return os.getcwd()
        except OSError:  # it was removed
            return None

    def restore(self, value: Any) -> None:
        try:
            os.chdir(value)
        except OSError:
            warnings.warn(f"the working directory {value} is gone; this worker is in {os.getcwd()}", stacklevel=2)


class Environment:
    """What cells changed in `os.environ`; names that look like secrets, and ours, are never stored."""

    name = "environ"

    def __init__(self, start: Mapping[str, str]) -> None:
        self._start = dict(start)
        self._raw: dict[Any, Any] = {}
        self._captured: Any = ({}, ())

    def capture(self) -> Any:
        raw = getattr(os.environ, "_data", None)  # comparing what it is made of spares decoding it in every cell
        if raw is None or raw != self._raw:
            self._raw = dict(raw or {})
            self._captured = self._differences()
        return self._captured

    def _differences(self) -> Any:
        now = dict(os.environ)
        changed = {k: v for k, v in now.items() if self._start.get(k) != v and not is_private(k)}
        removed = tuple(sorted(k for k in self._start.keys() - now.keys() if not is_private(k)))
        return (changed, removed)

    def restore(self, value: Any) -> None:
        changed, removed = value
        os.environ.update(changed)
        for name in removed:
            os.environ.pop(name, None)


def is_private(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(_OURS) or any(word in upper for word in _SECRET)


class ImportPath:
    name = "sys.path"

    def capture(self) -> Any:
        return [p for p in sys.path if isinstance(p, str)]

    def restore(self, value: Any) -> None:
        sys.path[:] = value


class Randomness:
    name = "random"

    def capture(self) -> Any:
        return random.getstate()

    def restore(self, value: Any) -> None:
        random.setstate(value)


class DecimalContext:
    name = "decimal"

    def capture(self) -> Any:
        c = decimal.getcontext()
        traps = tuple(sorted(s.__name__ for s, on in c.traps.items() if on))
        return (c.prec, c.rounding, c.Emin, c.Emax, c.capitals, c.clamp, traps)

    def restore(self, value: Any) -> None:
        prec, rounding, emin, emax, capitals, clamp, traps = value
        signals = [getattr(decimal, name) for name in traps]
        decimal.setcontext(decimal.Context(prec, rounding, emin, emax, capitals, clamp, [], signals))


class RecursionLimit:
    name = "recursion limit"

    def capture(self) -> Any:
        return sys.getrecursionlimit()

    def restore(self, value: Any) -> None:
        sys.setrecursionlimit(value)


class CreationMask:
    """`umask`, which can be read only by setting it: to what it most likely is, so that other threads see no other."""

    name = "umask"

    def __init__(self) -> None:
        self._expected = os.umask(0o077)
        os.umask(self._expected)

    def capture(self) -> Any:
        found = os.umask(self._expected)
        if found != self._expected:
            os.umask(found)
            self._expected = found
        return found

    def restore(self, value: Any) -> None:
        os.umask(value)
        self._expected = value


class Locale:
    name = "locale"

    def capture(self) -> Any:
        return locale._setlocale(locale.LC_ALL, None)  # type: ignore[attr-defined]  # all categories in one text

    def restore(self, value: Any) -> None:
        locale.setlocale(locale.LC_ALL, value)


class Arguments(Held):
    """`sys.argv`, the list itself: `argv = sys.argv` stays the same one."""

    name = "sys.argv"

    def __init__(self) -> None:
        self._list, self._start = sys.argv, list(sys.argv)

    def capture(self) -> Mapping[str, Any]:
        argv = sys.argv
        return {} if argv is self._list and argv == self._start else {"list": argv}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        if not values:
            self._list[:] = self._start
        sys.argv = values.get("list", self._list)
        return {}


class WarningFilters(Held):
    """The filters that differ; one may name a class of the notebook."""

    name = "warnings"

    def __init__(self) -> None:
        self._start = list(warnings.filters)
        self._steady = Steady()

    def capture(self) -> Mapping[str, Any]:
        now = warnings.filters
        if len(now) == len(self._start) and now == self._start:
            return self._steady.of({})
        return self._steady.of({"filters": [part for each in now for part in each]})

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        self._steady.adopt(values)
        parts = values.get("filters")
        wanted = self._start if parts is None else list(zip(*(parts[n::5] for n in range(5)), strict=True))
        if wanted != warnings.filters:
            warnings.filters[:] = wanted  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        return {}
