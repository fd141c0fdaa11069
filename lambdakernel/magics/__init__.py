"""The magics of the kernel: a line of a cell to one call. One thin module a family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lambdakernel.magics.explicit import ExplicitMagics
from lambdakernel.magics.jobs import JobMagics
from lambdakernel.magics.namespace import NamespaceMagics
from lambdakernel.magics.parallel import ParallelMagics
from lambdakernel.magics.travel import TravelMagics
from lambdakernel.magics.workers import WorkerMagics


def load(shell: Any, durable: Any, kernel: Any) -> Callable[[], None]:
    """Register every magic with `shell`; `durable` and `kernel` are what they act on. What to call around each cell."""
    parallel = ParallelMagics(shell, durable, kernel)
    ours = (
        NamespaceMagics(shell, durable),
        TravelMagics(shell, durable),
        WorkerMagics(shell, kernel),
        parallel,
        JobMagics(shell, durable, lambda: parallel.jobs),
    )
    for magics in ours:
        shell.register_magics(magics)
    ExplicitMagics(shell, (name for magics in ours for name in magics.magics["line"]))
    return parallel.settle


__all__ = ["load"]
