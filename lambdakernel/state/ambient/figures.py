"""Figures that are open in pyplot, and the backend that shows them.

A figure is an ordinary value of the notebook; what pyplot adds is its register of open ones, by number, the current one
last. It is made again with the backend's own function; nothing is drawn for that.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambdakernel.state.ambient.held import Held, Steady

_INLINE = "matplotlib_inline.backend_inline"
_ORDER = "order"


class Backend:
    """Which backend pyplot uses, if one was chosen, and whether it draws at once (`plt.ion()`).

    Brought back as late as can be, since it costs milliseconds: when a cell can reach something of matplotlib (see
    `settle`), or shows it (see `use_for`).
    """

    name = "matplotlib.backend"

    def __init__(self) -> None:
        self._waits: tuple[str | None, bool] | None = None

    def capture(self) -> Any:
        pyplot = sys.modules.get("matplotlib.pyplot")
        parameters = getattr(pyplot, "rcParams", None)
        is_chosen = _is_chosen()
        if self._waits is not None and not is_chosen:
            return self._waits
        self._waits = None
        if parameters is None:
            return None
        return (dict.get(parameters, "backend") if is_chosen else None, dict.get(parameters, "interactive"))

    def restore(self, value: Any) -> None:
        self._waits = value
        if _is_chosen():
            self.use()

    def settle(self, live: Mapping[str, Any]) -> None:
        """Choose the backend that waits, if a value that is loaded is matplotlib's."""
        if self._waits is not None and "matplotlib" in sys.modules and any(map(_is_of_matplotlib, live.values())):
            self.use()

    def use(self) -> None:
        """Choose the backend that waits."""
        if self._waits is None:
            return
        from matplotlib import pyplot

        backend, interactive = self._waits
        self._waits = None
        if backend is not None and (pyplot._backend_mod is None or pyplot.get_backend() != backend):
            pyplot.switch_backend(backend)
        pyplot.rcParams["interactive"] = interactive

    def use_for(self, obj: object) -> None:
        """Choose the backend that waits, if it is needed to show `obj`."""
        if self._waits is not None and _is_of_matplotlib(obj):
            self.use()


def _is_of_matplotlib(value: object) -> bool:
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] == "matplotlib"
    return any(str(kind.__module__).startswith("matplotlib.") for kind in type(value).__mro__)


def _is_chosen() -> bool:
    return getattr(sys.modules.get("matplotlib.pyplot"), "_backend_mod", None) is not None


class Figures(Held):
    """See the module."""

    name = "figure"

    def __init__(self) -> None:
        self._steady = Steady()

    def capture(self) -> Mapping[str, Any]:
        helpers = sys.modules.get("matplotlib._pylab_helpers")
        managers = helpers.Gcf.figs if helpers is not None else None
        if not managers:
            return self._steady.of({})
        order = self._steady.of({_ORDER: list(managers)})
        return {**order, **{str(number): manager.canvas.figure for number, manager in managers.items()}}

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        order = values.get(_ORDER, [])
        self._steady.adopt({_ORDER: order} if order else {})
        helpers = sys.modules.get("matplotlib._pylab_helpers")
        if not order and (helpers is None or not helpers.Gcf.figs):
            return {}
        from matplotlib import pyplot
        from matplotlib._pylab_helpers import Gcf

        with _nothing_drawn():
            Gcf.figs.clear()
            for number in order:
                figure = values.get(str(number))
                if figure is not None:
                    make = pyplot._get_backend_mod().new_figure_manager_given_figure
                    Gcf._set_new_active_manager(make(number, figure))
        return {}


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """The inline backend draws what was made since the last cell; what is made again was drawn by its own cell."""
    inline = sys.modules.get(_INLINE)
    before = [] if inline is None else list(inline.show._to_draw)
    try:
        yield
    finally:
        inline = sys.modules.get(_INLINE)
        if inline is not None:
            inline.show._to_draw = before
            inline.show._draw_called = bool(before)
