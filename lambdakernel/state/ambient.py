"""State of a process that cells change without naming a variable: directory, environment, random numbers, options.

A registry of small classes, open to others: each captures a value that is cheap to compare, and restores it. What
differs from the last commit rides in the same delta as the variables.
"""

from __future__ import annotations

import decimal
import os
import pickle
import random
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

_SECRET = ("TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH")
_OURS = ("LAMBDAKERNEL_", "JPY_", "KVS_", "PYTHONHASHSEED", "PYDEVD_", "AWS_")


class Ambient(Protocol):
    """For implementers: `capture` must be cheap (it runs after every cell) and must not import anything; what it
    returns is compared with `==`, pickled when it changed, and given to `restore` in another worker. None: nothing
    to carry."""

    name: str

    def capture(self) -> Any:
        """The state now, or None."""

    def restore(self, value: Any) -> None:
        """Make the state of this process what `capture` once returned."""


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


class NumpyRandomness:
    name = "numpy.random"

    def capture(self) -> Any:
        module = sys.modules.get("numpy.random")
        if module is None:
            return None
        kind, keys, *rest = module.get_state()
        return (kind, keys.tobytes(), *rest)

    def restore(self, value: Any) -> None:
        import numpy

        kind, keys, *rest = value
        numpy.random.set_state((kind, numpy.frombuffer(keys, numpy.uint32), *rest))


class WarningFilters:
    name = "warnings"

    def capture(self) -> Any:
        return list(warnings.filters)

    def restore(self, value: Any) -> None:
        if value != warnings.filters:
            warnings.filters[:] = value  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]


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


class PlotSettings:
    name = "matplotlib.rcParams"

    def capture(self) -> Any:
        module = sys.modules.get("matplotlib")
        default = getattr(module, "rcParamsDefault", None)
        if module is None or default is None:
            return None
        now = dict.items(module.rcParams)
        return {k: v for k, v in now if k != "backend" and dict.get(default, k) != v}

    def restore(self, value: Any) -> None:
        import matplotlib

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matplotlib.rcParams.update(value)


def default_ambient() -> tuple[Ambient, ...]:
    """One of each; the environment is compared with what it is now."""
    return (
        WorkingDirectory(), Environment(os.environ), ImportPath(), Randomness(), NumpyRandomness(), WarningFilters(),
        DecimalContext(), RecursionLimit(), PlotSettings(),
    )  # fmt: skip


class AmbientState:
    """The registry with what was last committed of each. One that fails costs itself and nothing else."""

    def __init__(self, registry: tuple[Ambient, ...]) -> None:
        self.failed: dict[str, str] = {}
        """By name, why an item could not be kept or brought back."""
        self._registry = registry
        self._last = {item.name: item.capture() for item in registry}

    def changed(self) -> dict[str, bytes]:
        """Pickles of what differs from the last commit; nothing is remembered before `commit`."""
        found = {}
        for item in self._registry:
            value = item.capture()
            if value is not None and value != self._last[item.name]:
                try:
                    found[item.name] = pickle.dumps(value, protocol=5)
                except Exception as e:  # a user's object sits in a filter or an option: it stays with this process
                    self.failed[item.name] = f"{type(e).__name__}: {e}"
        return found

    def committed(self, changed: dict[str, bytes]) -> None:
        for item in self._registry:
            if item.name in changed:
                self._last[item.name] = item.capture()

    def restore(self, stored: Mapping[str, bytes]) -> None:
        """Bring this process to what was stored; bytes were authenticated by the store. See `failed` for what was not.

        An extension that is gone, or a filter that names a class of the notebook, must not keep every later worker
        from starting.
        """
        for item in self._registry:
            if item.name in stored:
                try:
                    item.restore(pickle.loads(stored[item.name]))
                except Exception as e:
                    self.failed[item.name] = f"{type(e).__name__}: {e}"
                self._last[item.name] = item.capture()
