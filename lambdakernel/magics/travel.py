"""`%log`, `%undo`, `%redo`, `%checkout`, `%diff`, `%replay`: what cells did to the variables, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class

from lambdakernel.errors import LambdaKernelError
from lambdakernel.magics.arguments import argument, line_magic, magic_arguments, parsed
from lambdakernel.magics.tables import Table, size

SHORT = ("_", "__", "___")
DEFAULT_LINES = 20


@magics_class
class TravelMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, durable: Any) -> None:
        super().__init__(shell)
        self._shell: Any = shell
        self._durable = durable

    @line_magic
    @magic_arguments()
    @argument("-n", dest="lines", metavar="N", help=f"Show the last N; default: {DEFAULT_LINES}.")
    @argument("--all", action="store_true", help="Show all of this epoch.")
    def log(self, line: str) -> Table:
        """Show the cells of this epoch, newest last: how each ended, and the variables that it wrote and deleted.

        What changed outside cells (a widget's callback, a thread) has lines of its own. `?` stands for names that
        cannot be told, because the old versions were collected.
        """
        said = parsed(self.log, line)
        wanted = _number(said.lines, "-n takes a number of lines") if said.lines is not None else DEFAULT_LINES
        rows = self._durable.ready().past().log(None if said.all else wanted + 1)
        return log_table(rows, None if said.all else wanted)

    @line_magic
    @magic_arguments()
    @argument("cells", nargs="?", metavar="N", help="How many cells to go back; default: 1.")
    def undo(self, line: str) -> None:
        """Bring the variables back to what they were before the last N cells that changed something.

        Nothing is run and no history is lost: the earlier values become current once more. Variables that did not
        exist then are deleted; aliases are aliases again; the working directory, the environment, random numbers and
        their like go back too. `%undo` again goes back further, `%redo` takes it back.
        """
        said = parsed(self.undo, line).cells
        cells = 1 if said is None else _number(said, "%undo takes a number of cells, such as `%undo 2`")
        self._travel(lambda traveller: traveller.undo(cells, by=self._number))

    @line_magic
    @magic_arguments()
    def redo(self, line: str) -> None:
        """Take the last `%undo` back, if nothing was changed since.

        After several `%undo` in a row, each `%redo` takes back one.
        """
        parsed(self.redo, line)
        self._travel(lambda traveller: traveller.redo(by=self._number))

    @line_magic
    @magic_arguments()
    @argument("cell", metavar="CELL", help="Number n of `In [n]`, in this epoch.")
    def checkout(self, line: str) -> None:
        """Bring the variables back to what they were just after a cell; as `%undo` does, and `%undo` takes it back."""
        number = _number(
            parsed(self.checkout, line).cell, "%checkout takes the number of a cell, such as `%checkout 3`"
        )
        self._travel(lambda traveller: traveller.checkout(number, by=self._number))

    @line_magic
    @magic_arguments()
    @argument("cells", nargs="+", metavar="CELL", help="One cell, to compare with now; or two, to compare.")
    def diff(self, line: str) -> Table:
        """Show the variables that differ between the states after two cells, or after one and now.

        Short values are shown. Nothing is bound and nothing changes. A size is that of a variable with all that
        shares structure with it.
        """
        said = parsed(self.diff, line).cells
        if len(said) > 2:
            raise UsageError("%diff takes one cell or two, such as `%diff 3` or `%diff 3 5`.")
        numbers = [_number(text, "%diff takes numbers of cells, such as `%diff 3 5`") for text in said]
        try:
            return diff_table(self._durable.ready().past().differences(*numbers))
        except LambdaKernelError as e:
            raise UsageError(str(e)) from None

    @line_magic
    @magic_arguments()
    @argument("name", metavar="NAME", help="The variable to get back.")
    @argument("--dry-run", action="store_true", help="Show the cells, and run nothing.")
    def replay(self, line: str) -> Table | None:
        """Run again the cells that gave a variable its value: for one that was lost with its worker.

        The cell that bound it last is run; before it, those that bound what it needs and what is not there any more.
        Everything else that these cells do happens again too, so look first with `--dry-run`.
        """
        said = parsed(self.replay, line)
        try:
            found = self._durable.ready().past().replay(said.name, self._shell.transform_cell)
        except LambdaKernelError as e:
            raise UsageError(str(e)) from None
        table = replay_table(found)
        if said.dry_run:
            return table
        for cell in found.cells:
            if self._shell.should_run_async(cell.source, transformed_cell=self._shell.transform_cell(cell.source)):
                raise UsageError(
                    f"In [{cell.number}] awaits something, so it cannot be run from here. Run it yourself."
                )
        print(repr(table))
        self._run(found.cells)
        print(f"Ran {_cells([cell.number for cell in found.cells])}; {said.name} is bound again.")
        return None

    def _run(self, cells: Sequence[Any]) -> None:
        ran: list[int] = []
        ran_as = self._shell.ran_as
        try:
            for cell in cells:
                if not self._shell.run_cell(cell.source, store_history=False).success:
                    done = f"{_cells(ran)} ran before it" if ran else "No other cell was run"
                    raise UsageError(f"In [{cell.number}] failed, so the replay stopped there. {done}.")
                ran.append(cell.number)
        finally:
            self._shell.ran_as = ran_as  # the file name of this cell, which the others' took the place of

    @property
    def _number(self) -> int:
        """n of the `In [n]` that asks; 0 if it has none."""
        return int(getattr(self._shell.displayhook.exec_result, "execution_count", 0) or 0)

    def _travel(self, move: Any) -> None:
        try:
            with self._outputs_followed(), self._durable.ready().travelling() as traveller:
                moved = move(traveller)
        except LambdaKernelError as e:
            raise UsageError(str(e)) from None
        print(moved_line(moved))

    @contextmanager
    def _outputs_followed(self) -> Iterator[None]:
        """The shell keeps the values of `_`, `__` and `___` apart, too, and binds them while it finds there what it
        bound last; what a move takes from the names must not come back from there."""
        hook, live, hidden = self._shell.displayhook, self._shell.user_ns, self._shell.user_ns_hidden
        followed = [name for name in SHORT if name not in live or live[name] is hidden.get(name, getattr(hook, name))]
        yield
        for name in SHORT:
            if name in followed or name not in live:
                setattr(hook, name, live.get(name, ""))
                hidden[name] = live.get(name, "")


def _number(text: str, usage: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{usage}, not {text!r}.")
    return int(text)


def _cells(numbers: Sequence[int]) -> str:
    return ", ".join(f"In [{number}]" if number else "a `%restore`" for number in numbers)


def log_table(rows: Sequence[Any], limit: int | None = None) -> Table:
    """One row a cell, newest last; a note if there are more than `limit`."""
    shown = list(rows) if limit is None else list(rows)[-limit:]
    lines = [
        (
            str(row.number or ""),
            row.status,
            f"{row.seconds:.2f}" if row.seconds else "",
            _names(row.written),
            _names(row.deleted),
            row.source,
        )
        for row in shown
    ]
    note = "" if len(shown) == len(rows) else f"The last {len(shown)}; `%log --all` shows all."
    head = ("cell", "status", "seconds", "wrote", "deleted", "source")
    return Table(head, lines, right=(0, 2), note=note if shown else "No cells in this epoch yet.")


def _names(names: Sequence[str] | None) -> str:
    return "?" if names is None else ", ".join(names)


def diff_table(differences: Sequence[Any]) -> Table:
    """One row a variable, by name."""
    lines = [
        (
            one.name,
            one.change,
            _arrow(*one.types),
            *(size(n) if kind else "" for n, kind in zip(one.nbytes, one.types, strict=True)),
            one.shown[0] or one.why,
            one.shown[1],
        )
        for one in differences
    ]
    head = ("name", "change", "type", "size before", "size after", "before", "after")
    return Table(head, lines, right=(3, 4), note="" if lines else "No variable differs.")


def _arrow(before: str, after: str) -> str:
    return before or after if not before or not after or before == after else f"{before} -> {after}"


def replay_table(found: Any) -> Table:
    """One row a cell that a replay runs, in order."""
    lines = [
        (str(cell.number), ", ".join(wanted), ", ".join(others), cell.source)
        for cell, wanted, others in zip(found.cells, found.wanted, found.rebinds, strict=True)
    ]
    note = f"Not run, though it names {found.name} too: {_cells(found.later)}." if found.later else ""
    return Table(("cell", "run for", "binds too", "source"), lines, right=(0,), note=note)


def moved_line(moved: Any) -> str:
    """One line: what a move did, what it could not bring back, and how to take it back."""
    cells = _cells(moved.cells)
    parts = [
        f"{verb} {', '.join(names)}"
        for verb, names in (
            ("brought back", moved.back),
            ("brought back the definition of class", [c for c in moved.classes if c not in moved.back]),
            ("removed", moved.removed),
            ("brought back ambient state:", moved.ambient),
        )
        if names
    ]
    start = {"undo": f"Undid {cells}", "redo": "Took the last undo back", "checkout": f"As after {cells}"}[moved.kind]
    moved_nothing = not (parts or moved.lost or moved.dropped)
    line = f"{start}: {'; '.join(parts) or 'no variable differs'}." if parts or moved_nothing else f"{start}."
    for said, names in (
        ("Cannot come back, since only their process had them: ", moved.lost),
        ("Gone, and no undo brings them back: ", moved.dropped),
        ("Not brought back: ", moved.unrestored),
    ):
        if names:
            line += f" {said}{', '.join(names)}."
    way_back = {"undo": " `%redo` takes this back.", "redo": "", "checkout": " `%undo` takes this back."}
    return line if moved_nothing else line + way_back[moved.kind]
