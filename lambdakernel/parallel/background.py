"""One `%%parallel` or `%%background` cell that goes on while later cells run.

Theory of operation
- Everything that looks at the notebook happens when the job is made, on the main thread: items are encoded, and a
  snapshot says what of the session the tasks see, however late they start.
- A thread runs the fan-out and shows its bar and the output of its tasks, as its cell's. It binds nothing.
- `settle` binds the names, on the main thread while no cell runs, or in the cell that waits for the job. A name that
  the notebook bound anew meanwhile is left alone; the job says so, and keeps the results.
- `cancel` ends the tasks and binds nothing. Who owns the job sees to it that the thread ends (`close`).
"""

from __future__ import annotations

import contextvars
import enum
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from lambdakernel.parallel.begun import Begun, Where
from lambdakernel.parallel.cell import results
from lambdakernel.parallel.fanout import FanOut, Stopped
from lambdakernel.parallel.frontend import shower
from lambdakernel.parallel.launch import again_of, fan_out
from lambdakernel.parallel.parcels import Sealed, content, with_content
from lambdakernel.parallel.progress import Bar, Progress
from lambdakernel.parallel.results import Outcome, ParallelError, TaskFailed
from lambdakernel.parallel.stragglers import LEAST

_MISSING = object()
STOP_DEADLINE_S = 5.0
"""Seconds from telling a job to end to its thread being through; its tasks are killed at once."""


class State(enum.Enum):
    """Where a job is; its value is how a person reads it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Background:
    """See the module. Made, settled and cancelled on the main thread."""

    def __init__(self, number: int, bar_name: str, where: Where, begun: Begun, over: Callable[[], None]) -> None:
        """`over` is called from the job's thread when its tasks are through."""
        self.number = number
        self.bar_name = bar_name
        self.label = begun.prepared.cell.label
        self.names = begun.prepared.header.names
        self.total = len(begun.items)
        self.failures: tuple[TaskFailed, ...] = ()
        self.error: Exception | None = None
        """What ended it that was no failure of a task."""
        self.results: dict[str, Any] = {}
        """What was not bound, since the notebook had bound the name anew."""
        self._where, self._begun = where, begun
        self._over = over
        self._bar = Bar(shower(bar_name), time.monotonic)
        self._progress = Progress(self.total, label=f"job {number}")
        self._is_cancelled = self._is_settled = False
        self._outcomes: list[Outcome] | None = None
        self._ended = threading.Event()
        self._before = _bound_now(begun, where.shell.user_ns)
        self._items = [_parcel_of(begun, index) for index in range(self.total)]
        # headings are asked for when tasks end: by then the notebook may have changed an item
        said = [begun.describe(index) for index in range(self.total)]
        self._begun = msgspec.structs.replace(begun, describe=said.__getitem__)
        self._snapshot = where.durable.snapshot()
        self._fan = self._prepare_fan_out()
        self._bar.update(self._progress)
        context = contextvars.copy_context()  # what the tasks print belongs to this cell
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=f"lk-job-{number}", daemon=True)

    def _prepare_fan_out(self) -> FanOut:
        """Here and not in the thread: the seeds of tasks are drawn from the notebook's generators."""
        self._owned = ExitStack()
        self._owned.callback(self._snapshot.close)
        try:
            again = again_of(self._where, self._begun)
            if self.total >= LEAST:  # asked now: later cells may bind names anew
                _ = again.is_allowed
            moment = self._snapshot.vector.to_bytes().hex()
            return self._owned.enter_context(
                fan_out(self._where, self._begun, self._watch, item=self._item, moment=moment, again=again)
            )
        except BaseException:
            self._owned.close()
            raise

    def start(self) -> None:
        self._thread.start()

    # -- its thread

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # an interrupt is for the main thread
        try:
            try:
                self._outcomes = self._fan.run()
            finally:
                self._watch(self._fan.progress)
                self._bar.last(self._progress)
        except Stopped:
            self._is_cancelled = True
        except Exception as e:  # raised where it is waited for, and told by the bar
            self.error = e
        finally:
            self._items.clear()
            self._owned.close()
            self._ended.set()
            self._over()

    def _item(self, index: int) -> Sealed:
        packed = self._items[index]
        if isinstance(packed, Exception):
            raise packed
        return packed if isinstance(packed, Sealed) else Sealed(with_content(packed))

    def _watch(self, progress: Progress) -> None:
        self._progress = msgspec.structs.replace(progress, label=f"job {self.number}")
        self._bar.update(self._progress)

    # -- from the main thread

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def state(self) -> State:
        if not self._ended.is_set():
            return State.RUNNING
        if self._is_cancelled:
            return State.CANCELLED
        return State.FAILED if self.failures or self.error else State.DONE

    @property
    def is_over(self) -> bool:
        """Whether its tasks are through."""
        return self._ended.is_set()

    def wait(self, seconds: float | None) -> bool:
        """Whether its tasks are through within `seconds`; an interrupt gets out of it, and the job goes on."""
        return self._ended.wait(seconds)

    def settle(self) -> tuple[str, ...]:
        """Bind what it found, once; the names that were bound. Not while a cell runs, but in one that waits for it."""
        if self._is_settled or not self.is_over:
            return ()
        self._is_settled = True
        self._fan.joins.settle(self._begun.namespace)
        bound: tuple[str, ...] = ()
        if self._outcomes is not None:
            try:
                bound = self._bind(self._outcomes)
            except Exception as e:  # the user's own `__setstate__` or `repr`
                self.error = e
        self._bar.last(msgspec.structs.replace(self._progress, note=self._note(bound)))
        self._outcomes, self._before = None, {}
        self._begun = msgspec.structs.replace(self._begun, items=())  # this job stays listed; they need not live on
        return bound

    def _bind(self, outcomes: list[Outcome]) -> tuple[str, ...]:
        live = self._where.shell.user_ns
        found, self.failures = results(self._begun, outcomes)
        taken = [name for name in found if live.get(name, _MISSING) is not self._before.get(name, _MISSING)]
        self.results = {name: found.pop(name) for name in taken}
        live.update(found)
        return tuple(found)

    def _note(self, bound: tuple[str, ...]) -> str:
        parts = [f"{_listed(bound)} bound"] if bound else []
        if self.results:
            parts.append(
                f"{_listed(tuple(self.results))} not bound, since a later cell bound the name anew: the result is in"
                f" `%jobs {self.number}`"
            )
        if self.error is not None:
            parts.append(f"{type(self.error).__name__}: {self.error}")
        elif self.failures:
            parts.append(f"{self.failures[0].line()}. `%wait {self.number}` shows more")
        elif self._is_cancelled:
            parts.append("cancelled, nothing was bound")
        return "; ".join(parts)

    def raise_failure(self) -> None:
        """Raise what its cell would have raised, had it waited.

        Raises:
            ParallelError: tasks failed, and the cell did not say --keep-going.
            Exception: what ended the job.
        """
        if self.error is not None:
            raise self.error
        if self.failures and not self._begun.prepared.header.options.keep_going:
            names = () if self._begun.prepared.is_whole else self.names
            raise ParallelError(self.failures, self.total, names)

    def cancel(self) -> bool:
        """End its tasks; whether it was running. What it found is dropped."""
        if self.is_over:
            return False
        self._is_cancelled = True
        self._fan.stop()
        self._ended.wait(STOP_DEADLINE_S)
        return True

    def close(self) -> None:
        """End it and its thread; bind nothing."""
        self.cancel()
        self._thread.join(STOP_DEADLINE_S)


def _bound_now(begun: Begun, live: dict[str, Any]) -> dict[str, Any]:
    """What the names are bound to. They are loaded if they are in the store alone: to read one later is no binding."""
    names = begun.prepared.header.names
    begun.namespace.load(names)
    return {name: live[name] for name in names if name in live}


def _parcel_of(begun: Begun, index: int) -> Sealed | bytes | Exception:
    """An item as it is now, without a descriptor: it may wait for long."""
    try:
        sealed = begun.item(index)
    except Exception as e:  # that task's failure
        return e
    if sealed.fd is None:
        return sealed
    try:
        return content(sealed.fd)
    finally:
        sealed.close()


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
