"""What callers of an executor see of its owner's thread: a queue of calls, and how the executor stands.

Theory of operation
- Callers encode their calls themselves, put them into the queue, and ring a bell if the owner sleeps. The owner's
  thread (`owner`) has everything else: no other thread touches a worker. It is there while calls or workers are.
- The mutex is held for a few assignments, and never while a value is encoded, a process started or a callback run.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lambdakernel.futures.buffers import SharedBuffers
from lambdakernel.futures.calls import keep_call
from lambdakernel.futures.crew import Call
from lambdakernel.futures.sealing import Kept
from lambdakernel.futures.steady import SteadyFunctions


@dataclass(frozen=True, slots=True)
class Limits:
    """`most` workers at a time, each with `calls_per_worker` calls at most, that leave after `idle_s` without one."""

    most: int
    idle_s: float
    calls_per_worker: int | None
    preload: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what waits and end what runs, of `futures` or of all."""

    futures: frozenset[Future[Any]] | None


class Pool:
    """See the module's theory of operation. Every method may be called from any thread."""

    def __init__(
        self,
        limits: Limits,
        first: Callable[..., object],
        arguments: tuple[Any, ...],
        serve: Callable[[Pool, int], None],
    ) -> None:
        """`first(*arguments)`: what every worker runs first. `serve(pool, bell)`: what the owner's thread does.

        Raises:
            Exception: `first` cannot be sent to a worker.
        """
        self.limits = limits
        self.process = os.getpid()
        self.buffers = SharedBuffers()
        self.closing = self.cancels = False
        self.broken: BaseException | None = None
        self.pids: tuple[int, ...] = ()
        self._serve = serve
        self._first = keep_call(first, arguments, {}, self.buffers.share, apart=False)
        self._functions = SteadyFunctions()
        self._ids = itertools.count(1)
        self._mutex = threading.Lock()
        self._queue: deque[Call | Stop] = deque()
        self._thread: threading.Thread | None = None
        self._bell = -1
        self._sleeps = False
        self._is_told = True
        """Whether the owner knows whether the pool is closing."""

    # -- for callers

    def submit(self, kind: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A future of the call; what cannot be encoded is its error.

        Raises:
            RuntimeError: the executor was shut down, or belongs to another process.
            BrokenProcessPool: no call can run any more.
        """
        self._refuse()
        future: Future[Any] = Future()
        try:
            steady = self._functions.get(function)
            kept = keep_call(function, args, kwargs, self.buffers.share, steady is not None)
        except Exception as e:
            future.set_running_or_notify_cancel()
            future.set_exception(e)
            return future
        call = Call(next(self._ids), kind, future, kept, steady)
        with self._mutex:
            self._refuse()
            self._queue.append(call)
            self._wake(start=True)
        return future

    def stop(self, futures: Iterable[Future[Any]] | None = None) -> None:
        """Cancel what waits and kill the workers of what runs, of `futures` or of all; the pool goes on."""
        self._tell(Stop(None if futures is None else frozenset(futures)))

    def shutdown(self, *, wait: bool, cancel: bool) -> None:
        """Take no more calls; end the workers when all calls are done, or those that run if `cancel`."""
        if self.process != os.getpid():
            return
        with self._mutex:
            self.closing, self.cancels, self._is_told = True, self.cancels or cancel, False
            thread = self._thread
            self._wake()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()
        if thread is None:
            self.buffers.close()

    def _refuse(self) -> None:
        if self.process != os.getpid():
            raise RuntimeError(
                f"this Executor belongs to process {self.process}, of which this one is a fork. Make a new one here."
            )
        if self.broken is not None:
            raise self.broken
        if self.closing:
            raise RuntimeError("cannot schedule new futures after shutdown: make a new Executor")

    def _tell(self, wish: Stop) -> None:
        if self.process != os.getpid():
            return
        with self._mutex:
            if self._thread is not None:
                self._queue.append(wish)
                self._wake()

    def _wake(self, *, start: bool = False) -> None:
        """Have the owner look at what changed; the mutex is held."""
        if self._thread is None and start:
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            thread = threading.Thread(target=self._own, args=(bell,), name="lambdakernel-executor", daemon=True)
            try:
                thread.start()
            except BaseException:
                os.close(bell)
                self._queue.clear()
                raise
            self._thread, self._bell = thread, bell
            atexit.register(self._at_exit)
        elif self._sleeps:
            self._sleeps = False
            os.eventfd_write(self._bell, 1)

    def _at_exit(self) -> None:
        """Before the interpreter ends: every call that was submitted runs to its end."""
        self.shutdown(wait=True, cancel=False)

    # -- for the owner

    @property
    def first(self) -> Kept:
        """What every worker runs first."""
        return self._first

    def taken(self) -> list[Call | Stop]:
        """What callers put into the queue since the last time."""
        with self._mutex:
            found = list(self._queue)
            self._queue.clear()
            self._is_told = True
        return found

    def may_sleep(self) -> bool:
        """Whether the owner knows all there is to know; if so, the bell rings at the next change."""
        with self._mutex:
            self._sleeps = not self._queue and self._is_told
            return self._sleeps

    def awake(self) -> None:
        """No bell is needed. One that rang meanwhile is heard by the next poll, and costs no more than that."""
        self._sleeps = False

    def break_with(self, error: BaseException) -> None:
        """Take no more calls, for ever; the first error counts."""
        with self._mutex:
            self.broken = self.broken or error

    def _own(self, bell: int) -> None:
        over = False
        while not over:
            try:
                self._serve(self, bell)
            finally:  # it returns, or has failed all calls and raises: a fault of ours is shown, and hides nothing
                over = self._over(bell)

    def _over(self, bell: int) -> bool:
        with self._mutex:
            if self._queue and self.broken is None:
                return False
            left, self._thread, self._bell, self._sleeps = list(self._queue), None, -1, False
            self._queue.clear()
        os.close(bell)
        for call in left:
            if isinstance(call, Call) and self.broken is not None and call.begin():
                call.future.set_exception(self.broken)
                call.release()
        self.buffers.close()
        atexit.unregister(self._at_exit)
        return True
