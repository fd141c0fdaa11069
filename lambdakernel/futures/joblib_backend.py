"""joblib's backend `lambdakernel`: `joblib.parallel_config("lambdakernel")`, and with it scikit-learn's `n_jobs`.

A backend has one `Executor`, from its first parallel call on: calls of `Parallel` inside one `parallel_config` share
its workers, which leave when they are idle, or with the backend.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import cpu_count
from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from lambdakernel.futures.executor import Executor


class LambdaKernelBackend(AutoBatchingMixin, ParallelBackendBase):
    """Sends joblib's batches to an `Executor`; a parallel call inside a task uses threads, one inside that none."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._executor: Executor | None = None
        self._made_for: tuple[int, dict[str, str]] | None = None
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at a time for `n_jobs`, where -1 is all processors, -2 all but one.

        Raises:
            ValueError: it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(
        self, n_jobs: int | None = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **options: Any
    ) -> int:
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        wanted = count, self._prepare_worker_env(n_jobs=count)
        if self._executor is None or self._made_for != wanted:
            self._let_go()
            self._executor = Executor(count, initializer=_set_environment, initargs=(wanted[1],))
            self._made_for = wanted
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        assert self._executor is not None
        future = self._executor.submit(func)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what still runs of this call: its result is of no more use."""
        if self._executor is not None:
            self._executor.stop(list(self._futures))

    def terminate(self) -> None:
        """A call of `Parallel` is over; the workers stay for the next one."""
        self.reset_batch_stats()

    def __getstate__(self) -> dict[str, Any]:
        """Without its workers: a copy in a task or another worker of a notebook has its own."""
        return {**self.__dict__, "_executor": None, "_made_for": None, "_futures": weakref.WeakSet(), "parallel": None}

    def _let_go(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)


def _set_environment(environ: dict[str, str]) -> None:
    """Before a worker imports numpy: as many threads as its share of processors."""
    os.environ.update(environ)
