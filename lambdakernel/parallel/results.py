"""How tasks end, and what their cell shows of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.parcels import Parcel


class Returned(msgspec.Struct, frozen=True):
    """The body ran to its end; `parcel` holds what it collected."""

    parcel: Parcel


class Raised(msgspec.Struct, frozen=True):
    """The body raised. `traceback` is text for a person, with the lines of the cell."""

    ename: str
    evalue: str
    traceback: str


class Lost(msgspec.Struct, frozen=True):
    """The process of the task ended before it could say how the body went, or was ended (its time was up)."""

    reason: str


Outcome = Returned | Raised | Lost


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """Stands in the place of a result that a failed task did not give."""

    index: int
    item_repr: str
    ename: str
    evalue: str
    traceback: str = field(repr=False)

    def line(self) -> str:
        """One line for a list: `task 3 (i=3): ValueError: too hot`."""
        item = f" ({self.item_repr})" if self.item_repr else ""
        evalue = self.evalue.partition("\n")[0]
        return f"task {self.index}{item}: {self.ename}" + (f": {evalue}" if evalue else "")


def failed(index: int, item_repr: str, outcome: Raised | Lost) -> TaskFailed:
    """What takes the place of the result of a task that ended so."""
    match outcome:
        case Raised(ename, evalue, traceback):
            return TaskFailed(index, item_repr, ename, evalue, traceback)
        case Lost(reason):
            return TaskFailed(index, item_repr, "TaskLost", f"its process {reason}", "")


LISTED = 20
"""Failed tasks that an error lists by line; the rest are counted."""


class ParallelError(LambdaKernelError):
    """Some tasks failed; the results of the others are bound."""

    def __init__(self, failures: tuple[TaskFailed, ...], total: int, names: tuple[str, ...]) -> None:
        lines = [f"{len(failures)} of {total} tasks failed."]
        lines += [f"  {failure.line()}" for failure in failures[:LISTED]]
        if len(failures) > LISTED:
            lines.append(f"  ... and {len(failures) - LISTED} more")
        if names:
            each = f"{' and '.join(names)} {'holds' if len(names) == 1 else 'hold'}"
            lines.append(f"{each} the results of the others, and a TaskFailed in each failed place.")
        lines.append("With --keep-going the cell goes on without this error.")
        super().__init__("\n".join(lines))
        self.failures = failures

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the first failed task's own traceback, not the way through ours."""
        shown = next((f for f in self.failures if f.traceback), None)
        if shown is None:
            return [f"ParallelError: {self}"]
        return [f"Traceback of task {shown.index}:", shown.traceback, "", f"ParallelError: {self}"]
