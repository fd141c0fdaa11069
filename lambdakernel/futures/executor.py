"""`Executor`: the face of the pool, as `concurrent.futures` has it."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from lambdakernel.futures.owner import serve
from lambdakernel.futures.pool import Limits, Pool
from lambdakernel.futures.worker import CALL, CHUNK
from lambdakernel.settings import from_env

T = TypeVar("T")
P = ParamSpec("P")
IDLE_S = 60.0
"""Seconds after which an idle worker leaves: a fork costs milliseconds, but what it imported is lost with it."""


class Executor(concurrent.futures.Executor):
    """Runs calls in forked worker processes that come when they are needed and go when they are not.

    As `concurrent.futures.ProcessPoolExecutor`, but: functions of `__main__`, lambdas and closures can be submitted,
    and no `if __name__ == "__main__"` is needed; large buffers are mapped, not copied, and writable; a worker that dies
    costs the one call that it ran (`TaskLost`); workers are forked from a clean process, never from this one.

    It moves as its settings: sent to a worker as part of a call, or kept as a variable of a notebook, it arrives as a
    new executor with the same settings and workers of its own, shut down if it was. A future moves when it is done.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        idle_s: float = IDLE_S,
        preload: Sequence[str] | None = None,
    ) -> None:
        """`max_workers`: at most so many at a time; by default the setting `parallel_workers`, else one a processor.
        `initializer(*initargs)` runs first in each worker. `max_tasks_per_child`: calls after which it is renewed.
        `idle_s`: seconds without a call after which a worker leaves. `preload`: modules that workers are born with, as
        far as this process has imported them; by default the setting `preload`.

        Raises:
            ValueError, TypeError: an argument does not fit.
        """
        settings = from_env()
        most = max_workers if max_workers is not None else settings.parallel_workers or _processors()
        if most <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {most}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {type(initializer).__name__}")
        if max_tasks_per_child is not None and not isinstance(max_tasks_per_child, int):
            raise TypeError(f"max_tasks_per_child must be an int, not {type(max_tasks_per_child).__name__}")
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError(f"max_tasks_per_child must be >= 1, not {max_tasks_per_child}")
        if idle_s < 0:
            raise ValueError(f"idle_s is a number of seconds, not {idle_s}")
        self._options = {
            "max_workers": most,
            "initializer": initializer,
            "initargs": initargs,
            "max_tasks_per_child": max_tasks_per_child,
            "idle_s": idle_s,
            "preload": None if preload is None else tuple(preload),
        }
        modules = settings.preload if preload is None else preload
        limits = Limits(most, idle_s, max_tasks_per_child, tuple(modules))
        self._pool = Pool(limits, initializer or bool, initargs if initializer else (), serve)
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel=False).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future of `fn(*args, **kwargs)`; what cannot be sent is its future's error.

        Raises:
            RuntimeError: after `shutdown`, or in a fork of the process that made this executor.
            concurrent.futures.BrokenExecutor: the initializer failed, or no worker can be had.
        """
        return self._pool.submit(CALL, fn, args, kwargs)  # type: ignore[no-any-return]

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of `fn` over the zipped `iterables`, in order; `chunksize` calls travel together.

        With `buffersize`, at most so many results are computed ahead of the one that is asked for, and no more is
        read of the iterables. Leaving the iteration cancels what has not begun; an interrupt also stops what runs.

        Raises:
            TimeoutError: when the next result is not there `timeout` seconds after the call of `map`.
            ValueError: a size is below 1.
        """
        return self.starmap(
            fn, zip(*iterables, strict=False), timeout=timeout, chunksize=chunksize, buffersize=buffersize
        )

    def starmap(
        self,
        fn: Callable[..., T],
        arguments: Iterable[Iterable[Any]],
        /,
        *,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of `fn(*each)` for each of `arguments`, in order; otherwise as `map`."""
        if chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, not {chunksize}")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else time.monotonic() + timeout
        tuples = map(tuple, arguments)
        submit: Callable[[Any], Future[Any]]
        if chunksize == 1:
            submit = functools.partial(_submit_one, self._pool, fn)
            return self._results(submit, tuples, deadline, buffersize)
        submit = functools.partial(_submit_chunk, self._pool, fn)
        ahead = None if buffersize is None else -(-buffersize // chunksize)
        return itertools.chain.from_iterable(self._results(submit, _chunks(tuples, chunksize), deadline, ahead))

    def _results(
        self, submit: Callable[[Any], Future[Any]], items: Iterator[Any], deadline: float | None, ahead: int | None
    ) -> Iterator[Any]:
        """Submit now, as far as `ahead` lets; give the results later."""
        futures = collections.deque(map(submit, itertools.islice(items, ahead)))
        return _drain(weakref.ref(self._pool), submit, items if ahead is not None else iter(()), futures, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, let the others end (or cancel those that have not begun), then end the workers."""
        self._pool.shutdown(wait=wait, cancel=cancel_futures)

    def stop(self, futures: Iterable[Future[Any]] | None = None) -> None:
        """Cancel what waits and kill what runs (`TaskLost`), of `futures` or of all; other calls go on."""
        self._pool.stop(futures)

    def kill_workers(self) -> None:
        """Cancel what waits, kill the workers (what they ran raises `TaskLost`), and shut down."""
        self._pool.stop()
        self._pool.shutdown(wait=False, cancel=True)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers there are now, in no order."""
        return list(self._pool.pids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool | None:
        """Shut down and wait; after an interrupt, kill what runs first."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()
        self.shutdown(wait=True)
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _executor_here, (type(self), self._options, self._pool.closing)


def _executor_here(kind: type[Executor], options: dict[str, Any], is_shut_down: bool) -> Executor:
    """What an executor that was sent to this process is here."""
    made = kind(**options)
    if is_shut_down:
        made.shutdown()
    return made


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _submit_one(pool: Pool, fn: Callable[..., T], args: tuple[Any, ...]) -> Future[T]:
    return pool.submit(CALL, fn, args, {})  # type: ignore[no-any-return]


def _submit_chunk(pool: Pool, fn: Callable[..., T], chunk: Sequence[tuple[Any, ...]]) -> Future[list[T]]:
    return pool.submit(CHUNK, fn, (chunk,), {})  # type: ignore[no-any-return]


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[tuple[Any, ...], ...]]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def _drain(
    pool: weakref.ref[Pool],
    submit: Callable[[Any], Future[Any]],
    items: Iterator[Any],
    futures: collections.deque[Future[Any]],
    deadline: float | None,
) -> Iterator[Any]:
    try:
        while futures:
            futures[0].exception(None if deadline is None else deadline - time.monotonic())  # waits
            for item in itertools.islice(items, 1):
                futures.append(submit(item))
            yield futures.popleft().result()  # no name for the result: nothing here keeps it
    except KeyboardInterrupt:
        there = pool()
        if there is not None:
            there.stop(futures)
        raise
    finally:
        for future in futures:
            future.cancel()
