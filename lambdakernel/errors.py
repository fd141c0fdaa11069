"""Every error that lambdakernel itself raises: each says what happened, with values, and then what to do.

The front imports this module at start-up: standard library only, and little of it.
"""

from __future__ import annotations


class LambdaKernelError(Exception):
    """Root of our errors; a user's own exception is never one of these."""


class BadSetting(LambdaKernelError):
    """A setting's text does not fit it."""

    def __init__(self, name: str, text: str, fits: str) -> None:
        super().__init__(
            f"setting {name!r} is {text!r}, but takes {fits}. Change or unset LAMBDAKERNEL_{name.upper()}."
        )
        self.name = name


class BadConnectionFile(LambdaKernelError):
    """The connection file that Jupyter named cannot be used."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"connection file {path!r}: {why}. Start the kernel again from Jupyter, which writes a new one."
        )
        self.path = path


class WorkerLost(LambdaKernelError):
    """The worker ended while it ran a cell; nothing of that cell was committed."""

    def __init__(self, pid: int, how: str, lost: tuple[str, ...] = ()) -> None:
        text = f"the worker (process {pid}) {how} while it ran this cell. The namespace is as it was before the cell."
        if lost:
            text += f" Gone with the worker, since they cannot move: {', '.join(lost)}."
        super().__init__(text + " Nothing was run again; run the cell again if its outside effects may happen twice.")
        self.pid = pid


class NoWorker(LambdaKernelError):
    """No worker can be had, so nothing ran."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no worker could be started: {why}. Nothing ran and nothing is lost; run the cell again to try again."
        )


class NotSaved(LambdaKernelError):
    """A cell ran, but the store refused its changes."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the cell ran, but its changes could not be saved: {why}. The values live on in this worker, and the"
            " next cell saves them once the cause is gone."
        )


class ResidentLost(LambdaKernelError):
    """A variable that could not move was lost with its worker."""

    def __init__(self, name: str, path: str, type_name: str, reason: str, cell: int, worker: str) -> None:
        where = f"cell In [{cell}]" if cell else "a callback"
        culprit = f"{path} is {reason}" if path != name else f"it is {reason}"
        super().__init__(
            f"{name} is gone: {culprit} ({type_name}), which cannot leave the process that made it, and {worker} has"
            f" ended. It was made by {where}: `%replay {name}` runs that cell again. Or bind {name} anew, or"
            f" `del {name}`."
        )
        self.name, self.path, self.cell = name, path, cell


class ValueDamaged(LambdaKernelError):
    """A stored value cannot be loaded."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be loaded: {why}. Every other variable can; bind {name} anew, or `del {name}`."
        )
        self.name = name
