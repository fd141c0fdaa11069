"""Options of libraries that the notebook has imported: looked for in `sys.modules`, never imported to be looked at."""

from __future__ import annotations

import contextvars
import ctypes
import functools
import operator
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.held import Held


class NumpyRandomness:
    """The state of numpy's global generator; that is slow to ask for, so the generator's own memory is looked at."""

    name = "numpy.random"

    def __init__(self) -> None:
        self._memory: tuple[int, bytes] | None = None
        self._captured: Any = None

    def capture(self) -> Any:
        module = sys.modules.get("numpy.random")
        if module is None:
            return None
        memory = _memory_of(module)
        if memory is None or memory != self._memory:
            kind, keys, *rest = module.get_state()
            self._captured = (kind, keys.tobytes(), *rest)
            keeps_a_number = bool(rest[1])  # the second of two normal ones: taking it changes no memory that we see
            self._memory = None if keeps_a_number else memory
        return self._captured

    def restore(self, value: Any) -> None:
        import numpy

        kind, keys, *rest = value
        numpy.random.set_state((kind, numpy.frombuffer(keys, numpy.uint32), *rest))


def _memory_of(random: Any) -> tuple[int, bytes] | None:
    """What the global generator holds, and where; None if it is not the usual one."""
    generator: Any = random.get_bit_generator() if hasattr(random, "get_bit_generator") else None
    if type(generator).__name__ != "MT19937":
        return None
    address = generator.ctypes.state_address
    return address, ctypes.string_at(address, _MT19937_NBYTES)


_MT19937_NBYTES = 625 * 4
"""624 words and the position among them."""


class NumpyOptions(Held):
    """How arrays are shown, and what is done about errors of arithmetic. Since numpy 2 both are context variables, so
    that a context with nothing in it tells their defaults."""

    name = "numpy"

    def __init__(self) -> None:
        self._start: dict[str, Any] | None = None

    def capture(self) -> Mapping[str, Any]:
        numpy = sys.modules.get("numpy")
        if numpy is None or not hasattr(numpy, "set_printoptions"):  # it is being imported
            return {}
        if self._start is None:
            self._start = contextvars.Context().run(_numpy_options, numpy)
        start = self._start
        return {key: value for key, value in _numpy_options(numpy).items() if start.get(key) != value}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        if not values and not self.capture():
            return {}
        import numpy

        self.capture()
        wanted = {**(self._start or {}), **values}
        errors = {key.removeprefix("err "): value for key, value in wanted.items() if key.startswith("err ")}
        numpy.seterrcall(errors.pop("call"))
        numpy.seterr(**errors)
        numpy.set_printoptions(**{key: value for key, value in wanted.items() if not key.startswith("err ")})
        return {}


def _numpy_options(numpy: Any) -> dict[str, Any]:
    errors = {f"err {key}": value for key, value in numpy.geterr().items()}
    return {**numpy.get_printoptions(), **errors, "err call": numpy.geterrcall()}


class PandasOptions(Held):
    """Options that are not what pandas registered them with."""

    name = "pandas"

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}
        self._captured: dict[str, Any] = {}

    def capture(self) -> Mapping[str, Any]:
        config = sys.modules.get("pandas._config.config")
        if config is None or "pandas.core.config_init" not in sys.modules:
            return {}
        if config._global_config != self._seen:
            self._seen = _copy_of_tree(config._global_config)
            found = {key: (_value(config, key), option.defval) for key, option in config._registered_options.items()}
            self._captured = {key: value for key, (value, default) in found.items() if not _is_same(value, default)}
        return self._captured

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        now = self.capture()
        if not values and not now:
            return {}
        import pandas

        failed = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that are deprecated
            for key in [key for key in self.capture() if key not in values]:
                pandas.reset_option(f"^{key}$")
            for key, value in values.items():
                try:
                    pandas.set_option(key, value)
                except Exception as e:
                    failed[key] = e
        return failed


def _copy_of_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy_of_tree(value) if type(value) is dict else value for key, value in tree.items()}


def _value(config: Any, key: str) -> Any:
    return functools.reduce(operator.getitem, key.split("."), config._global_config)


def _is_same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


_OF_BACKEND = ("backend", "interactive")
"""Parameters that are kept with the backend: importing pyplot sets them."""


class PlotSettings:
    name = "matplotlib.rcParams"

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}
        self._captured: dict[str, Any] = {}

    def capture(self) -> Any:
        module = sys.modules.get("matplotlib")
        default = getattr(module, "rcParamsDefault", None)
        if module is None or default is None:
            return None
        now: dict[str, Any] = module.rcParams
        if not dict.__eq__(now, self._seen):
            items = [(k, list(v) if type(v) is list else v) for k, v in dict.items(now)]
            self._seen = dict(items)
            self._captured = {k: v for k, v in items if k not in _OF_BACKEND and dict.get(default, k) != v}
        return self._captured

    def restore(self, value: Any) -> None:
        import matplotlib

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matplotlib.rcParams.update(value)
