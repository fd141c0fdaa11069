"""A program: a small notebook of several cells, what it claims, and what is known to be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

BREAK = "\n# %%\n"
"""Between two cells of a program's text, as in the percent format of notebooks."""


@dataclass(frozen=True, slots=True)
class Program:
    """A notebook that must show the same on ipykernel, on us warm and on us cold.

    With `resident`, one of its names holds what cannot move: cold, a cell that reads it ends in `ResidentLost`, and all
    other cells, the last one among them, are identical.
    """

    name: str
    cells: tuple[str, ...]
    resident: str | None = None
    alone: bool = False
    """It leaves behind what `%reset` does not clear, so its kernels are restarted after it."""
    ask: tuple[str, ...] = ()
    """User expressions that go with the last cell."""
    known: str | None = None
    """Why it differs cold; the test fails when it no longer does."""
    known_warm: str | None = None


def program(
    name: str,
    text: str,
    *,
    resident: str | None = None,
    alone: bool = False,
    ask: tuple[str, ...] = (),
    known: str | None = None,
    known_warm: str | None = None,
) -> Program:
    """The program whose cells are written in `text` with a line `# %%` between them.

    Raises:
        ValueError: it has fewer than 2 or more than 8 cells, or an empty one.
    """
    cells = tuple(cell.strip("\n") for cell in dedent(text).strip("\n").split(BREAK))
    if not 2 <= len(cells) <= 8 or not all(cells):
        raise ValueError(f"program {name!r} has {len(cells)} cells, {cells.count('')} empty; write 2 to 8, none empty")
    return Program(name, cells, resident, alone, ask, known, known_warm)
