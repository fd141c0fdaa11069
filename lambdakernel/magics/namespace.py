"""`%namespace`, `%epochs`, `%restore`: what the session holds, and what it held before a restart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class

from lambdakernel.magics.arguments import argument, line_magic, magic_arguments, parsed
from lambdakernel.magics.tables import Table, size


@magics_class
class NamespaceMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, durable: Any) -> None:
        super().__init__(shell)
        self._durable = durable

    @line_magic
    @magic_arguments()
    @argument("names", nargs="*", metavar="NAME", help="Show these alone; default: all.")
    def namespace(self, line: str) -> Table:
        """Show the variables of this session and where each one lives.

        `durable`: in the store as well; it outlives every process.
        `resident`: it cannot move (an open file, a thread); it lives in this worker and ends with it. The last column
        says why.
        `not loaded`: in the store, and brought here when a cell names it.
        `lost`: it was resident in a worker that has ended. Assign the name again, or delete it.
        """
        wanted = parsed(self.namespace, line).names
        rows = self._durable.ready().rows()
        unknown = sorted(set(wanted) - {row.name for row in rows})
        if unknown:
            raise UsageError(f"no variable {', '.join(unknown)} in this session. `%namespace` alone shows all.")
        return namespace_table([row for row in rows if not wanted or row.name in wanted])

    @line_magic
    @magic_arguments()
    def epochs(self, line: str) -> Table:
        """Show the epochs of this session: each restart of the kernel ends one and begins an empty one.

        `%restore EPOCH` brings the variables of one back.
        """
        parsed(self.epochs, line)
        return epoch_table(self._durable.ready().epochs())

    @line_magic
    @magic_arguments()
    @argument("epoch", nargs="?", metavar="EPOCH", help="Number of the epoch; default: the last but one.")
    def restore(self, line: str) -> None:
        """Bring back the variables of an earlier epoch, by default the one before the last restart.

        Names of that epoch replace names of now; other names stay. Nothing is run again.
        """
        namespace = self._durable.ready()
        number = choose_epoch(parsed(self.restore, line).epoch, namespace.epochs())
        print(restored_line(number, namespace.restore(number)))


def namespace_table(rows: Sequence[Any]) -> Table:
    """One row a variable, by name."""
    shown = [
        (row.name, row.type, size(row.nbytes), row.version, row.state, row.why)
        for row in sorted(rows, key=lambda row: str(row.name))
    ]
    note = "" if shown else "No variables."
    return Table(("name", "type", "size", "version", "state", "why"), shown, right=(2,), note=note)


def epoch_table(epochs: Sequence[Any]) -> Table:
    """One row an epoch, the current one last."""
    ordered = sorted(epochs, key=lambda info: int(info.number))
    rows = [(str(info.number), str(info.cells), str(info.names), _when(info.modified_s)) for info in ordered]
    return Table(("epoch", "cells", "variables", "last cell"), rows, right=(0, 1, 2))


def _when(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def choose_epoch(said: str | None, epochs: Sequence[Any]) -> int:
    """The epoch to restore: the one said, else the last before the current one.

    Raises:
        UsageError: there is no such epoch, or no earlier one.
    """
    earlier = sorted(int(info.number) for info in epochs if not info.current)
    if not earlier:
        raise UsageError("nothing to restore: this kernel was not restarted, so there is no earlier epoch.")
    if said is None:
        return earlier[-1]
    if not said.isdecimal() or int(said) not in earlier:
        listed = ", ".join(str(number) for number in earlier)
        raise UsageError(f"no earlier epoch {said!r}. There is: {listed}. `%epochs` shows them.")
    return int(said)


def restored_line(epoch: int, names: Sequence[str]) -> str:
    if not names:
        return f"Epoch {epoch} holds no variables; nothing came back."
    noun = "variable" if len(names) == 1 else "variables"
    return f"Restored {len(names)} {noun} of epoch {epoch}: {', '.join(sorted(names))}"
