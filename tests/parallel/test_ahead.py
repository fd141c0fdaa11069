"""The next task of a process that is at work: sent ahead, taken back, and never lost or run twice."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

import pytest

from lambdakernel.executors import wire
from lambdakernel.executors.base import Event, Exited, Invocation, Started
from lambdakernel.parallel.attempts import Limits
from lambdakernel.parallel.fanout import FanOut
from lambdakernel.parallel.output import Grouped
from lambdakernel.parallel.parcels import Sealed, pack
from lambdakernel.parallel.processes import MOST_AHEAD_NBYTES, Plan
from lambdakernel.parallel.results import Lost, Returned

SETTLED = 3
"""Rounds after which each process has what is to be sent ahead to it."""


class Process:
    """One that does what the test says."""

    def __init__(self, id: str, fds: tuple[int, ...], pool: Pool) -> None:
        line, job, item, *pipes = (os.dup(fd) for fd in fds)
        wire.close_fds((job, item))
        self.id, self.line, self.pipes, self._pool = id, wire.adopt(line), pipes, pool
        self.took: list[int] = []
        self.is_at_work = self.is_gone = False
        self._lane = 0

    def begin(self, index: int) -> None:
        self.took.append(index)
        self.is_at_work = True
        wire.send(self.line, {"said": "begins"})

    def take(self) -> bool:
        """The next task on its line, if there is one."""
        received = wire.receive(self.line)
        if received is not None:
            wire.close_fds(received[1])
            self.took.append(received[0]["index"])
            self._lane = received[0]["lane"]
            self.is_at_work = True
        return received is not None

    def prints(self, text: bytes) -> None:
        os.write(self.pipes[2 * self._lane], text)

    def end(self, *, is_free: bool = True) -> None:
        parcel = pack(str(self.took[-1]).encode())
        wire.send(self.line, {"said": "returned", "cpu_s": 0.0, **({"peak": 0} if is_free else {})}, (parcel,))
        os.close(parcel)
        self.is_at_work = False

    def displays(self) -> None:
        """Show something, which is answered."""
        parcel = pack(b'{"data": {"text/plain": "shown"}}')
        wire.send(self.line, {"said": "display"}, (parcel,))
        os.close(parcel)

    def die(self, code: int = -9) -> None:
        self.close()
        self._pool.tell(Exited(self.id, self._pool.pid, code, False, 0))

    def close(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.line.close()
            wire.close_fds(tuple(self.pipes))

    def step(self) -> None:
        """Take what there is, or end what was taken."""
        try:
            if self.is_at_work:
                self.end()
            else:
                self.take()
        except wire.PeerGone:
            self.die(0)


Script = Callable[["Pool"], Iterator[None]]


class Pool:
    """An executor of such processes. In each round, `script` does something, once all that is to be sent ahead is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.script: Iterator[None] = iter(())
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._events: list[Event] = []
        self._round = 0
        self.born: list[Process] = []

    def tell(self, event: Event) -> None:
        self._events.append(event)
        os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        return self._bell

    def start(self, invocation: Invocation, fds: tuple[int, ...] = ()) -> None:
        process = Process(invocation.id, fds, self)
        self.born.append(process)
        self.tell(Started(invocation.id, self.pid))
        process.begin(int(str(invocation.params["index"])))

    def events(self) -> list[Event]:
        os.eventfd_read(self._bell)
        found, self._events = self._events, []
        return found

    def watch(self, progress: object) -> None:
        self._round += 1
        if self._round > SETTLED:
            next(self.script)
        os.eventfd_write(self._bell, 1)

    def close(self, deadline_s: float) -> None:
        for process in self.born:
            process.close()
        os.close(self._bell)


@pytest.fixture
def pid() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        yield sleeping.pid
        sleeping.kill()


def ran(
    pool: Pool,
    script: Script,
    total: int,
    *,
    workers: int = 1,
    item: bytes = b"item",
    retries: int = 0,
    share: Callable[[], int] | None = None,
) -> Ran:
    """What comes of so many tasks, if `script` says what the processes do, a step in each round of the fan-out."""
    shown: list[str] = []
    gc.collect()  # descriptors that earlier tests have left to it
    job, before = pack(b"job"), len(os.listdir("/proc/self/fd"))
    pool.script = script(pool)
    limits = Limits(workers=workers, retries=retries)
    plan = Plan(pool, job=job, total=total, item=lambda index: Sealed.of(item), limits=limits, stays=True, share=share)
    outcomes = FanOut(plan, Grouped(lambda stream, text: shown.append(text), str), pool.watch).run()
    assert len(os.listdir("/proc/self/fd")) == before - 1, "every descriptor is closed, the executor's too"
    os.close(job)
    values = [bytes(one.parcel.head).decode() if isinstance(one, Returned) else one for one in outcomes]
    return Ran(values, "".join(shown), [process.took for process in pool.born])


class Ran(NamedTuple):
    values: list[object]
    shown: str
    took: list[list[int]]
    """By each process."""


def all_go_on(pool: Pool, but: Container[int] = ()) -> Iterator[None]:
    """A step of every process, in each round; those which have a task `but` do nothing."""
    while True:
        for process in pool.born:
            if not process.is_gone and not (process.is_at_work and process.took[-1] in but):
                process.step()
        yield


def test_a_process_goes_on_without_waiting_for_us(pid):
    def script(pool: Pool) -> Iterator[None]:
        pool.born[0].end()
        assert pool.born[0].take(), "it is there already"
        pool.born[0].end()
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 4)
    assert found.values == ["0", "1", "2", "3"] and found.took == [[0, 1, 2, 3]]


def test_what_was_sent_ahead_to_one_that_takes_long_goes_to_another(pid):
    def script(pool: Pool) -> Iterator[None]:
        for _ in itertools.islice(all_go_on(pool, but={0}), 20):
            yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 6, workers=2)
    assert found.values == ["0", "1", "2", "3", "4", "5"]
    assert found.took[0] == [0] and sorted(found.took[1]) == [1, 2, 3, 4, 5]


def test_one_that_does_not_wake_up_is_passed_over(pid):
    """What was handed over to it is done by another, as soon as that has nothing else to do."""

    def script(pool: Pool) -> Iterator[None]:
        one, other = pool.born
        one.end()
        one.take()
        one.end()  # and takes no other for a while
        yield
        for _ in range(30):
            if not other.is_gone:
                other.step()
            yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 8, workers=2)
    assert found.values == [str(n) for n in range(8)]
    assert sorted(itertools.chain(*found.took)) == list(range(8)), "each once"
    assert len(found.took[0]) <= 3, "all but the last that it was given"


@pytest.mark.parametrize("said", [False, True])
def test_of_one_that_dies_what_it_has_not_taken_is_no_attempt(pid, said):
    def script(pool: Pool) -> Iterator[None]:
        if said:
            pool.born[0].end()
        pool.born[0].die()
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 3)
    assert found.values == ["0" if said else Lost("was killed by SIGKILL"), "1", "2"]
    assert len(found.took) == 2


def test_one_that_was_free_and_dies_loses_nothing(pid):
    def script(pool: Pool) -> Iterator[None]:
        one = pool.born[0]
        one.end()
        one.take()
        one.end()
        yield  # what it is given now, it will not take
        yield
        one.die()
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 8, workers=2)
    assert found.values == [str(n) for n in range(8)]


def test_of_one_that_dies_in_what_it_went_on_to_that_is_lost(pid):
    def script(pool: Pool) -> Iterator[None]:
        one = pool.born[0]
        one.end()
        assert one.take()
        one.prints(b"was here\n")
        one.die()
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 3)
    assert found.values == ["0", Lost("was killed by SIGKILL"), "2"] and found.shown == "1\nwas here\n"
    assert ran(Pool(pid), script, 3, retries=1).values == ["0", "1", "2"]


def test_one_that_is_not_free_leaves_what_was_sent_ahead_to_others(pid):
    def script(pool: Pool) -> Iterator[None]:
        pool.born[0].end(is_free=False)
        pool.born[0].die(0)
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 3)
    assert found.values == ["0", "1", "2"] and found.took[0] == [0]


def test_what_two_tasks_print_is_told_apart_however_late_it_is_heard(pid):
    def script(pool: Pool) -> Iterator[None]:
        one = pool.born[0]
        one.prints(b"nought\n")
        one.end()
        assert one.take()
        one.prints(b"one\n")
        one.end()
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 3)
    assert found.values == ["0", "1", "2"] and found.shown == "0\nnought\n1\none\n"


@pytest.mark.parametrize("is_late", [False, True])
def test_one_that_meets_its_next_task_while_it_waits_for_an_answer_gives_it_up_and_has_its_answer(pid, is_late):
    """What is taken back from a line is tasks, however many others wait for one."""

    def script(pool: Pool) -> Iterator[None]:
        one, other = pool.born
        one.displays()
        turn, fds = wire.receive(one.line) or ({}, ())
        wire.close_fds(fds)
        assert turn["index"] == 2
        for missed in (is_late, not is_late):
            if not missed:
                wire.send(one.line, {"said": "missed"})
            for _ in range(10):
                if not other.is_gone:
                    other.step()
                yield
        assert wire.receive(one.line) == ({"heard": True}, ())
        one.end(is_free=False)
        one.die(0)
        yield
        yield from all_go_on(pool)

    found = ran(Pool(pid), script, 8, workers=2)
    assert found.values == [str(n) for n in range(8)]
    assert found.took[0] == [0] and 2 in itertools.chain(*found.took[1:])


def test_large_items_wait_for_a_process_that_is_free(pid):
    def script(pool: Pool) -> Iterator[None]:
        assert not pool.born[0].take()
        yield from all_go_on(pool)

    assert ran(Pool(pid), script, 3, item=b"x" * 2 * MOST_AHEAD_NBYTES).values == ["0", "1", "2"]


def test_when_fewer_may_run_what_was_sent_ahead_is_not_done_beyond_that(pid):
    """Another fan-out begins: what was sent ahead waits like all else."""
    share, most = [2], []

    def script(pool: Pool) -> Iterator[None]:
        share[0] = 1
        yield
        yield
        assert not pool.born[0].take()
        assert not pool.born[1].take()
        for _ in all_go_on(pool):
            most.append(sum(process.is_at_work for process in pool.born))
            yield

    found = ran(Pool(pid), script, 6, workers=2, share=lambda: share[0])
    assert found.values == [str(n) for n in range(6)]
    assert max(most[1:]) == 1
