"""The thread that owns an executor's workers and calls: one loop over one selector.

Theory of operation
- A round: sleep until something is heard or due, hear it, decide, and then tell the futures. Every state is this
  thread's; what other threads want is in the pool's queue. It sleeps until the next thing that is due, without end only
  if nothing is.
- A worker has one call at a time on its line, and more, up to `DEEPEST`, as long as calls take less than `AHEAD_NS`
  together. If one of them takes longer after all while another worker could have the ones behind it, these are taken
  back and given to that one.
- A call is in one place: waiting here, or with one worker. When a worker ends, the results that it sent count, the
  calls that it had not begun wait again, and the one that it had begun, if any, is lost.
- Workers are hired when calls wait and no worker is free, and leave after `idle_s` without a call. The thread ends with
  the last of them, and with it the nursery; the next call starts another.
"""

from __future__ import annotations

import logging
import os
import pickle
import select
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lambdakernel.futures import line
from lambdakernel.futures.answers import initializer_failed, joins_error, no_workers, task_lost, value_of
from lambdakernel.futures.buffers import KEEP_S
from lambdakernel.futures.crew import AHEAD_NS, Call, Worker
from lambdakernel.futures.pool import Pool, Stop
from lambdakernel.futures.staff import Staff, none_began
from lambdakernel.futures.worker import BROKEN, READY, UNKNOWN

_STUCK_S = 0.005
"""Seconds after which a call that holds up others is no short one."""
_log = logging.getLogger("concurrent.futures")
Outcome = tuple[Call, Any, BaseException | None]


def serve(pool: Pool, bell: int) -> None:
    """Run the calls of `pool` until there is neither a call nor a worker; `bell` is heard when there is news."""
    owner = Owner(pool, bell)
    try:
        owner.run()
    finally:
        owner.close()


class Owner:
    """See the module's theory of operation."""

    def __init__(self, pool: Pool, bell: int) -> None:
        self._pool, self._bell = pool, bell
        self._epoll = select.epoll()
        self._epoll.register(bell, select.EPOLLIN)
        self._staff = Staff(pool.limits, self._epoll)
        self._waiting: deque[Call] = deque()
        self._done: list[Outcome] = []
        self._usual_ns = AHEAD_NS
        self._has_unwanted = False
        """Whether a call that waits, or that comes back from a worker, may be unwanted."""

    def run(self) -> None:
        """Until there is neither a call nor a worker. A fault of ours fails every call, and is raised."""
        due = 0.0
        try:
            while True:
                self._listen(due)
                now = time.monotonic()
                due = self._decide(now)
                self._settle()
                if not self._waiting and self._staff.is_empty() and self._pool.may_sleep():
                    self._pool.awake()
                    return
        except BaseException as e:
            self._pool.break_with(no_workers(f"the executor's own thread failed with {type(e).__name__}: {e}"))
            self._give_up()
            self._settle()
            raise

    def close(self) -> None:
        """End what is left of nursery and workers."""
        self._staff.close()
        for worker, _ in self._staff.hear(time.monotonic()):
            self._staff.reap(worker)
        self._epoll.close()
        self._pool.pids = ()

    # -- hear

    def _listen(self, due: float) -> None:
        """Take in what is heard until `due`, on the monotonic clock, at the latest."""
        wait = min(max(0.0, due - time.monotonic()), 3600.0) if self._pool.may_sleep() else 0.0
        events = self._epoll.poll(wait)
        self._pool.awake()
        for fd, _ in events:
            if fd == self._bell:
                os.eventfd_read(fd)
            elif (worker := self._staff.by_fd.get(fd)) is not None:
                self._read(worker)
            elif (worker := self._staff.by_watch.get(fd)) is not None:
                self._staff.saw_end(worker, time.monotonic())
            elif fd == self._staff.fileno():
                self._hear_of_ends()
        for item in self._pool.taken():
            if isinstance(item, Stop):
                self._stop(item.futures)
            else:
                self._waiting.append(item)

    def _read(self, worker: Worker) -> None:
        while (message := line.take(worker.end)) is not None and message[0]:
            data, fds = message
            number, how, spent, head, places, joined = pickle.loads(data)
            now = time.monotonic()
            bad_joins = joins_error(joined, fds) if joined != b"" else None
            if how == READY:
                line.close(fds)
                if bad_joins is None:
                    self._staff.is_ready(worker, spent, now)
                else:
                    self._pool.break_with(initializer_failed(bad_joins))
                continue
            if how == BROKEN:
                _, error = value_of(how, head, places, fds)
                assert error is not None
                self._pool.break_with(initializer_failed(error))
                continue
            call = worker.calls.pop(number)
            worker.since = now
            if how == UNKNOWN:
                line.close(fds)
                worker.functions.clear()
                worker.sent -= 1
                self._waiting.appendleft(call)
                continue
            self._usual_ns += 0.2 * (spent - self._usual_ns)
            value, error = value_of(how, head, places, fds)
            self._done.append((call, value, bad_joins or error))

    def _hear_of_ends(self) -> None:
        for worker, how in self._staff.hear(time.monotonic()):
            self._read(worker)
            self._waiting.extendleft(reversed(self._staff.reap(worker)))
            self._done += ((call, None, task_lost(how)) for call in worker.calls.values())
            if self._staff.hopeless() and not self._pool.closing:
                self._pool.break_with(none_began(how))

    def _stop(self, futures: frozenset[Future[Any]] | None) -> None:
        def chosen(call: Call) -> bool:
            return futures is None or call.future in futures

        now, self._has_unwanted = time.monotonic(), True
        for worker in list(self._staff.serving()):
            if not any(map(chosen, worker.calls.values())):
                continue
            if worker.ready:
                self._waiting.extendleft(reversed(worker.take_back()))
                self._read(worker)  # what is left now is one call at most, and it has begun
            unwanted = list(filter(chosen, worker.calls.values()))
            for call in unwanted:
                call.unwanted = True
            if unwanted:
                self._staff.kill(worker, now)
        for call in filter(chosen, self._waiting):
            call.unwanted = True

    # -- decide

    def _decide(self, now: float) -> float:
        """Act on how things stand; when to look again, on the monotonic clock."""
        pool, staff = self._pool, self._staff
        if self._has_unwanted:
            self._has_unwanted = any(
                call.unwanted for worker in staff.workers.values() for call in worker.calls.values()
            )
            self._drop(lambda call: call.unwanted)
        self._feed(now)
        if pool.cancels:
            self._drop(lambda call: not call.running)
        if pool.broken is not None:
            self._give_up()
        if pool.closing and not self._waiting and staff.is_idle():
            staff.close()  # workers without calls need no time to leave
            self._hear_of_ends()
            return now
        due = min(staff.retire(now), self._unstick(now))
        if any(True for _ in staff.serving()):
            staff.keep_spare(now)
        else:
            due = min(due, staff.let_spare_go(now))
        due = min(due, staff.hurry(now), staff.rests_until if self._waiting and staff.rests_until > now else due)
        if staff.is_overdue(now) or (staff.fileno() == -1 and not staff.is_empty()):
            self._hear_of_ends()
            return now
        pool.pids = staff.pids()
        return min(due, now + KEEP_S) if pool.buffers.expire(now) else due

    def _drop(self, is_dropped: Callable[[Call], bool]) -> None:
        """Cancel those of the waiting calls; one that was with a worker once cannot be cancelled, and so is lost."""
        if not any(map(is_dropped, self._waiting)):
            return
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            if not is_dropped(call):
                self._waiting.append(call)
            elif not call.cancel():
                self._done.append((call, None, task_lost("was stopped")))

    def _feed(self, now: float) -> None:
        """Give waiting calls to workers that have room, and hire while calls wait and no worker is free."""
        while self._waiting and self._pool.broken is None:
            worker = self._choose(now)
            if worker is None:
                return
            grows = self._staff.may_hire(now)
            share = 1 if grows else -(-len(self._waiting) // max(1, sum(1 for _ in self._staff.serving())))
            for _ in range(min(share, worker.room(self._usual_ns, self._pool.limits.calls_per_worker))):
                if not self._give(worker, now):
                    return

    def _give(self, worker: Worker, now: float) -> bool:
        """Send the next call that is wanted to `worker`; False if that must wait for its next answer."""
        while self._waiting:
            call = self._waiting[0]
            if not call.begin():
                self._waiting.popleft().release()
                continue
            if not worker.calls and worker.ready:
                worker.since = now
            try:
                if not worker.send(call):
                    return False
            except OSError as e:
                self._done.append((call, None, e))
            self._waiting.popleft()
            return True
        return True

    def _choose(self, now: float) -> Worker | None:
        """A free worker, a new one, or the one with the fewest calls that may have more."""
        usual, share = self._usual_ns, self._pool.limits.calls_per_worker
        able = [worker for worker in self._staff.serving() if worker.room(usual, share) > 0]
        least = min(able, key=lambda worker: len(worker.calls), default=None)
        if (least is None or least.calls) and self._staff.may_hire(now):
            try:
                return self._staff.hire(self._pool.first, now)
            except OSError as e:
                self._staff.rest(now)
                if not any(True for _ in self._staff.serving()):
                    why = f"{e.strerror}; free memory, or raise the limit of processes or open files"
                    self._pool.break_with(no_workers(why))
        return least

    def _unstick(self, now: float) -> float:
        """Take back short calls behind a long one if another worker could have them; when to look again."""
        behind = [worker for worker in self._staff.serving() if len(worker.calls) > 1]
        if not behind or self._waiting:
            return float("inf")
        if not (self._staff.may_hire(now) or any(w.ready and not w.calls for w in self._staff.serving())):
            return float("inf")
        for worker in behind:
            if now - worker.since >= _STUCK_S:
                self._usual_ns = AHEAD_NS
                self._waiting.extendleft(reversed(worker.take_back()))
        self._feed(now)
        return now + _STUCK_S

    def _give_up(self) -> None:
        """Nothing can run any more: fail all calls, kill the workers."""
        error = self._pool.broken
        self._staff.close()
        for worker, _ in self._staff.hear(time.monotonic()):
            self._read(worker)
            self._waiting.extendleft(reversed(self._staff.reap(worker)))
            self._done += ((call, None, error) for call in worker.calls.values())
        for call in self._waiting:
            if call.begin():
                self._done.append((call, None, error))
            else:
                call.release()
        self._waiting.clear()

    # -- tell

    def _settle(self) -> None:
        """Tell the futures, whose callbacks may do anything."""
        done, self._done = self._done, []
        done.reverse()
        while done:
            call, value, error = done.pop()
            call.release()
            try:
                if error is None:
                    call.future.set_result(value)
                else:
                    call.future.set_exception(error)
            except BaseException:  # what a callback raises that is no Exception: SystemExit must not end the executor
                _log.exception("a callback of a future ended the hard way")
            del call, value, error
