"""The processes of one fan-out: how a task gets one, and what becomes of that when the task is over.

A task is given to a process that is free; or one is born for it, where more may run; or it is sent ahead to one that is
at work, where no more may (`handover`). Items are encoded then, so that tasks that wait hold none, but for one ahead of
each process.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from lambdakernel.executors import wire
from lambdakernel.executors.base import Executor
from lambdakernel.parallel.again import NEVER, Again
from lambdakernel.parallel.attempts import START_DEADLINE_S, Attempts, Limits, at_work, has_room, most_at_once
from lambdakernel.parallel.handover import Free, gone_on, hand_over, idle, send_ahead, take_back, takes_more
from lambdakernel.parallel.joins import Joins
from lambdakernel.parallel.parcels import Sealed
from lambdakernel.parallel.results import Raised
from lambdakernel.parallel.running import Running, Waiting
from lambdakernel.parallel.stragglers import Stragglers
from lambdakernel.parallel.waited import Waited

MOST_AHEAD_NBYTES = 1 << 20
"""Of an item that is sent to a process which is not free yet: it is held in memory meanwhile."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be run, and where."""

    executor: Executor
    job: int
    """Descriptor of the parcel that all tasks have."""
    total: int
    """Tasks."""
    item: Callable[[int], Sealed]
    """A task's item, which is closed here; raises what pickling raises."""
    limits: Limits
    fan: str = ""
    """The name of the fan-out."""
    again: Again = NEVER
    share: Callable[[], int] | None = None
    """How many tasks may run now, beside other fan-outs."""
    stays: bool = False
    """A process may take more than one task."""
    sends_ahead: bool = True
    """It may be given the next one while it is at work: not where tasks begin with what others have joined."""
    free: Sequence[Running] = ()
    """Processes of the executor that another fan-out has kept."""
    keeps: int = 0
    """How many are kept of this one."""
    clock: Callable[[], float] = time.monotonic


class Processes:
    """See the module. `failed` takes a task whose item cannot be sent, which is its end."""

    def __init__(self, plan: Plan, waited: Waited, failed: Callable[[Waiting, Raised], None]) -> None:
        self._plan, self._waited, self._failed = plan, waited, failed
        self._most = min(plan.limits.workers, most_at_once(stays=plan.stays))
        self._sends_ahead = plan.stays and plan.sends_ahead
        self._free = Free()
        self.attempts = Attempts(plan.total, plan.fan, ids_from=max((process.id for process in plan.free), default=0))
        self.joins = Joins()
        """What tasks join into live lattices."""
        self.live: dict[int, Running] = {}
        """What runs now, by the number of its process."""
        for process in plan.free:
            self._free.keep(process)
            waited.add(process)

    # -- a task gets one

    def start_some(self) -> None:
        """Give processes to as many tasks as may run, and let those end that nobody needs."""
        for process in self.live.values():
            has_ended = process.has_missed or (process.outcome is not None and not process.is_free)
            if process.ahead is not None and has_ended:
                self.reclaim(process)
        while self._has_room() and (task := self.attempts.next() or self._recalled()) is not None:
            self._start(task)
        more = self._limit() - at_work(self.live.values())
        if more == 0 and self._sends_ahead and self.attempts.are_waiting:
            self._send_ahead()
        while more < 0 and (task := self._recalled()) is not None:  # another fan-out has its share
            self.attempts.again(task.index, task.output)
        if not self.attempts.are_waiting and not self._plan.keeps:
            self._waited.let_go(*self._free.take_all())

    def start_beside(self, stragglers: Stragglers) -> int:
        """Second attempts at tasks that are late, while workers are idle; how many."""
        if not self._has_room(beside=True) or stragglers.limit_s == math.inf:
            return 0
        alone = [t for t in self.live.values() if self.attempts.made(t.index) == 1 and not t.ended_for]
        begun = 0
        for index in stragglers.late(((task.index, task.began) for task in alone), self._plan.clock()):
            if self._has_room(beside=True) and self._plan.again.is_allowed:
                begun += 1
                self._start(Waiting(index, is_beside=True))
        return begun

    def _has_room(self, *, beside: bool = False) -> bool:
        """For a task, which is born in any case if it is one `beside` another."""
        is_born = beside or not len(self._free)
        return has_room(self.live.values(), limit=self._limit(), is_born=is_born, now=self._plan.clock())

    def _limit(self) -> int:
        return self._most if self._plan.share is None else min(self._most, self._plan.share())

    def _start(self, task: Waiting) -> None:
        if (item := self._packed(task)) is None:
            return
        try:
            if task.is_beside or not self._hand_over(task, item):
                self._bear(task, item)
        finally:
            item.close()

    def _packed(self, task: Waiting) -> Sealed | None:
        """Its item; None if that cannot be sent."""
        try:
            return self._plan.item(task.index)
        except Exception as e:  # the user's own __reduce__ may raise anything; it is this task's failure
            if task.is_beside:
                self.attempts.count(task.index)  # the first attempt goes on, and nothing beside it is tried again
            else:
                self._failed(task, Raised(type(e).__name__, f"the item cannot be sent to its task: {e}", ""))
            return None

    def _hand_over(self, waiting: Waiting, item: Sealed) -> bool:
        """Give the task to a process that is free; False if there is none."""
        plan = self._plan
        while len(self._free):
            process, attempt, now = self._free.take(), self.attempts.made(waiting.index) + 1, plan.clock()
            joins = self.joins.so_far()
            try:
                deadline = plan.limits.time_is_up(now) if process.pid else now + START_DEADLINE_S  # it is to be born
                task = hand_over(process, waiting, attempt, item, plan.job, now=now, deadline=deadline, joins=joins)
            except (wire.PeerGone, BlockingIOError):
                self._waited.let_go(process)
                continue
            finally:
                wire.close_fds(joins[1] if joins is not None else ())
            self.attempts.count(waiting.index)
            self._enter(task, knows_all=True)
            return True
        return False

    def _bear(self, waiting: Waiting, item: Sealed) -> None:
        plan, is_first = self._plan, not waiting.is_beside
        guarded, stays = not is_first and plan.again.is_guarded, is_first and plan.stays
        given = (plan.job, item.descriptor())
        try:
            begin = partial(self.attempts.begin, waiting, plan.executor, given)
            self._enter(begin(now=plan.clock(), is_guarded=guarded, stays=stays))
        finally:
            os.close(given[1])

    def _enter(self, task: Running, *, knows_all: bool = False) -> None:
        task.joins = partial(self.joins.hear, task.id)
        self.joins.begin(task.id, task.end, knows_all=knows_all)
        self.live[task.id] = task
        self._waited.add(task)

    # -- ahead

    def _send_ahead(self) -> None:
        """To processes that are at work, what they take next."""
        for process in filter(takes_more, self.live.values()):
            if (task := self.attempts.next()) is None:
                return
            if (item := self._packed(task)) is None:
                continue
            try:
                if item.nbytes > MOST_AHEAD_NBYTES:  # as the others are, most likely
                    self._sends_ahead = False
                    self.attempts.again(task.index, task.output)
                    return
                send_ahead(process, task, self.attempts.count(task.index), item)
            except (wire.PeerGone, BlockingIOError):
                self.attempts.back(task.index, task.output)
            finally:
                item.close()

    def _recalled(self) -> Waiting | None:
        """A task that waits while another process is there for it: where one has been at work longest."""
        for process in sorted((t for t in self.live.values() if t.ahead is not None), key=lambda t: t.began):
            if (index := take_back(process)) is not None:
                self.attempts.uncount(index)
                return self._without(process, index)
        return None

    def _without(self, process: Running, index: int) -> Waiting:
        """The task `index`, which the process has not taken, and will not: it goes on to what comes after that."""
        if (ahead := process.ahead) is not None and index == ahead.index:
            process.ahead = None
            return ahead
        process.is_free = True
        self.forget(process)
        return Waiting(index, process.output)

    def reclaim(self, task: Running) -> None:
        """Its process takes no other: what that has not begun, the task or what was sent ahead, is tried again, as if
        nothing had been."""
        untaken: set[int] = set()
        while (index := take_back(task)) is not None:
            untaken.add(index)
        task.was_not_taken = task.index in untaken
        if (ahead := task.ahead) is not None and (ahead.index in untaken or not task.is_free):
            self.attempts.back(ahead.index, ahead.output)
            task.ahead = None

    # -- a task is over

    def forget(self, task: Running) -> None:
        """It is over: its process is free, or goes on to what was sent ahead, or ends."""
        del self.live[task.id]
        self.joins.end(task.id)
        is_free, ahead = task.is_free and task.watch is not None and not task.ended_for, task.ahead
        if is_free and ahead is None:
            self._free.keep(task)
        elif is_free and ahead is not None:
            self._waited.forget(task)
            now = self._plan.clock()
            deadline, attempt = self._plan.limits.time_is_up(now), self.attempts.made(ahead.index)
            self._enter(gone_on(task, ahead, attempt, now=now, deadline=deadline))
        else:
            if ahead is not None:  # it has not begun that, or was ended by us with what it has
                self.attempts.back(ahead.index, ahead.output)
            self._waited.let_go(task)

    def lost_free(self, id: int) -> None:
        """The process has ended, if it is one of those that are free."""
        if (process := self._free.pop(id)) is not None:
            self._waited.let_go(process)

    # -- the end

    def kept(self) -> tuple[Running, ...]:
        """Free processes, as they wait for another fan-out; whoever takes them ends them. The others are closed."""
        found = self._free.take_all()
        for process in found:
            self._waited.forget(process)
        for process in found[self._plan.keeps :]:
            process.close()
        return tuple(map(idle, found[: self._plan.keeps]))

    def close(self) -> None:
        for task in [*self.live.values(), *self._free.take_all()]:
            task.close()
