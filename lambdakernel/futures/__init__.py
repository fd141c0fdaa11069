"""`lambdakernel.Executor`: `concurrent.futures` over forked workers, in plain Python or in a cell.

`executor` is the face, `pool` what callers share with the thread of `owner`, which decides who runs what; `staff` hires
and buries, `crew` is one worker and its calls, `births` and `nursery` the two ends that fork workers, `worker` what
each of them does. `encoding`, `steady`, `sealing` and `buffers` turn calls into messages, `line` carries these,
`answers` reads them; `maps` keeps large arguments, `joins` brings live lattices back. `joblib_backend` is joblib's
plug. Names are loaded on first use: a worker needs few of them, and is born in milliseconds.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs a worker milliseconds
if TYPE_CHECKING:
    from lambdakernel.futures.errors import InitializerFailed, NoWorkers, TaskLost
    from lambdakernel.futures.executor import Executor

__all__ = ["Executor", "InitializerFailed", "NoWorkers", "TaskLost"]


def __getattr__(name: str) -> object:
    if name == "Executor":
        from lambdakernel.futures import executor

        return executor.Executor
    if name in __all__:
        from lambdakernel.futures import errors

        found: object = getattr(errors, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
