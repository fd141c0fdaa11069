"""Cells that exhaust something: output, processes, memory, the stack, descriptors. The cell pays; the kernel lives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, running

MIB = 2**20


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running(tmp_path / "store") as kernel:
        kernel.run("kept = 1")
        yield kernel


def assert_unharmed(kernel: Kernel) -> None:
    assert kernel.run("kept + 1").value == "2"


@pytest.mark.parametrize(("pieces", "piece"), [(1, 5 * MIB), (100, MIB), (20_000, 50)])
def test_a_flood_of_output_arrives_whole_and_in_order(kernel: Kernel, pieces: int, piece: int) -> None:
    code = f"for n in range({pieces}): print(str(n % 10) * {piece})"
    result = kernel.run(code, timeout=60)
    assert result.status == "ok"
    text = result.stdout
    assert len(text) == pieces * (piece + 1)
    assert [line[0] for line in text.splitlines()] == [str(n % 10) for n in range(pieces)]
    assert_unharmed(kernel)


def test_a_flood_can_be_interrupted(kernel: Kernel) -> None:
    msg_id = kernel.client.send("while True: print('x' * 1000)")
    kernel.client.await_output(msg_id, "stream")
    kernel.manager.interrupt_kernel()
    result = kernel.client.result(msg_id, timeout=40)
    assert result.ename == "KeyboardInterrupt"
    assert_unharmed(kernel)


def test_a_client_that_reads_nothing_does_not_stop_the_kernel(kernel: Kernel) -> None:
    silent = kernel.another_client()
    assert kernel.run("for n in range(50): print('x' * 2**20)", timeout=60).status == "ok"
    assert_unharmed(kernel)
    assert silent.run("1 + 1", timeout=60).value == "2"


def test_endless_recursion_is_the_cells_error(kernel: Kernel) -> None:
    assert kernel.run("def f(): return f()\nf()").ename == "RecursionError"
    assert_unharmed(kernel)


def test_a_c_stack_overflow_costs_the_worker_and_is_said(kernel: Kernel) -> None:
    code = "import sys; sys.setrecursionlimit(10**9)\ns = []\nfor _ in range(10**6): s = [s]\nrepr(s); hash(str(s))"
    result = kernel.run(code, timeout=60)
    assert result.status == "error"
    assert result.ename in {"WorkerLost", "RecursionError", "MemoryError"}
    assert_unharmed(kernel)


def test_a_huge_allocation_is_the_cells_error(kernel: Kernel) -> None:
    assert kernel.run("x = bytearray(2**50)").ename in {"MemoryError", "OverflowError"}
    assert_unharmed(kernel)


@pytest.mark.parametrize("piece", [2**26, 2**20])
def test_a_memory_limit_of_the_cells_own_ends_in_an_error(kernel: Kernel, piece: int) -> None:
    """Whatever is left afterwards: with next to nothing not even a reply can be made, and the worker has to go."""
    code = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
        data = []
        while True: data.append(bytearray({piece}))
    """
    result = kernel.run(code, timeout=60)
    assert result.status == "error"
    kernel.run("data = None", timeout=60)  # the limit still holds for a worker that lived on; it may end only now
    assert_unharmed(kernel)


def test_a_bounded_fork_bomb_is_cleaned_up(kernel: Kernel) -> None:
    code = """
        import os, time
        for _ in range(5):
            os.fork()
        if os.getpid() != os.getpgrp():
            time.sleep(600)
        print('begun', flush=True)
        time.sleep(600)
    """
    msg_id = kernel.client.send(code)
    kernel.client.await_output(msg_id, "stream")
    eventually(lambda: len(kernel.processes()) >= 32, 10.0, "32 processes")
    kernel.kill(kernel.pids("worker")[0])
    assert kernel.client.result(msg_id).ename == "WorkerLost"
    assert_unharmed(kernel)
    eventually(lambda: len(kernel.processes()) == 3, 10.0, "only front, zygote and worker left")


def test_a_cell_that_closes_every_descriptor_costs_the_worker_at_most(kernel: Kernel) -> None:
    msg_id = kernel.client.send("import os; os.closerange(3, 4096)")
    try:
        kernel.client.result(msg_id, timeout=5)
    except TimeoutError:  # the worker cannot speak any more; the user sees a busy cell, and restarts or kills it
        kernel.kill_worker()
        assert kernel.client.result(msg_id).ename == "WorkerLost"
    assert_unharmed(kernel)


def test_a_cell_that_runs_out_of_descriptors_gets_an_error(kernel: Kernel) -> None:
    code = "import os\nfds = []\ntry:\n    while True: fds.append(os.dup(1))\nfinally:\n    for fd in fds: os.close(fd)"
    assert kernel.run(code).ename == "OSError"
    assert_unharmed(kernel)


def test_closed_standard_streams_do_not_harm_the_kernel(kernel: Kernel) -> None:
    kernel.run("import os; os.close(0); os.close(1); os.close(2)")
    assert kernel.run("print('still here')").stdout == "still here\n"
    assert_unharmed(kernel)


def test_a_cell_that_forks_and_lets_the_child_run_on_does_not_confuse_the_kernel(kernel: Kernel) -> None:
    code = "import os\npid = os.fork()\nif pid == 0: os._exit(3)\nprint(os.waitpid(pid, 0)[1])"
    assert kernel.run(code).stdout == "768\n"
    assert_unharmed(kernel)


def test_a_thousand_queued_cells_are_run_in_order(kernel: Kernel) -> None:
    kernel.run("seen = []")
    ids = [kernel.client.send(f"seen.append({n})", store_history=False) for n in range(1000)]
    started = time.monotonic()
    assert all(kernel.client.result(msg_id, 60).status == "ok" for msg_id in ids)
    assert time.monotonic() - started < 60
    assert kernel.value("seen == list(range(1000))") is True
