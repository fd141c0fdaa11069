"""`%jobs`, `%wait`, `%cancel`: the cells that run in the background."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class

from lambdakernel.magics.arguments import argument, line_magic, magic_arguments, parsed
from lambdakernel.magics.tables import Table
from lambdakernel.parallel.background import Background, State
from lambdakernel.parallel.jobs import Jobs, JobView, NoSuchJob, StillRunning
from lambdakernel.parallel.progress import duration


@magics_class
class JobMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, durable: Any, jobs: Callable[[], Jobs]) -> None:
        super().__init__(shell)
        self._durable = durable
        self._jobs_of_worker = jobs

    @line_magic
    @magic_arguments()
    @argument("number", type=int, nargs="?", help="of one job: what is known of it, with results that were not bound")
    def jobs(self, line: str) -> Table | JobView:
        """Show the background jobs of this worker: which cell, how far, and how they ended."""
        number = parsed(self.jobs, line).number
        return (
            job_table(self._jobs_of_worker().all())
            if number is None
            else self._jobs_of_worker().view(self._get(number))
        )

    @line_magic
    @magic_arguments()
    @argument("number", type=int, nargs="?", help="of the job; all that run, if left out")
    @argument("--timeout", type=float, help="seconds to wait at most; the job goes on")
    def wait(self, line: str) -> None:
        """Wait until a background job is through, and bind its names. Raises what its cell would have raised.

        An interrupt ends the waiting, and not the job.
        """
        said = parsed(self.wait, line)
        jobs = self._running() if said.number is None else [self._get(said.number)]
        end = None if said.timeout is None else time.monotonic() + said.timeout
        for job in jobs:
            if not job.wait(None if end is None else max(0.0, end - time.monotonic())):
                p = job.progress
                raise StillRunning(
                    f"job {job.number} is still running: {p.done} of {p.total} done. It goes on; `%wait {job.number}`"
                    f" again, or `%cancel {job.number}`."
                )
        self._durable.ready().touch(self._jobs_of_worker().settle())
        for job in jobs:
            job.raise_failure()

    @line_magic
    @magic_arguments()
    @argument("number", type=int, nargs="?", help="of the job; all that run, if left out")
    def cancel(self, line: str) -> None:
        """End a background job. None of its names is bound."""
        number = parsed(self.cancel, line).number
        jobs = self._running() if number is None else [self._get(number)]
        ended = [str(job.number) for job in jobs if job.cancel()]
        self._jobs_of_worker().settle()
        print(f"cancelled: job {', '.join(ended)}" if ended else "nothing to cancel: no such job is running")

    def _running(self) -> list[Background]:
        return [job for job in self._jobs_of_worker().all() if job.state is State.RUNNING]

    def _get(self, number: int) -> Background:
        try:
            return self._jobs_of_worker().get(number)
        except NoSuchJob as e:
            raise UsageError(str(e)) from None


def job_table(jobs: list[Background]) -> Table:
    """One row a job, oldest first."""
    rows = [
        (
            str(job.number),
            job.label,
            job.state.value,
            f"{job.progress.done}/{job.total}",
            duration(job.progress.elapsed_s),
            job.progress.cost.said(job.progress.price),
            ", ".join(job.names),
        )
        for job in jobs
    ]
    head = ("job", "cell", "state", "done", "elapsed", "taken", "names")
    return Table(head, rows, right=(0, 3, 4, 5), note="" if rows else "no background jobs")
