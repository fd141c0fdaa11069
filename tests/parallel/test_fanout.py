"""When the next task of a fan-out begins: tasks that were said to have ended, and processes that are not gone yet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Exited, Invocation, Started
from lambdakernel.parallel.attempts import AT_LEAVE, Limits
from lambdakernel.parallel.fanout import FanOut
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.parcels import Sealed, pack
from lambdakernel.parallel.processes import Plan
from lambdakernel.parallel.progress import Progress
from lambdakernel.parallel.results import Returned


class Slow:
    """An executor whose tasks say at once what they found, and whose processes go when `let_go` of them are held."""

    def __init__(self, pid: int, let_go: int) -> None:
        self._pid, self._let_go = pid, let_go
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._events: list[Event] = []
        self._held: list[str] = []
        self.most = 0
        self.most_running = 0

    def fileno(self) -> int:
        return self._bell

    def start(self, invocation: Invocation, fds: tuple[int, ...] = ()) -> None:
        self._events.append(Started(invocation.id, self._pid))
        line = wire.adopt(os.dup(fds[0]))
        parcel = pack(invocation.id.encode())
        wire.send(line, {"said": "returned", "cpu_s": 0.0}, (parcel,))
        os.close(parcel)
        line.close()
        self._held.append(invocation.id)
        self.most = max(self.most, len(self._held))
        os.eventfd_write(self._bell, 1)

    def leave(self) -> None:
        """Every process that is held goes."""
        self._events += [Exited(id, self._pid, 0, False, 0) for id in self._held]
        self._held.clear()
        os.eventfd_write(self._bell, 1)

    def events(self) -> list[Event]:
        os.eventfd_read(self._bell)
        if len(self._held) >= self._let_go:
            self.leave()
        found, self._events = self._events, []
        return found

    def watch(self, progress: Progress) -> None:
        self.most_running = max(self.most_running, progress.running)

    def close(self, deadline_s: float) -> None:
        os.close(self._bell)


@pytest.fixture
def process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        yield sleeping.pid
        sleeping.kill()


def fan_out(executor: Slow, total: int) -> list[object]:
    job = pack(b"job")
    try:
        return list(
            FanOut(
                Plan(executor, job=job, total=total, item=lambda index: Sealed.of(b"item"), limits=Limits(workers=1)),
                Grouped(lambda stream, text: None, str),
                executor.watch,
            ).run()
        )
    finally:
        os.close(job)


def test_the_next_task_begins_when_one_has_said_how_it_ended(process: int) -> None:
    executor = Slow(process, let_go=3)
    outcomes = fan_out(executor, 3)
    assert [bytes(one.parcel.head) for one in outcomes if isinstance(one, Returned)] == [b"1", b"2", b"3"]
    assert executor.most == 3
    assert executor.most_running == 1, "what has ended does not run"


def test_processes_that_do_not_go_keep_others_back_after_some(process: int) -> None:
    executor = Slow(process, let_go=AT_LEAVE)
    assert len(fan_out(executor, 3 * AT_LEAVE)) == 3 * AT_LEAVE
    assert executor.most == AT_LEAVE
