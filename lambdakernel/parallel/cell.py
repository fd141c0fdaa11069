"""One `%%parallel` cell, from its text to bound names: the only module here that knows the shell.

Order of work: read the header and the body; refuse what cannot run, before anything runs; make the list of items;
commit what is pending, so that tasks read it from the store; fan out; decode; bind all names at once; and raise what
failed. An interrupt before the binding leaves the namespace as it was.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lambdakernel.errors import ValueDamaged
from lambdakernel.parallel import values
from lambdakernel.parallel.analysis import analyse, collects, notebook_syntax
from lambdakernel.parallel.begun import Begun, Cell, Prepared, Where
from lambdakernel.parallel.frontend import bar_name, shower
from lambdakernel.parallel.header import Header, HeaderError, parse_header, whole_header
from lambdakernel.parallel.in_place import changes_in_place
from lambdakernel.parallel.items import CannotFanOut, describer, items_of
from lambdakernel.parallel.launch import fan_out
from lambdakernel.parallel.one_line import VALUE, split_line
from lambdakernel.parallel.plain_lattices import joins_that_stay
from lambdakernel.parallel.progress import Bar
from lambdakernel.parallel.results import Lost, Outcome, ParallelError, Raised, Returned, TaskFailed, failed


def begin(where: Where, prepared: Prepared) -> Begun:
    """Make the list of items and commit what tasks will read.

    Raises:
        CannotFanOut: nothing ran; says what to write instead.
    """
    namespace = where.durable.ready()
    refuse_residents(prepared, namespace.rows(prepared.body.read))
    refuse_joins_that_stay(prepared, where.shell.user_ns)
    refuse_lost_updates(prepared, where.shell.user_ns)
    items = items_of(prepared.header, where.shell.user_ns, namespace.prepare)
    where.durable.after(None)
    return Begun(namespace, prepared, items, describer(prepared.header, items))


def run(where: Where, begun: Begun) -> None:
    """Run the tasks and bind the names.

    Raises:
        ParallelError: tasks failed (not with --keep-going); the names are bound all the same.
        KeyboardInterrupt: stopped; no name is bound.
    """
    found, failures = _found(where, begun)
    where.shell.user_ns.update(found)
    header = begun.prepared.header
    if failures and not header.options.keep_going:
        raise ParallelError(failures, len(begun.items), header.names)


def value_of(where: Where, begun: Begun) -> Any:
    """Run the tasks of a line without names; the list of what they give.

    Raises:
        ParallelError: tasks failed (not with --keep-going).
        KeyboardInterrupt: stopped.
    """
    found, failures = _found(where, begun)
    if failures and not begun.prepared.header.options.keep_going:
        raise ParallelError(failures, len(begun.items), ())
    return found[VALUE]


def _found(where: Where, begun: Begun) -> tuple[dict[str, Any], tuple[TaskFailed, ...]]:
    """Run the tasks: what is to be bound, and the failures."""
    bar = Bar(shower(bar_name()), time.monotonic)
    with fan_out(where, begun, bar.update) as fan:
        try:
            outcomes = fan.run()
        finally:
            bar.last(fan.progress)
            fan.joins.settle(begun.namespace)
    return results(begun, outcomes)


# -- before anything runs


def prepare(shell: Any, line: str, text: str, *, is_whole: bool = False) -> Prepared:
    """Read the cell; one that `is_whole` runs once, and each name that it assigns is collected.

    Raises:
        HeaderError, BadCollect, CannotFanOut: nothing ran; says what to write instead.
    """
    header = whole_header(line) if is_whole else parse_header(line)
    return _prepared(shell, header, text, _cell_of(shell, line, text), is_whole=is_whole)


def prepare_line(shell: Any, line: str) -> Prepared:
    """The same of a line `%parallel`.

    Raises:
        HeaderError, BadCollect, CannotFanOut: nothing ran; says what to write instead.
    """
    text, body = split_line(line)
    try:
        header = parse_header(text)
    except HeaderError as e:
        raise e.of_line(line) from None
    if not header.names:
        if header.options.background:
            what = "in the background, a line has no value: it needs names to bind."
            raise HeaderError(line, len(text), what, "Write `-> results` before the colon.", "%parallel")
        header = msgspec.structs.replace(header, names=(VALUE,))
    return _prepared(shell, header, body, _cell_of_line(shell, line), is_whole=False)


def _prepared(shell: Any, header: Header, text: str, cell: Cell, *, is_whole: bool) -> Prepared:
    lines = text.split("\n")
    empty = next((n for n, one in enumerate(lines) if one.strip()), 0)
    above = cell.above + empty  # the transformation drops empty lines at the start
    python = shell.transform_cell(text)
    for number in notebook_syntax("\n".join(lines[empty:]), python):
        raise CannotFanOut(
            f"line {above + number} is a magic or shell command ({cell.line(above + number)}), and a task has no shell"
            " for it. Use Python instead (for example `subprocess.run`), or move the line to a cell of its own."
        )
    source = "\n" * above + python
    tree = ast.parse(source, cell.label)
    body = analyse(tree)
    if is_whole:
        names = tuple(sorted(name for name in body.assigned if not name.startswith("__")))
        header = msgspec.structs.replace(header, names=names)
    return Prepared(header, body, collects(header.names, body, header.bound), source, tree, cell, is_whole)


def _cell_of(shell: Any, line: str, text: str) -> Cell:
    """The cell that is running, as the user wrote it; one made up from `line` and `text` if code runs the magic."""
    result = shell.displayhook.exec_result
    number = shell.execution_count if result is None else result.execution_count
    written = "" if result is None else str(result.info.raw_cell)
    if written.rstrip().endswith(text.rstrip()) and written.lstrip().startswith(("%%parallel", "%%background")):
        above = next(n for n, one in enumerate(written.split("\n"), 1) if one.strip())
    else:
        written, above = f"%%parallel {line}\n{text}", 1
    transformed = written if result is None else result.info.transformed_cell or written
    filename = shell.compile.get_code_name(written, transformed, number)
    return Cell(written, above, f"Cell In[{number}]", filename)


def _cell_of_line(shell: Any, line: str) -> Cell:
    """The running cell, in which the line is the first of that text; one made up if code runs the magic."""
    made = _cell_of(shell, line, "")
    result = shell.displayhook.exec_result
    written = "" if result is None else str(result.info.raw_cell)
    above = next((n for n, one in enumerate(written.split("\n")) if one.rstrip().endswith(f"%parallel {line}")), None)
    if above is None:
        return msgspec.structs.replace(made, source=f"%parallel {line}", above=0)
    return msgspec.structs.replace(made, source=written, above=above)


def refuse_residents(prepared: Prepared, rows: Iterable[Any]) -> None:
    """Raise if the body reads a variable that cannot move to a task.

    Raises:
        CannotFanOut: names the variables, why they cannot move, and what to do.
    """
    read = prepared.body.read - set(prepared.header.bound)
    stuck = [row for row in rows if row.name in read and row.state in ("resident", "lost", "damaged")]
    if stuck:
        why = "; ".join(f"{row.name!r} is {row.state} ({row.why})" for row in stuck)
        raise CannotFanOut(
            f"the body reads what cannot move to a task: {why}. Make it inside the body, or pass what it holds"
            " (a path, the rows) instead. Nothing ran."
        )


def refuse_joins_that_stay(prepared: Prepared, live: Mapping[str, Any]) -> None:
    """Raise if the body joins into a variable that holds a lattice and is not live.

    Raises:
        CannotFanOut: names the first, and says how to make it live.
    """
    own = {*prepared.header.bound, *prepared.header.names}
    if stays := joins_that_stay(prepared.tree, own, live):
        raise CannotFanOut(f"{stays} Nothing ran.")


def refuse_lost_updates(prepared: Prepared, live: Mapping[str, Any]) -> None:
    """Raise if the text of the body shows that it changes a variable of the notebook in place.

    Raises:
        CannotFanOut: names the first, and says what to write instead.
    """
    own = {*prepared.header.bound, *prepared.body.assigned}
    found = changes_in_place(prepared.tree, own, live)
    if found is None:
        return
    line, name, kind = found
    if prepared.is_whole:
        remedy = f"Assign {name} in the cell (`{name} = copy.copy({name})`): what it assigns is bound when it is done"
    else:
        remedy = (
            "Give a value for each task instead: its last expression or a name that it assigns is collected by a name"
            " after `->`. Or let tasks share a lattice that they join into (`from lambdakernel import Live`)"
        )
    raise CannotFanOut(
        f"line {line} changes {name}, a {kind} of the notebook, in place: `{prepared.cell.line(line)}`. A task works on"
        f" its own copy, so the notebook would never see it. {remedy}. Nothing ran."
    )


# -- afterwards


def results(begun: Begun, outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], tuple[TaskFailed, ...]]:
    """What is to be bound, and the failures, which stand in their places."""
    names = begun.prepared.header.names
    failures: list[TaskFailed] = []
    rows: list[Sequence[Any]] = []
    for index, outcome in enumerate(outcomes):
        match _opened(begun.namespace, outcome):
            case Raised() | Lost() as failure:
                failures.append(failed(index, begun.describe(index), failure))
                rows.append([failures[-1]] * len(names))
            case found:
                rows.append(found)
    if begun.prepared.is_whole:
        return ({} if failures else dict(rows[0][0])), tuple(failures)
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}, tuple(failures)


def _opened(namespace: Any, outcome: Outcome) -> Sequence[Any] | Raised | Lost:
    """What a task collected, or how it failed; a result that cannot be loaded here is a failure of its task alone."""
    if not isinstance(outcome, Returned):
        return outcome
    try:
        found: Sequence[Any] = values.from_parcel(namespace, outcome.parcel)
    except ValueDamaged as e:
        return Raised("ValueDamaged", str(e), "")
    return found
