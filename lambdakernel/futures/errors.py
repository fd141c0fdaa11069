"""How a call can fail that is not the call's own error.

All of them are `BrokenProcessPool`s, so that a program written for `ProcessPoolExecutor` catches them; but a `TaskLost`
says that one call is lost, and the executor goes on.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from lambdakernel.errors import LambdaKernelError


class TaskLost(LambdaKernelError, BrokenProcessPool):
    """The worker ended while it ran this call; other calls are not touched and the executor goes on."""

    def __init__(self, how: str) -> None:
        super().__init__(
            f"the worker {how} while it ran this call. The executor goes on and no other call is lost; submit the call"
            " again if what it may have done outside can happen twice."
        )
        self.how = how

    def __reduce__(self) -> tuple[type[TaskLost], tuple[str]]:
        return TaskLost, (self.how,)


class InitializerFailed(LambdaKernelError, BrokenProcessPool):
    """The initializer raised in a worker, so no call can run; the executor is of no more use."""


class NoWorkers(LambdaKernelError, BrokenProcessPool):
    """No worker can be had; the executor is of no more use."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no worker could be started: {why}. The call did not run; make a new Executor to try again.")
        self.why = why

    def __reduce__(self) -> tuple[type[NoWorkers], tuple[str]]:
        return NoWorkers, (self.why,)
