"""The shell of a worker: IPython's, which loads what a cell is about to reach before it runs it."""

from __future__ import annotations

from types import ModuleType

from ipykernel.zmqshell import ZMQInteractiveShell


class NamespaceModule(ModuleType):
    """`__main__` of a worker. Names that are in the store but not loaded yet come when they are asked for."""


class WorkerShell(ZMQInteractiveShell):
    """See the module."""
