"""An executor's workers and their nursery: hired, dismissed, killed, buried. Only the owner's thread calls.

One worker more than are in service is kept as a spare, so that one that dies, or has had its share of calls, is
replaced at once. Modules are imported ahead of need in the nursery only while there is a spare: an import there delays
a fork, and with it nobody.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator

from lambdakernel.futures.answers import exit_code_of, how_it_ended, no_workers
from lambdakernel.futures.births import Nursery, NurseryGone
from lambdakernel.futures.crew import Call, Worker, new_worker
from lambdakernel.futures.pool import Limits
from lambdakernel.futures.sealing import Kept

PATIENCE_S = 60.0
"""Seconds that the nursery may take to fork a worker, before it is ended."""
LEAVE_S = 10.0
"""Seconds that a worker may take to leave after its last call, before it is killed."""
REPORT_S = 0.03
"""Seconds that the nursery, which may be importing, has to say how a worker ended."""
REST_S = 1.0
"""Seconds without a new try after a worker could not be had, while others work."""
_UNBORN = 3
"""Workers that may end, one after the other, before they begin their first call."""
_ALWAYS = ["lambdakernel.futures.encoding", "lambdakernel.parallel.parcels"]
Ended = tuple[Worker, str]


class Staff:
    """`workers` are those in service or leaving, by number."""

    def __init__(self, limits: Limits, epoll: select.epoll) -> None:
        self.workers: dict[int, Worker] = {}
        self.by_fd: dict[int, Worker] = {}
        self.by_watch: dict[int, Worker] = {}
        self._limits, self._epoll = limits, epoll
        self._spare: Worker | None = None
        self._nursery: Nursery | None = None
        self._number = self._unborn = 0
        self.rests_until = 0.0
        """Until when nobody is hired, on the monotonic clock."""
        self._is_warmed = False

    # -- how it stands

    def serving(self) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker.serves)

    def is_empty(self) -> bool:
        return not self.workers and self._spare is None

    def may_hire(self, now: float) -> bool:
        return now >= self.rests_until and sum(1 for _ in self.serving()) < self._limits.most

    def pids(self) -> tuple[int, ...]:
        """Of the workers in service: one that leaves is not among them any more."""
        return tuple(worker.pid for worker in self.workers.values() if worker.pid and not worker.leaving)

    def hopeless(self) -> bool:
        """Whether no worker can be had: the last ones ended before they began, and none is left."""
        return self._unborn >= _UNBORN and not any(worker.ready for worker in self.serving())

    # -- what the owner decides

    def hire(self, first: Kept, now: float) -> Worker:
        """A worker that enters service: the spare, or a new one.

        Raises:
            OSError: the system has no process, memory or descriptor for it.
        """
        if self._spare is not None and self._spare.serves:
            worker, self._spare = self._spare, None
        else:
            worker = self._order(now)
        self.workers[worker.id] = worker
        worker.begin(first, now)
        return worker

    def keep_spare(self, now: float) -> None:
        """Have a spare ordered, and then modules imported, once a worker is at work."""
        if self._spare is not None and self._spare.pid:
            self._spare.since = now  # not alone yet
        if self._spare is not None or now < self.rests_until or not any(w.ready for w in self.serving()):
            return
        try:
            self._spare = self._order(now)
            if not self._is_warmed and self._nursery is not None:
                self._is_warmed = True
                self._nursery.warm([*_ALWAYS, *(name for name in self._limits.preload if name in sys.modules)])
        except OSError:  # it is not needed now; whoever needs one tells of it
            self.rest(now)
        except NurseryGone:  # heard of in `hear`
            return

    def rest(self, now: float) -> None:
        """Hire nobody for a while: the system has no room."""
        self.rests_until = now + REST_S

    def is_idle(self) -> bool:
        """Whether no worker has a call."""
        return not any(worker.calls for worker in self.workers.values())

    def let_spare_go(self, now: float) -> float:
        """Let the spare go if it has been alone for long; when to look again."""
        if self._spare is None or not self._spare.serves:
            return float("inf")
        if now < self._spare.since + self._limits.idle_s:
            return self._spare.since + self._limits.idle_s
        self._spare.dismiss(now)
        return float("inf")

    def kill(self, worker: Worker, now: float) -> None:
        """End it now; it is heard of as ended."""
        worker.stopped, worker.since = True, now
        try:
            if self._nursery is not None:
                self._nursery.kill(worker.id)
        except NurseryGone:  # heard of in `hear`, and so are its workers
            return

    def retire(self, now: float) -> float:
        """Let go who is idle for long or had his share; when to look again."""
        due = float("inf")
        for worker in self.workers.values():
            if not worker.serves:
                continue
            idle_until = worker.since + self._limits.idle_s
            spent = self._limits.calls_per_worker is not None and worker.sent >= self._limits.calls_per_worker
            if worker.calls or not worker.ready:
                continue
            if spent or idle_until <= now:
                worker.dismiss(now)
            else:
                due = min(due, idle_until)
            if idle_until <= now and self._spare is not None and self._spare.serves and not any(self.serving()):
                self._spare.dismiss(now)
        return due

    def hurry(self, now: float) -> float:
        """End what is stuck: a worker that does not leave, a nursery that does not fork; when to look again."""
        due = float("inf")
        everyone = [*self.workers.values(), *([self._spare] if self._spare else [])]
        for worker in everyone:
            if worker.ended:
                due = min(due, worker.ended + REPORT_S)
                continue
            if not worker.pid or worker.stopped:
                limit = PATIENCE_S
            elif worker.leaving:
                limit = LEAVE_S
            else:
                continue
            if now < worker.since + limit:
                due = min(due, worker.since + limit)
            elif worker.leaving and not worker.stopped and worker.pid:
                self.kill(worker, now)
                due = min(due, now + PATIENCE_S)
            else:
                self.close(kill=True)
                return now
        return due

    # -- what is heard

    def fileno(self) -> int:
        """The descriptor at which the nursery is heard, -1 if there is none."""
        return -1 if self._nursery is None else self._nursery.fileno()

    def hear(self, now: float) -> list[Ended]:
        """Who ended, and how, to follow `the worker`. They are not among the workers any more."""
        ended: list[Ended] = []
        try:
            while self._nursery is not None and (said := self._nursery.hear()) is not None:
                worker = self._find(said[1])
                if worker is None:  # it was seen to end before
                    continue
                match said:
                    case ("born", _, pid):
                        worker.pid = pid
                    case ("refused", _, why):
                        self.rest(now)
                        ended.append((self._remove(worker), why))
                    case ("exited", _, code):
                        ended.append((self._remove(worker), how_it_ended(code, worker.stopped)))
        except NurseryGone:
            self.close()
        overdue = [w for w in self.workers.values() if w.ended and now >= w.ended + REPORT_S]
        ended += [(self._remove(worker), "was stopped" if worker.stopped else worker.how) for worker in overdue]
        if self._nursery is None:
            everyone = [*self.workers.values(), *([self._spare] if self._spare else [])]
            how = "was killed together with the process that forks workers"
            ended += [(self._remove(worker), "was stopped" if worker.stopped else how) for worker in everyone]
        return ended

    def is_ready(self, worker: Worker, pid: int, now: float) -> None:
        worker.ready, worker.pid, worker.since = True, pid, now
        self._unborn = 0
        try:
            worker.watch = os.pidfd_open(pid)
        except OSError:  # it has ended already, or there is no descriptor left: the nursery tells
            return
        self.by_watch[worker.watch] = worker
        self._epoll.register(worker.watch, select.EPOLLIN)

    def saw_end(self, worker: Worker, now: float) -> None:
        """It has ended; how, the nursery may still say."""
        worker.ended = now
        if (code := exit_code_of(worker.pid)) is not None:
            worker.how = how_it_ended(code, worker.stopped)
        self._unwatch(worker)

    def is_overdue(self, now: float) -> bool:
        """Whether a worker ended and the nursery is silent about it."""
        return any(worker.ended and now >= worker.ended + REPORT_S for worker in self.workers.values())

    def close(self, *, kill: bool = False) -> None:
        """End the nursery and with it every worker; `hear` tells of them."""
        if self._nursery is not None:
            self._epoll.unregister(self._nursery.fileno())
            self._nursery.close(kill=kill)
            self._nursery = None

    def reap(self, worker: Worker) -> list[Call]:
        """Give up the line of a worker that ended; the calls that it had not begun."""
        left = worker.take_back() if worker.ready else [*worker.calls.values()]
        if not worker.ready:
            worker.calls.clear()
        self._unwatch(worker)
        del self.by_fd[worker.end.fileno()]
        self._epoll.unregister(worker.end.fileno())
        worker.close()
        return left

    def _order(self, now: float) -> Worker:
        if self._nursery is None:
            self._nursery = Nursery()
            self._is_warmed = False
            self._epoll.register(self._nursery.fileno(), select.EPOLLIN)
        self._number += 1
        worker = new_worker(self._number, now)
        self.by_fd[worker.end.fileno()] = worker
        self._epoll.register(worker.end.fileno(), select.EPOLLIN)
        try:
            self._nursery.order(worker.id, worker.inbox)
        except NurseryGone:  # heard of in `hear`, with this worker
            pass
        return worker

    def _find(self, number: int) -> Worker | None:
        if self._spare is not None and self._spare.id == number:
            return self._spare
        return self.workers.get(number)

    def _unwatch(self, worker: Worker) -> None:
        if worker.watch >= 0:
            self._epoll.unregister(worker.watch)
            del self.by_watch[worker.watch]
            os.close(worker.watch)
            worker.watch = -1

    def _remove(self, worker: Worker) -> Worker:
        if worker is self._spare:
            self._spare = None
        else:
            del self.workers[worker.id]
        if not (worker.ready or worker.stopped or worker.leaving):
            self._unborn += 1
        return worker


def none_began(how: str) -> BaseException:
    return no_workers(f"the last {_UNBORN} of them ended before they began; the last one {how}")
