"""`%%parallel`: the body of a cell, once for each item, in workers of their own; `%%background`: one that goes on."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_cell_magic, magics_class, no_var_expand

from lambdakernel.executors.spare import Spares
from lambdakernel.parallel.analysis import BadCollect
from lambdakernel.parallel.begun import Where
from lambdakernel.parallel.cell import begin, prepare, prepare_line, run, value_of
from lambdakernel.parallel.completion import completions
from lambdakernel.parallel.header import HeaderError
from lambdakernel.parallel.items import CannotFanOut
from lambdakernel.parallel.jobs import Jobs
from lambdakernel.parallel.one_line import VALUE
from lambdakernel.parallel.running import Running
from lambdakernel.parallel.shares import Shares


@magics_class
class ParallelMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, durable: Any, kernel: Any) -> None:
        super().__init__(shell)
        self._durable = durable
        self._kernel = kernel
        self._shares = Shares()
        for magic in ("%%parallel", "%parallel", "%%background"):
            shell.set_hook("complete_command", lambda _, event: completions(event.line, event.symbol), str_key=magic)

    @cached_property
    def jobs(self) -> Jobs:
        """Those of this worker; made with the first cell, when the kernel is whole."""
        jobs = Jobs(self._kernel.parent.params["directory"], self._durable.pins, self._on_main)
        atexit.register(jobs.close)
        return jobs

    @cached_property
    def spares(self) -> Spares[Running]:
        """What waits for the next fan-out of this worker."""
        kernel, durable = self._kernel, self._durable
        return Spares(
            kernel.parent.params["directory"],
            {"store": durable.store, "session": durable.session},
            lambda: durable.modules_named,
            lambda seconds, call: kernel.main_loop.call_soon_threadsafe(kernel.main_loop.call_later, seconds, call),
        )

    @no_var_expand
    @line_cell_magic
    def parallel(self, line: str, cell: str | None = None) -> Any:
        """Run the body of this cell once for each item, each in a worker of its own.

            %%parallel [options] for TARGET in ITERABLE [if COND] [for ...] -> NAME[, NAME...]
            BODY

        The body reads the notebook's variables; what it assigns stays in its task, but for the names after `->`:
        each becomes a list with one entry a task, in the order of the items. A name that the body assigns collects its
        final value; one that it does not assign collects the value of the body's last expression.

            %%parallel for seed in range(32) -> model, score
            model = fit(data, seed)
            model.score

        Without `for`, the body runs `--times` N times (default: the number of processors). With `--each`, it runs once
        for each combination of values, with each item if there is a loop:

            %%parallel --each dict(lr=[0.1, 0.01], depth=[2, 4]) -> score
            train(lr, depth)

        On one line it is an expression, whose value is the list of what the tasks give; or it binds names:

            scores = %parallel for seed in range(32): fit(data, seed).score
            %parallel for seed in range(32) -> scores: fit(data, seed).score

        Options: `--workers N`, most tasks at a time (default: the number of processors); `--timeout S`, seconds a task
        may take; `--memory SIZE`, what a task's body may allocate (`500MB`, `2GiB`); `--retries N`, a task that is lost
        (killed, crashed, out of memory or time) runs again, with `--retry-errors` one whose body raises too; `--again
        auto|yes|no`, whether a task that takes much longer than the others runs a second time beside itself (`auto`: if
        its body does nothing outside); `--times N`; `--each dict(NAME=VALUES, ...)`; `--keep-going`, failed tasks raise
        nothing; `--background`, the cell returns at once, and the names are bound when all tasks are through (see
        `%jobs`, `%wait`, `%cancel`).

        What a task prints and displays (figures too) is shown under its item. Where no name follows, the value of the
        body's last expression is displayed, unless it ends in a semicolon.

        A failed task leaves a `TaskFailed` in its place, the others' results are kept, and the cell raises
        `ParallelError`. An interrupt ends all tasks and binds nothing. Random numbers differ between tasks, and are the
        same again if the notebook's generators are seeded before. Changing a variable of the notebook in place is an
        error, since the change would end with the task. A `lambdakernel.Live` is for that: what tasks join into it is
        in the notebook's variable and in the other tasks while they run.
        """
        __tracebackhide__ = True
        if cell is None:
            return self._run_line(line)
        self._run(line, cell, is_whole=False)
        return None

    @no_var_expand
    @cell_magic
    def background(self, line: str, cell: str) -> None:
        """Run this cell in the background, as one task; the names that it assigns are bound when it is done.

            %%background [--timeout S] [--memory SIZE] [--retries N]
            BODY

        Later cells run meanwhile. The body sees the notebook's variables as they are now; changing one of them in place
        is an error, as in `%%parallel`. `%jobs` lists what runs, `%wait` waits for it, `%cancel` ends it. A name that
        the notebook binds anew meanwhile is left alone.
        """
        __tracebackhide__ = True
        self._run(line, cell, is_whole=True)

    def _run(self, line: str, text: str, *, is_whole: bool) -> None:
        __tracebackhide__ = True
        where = self._where()
        try:
            begun = begin(where, prepare(self.shell, line, text, is_whole=is_whole))
            if begun.prepared.header.options.background:
                self.jobs.start(where, begun)
            else:
                _interruptible(run, where, begun)
        except (HeaderError, BadCollect, CannotFanOut) as e:
            raise UsageError(str(e)) from None

    def _run_line(self, line: str) -> Any:
        """The value of the line, if it collects without a name."""
        __tracebackhide__ = True
        where = self._where()
        try:
            begun = begin(where, prepare_line(self.shell, line))
            if begun.prepared.header.options.background:
                self.jobs.start(where, begun)
                return None
            is_value = begun.prepared.header.names == (VALUE,)
            return _interruptible(value_of if is_value else run, where, begun)
        except (HeaderError, BadCollect, CannotFanOut) as e:
            raise UsageError(str(e)) from None

    def _where(self) -> Where:
        kernel = self._kernel
        return Where(
            shell=self.shell,
            durable=self._durable,
            connect=self.spares.connect,
            store=self._durable.store,
            shares=self._shares,
            default_workers=kernel.settings.parallel_workers,
            price=kernel.settings.gb_second_price,
            spares=None if kernel.settings.cold else self.spares,  # there a cell's worker ends with it
        )

    # -- jobs that are over

    def _on_main(self, settle: Callable[[], object]) -> None:
        """Called from a job's thread: its names are bound soon."""

        def when_no_cell_runs() -> None:
            if not self._kernel.running_cells:  # else at the end of that cell
                settle()
                self._durable.soon()

        self._kernel.main_loop.call_soon_threadsafe(when_no_cell_runs)

    def settle(self) -> None:
        """Bind what background jobs found, and say which were lost; called around each cell."""
        self.jobs.tell_lost(lambda text: print(text, file=sys.stderr))
        if names := self.jobs.settle():
            self._durable.ready().touch(names)


def _interruptible(call: Callable[..., Any], *args: Any) -> Any:
    """Call it. The way of an interrupt through ours says nothing to anybody, and takes longer to show than the rest."""
    __tracebackhide__ = True
    try:
        return call(*args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
