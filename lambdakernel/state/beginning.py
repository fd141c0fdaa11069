"""What was so when this process began: where ambient state goes back to that no cell had changed yet."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lambdakernel.state.ambient.base import Ambient
from lambdakernel.state.bindings import SHOWN


class Beginning:
    """To be made before any of a session's ambient state is taken over."""

    def __init__(self, registry: Sequence[Ambient], live: Mapping[str, Any]) -> None:
        self.shown = {name: live[name] for name in SHOWN if name in live}
        """What the shell binds `_`, `__` and `___` to before anything is shown."""
        self._registry = {item.name: item for item in registry}
        self._values = {item.name: item.capture() for item in registry}
        self._environ = dict(os.environ)

    def of(self, wanted: Mapping[str, bytes | None]) -> dict[str, bytes]:
        """`wanted`, where None stands for what it was at the beginning."""
        found = {}
        for name, stored in wanted.items():
            value = self._values.get(name)
            if stored is not None:
                found[name] = stored
            elif value is not None:
                found[name] = pickle.dumps(value, protocol=5)
        return found

    def rewind(self, names: Iterable[str]) -> None:
        """Take back what cells added to items whose stored form is a difference: restoring one adds, and removes
        nothing."""
        if "environ" in names and "environ" in self._registry:
            changed, removed = self._registry["environ"].capture()
            for name in {*changed, *removed}:
                if name in self._environ:
                    os.environ[name] = self._environ[name]
                else:
                    os.environ.pop(name, None)
        module = sys.modules.get("matplotlib")
        if "matplotlib.rcParams" in names and module is not None:
            for name in self._registry["matplotlib.rcParams"].capture() or ():
                dict.__setitem__(module.rcParams, name, dict.__getitem__(module.rcParamsDefault, name))
