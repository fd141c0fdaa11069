"""`lambdakernel.Executor` and joblib's backend in cells of our kernel, before and after its worker is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kernels import Kernel, eventually, running

SETUP = """
import os, time
from lambdakernel import Executor
executor = Executor(2)
holder = {"same": executor}
limit = 10
def f(x): return x + limit
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("store"), session="executor-test") as kernel:
        assert kernel.run(SETUP).status == "ok"
        yield kernel


def test_a_function_of_a_cell_reads_what_later_cells_changed(kernel: Kernel) -> None:
    kernel.run("limit = 10")
    assert kernel.value("list(executor.map(f, range(3)))") == [10, 11, 12]
    kernel.run("limit = 20")
    assert kernel.value("list(executor.map(f, range(3)))") == [20, 21, 22]


def test_what_a_call_prints_reaches_its_cell(kernel: Kernel) -> None:
    result = kernel.run("executor.submit(print, 'hello from a call').result()")
    assert "hello from a call\n" in result.stdout


def test_an_error_shows_the_line_of_the_cell(kernel: Kernel) -> None:
    result = kernel.run("def fails(): raise ValueError('cold')  # the line\nexecutor.submit(fails).result()")
    assert result.ename == "ValueError"
    (error,) = [m["content"] for m in result.messages if m["msg_type"] == "error"]
    assert "def fails(): raise ValueError('cold')  # the line" in "\n".join(error["traceback"])


def test_an_executor_that_is_a_variable_moves_as_a_new_one_with_the_same_settings(kernel: Kernel) -> None:
    kernel.run("limit = 20\ndone = executor.submit(f, 1)\ndone.result()\nworker = os.getpid()")
    old = [int(pid) for pid in kernel.value("executor.worker_pids()")]
    kernel.kill_worker()
    assert kernel.value("worker == os.getpid(), holder['same'] is executor") == (False, True)
    assert kernel.value("list(executor.map(f, range(3)))") == [20, 21, 22]
    assert kernel.value("done.result()") == 21
    assert not set(kernel.value("executor.worker_pids()")) & set(old)


def test_an_executor_that_was_shut_down_stays_so(kernel: Kernel) -> None:
    kernel.run("shut = Executor(1)\nshut.submit(abs, -1).result()")
    kernel.run("shut.shutdown()")
    kernel.kill_worker()
    result = kernel.run("shut.submit(abs, -1)")
    assert (result.ename, "after shutdown" in result.evalue) == ("RuntimeError", True)


def test_a_future_that_is_not_done_is_lost_with_a_clear_error(kernel: Kernel) -> None:
    kernel.run("pending = executor.submit(time.sleep, 600)")
    kernel.kill_worker()
    result = kernel.run("pending.result()")
    assert result.ename == "ResidentLost"
    assert "future" in result.evalue


def test_what_calls_join_into_a_live_lattice_is_kept(kernel: Kernel) -> None:
    kernel.run("from lambdakernel import Live\nfrom kvs.lattices import GCounter\ncount = Live(GCounter())")
    kernel.run("def step(n):\n    count.increment()\n    return n")
    assert kernel.value("sum(executor.map(step, range(20)))") == 190
    kernel.kill_worker()
    assert kernel.value("count.total()") == 20


def test_the_death_of_the_kernels_worker_ends_those_of_its_executors(kernel: Kernel) -> None:
    assert kernel.value("executor.submit(abs, -1).result()") == 1
    pids = set(kernel.value("executor.worker_pids()"))
    assert pids <= {process.pid for process in kernel.processes()}
    kernel.kill_worker()
    eventually(lambda: not pids & {process.pid for process in kernel.processes()}, 30, "the calls' workers to end")


def test_an_interrupt_stops_what_a_map_runs(kernel: Kernel) -> None:
    assert kernel.value("executor.submit(abs, -1).result()") == 1
    sent = kernel.client.send("print('begins', flush=True)\nlist(executor.map(time.sleep, [600, 600]))")
    kernel.client.await_output(sent, "stream")
    time.sleep(0.3)
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(sent).ename == "KeyboardInterrupt"
    assert kernel.value("executor.submit(abs, -2).result(), executor.submit(abs, -3).result()") == (2, 3)


def test_joblib_knows_the_backend_in_a_cell_that_imports_joblib_alone(kernel: Kernel) -> None:
    result = kernel.run(
        "import joblib\n"
        "with joblib.parallel_config('lambdakernel', n_jobs=2):\n"
        "    pids = set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(9)))\n"
        "    sums = joblib.Parallel()(joblib.delayed(f)(n) for n in range(3))"
    )
    assert result.status == "ok", result.shown
    kernel.kill_worker()
    assert kernel.value("sums == [f(n) for n in range(3)], os.getpid() in pids, len(pids) <= 2") == (True, False, True)
