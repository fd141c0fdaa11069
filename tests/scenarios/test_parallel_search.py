"""Branch and bound by tasks that share the best cost: the plain run's result with less work, tasks killed or not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kernels import Kernel, eventually, running

SEARCH = """
import math, random, time

CITIES = 10
rng = random.Random(5)
places = [(rng.random(), rng.random()) for _ in range(CITIES)]
far = [[math.dist(a, b) for b in places] for a in places]
least = [min(d for d in row if d) for row in far]
branches = [(0, a, b) for a in range(1, CITIES) for b in range(1, CITIES) if a != b]


def length(tour):
    return sum(far[a][b] for a, b in zip(tour, tour[1:]))


def bound(tour):
    '''No round trip that begins so is shorter.'''
    return length(tour) + least[tour[-1]] + sum(least[city] for city in range(CITIES) if city not in tour)


def search(tour, known, found):
    '''Look for a shorter round trip than `known()`; each goes to `found`. How many beginnings were looked at.'''
    looked, waiting = 0, [tour]
    while waiting:
        tour = waiting.pop()
        looked += 1
        if bound(tour) >= known() - 1e-12:
            continue
        if len(tour) == CITIES:
            if (cost := length(tour) + far[tour[-1]][0]) < known():
                found(cost)
            continue
        nearest_last = sorted((c for c in range(CITIES) if c not in tour), key=lambda c: -far[tour[-1]][c])
        waiting += [(*tour, city) for city in nearest_last]
    return looked
"""
ALONE = """
costs = [math.inf]
looked = search(branch, lambda: min(costs), costs.append)
cost = min(costs)
"""
SHARED = """
looked = search(branch, lambda: best.value, best.merge)
tried.increment(by=looked)
"""


def plain() -> float:
    """The best cost, by one loop in this process."""
    scope: dict[str, Any] = {}
    exec(SEARCH, scope)
    costs = [float("inf")]
    scope["search"]((0,), lambda: min(costs), costs.append)
    return min(costs)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running(tmp_path / "store", session="search") as kernel:
        assert kernel.run(SEARCH).status == "ok"
        kernel.run("from lambdakernel import Live\nfrom kvs.lattices import GCounter, Min")
        kernel.run("best, tried = Live(Min(math.inf)), Live(GCounter())")
        yield kernel


def test_tasks_that_share_the_best_cost_find_what_one_loop_finds_and_look_at_less(kernel: Kernel) -> None:
    alone = kernel.run(f"%%parallel for branch in branches -> looked, cost\n{ALONE}", timeout=100)
    assert alone.status == "ok", alone.shown
    without = kernel.value("sum(looked), min(cost)")
    shared = kernel.run(f"%%parallel for branch in branches -> looked\n{SHARED}", timeout=100)
    assert shared.status == "ok", shared.shown
    found, looked, tried = kernel.value("best.value, sum(looked), tried.total()")
    assert found == pytest.approx(plain(), abs=1e-9)
    assert without[1] == pytest.approx(found, abs=1e-9)
    assert looked == tried < without[0]
    kernel.kill_worker()
    assert kernel.value("best.value, tried.total()") == (found, tried)


def test_the_result_is_the_same_when_tasks_are_killed(kernel: Kernel) -> None:
    """Every so often a task that runs is killed; it runs again, with the best cost that is known by then."""
    is_over, killed = threading.Event(), []

    def kill_some() -> None:
        while not is_over.wait(0.25) and len(killed) < 8:
            for pid in kernel.pids("task")[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                except ProcessLookupError:
                    continue

    killer = threading.Thread(target=kill_some)
    killer.start()
    try:
        cell = f"%%parallel --retries 8 --workers 3 for branch in branches -> looked\ntime.sleep(0.05)\n{SHARED}"
        result = kernel.run(cell, timeout=100)
    finally:
        is_over.set()
        killer.join(10)
    assert result.status == "ok", result.shown
    assert killed
    assert kernel.value("best.value") == pytest.approx(plain(), abs=1e-9)
    assert kernel.value("len(looked)") == 72


def test_a_flood_a_task_that_is_killed_again_and_again_and_an_interrupt_in_one_cell(kernel: Kernel) -> None:
    body = (
        "import os, subprocess\n"
        "if i == 0:\n    while True: print('x' * 1000)\n"
        "if i == 1: best.merge(7.0); time.sleep(0.1); os.kill(os.getpid(), 9)\n"
        "subprocess.Popen(['sleep', '500'])\ntime.sleep(500)"
    )
    message = kernel.client.send(f"%%parallel --retries 1000 --workers 3 for i in range(3) -> never\n{body}")
    time.sleep(3.0)
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    result = kernel.client.result(message, 30)
    assert result.ename == "KeyboardInterrupt"
    assert time.monotonic() - began < 15
    assert len(result.stdout) < 200_000
    assert " retried, stopped" in result.shown
    eventually(lambda: not kernel.pids("task") and not sleepers(kernel), 10, "no task, and nothing that one started")
    assert kernel.value("best.value, 'never' in globals()") == (7.0, False)
    assert kernel.run("%%parallel for i in range(3) -> after\ni").status == "ok"
    assert kernel.value("after") == [0, 1, 2]


def sleepers(kernel: Kernel) -> list[psutil.Process]:
    """What tasks have started."""
    found = []
    for process in kernel.processes():
        try:
            if process.name() == "sleep":
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
