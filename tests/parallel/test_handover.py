"""The cell's side of further items: to whom the next task goes, and what is lost of a process that is gone."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Exited, Invocation, Started
from lambdakernel.parallel.attempts import Limits
from lambdakernel.parallel.fanout import FanOut
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.parcels import Sealed, pack
from lambdakernel.parallel.processes import Plan
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Lost, Outcome, Returned


class Staying:
    """An executor whose processes answer each item, and are free afterwards. `goes` says after which one does not."""

    def __init__(self, pid: int, goes: Callable[[int], bool] = lambda index: False) -> None:
        self._pid, self._goes = pid, goes
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._events: list[Event] = []
        self.lines: dict[str, socket.socket] = {}
        self.born: list[int] = []
        self.took: list[int] = []
        self.is_late = False
        """What a process says is heard before it is known that it was started."""

    def fileno(self) -> int:
        return self._bell

    def start(self, invocation: Invocation, fds: tuple[int, ...] = ()) -> None:
        index = int(str(invocation.params["index"]))
        self.born.append(index)
        self.lines[invocation.id] = wire.adopt(os.dup(fds[0]))
        self._events.append(Started(invocation.id, self._pid))
        self._answer(invocation.id, index)
        if not self.is_late:
            os.eventfd_write(self._bell, 1)

    def _answer(self, id: str, index: int) -> None:
        self.took.append(index)
        parcel = pack(str(index).encode())
        free = {} if self._goes(index) else {"peak": 0}
        wire.send(self.lines[id], {"said": "returned", "cpu_s": 0.0, **free}, (parcel,))
        os.close(parcel)
        if self._goes(index):
            self.leave(id)

    def leave(self, id: str, code: int = 0) -> None:
        self.lines.pop(id).close()
        self._events.append(Exited(id, self._pid, code, False, 0))
        os.eventfd_write(self._bell, 1)

    def events(self) -> list[Event]:
        os.eventfd_read(self._bell)
        found, self._events = self._events, []
        return found

    def watch(self, progress: Progress) -> None:
        """Called in each round: answer what was handed over."""
        if self.is_late:
            os.eventfd_write(self._bell, 1)
        for id, line in list(self.lines.items()):
            try:
                received = wire.receive(line)
            except wire.PeerGone:
                self.leave(id)
                continue
            if received is not None:
                wire.close_fds(received[1])
                self._answer(id, received[0]["index"])

    def close(self, deadline_s: float) -> None:
        for line in self.lines.values():
            line.close()
        os.close(self._bell)


@pytest.fixture
def process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        yield sleeping.pid
        sleeping.kill()


def outcomes(executor: Staying, total: int, item: Callable[[int], None] = lambda index: None, **more) -> list[Outcome]:
    def packed(index: int) -> Sealed:
        item(index)
        return Sealed.of(b"item")

    job = pack(b"job")
    plan = Plan(executor, job=job, total=total, item=packed, limits=Limits(workers=more.pop("workers", 1)), **more)
    fan = FanOut(plan, Grouped(lambda stream, text: None, str), executor.watch)
    try:
        return fan.run()
    finally:
        os.close(job)


def values(found: list[Outcome]) -> list[object]:
    return [bytes(one.parcel.head).decode() if isinstance(one, Returned) else one for one in found]


def test_a_free_process_takes_the_next_task_in_place_of_a_birth(process):
    executor = Staying(process)
    assert values(outcomes(executor, 5)) == ["0", "1", "2", "3", "4"]
    assert executor.born == [0] and executor.took == [0, 1, 2, 3, 4]


def test_one_that_says_so_before_it_is_known_that_it_was_started(process):
    executor = Staying(process)
    executor.is_late = True
    assert values(outcomes(executor, 5)) == ["0", "1", "2", "3", "4"]
    assert executor.born == [0]


def test_one_that_is_not_free_is_replaced(process):
    executor = Staying(process, goes=lambda index: index in (1, 2))
    assert values(outcomes(executor, 5)) == ["0", "1", "2", "3", "4"]
    assert executor.born == [0, 2, 3]


def test_of_a_free_process_that_is_gone_nothing_is_lost(process):
    executor = Staying(process)

    def item(index):
        if index == 2:  # it goes while it waits for this
            executor.leave(next(iter(executor.lines)), -9)

    assert values(outcomes(executor, 5, item)) == ["0", "1", "2", "3", "4"]
    assert executor.born == [0, 2]


def test_of_one_that_goes_with_its_task_that_task_is_lost(process):
    executor = Staying(process)
    answer = executor._answer
    executor._answer = lambda id, index: executor.leave(id, -9) if index == 2 else answer(id, index)
    found = values(outcomes(executor, 5))
    assert found[:2] + found[3:] == ["0", "1", "3", "4"] and found[2] == Lost("was killed by SIGKILL")
    assert executor.born == [0, 3]


def test_no_more_run_than_the_share_allows(process):
    executor, share, most = Staying(process), [2], []
    watch = executor.watch

    def watched(progress):
        most.append((share[0], progress.running))
        share[0] = 1 if progress.done >= 4 else 2
        watch(progress)

    executor.watch = watched
    assert len(outcomes(executor, 12, workers=2, share=lambda: share[0])) == 12
    assert all(running <= allowed for allowed, running in most)
    assert len(executor.born) <= 2


def test_when_no_task_waits_free_processes_may_go(process):
    """While another task is long, their memory is given back."""
    executor, gone = Staying(process), []
    answer = executor._answer
    executor._answer = lambda id, index: None if index == 1 else answer(id, index)  # it takes its time
    watch = executor.watch

    def watched(progress):
        if executor.took == [0, 2]:
            free = min(executor.lines)
            try:
                wire.receive(executor.lines[free])
            except wire.PeerGone:
                gone.append(free)
                executor.leave(free)
                answer(min(executor.lines), 1)
            else:
                os.eventfd_write(executor.fileno(), 1)
        else:
            watch(progress)

    executor.watch = watched
    assert values(outcomes(executor, 3, workers=2)) == ["0", "1", "2"]
    assert gone == ["1"]
