"""How fan-outs that run at the same time in one process share its processors.

Each may run an equal part of what one alone would run, and at least one task, so none waits for another to end. A task
that runs is never taken away: a fan-out that joins gets its part as tasks of the others end. A number of workers that
the user gave is the user's, and is not shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Shares:
    """Counts the fan-outs that run now; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def one_more(self, usual: int) -> Iterator[Callable[[], int]]:
        """Inside, one more fan-out runs. A function that says how many tasks it may run now; `usual` if it is alone."""
        with self._lock:
            self._running += 1
        try:
            yield lambda: max(1, usual // max(1, self._running))
        finally:
            with self._lock:
                self._running -= 1
