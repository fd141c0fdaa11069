"""Fan-out of a cell over workers: `%%parallel`.

`header` and `analysis` read the cell, `fanout` runs its tasks over an executor, `task` is what each of them does in its
process, `parcels` carry items and results, `cell` holds it together. A process takes `further` items where its body
`stays` what it was at its `birth`.
"""

from __future__ import annotations

from lambdakernel.parallel.results import ParallelError, TaskFailed

__all__ = ["ParallelError", "TaskFailed"]
