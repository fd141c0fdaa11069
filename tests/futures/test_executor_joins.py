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


def test_a_call_begins_with_what_was_joined_before_it_also_in_a_worker_that_keeps_its_function() -> None:
    words, count, best = Live(GrowSet()), Live(GCounter()), Live(Max(0))

    def seen(n: int) -> tuple[bool, int, int]:
        found = f"caller-{n}" in words, words.size(), best.value
        words.add(f"call-{n}")
        count.increment()
        return found

    with lambdakernel.Executor(2) as executor:
        for n in range(20):
            words.add(f"caller-{n}")
            best.merge(n)
            assert executor.submit(seen, n).result(DEADLINE_S) == (True, 2 * n + 1, n)
        list(executor.map(seen, range(20, 60)))
    assert (count.total(), words.size()) == (60, 80)


def test_two_functions_that_join_into_one_live_lattice_see_each_other() -> None:
    count = Live(GCounter())

    def step() -> int:
        count.increment()
        return int(count.total())

    def total() -> int:
        return int(count.total())

    with lambdakernel.Executor(1) as executor:
        for n in range(0, 10, 2):
            assert executor.submit(step).result(DEADLINE_S) == n + 1
            assert executor.submit(total).result(DEADLINE_S) == n + 1
            count.increment()
            assert executor.submit(total).result(DEADLINE_S) == n + 2


def test_news_of_any_size_reach_a_worker_that_keeps_the_function() -> None:
    words = Live(GrowSet())

    def size() -> int:
        return int(words.size())

    with lambdakernel.Executor(1) as executor:
        assert executor.submit(size).result(DEADLINE_S) == 0
        words.merge({f"word-{n:09}" for n in range(40_000)})
        assert executor.submit(size).result(DEADLINE_S) == 40_000
        words.add("one more")
        assert executor.submit(size).result(DEADLINE_S) == 40_001


def test_what_was_taken_back_from_a_worker_that_died_is_told_again() -> None:
    count, best = Live(GCounter()), Live(Max(0))

    def step(n: int) -> int:
        if n == 5:
            os._exit(3)
        count.increment()
        return int(best.value)

    with lambdakernel.Executor(1) as executor:
        assert executor.submit(step, 0).result(DEADLINE_S) == 0
        best.merge(7)
        futures = [executor.submit(step, n) for n in range(1, 12)]
        lost = [isinstance(future.exception(DEADLINE_S), TaskLost) for future in futures]
        assert lost == [n == 5 for n in range(1, 12)]
        assert {future.result() for future in futures if future.exception() is None} == {7}
    assert count.total() == 11


def test_what_an_initializer_joins_is_joined() -> None:
    count, words = Live(GCounter()), Live(GrowSet())

    def begin() -> None:
        count.increment()
        words.merge({f"word-{n:09}" for n in range(40_000)})

    with lambdakernel.Executor(1, initializer=begin) as executor:
        assert executor.submit(abs, -1).result(DEADLINE_S) == 1
        assert (count.total(), words.size()) == (1, 40_000)
