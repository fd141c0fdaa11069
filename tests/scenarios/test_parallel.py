"""`%%parallel` in a real kernel: results in order, kills of tasks and workers, interrupts, and nothing left over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, lives, running

SLEEPING = "%%parallel for i in range(4) -> out\nimport time\ntime.sleep(60)\ni"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running(tmp_path / "store", session="parallel") as kernel:
        yield kernel


def tasks(kernel: Kernel) -> list[int]:
    return kernel.pids("task")


def test_results_come_in_order_and_outlive_the_worker(kernel: Kernel) -> None:
    kernel.run("base = 100")
    result = kernel.run("%%parallel for i in range(8) -> out\nimport time\ntime.sleep(0.05 * (8 - i))\nbase + i * i")
    assert result.status == "ok", result.shown
    kernel.kill_worker()
    assert kernel.value("out") == [100 + i * i for i in range(8)]


def test_a_fan_out_is_faster_than_one_after_the_other(kernel: Kernel) -> None:
    started = time.monotonic()
    assert kernel.run("%%parallel --workers 8 for i in range(8) -> out\nimport time\ntime.sleep(1)").status == "ok"
    assert time.monotonic() - started < 5


def test_a_task_that_is_killed_is_named_and_the_kernel_lives(kernel: Kernel) -> None:
    code = "%%parallel for i in range(3) -> out\nimport os\nif i == 1: os.kill(os.getpid(), 9)\ni"
    result = kernel.run(code)
    assert result.status == "error"
    assert "SIGKILL" in result.shown
    assert kernel.run("1 + 1").value == "2"


def test_a_task_that_raises_shows_its_own_error(kernel: Kernel) -> None:
    result = kernel.run("%%parallel for i in range(3) -> out\n1 / (i - 2)")
    assert result.status == "error"
    assert "ZeroDivisionError" in result.shown
    assert kernel.run("1 + 1").value == "2"


def test_an_interrupt_ends_all_tasks(kernel: Kernel) -> None:
    msg_id = kernel.client.send(SLEEPING)
    running_tasks = eventually(lambda: tasks(kernel), 10.0, "tasks")
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(msg_id).status == "error"
    eventually(lambda: not any(map(lives, running_tasks)) and not tasks(kernel), 5.0, "no task left")
    assert kernel.run("1 + 1").value == "2"


def test_a_worker_killed_in_a_fan_out_takes_its_tasks_along(kernel: Kernel) -> None:
    kernel.run("kept = 1")
    msg_id = kernel.client.send(SLEEPING)
    running_tasks = eventually(lambda: tasks(kernel), 10.0, "tasks")
    kernel.kill_worker()
    assert kernel.client.result(msg_id).ename == "WorkerLost"
    eventually(lambda: not any(map(lives, running_tasks)), 5.0, "no task left")
    assert kernel.value("(kept, 'out' in globals())") == (1, False)


def test_a_killed_front_takes_tasks_along(kernel: Kernel) -> None:
    kernel.client.send(SLEEPING)
    running_tasks = eventually(lambda: tasks(kernel), 10.0, "tasks")
    kernel.front.kill()
    eventually(lambda: not any(map(lives, running_tasks)), 5.0, "no task left")
    kernel.restart_as_jupyter_does()
    assert kernel.run("1 + 1").value == "2"
