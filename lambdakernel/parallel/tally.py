"""What is known of the tasks of one fan-out so far: their outcomes, and the numbers that are shown of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Outcome, Returned
from lambdakernel.parallel.running import Running


class Tally:
    """See the module. Used by the thread that runs the fan-out."""

    def __init__(self, total: int, price: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._outcomes: list[Outcome | None] = [None] * total
        self._progress = Progress(total, price=price)

    @property
    def is_over(self) -> bool:
        return self._progress.done >= self._progress.total

    def outcomes(self) -> list[Outcome]:
        """Of all tasks that are over, in order."""
        return [outcome for outcome in self._outcomes if outcome is not None]

    def progress(self, live: Iterable[Running]) -> Progress:
        """Where things stand now; `live` are the attempts that run."""
        tasks = list(live)
        return msgspec.structs.replace(
            self._progress,
            running=len({task.index for task in tasks if task.outcome is None}),
            elapsed_s=self._clock() - self._began,
            memory_nbytes=sum(task.taken_nbytes for task in tasks),
        )

    def record(self, index: int, outcome: Outcome) -> None:
        """The task is over."""
        self._outcomes[index] = outcome
        self._set(done=self._progress.done + 1, failed=self._progress.failed + (not isinstance(outcome, Returned)))

    def ran_twice(self) -> None:
        """A late task has a second attempt beside the first."""
        self._set(twice=self._progress.twice + 1)

    def retried(self) -> None:
        """A lost task is tried again."""
        self._set(retried=self._progress.retried + 1)

    def held(self, nbytes: int) -> None:
        """A task that ended has held so much beyond what it was born with."""
        self._set(peak_nbytes=max(nbytes, self._progress.peak_nbytes))

    def took(self, task: Running, nbytes: int) -> None:
        """The attempt is over, and has held `nbytes` of memory."""
        cost = self._progress.cost.plus(task.cpu_s, max(0.0, self._clock() - task.began), nbytes)
        self._set(cost=cost)

    def close(self, live: Iterable[Running]) -> None:
        """Nothing will come any more."""
        self._progress = msgspec.structs.replace(self.progress(live), stopped=not self.is_over)

    def _set(self, **changed: object) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changed)
