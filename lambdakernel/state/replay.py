"""Which cells to run again so that a name has its value back. Pure: it runs nothing.

The cell that bound the name last is wanted, and for each wanted cell those that bound what it needs and what is not
there any more: a resident that was lost, or a name that was deleted. What is durable is used as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from lambdakernel.errors import LambdaKernelError
from lambdakernel.state import reach
from lambdakernel.state.cells import Cell

_TRAVELS = re.compile(r"^\s*%(undo|redo|checkout|replay|restore)\b", re.MULTILINE)


class Replay(msgspec.Struct, frozen=True):
    """The cells to run, oldest first, what each is run for, and what else it binds."""

    name: str
    cells: tuple[Cell, ...]
    wanted: tuple[tuple[str, ...], ...]
    rebinds: tuple[tuple[str, ...], ...]
    later: tuple[int, ...]
    """Cells after the last that name it, too: they may have changed it, and are not run."""


class State(msgspec.Struct, frozen=True):
    """What is there now, as far as a replay asks."""

    made_by: Callable[[str], int]
    """Number of the cell that made the resident of that name; 0 if it is none."""
    is_lost: Callable[[str], bool]
    is_absent: Callable[[str], bool]
    """Neither bound, nor in the store, nor built in."""
    reached: Callable[[Iterable[str]], Iterable[str]]
    """Names that code in the values of these may use, themselves included."""


def replay(name: str, cells: Sequence[Cell], parse: Callable[[str], str], state: State) -> Replay:
    """The cells that give `name` its value; `parse` makes Python of a cell with magics.

    Raises:
        LambdaKernelError: no cell binds it, or one that is needed cannot be found; says which.
    """
    return _Search(cells, parse, state).of(name)


class _Search:
    def __init__(self, cells: Sequence[Cell], parse: Callable[[str], str], state: State) -> None:
        self._cells, self._parse, self._state = cells, parse, state
        self._reaches: dict[int, reach.Reach] = {}
        self._wanted: dict[int, set[str]] = {}

    def of(self, name: str) -> Replay:
        last = self._definer(name, len(self._cells))
        if last is None:
            raise LambdaKernelError(f"no cell of this epoch binds {name!r}. `%log` shows every cell.")
        self._want(last, name)
        order = sorted(self._wanted)
        return Replay(
            name,
            tuple(self._cells[at] for at in order),
            tuple(tuple(sorted(self._wanted[at])) for at in order),
            tuple(tuple(sorted(self._reach(at).bound - self._wanted[at])) for at in order),
            tuple(
                cell.number
                for at, cell in enumerate(self._cells[last + 1 :], last + 1)
                if name in self._reach(at).names and not self._travels(at)
            ),
        )

    def _want(self, at: int, name: str) -> None:
        is_new = at not in self._wanted
        self._wanted.setdefault(at, set()).add(name)
        for need in self._needs(at) if is_new else ():
            definer = self._definer(need, at)
            if definer is not None:
                self._want(definer, need)
            elif self._state.is_lost(need):
                raise LambdaKernelError(
                    f"{name!r} cannot be replayed: cell In [{self._cells[at].number}] needs {need!r}, which was lost"
                    f" with its worker, and no earlier cell binds it. Bind {need!r} anew, then try again."
                )

    def _needs(self, at: int) -> list[str]:
        """What a cell reads that is not there any more; what its functions read, as far as it was lost."""
        found = self._reach(at)
        own = found.bound - found.reads
        lost = {n for n in self._state.reached(found.names - own) if self._state.is_lost(n)}
        return sorted((lost | {n for n in found.reads if self._state.is_absent(n)}) - own)

    def _definer(self, name: str, before: int) -> int | None:
        """The cell before `before` that bound `name` last, by what the log says of a resident, else by its source."""
        number = self._state.made_by(name)
        for at in reversed(range(before)):
            if self._cells[at].number == number > 0 and not self._travels(at):
                return at
        for at in reversed(range(before)):
            ended_well = self._cells[at].status == "ok"
            if ended_well and name in self._reach(at).bound and not self._travels(at):
                return at
        return None

    def _travels(self, at: int) -> bool:
        return _TRAVELS.search(self._cells[at].source) is not None

    def _reach(self, at: int) -> reach.Reach:
        if at not in self._reaches:
            self._reaches[at] = reach.of_source(self._parse(self._cells[at].source))
        return self._reaches[at]
