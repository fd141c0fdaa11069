"""Magics of ours want their percent sign: `log` alone is a variable or an error, as it is without us.

IPython takes a line that begins with the name of a magic for that magic if no variable has the name. Names such as
`log` and `diff` are too common for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from IPython.core.prefilter import PrefilterChecker


class ExplicitMagics(PrefilterChecker):
    """Asked just before IPython's own check for magics without a percent sign."""

    def __init__(self, shell: Any, names: Iterable[str]) -> None:
        super().__init__(shell=shell, prefilter_manager=shell.prefilter_manager, priority=690)
        self._names = frozenset(names)

    def check(self, line_info: Any) -> Any:
        if line_info.esc or line_info.ifun not in self._names:
            return None
        manager: Any = self.prefilter_manager
        return manager.get_handler_by_name("normal")
