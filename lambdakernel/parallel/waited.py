"""What the loop of a fan-out waits for: its executor, the lines and pipes of tasks, and a bell for other threads."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

from lambdakernel.parallel.running import Running


class Waited:
    """See the module. Used by one thread, but for `ring`. The descriptors of tasks stay theirs."""

    def __init__(self, executor: int) -> None:
        self._poller = select.poll()
        self._of_fd: dict[int, Running] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._poller.register(executor, select.POLLIN)
        self._poller.register(self._bell, select.POLLIN)

    def ready(self, patience_ms: float) -> Iterator[int]:
        """The descriptors with news, once there are some, or after `patience_ms`."""
        return (fd for fd, _ in self._poller.poll(patience_ms))

    def ring(self) -> None:
        """End the waiting; from any thread."""
        with self._lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        with self._lock:
            os.close(self._bell)
            self._bell = -1

    # -- tasks

    def add(self, task: Running) -> None:
        """From now on its line and pipes are waited for, as its own."""
        for fd in (task.end.fileno(), *task.pipes):
            self._of_fd[fd] = task
            self._poller.register(fd, select.POLLIN)

    def task_of(self, fd: int) -> Running | None:
        """Whose it is: nobody's, if that task ended in this same round."""
        return self._of_fd.get(fd)

    def drop(self, fd: int) -> None:
        if self._of_fd.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def sweep(self, task: Running) -> None:
        """Close the pipes that ended."""
        for fd in task.ended_pipes:
            self.drop(fd)
            del task.pipes[fd]
            os.close(fd)
        task.ended_pipes.clear()

    def forget(self, task: Running) -> None:
        """Wait for it no more."""
        for fd in (task.end.fileno(), *task.pipes):
            self.drop(fd)

    def let_go(self, *tasks: Running) -> None:
        """Close all that is theirs."""
        for task in tasks:
            self.forget(task)
            task.close()
