"""The thread that moves a long tail to its database while its holder goes on publishing. `Replica` owns one.

A tail that nobody flushes grows, and whoever opens the lane reads all of it. So the publish that finds it long has it
moved, and waits for that only if it got longer still meanwhile. What a move failed with, the next such publish raises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_WAIT_S = 30.0
"""Of a close for a move, which takes some 0.2 s."""


class Folding:
    """See the module. For one thread at a time, as a replica's publish is."""

    def __init__(self, fold: Callable[[], object]) -> None:
        self._fold = fold
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, *, is_urgent: bool) -> None:
        """Have it moved, unless that is going on; if it is urgent, move it here and now, after what is going on.

        Raises:
            What the move before failed with, once.
        """
        if is_urgent:  # not by waiting for the thread, which may wait for a lock that the caller holds
            self._fold()
            return
        if self._thread is None or not self._thread.is_alive():
            self._raise()
            self._thread = threading.Thread(target=self._run, name="kvs fold", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread can be had
                self._thread = None
                self._fold()

    def end(self) -> None:
        """Wait until nothing is being moved.

        Raises:
            What it failed with.
        """
        if self._thread is not None:
            self._thread.join(_WAIT_S)
            self._raise()

    def _run(self) -> None:
        try:
            self._fold()
        except BaseException as e:
            self._failure = e

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
