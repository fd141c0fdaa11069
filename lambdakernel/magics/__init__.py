"""The magics of the kernel: a line of a cell to one call. One thin module a family."""

from __future__ import annotations

from typing import Any


def load(shell: Any, durable: Any, kernel: Any) -> None:
    """Register every magic with `shell`; `durable` and `kernel` are what they act on."""
    from lambdakernel.magics.namespace import NamespaceMagics
    from lambdakernel.magics.parallel import ParallelMagics
    from lambdakernel.magics.travel import TravelMagics
    from lambdakernel.magics.workers import WorkerMagics

    shell.register_magics(NamespaceMagics(shell, durable))
    shell.register_magics(TravelMagics(shell, durable))
    shell.register_magics(WorkerMagics(shell, kernel))
    shell.register_magics(ParallelMagics(shell, durable, kernel))


__all__ = ["load"]
