"""State of the IPython shell that cells change without naming a variable."""

from __future__ import annotations

from typing import Any


class LoadedExtensions:
    """Extensions that cells loaded: the next worker loads them too. Implements `state.Ambient`."""

    name = "ipython.extensions"

    def __init__(self, shell: Any) -> None:
        self._manager = shell.extension_manager
        self._start = frozenset(self._manager.loaded)

    def capture(self) -> Any:
        return tuple(sorted(self._manager.loaded - self._start))

    def restore(self, value: Any) -> None:
        for name in value:
            if name not in self._manager.loaded:
                self._manager.load_extension(name)
