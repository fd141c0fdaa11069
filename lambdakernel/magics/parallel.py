"""`%%parallel`: the body of a cell, once for each item, in workers of their own."""

from __future__ import annotations

from functools import partial
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand

from lambdakernel.executors.local import connect
from lambdakernel.parallel.analysis import BadCollect
from lambdakernel.parallel.cell import CannotFanOut, Where, run_cell
from lambdakernel.parallel.header import HeaderError


@magics_class
class ParallelMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, durable: Any, kernel: Any) -> None:
        super().__init__(shell)
        self._durable = durable
        self._kernel = kernel

    @no_var_expand
    @cell_magic
    def parallel(self, line: str, cell: str) -> None:
        """Run the body of this cell once for each item, each in a worker of its own.

            %%parallel [options] for TARGET in ITERABLE [if COND] [for ...] -> NAME[, NAME...]
            BODY

        The body reads the notebook's variables; what it assigns stays in its task, but for the names after `->`:
        each becomes a list with one entry a task, in the order of the items. A name that the body assigns collects its
        final value; one that it does not assign collects the value of the body's last expression.

            %%parallel for seed in range(32) -> model, score
            model = fit(data, seed)
            model.score

        Without `for`, the body runs `--times` N times (default: the number of processors).

        Options: `--workers N`, most tasks at a time (default: the number of processors); `--timeout S`, seconds a task
        may take; `--memory SIZE`, what a task's body may allocate (`500MB`, `2GiB`); `--retries N`, a task that is lost
        (killed, crashed, out of memory or time) runs again, with `--retry-errors` one whose body raises too;
        `--times N`; `--keep-going`, failed tasks raise nothing.

        What a task prints and displays (figures too) is shown under its item. Where no name follows, the value of the
        body's last expression is displayed, unless it ends in a semicolon.

        A failed task leaves a `TaskFailed` in its place, the others' results are kept, and the cell raises
        `ParallelError`. An interrupt ends all tasks and binds nothing. Random numbers differ between tasks, and are the
        same again if the notebook's generators are seeded before. Changing a variable of the notebook in place is an
        error, since the change would end with the task.
        """
        kernel = self._kernel
        where = Where(
            shell=self.shell,
            durable=self._durable,
            connect=partial(connect, kernel.parent.params["directory"]),
            store=self._durable.store,
            default_workers=kernel.settings.parallel_workers,
        )
        try:
            run_cell(where, line, cell)
        except (HeaderError, BadCollect, CannotFanOut) as e:
            raise UsageError(str(e)) from None
