"""One `%%parallel` cell, from its text to bound names: the only module here that knows the shell.

Order of work: read the header and the body; refuse what cannot run, before anything runs; make the list of items;
commit what is pending, so that tasks read it from the store; fan out; decode; bind all names at once; and raise what
failed. An interrupt before the binding leaves the namespace as it was.
"""

from __future__ import annotations

import ast
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lambdakernel.errors import NoWorker, ValueDamaged
from lambdakernel.executors.base import Executor
from lambdakernel.parallel import handover, values
from lambdakernel.parallel.again import Again, effect_of_source
from lambdakernel.parallel.analysis import Body, Collect, Final, analyse, collects, is_silent, notebook_syntax
from lambdakernel.parallel.attempts import Limits
from lambdakernel.parallel.fanout import FanOut
from lambdakernel.parallel.header import Header, parse_header, whole_header
from lambdakernel.parallel.items import CannotFanOut, describer, items_of, processors
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.known import are_passive
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.parcels import pack
from lambdakernel.parallel.plain_lattices import joins_that_stay
from lambdakernel.parallel.progress import Bar, Bundle, Progress
from lambdakernel.parallel.results import Lost, Outcome, ParallelError, Raised, Returned, TaskFailed, failed
from lambdakernel.parallel.shares import Shares


class Where(msgspec.Struct, frozen=True):
    """The kernel around the cell: what a fan-out needs of it."""

    shell: Any
    durable: Any
    connect: Callable[[int | None], Executor]
    """Gives an executor for tasks: of that job, if it is given one."""
    store: str
    shares: Shares
    default_workers: int = 0
    """0: as many as there are processors that we may use."""
    price: float = 0.0
    """Dollars for a GB-second; 0: none is known."""
    get_ready: Callable[[], None] = lambda: None
    """Called when a fan-out is over: have what the next one needs first."""


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

    def item(self, index: int) -> int:
        """The descriptor of the parcel of an item; raises what pickling raises."""
        return values.to_parcel(self.namespace, self.items[index])


def begin(where: Where, prepared: Prepared) -> Begun:
    """Make the list of items and commit what tasks will read.

    Raises:
        CannotFanOut: nothing ran; says what to write instead.
    """
    namespace = where.durable.ready()
    refuse_residents(prepared, namespace.rows())
    refuse_joins_that_stay(prepared, where.shell.user_ns)
    items = items_of(prepared.header, where.shell.user_ns, namespace.prepare)
    where.durable.after(None)
    return Begun(namespace, prepared, items, describer(prepared.header, items))


def run(where: Where, begun: Begun) -> None:
    """Run the tasks and bind the names.

    Raises:
        ParallelError: tasks failed (not with --keep-going); the names are bound all the same.
        KeyboardInterrupt: stopped; no name is bound.
    """
    bar = Bar(shower(bar_name()), time.monotonic)
    with fan_out(where, begun, bar.update) as fan:
        try:
            outcomes = fan.run()
        finally:
            bar.last(fan.progress)
            fan.joins.settle(begun.namespace)
    found, failures = results(begun, outcomes)
    where.shell.user_ns.update(found)
    header = begun.prepared.header
    if failures and not header.options.keep_going:
        raise ParallelError(failures, len(begun.items), header.names)


# -- before anything runs


def prepare(shell: Any, line: str, text: str, *, is_whole: bool = False) -> Prepared:
    """Read the cell; one that `is_whole` runs once, and each name that it assigns is collected.

    Raises:
        HeaderError, BadCollect, CannotFanOut: nothing ran; says what to write instead.
    """
    header = whole_header(line) if is_whole else parse_header(line)
    cell = _cell_of(shell, line, text)
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
    body = analyse(ast.parse(source, cell.label))
    if is_whole:
        names = tuple(sorted(name for name in body.assigned if not name.startswith("__")))
        header = msgspec.structs.replace(header, names=names)
    return Prepared(header, body, collects(header.names, body, header.bound), source, cell, is_whole)


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
    if stays := joins_that_stay(ast.parse(prepared.source), own, live):
        raise CannotFanOut(f"{stays} Nothing ran.")


# -- the tasks


@contextmanager
def fan_out(
    where: Where,
    begun: Begun,
    watch: Callable[[Progress], None],
    *,
    item: Callable[[int], int] | None = None,
    moment: str = "",
    again: Again | None = None,
) -> Iterator[FanOut]:
    """The fan-out of a cell, to be run inside. `item` gives parcels of items that were made before; `moment` is what
    the tasks see of the session, as `asof` reads it; `again` says whether they may run twice, if that is known."""
    options = begun.prepared.header.options
    usual = where.default_workers or processors()
    job = pack(_job(where, begun, moment).to_bytes())
    try:
        with where.shares.one_more(usual) as share:
            yield FanOut(
                _executor(where, job, len(begun.items)),
                job=job,
                total=len(begun.items),
                item=item or begun.item,
                limits=Limits(
                    options.workers or usual,
                    options.timeout_s,
                    options.memory_nbytes,
                    options.retries,
                    options.retry_errors,
                ),
                grouped=Grouped(_write, begun.heading, _display),
                watch=watch,
                share=None if options.workers else share,
                again=again or again_of(where, begun),
                price=where.price,
            )
    finally:
        os.close(job)
        if len(begun.items) > 1:
            where.get_ready()


def again_of(where: Where, begun: Begun) -> Again:
    """Whether tasks may have a second attempt beside the first; found out when it is first asked."""
    prepared, live = begun.prepared, where.shell.user_ns

    def effect() -> str:
        bound = prepared.header.bound
        return effect_of_source(prepared.source, bound, live, lambda name: begun.namespace.load([name]), begun.items)

    return Again(prepared.header.options.again, effect)


def _executor(where: Where, job: int, total: int) -> Executor:
    try:
        return where.connect(job if total > 1 else None)
    except OSError as e:
        raise NoWorker(f"the process that starts tasks cannot be reached ({e.strerror or e})") from e


def _job(where: Where, begun: Begun, moment: str) -> Job:
    namespace, prepared = begun.namespace, begun.prepared
    return Job(
        store=where.store,
        session=where.durable.session,
        epoch=namespace.current_epoch(),
        body=prepared.source,
        cell=prepared.cell.source,
        filename=prepared.cell.filename,
        label=prepared.cell.label,
        target=prepared.header.target,
        bound=prepared.header.bound,
        names=prepared.header.names,
        finals=tuple(c.name for c in prepared.collects if isinstance(c, Final)),
        seeds=_seeds(),
        import_path=tuple(path for path in sys.path if isinstance(path, str)),
        fan=os.urandom(6).hex(),
        memory_nbytes=prepared.header.options.memory_nbytes,
        moment=moment,
        is_whole=prepared.is_whole,
        shows_value=(prepared.is_whole or not prepared.header.names) and not is_silent(prepared.source),
        most_items=handover.MOST_ITEMS if len(begun.items) > 1 and are_passive(begun.items) else 1,
    )


def _seeds() -> dict[str, int]:
    """Drawn from the notebook's generators: two fan-outs differ, and a seeded notebook gives the same again."""
    seeds = {"random": random.getrandbits(64)}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        seeds["numpy"] = int(numpy.random.randint(2**31))
    return seeds


def bar_name() -> str:
    """A name for a display that nothing else has."""
    return f"lambdakernel-parallel-{os.urandom(8).hex()}"


def shower(name: str) -> Callable[[Bundle, bool], None]:
    """Shows a bundle as the display `name`, or updates it."""
    import IPython.display

    ipython: Any = IPython.display

    def show(bundle: Bundle, is_update: bool) -> None:
        (ipython.update_display if is_update else ipython.display)(bundle, raw=True, display_id=name)

    return show


def _display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    import IPython.display

    ipython: Any = IPython.display
    ipython.display(data, metadata=metadata, raw=True)


def _write(stream: str, text: str) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()


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
