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


class AutoReload:
    """What `%autoreload` and `%aimport` were told, if that extension is loaded. Implements `state.Ambient`."""

    name = "ipython.autoreload"
    _SWITCHES = ("enabled", "check_all", "autoload_obj", "hide_errors")
    _MODULES = ("modules", "skip_modules")

    def __init__(self, shell: Any) -> None:
        self._magics = shell.magics_manager.registry

    def capture(self) -> Any:
        magics = self._magics.get("AutoreloadMagics")
        if magics is None:
            return None
        reloader = magics._reloader
        switches = [getattr(reloader, name, False) for name in self._SWITCHES]
        return (switches, [sorted(getattr(reloader, name)) for name in self._MODULES])

    def restore(self, value: Any) -> None:
        reloader = self._magics["AutoreloadMagics"]._reloader  # the extension was loaded just before
        for name, switch in zip(self._SWITCHES, value[0], strict=True):
            setattr(reloader, name, switch)
        for name, modules in zip(self._MODULES, value[1], strict=True):
            getattr(reloader, name).clear()
            getattr(reloader, name).update(dict.fromkeys(modules, True))
