"""`%workers`: the processes of this kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from IPython.core.magic import Magics, magics_class

from lambdakernel.magics.arguments import line_magic, magic_arguments, parsed
from lambdakernel.magics.tables import Table, size
from lambdakernel.worker.processes import ProcessRow, rows


@magics_class
class WorkerMagics(Magics):
    """See the module."""

    def __init__(self, shell: Any, kernel: Any) -> None:
        super().__init__(shell)
        self._kernel = kernel

    @line_magic
    @magic_arguments()
    def workers(self, line: str) -> Table:
        """Show the processes of this kernel: front, zygote, worker, tasks, and what cells started (`user`).

        Memory is each one's share: pages that several processes hold are divided among them. Cells are those that
        this worker has run, this one included.
        """
        parsed(self.workers, line)
        return worker_table(rows(self._kernel.parent.params["front_pid"]), os.getpid(), self._kernel.cells_run + 1)


def worker_table(processes: Sequence[ProcessRow], us: int, cells: int) -> Table:
    """One row a process; `us` is the worker that ran `cells` cells."""
    shown = [
        (str(p.pid), p.role, size(p.pss_nbytes), p.state, f"{p.cpu_s:.1f} s", str(cells) if p.pid == us else "")
        for p in processes
    ]
    total = size(sum(p.pss_nbytes for p in processes))
    head = ("process", "role", "memory", "state", "processor", "cells")
    return Table(head, shown, right=(0, 2, 4, 5), note=f"{len(shown)} processes, {total} of memory")
