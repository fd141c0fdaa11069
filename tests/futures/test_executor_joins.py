"""Live lattices in calls of an executor: nothing that a call joins is lost, and nothing is counted twice."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import lambdakernel
from kvs.lattices import GCounter, GrowSet, Map, Max
from lambdakernel import Live, live
from lambdakernel.futures import TaskLost

DEADLINE_S = 60.0


@pytest.fixture
def executor() -> Iterator[lambdakernel.Executor]:
    with lambdakernel.Executor(2) as made:
        yield made


def test_what_calls_join_is_in_the_callers_variable(executor: lambdakernel.Executor) -> None:
    count, best, seen, scores = Live(GCounter()), Live(Max()), Live(GrowSet()), Live(Map())

    def work(n: int) -> int:
        count.increment()
        best.merge(n)
        seen.add(n)
        scores.merge(n % 10, Max(n))
        return n

    assert list(executor.map(work, range(200))) == list(range(200))
    assert (count.total(), best.value, seen.size(), len(scores)) == (200, 199, 200, 10)
    assert list(executor.map(work, range(200), chunksize=7, timeout=DEADLINE_S)) == list(range(200))
    assert (count.total(), best.value, seen.size()) == (400, 199, 200)


def test_a_call_begins_with_what_was_joined_before(executor: lambdakernel.Executor) -> None:
    best = Live(Max(3))
    assert executor.submit(lambda: best.value).result(DEADLINE_S) == 3
    best.merge(5)
    assert executor.submit(lambda: (best.value, best.merge(4), best.merge(6))).result(DEADLINE_S) == (5, False, True)
    assert best.value == 6


def test_joins_of_a_call_that_raises_stay_and_those_of_one_that_dies_do_not(executor: lambdakernel.Executor) -> None:
    count = Live(GCounter())

    def fail() -> None:
        count.increment()
        raise ValueError("after the write")

    def die() -> None:
        count.increment()
        os._exit(3)

    assert isinstance(executor.submit(fail).exception(DEADLINE_S), ValueError)
    assert count.total() == 1
    assert isinstance(executor.submit(die).exception(DEADLINE_S), TaskLost)
    assert count.total() == 1
    executor.submit(count.increment).result(DEADLINE_S)
    assert count.total() == 2


def test_joins_of_any_size_arrive(executor: lambdakernel.Executor) -> None:
    seen = Live(GrowSet())
    executor.submit(lambda: seen.merge({f"word-{n:09}" for n in range(40_000)})).result(DEADLINE_S)
    assert seen.size() == 40_000


def test_a_result_that_is_the_callers_variable_is_that_object(executor: lambdakernel.Executor) -> None:
    best = Live(Max(1))

    def work() -> Live:
        best.merge(2)
        return best

    assert executor.submit(work).result(DEADLINE_S) is best
    assert best.value == 2
    made = executor.submit(lambda: Live(Max(9))).result(DEADLINE_S)
    assert made.value == 9
    executor.submit(made.merge, 10).result(DEADLINE_S)
    assert made.value == 10


def test_a_call_with_a_live_lattice_is_no_task_of_a_cell(executor: lambdakernel.Executor) -> None:
    best = Live(Max(1))  # a shuffle in a task uses that task's process alone
    assert executor.submit(lambda: (best.merge(2), live.in_task())).result(DEADLINE_S) == (True, False)


def test_joins_come_through_an_executor_inside_a_call(executor: lambdakernel.Executor) -> None:
    count = Live(GCounter())

    def outer() -> int:
        with lambdakernel.Executor(1) as inner:
            for _ in range(3):
                inner.submit(count.increment).result(60)
        return int(count.total())

    assert [executor.submit(outer).result(DEADLINE_S) for _ in range(2)] == [3, 6]
    assert count.total() == 6
