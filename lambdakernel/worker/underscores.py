"""What the shell knows of inputs and outputs beside their values: which names it no longer binds, what was cleared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lambdakernel.state import Cell

SHOWN = ("_", "__", "___")
KEPT = object()
"""As what the shell bound last: it then finds that `_` is something else, and leaves it alone."""


def kept_names(shell: Any) -> tuple[str, ...]:
    """Those of `_`, `__` and `___` that the shell leaves as they are, since it did not bind them.

    That is its display hook's own rule. It is so after an assignment, and after `%reset out` until they are deleted.
    """
    bound, hidden, hook = shell.user_ns, shell.user_ns_hidden, shell.displayhook
    ours = ((name, hidden[name] if name in hidden else getattr(hook, name)) for name in SHOWN if name in bound)
    return tuple(name for name, value in ours if value is not bound[name])


class Kept:
    """The names that the shell leaves as they are. Implements `state.Ambient`."""

    name = "ipython.kept"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def capture(self) -> Any:
        return kept_names(self._shell)

    def restore(self, value: Any) -> None:
        hidden, bound = self._shell.user_ns_hidden, self._shell.user_ns
        hidden.update({name: KEPT if name in value else bound.get(name) for name in SHOWN})


class ClearedInputs:
    """The number up to which `%reset in` emptied `In`. Implements `state.Ambient`."""

    name = "ipython.cleared"

    def __init__(self, shell: Any) -> None:
        self._manager = shell.history_manager
        self.until = 0

    def capture(self) -> Any:
        inputs = self._manager.input_hist_raw
        while self.until + 1 < len(inputs) and not inputs[self.until + 1]:
            self.until += 1
        return self.until

    def restore(self, value: Any) -> None:
        self.until = value


class OutputTexts(dict[int, str]):
    """Texts of outputs by number, for `%history -o`: one that a cell of another worker did not leave is made when it is
    asked for, from what it is now."""

    def __init__(self, shell: Any, output: Callable[[int], Any], cells: Iterable[Cell] = ()) -> None:
        """`output` gives the value of one; None if it is not there. `cells` are those of other workers."""
        super().__init__({cell.number: cell.output for cell in cells if cell.output})
        self.update(shell.history_manager.output_hist_reprs)
        self._format = shell.display_formatter.format
        self._output = output

    def get(self, number: int, default: Any = None) -> Any:
        if number not in self:
            value = self._output(number)
            if value is None:
                return default
            formatted, _ = self._format(value, include={"text/plain"})
            if "text/plain" in formatted:
                self[number] = formatted["text/plain"]
        return super().get(number, default)


def text_of_output(shell: Any, number: int) -> str:
    """What a cell should leave of the text of its output: nothing if it is long, or of a value that cannot change."""
    texts, outputs = shell.history_manager.output_hist_reprs, shell.user_ns.get("Out", {})
    if number not in texts or number not in outputs or type(outputs[number]) in _ATOMS:
        return ""
    return str(texts[number]) if len(texts[number]) <= _LONGEST else ""


_LONGEST = 10_000
_ATOMS = (int, float, complex, bool, str, bytes)
