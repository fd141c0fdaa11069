"""A `%%parallel` cell on its way from its text to its tasks, and the kernel around it: as records."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lambdakernel.executors.base import Executor
from lambdakernel.executors.spare import Spares
from lambdakernel.parallel import values
from lambdakernel.parallel.analysis import Body, Collect
from lambdakernel.parallel.header import Header
from lambdakernel.parallel.parcels import Sealed
from lambdakernel.parallel.running import Running
from lambdakernel.parallel.shares import Shares


class Where(msgspec.Struct, frozen=True):
    """The kernel around the cell: what a fan-out needs of it."""

    shell: Any
    durable: Any
    connect: Callable[[int | None, Sequence[str]], Executor]
    """Gives an executor for tasks: of that job, if it is given one; they are born with those modules."""
    store: str
    shares: Shares
    default_workers: int = 0
    """0: as many as there are processors that we may use."""
    price: float = 0.0
    """Dollars for a GB-second; 0: none is known."""
    spares: Spares[Running] | None = None
    """What waits for the next fan-out; None: nothing does."""


class Cell(msgspec.Struct, frozen=True):
    """The cell as the user wrote it, with the file name and the label that tracebacks give it."""

    source: str
    above: int
    """Its lines before the body."""
    label: str
    filename: str

    def line(self, number: int) -> str:
        lines = self.source.split("\n")
        return lines[number - 1].strip() if number <= len(lines) else ""


class Prepared(msgspec.Struct, frozen=True):
    """A cell that was read and found fit to run."""

    header: Header
    body: Body
    collects: tuple[Collect, ...]
    source: str
    """The body as Python, on the lines that it has in the cell."""
    tree: ast.Module
    """Of that."""
    cell: Cell
    is_whole: bool = False
    """The body is a whole cell that runs once; each name that it assigns is collected."""


class Begun(msgspec.Struct, frozen=True):
    """A cell whose items are known."""

    namespace: Any
    prepared: Prepared
    items: Sequence[Any]
    describe: Callable[[int], str]
    """A short text for the item of a task."""

    def heading(self, index: int) -> str:
        said = self.describe(index)
        return f"task {index} ({said})" if said else f"task {index}"

    def item(self, index: int) -> Sealed:
        """The parcel of an item; raises what pickling raises."""
        return values.to_parcel(self.namespace, self.items[index])
