"""Real kills of real processes: the kernel lives, says what happened, and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.restarter import KernelRestarter

from tests.kernels import Kernel, Result, eventually, lives, running

ERROR_WITHIN_S = 2.0


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running(tmp_path / "store") as kernel:
        yield kernel


def kill_while_running(kernel: Kernel, code: str, number: int = signal.SIGKILL) -> tuple[Result, float]:
    """Run a cell that prints `begun`, kill its worker then; what the client saw, and how long after the kill."""
    worker = kernel.worker()
    msg_id = kernel.client.send(code)
    kernel.client.await_output(msg_id, "stream")
    os.kill(worker, number)
    killed = time.monotonic()
    result = kernel.client.result(msg_id)
    return result, time.monotonic() - killed


BUSY = "import time; print('begun', flush=True); time.sleep(60)"


def test_a_worker_killed_between_two_cells_is_not_noticed(kernel: Kernel) -> None:
    before = kernel.kill_worker()
    assert kernel.run("21 * 2").value == "42"
    assert kernel.worker() != before


def test_a_worker_killed_inside_a_cell_is_an_error_that_says_so(kernel: Kernel) -> None:
    kernel.run("pass")
    result, seconds = kill_while_running(kernel, BUSY)
    assert seconds < ERROR_WITHIN_S
    assert (result.status, result.ename) == ("error", "WorkerLost")
    assert "was killed by SIGKILL" in result.evalue
    assert "The namespace is as it was before the cell" in result.evalue
    assert [t for t in result.types if t != "stream"] == ["status", "execute_input", "error", "status"]
    assert kernel.run("1 + 1").value == "2"


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGTERM, "SIGTERM"), (signal.SIGABRT, "SIGABRT")]
)
def test_the_error_names_the_signal(kernel: Kernel, number: int, name: str) -> None:
    result, _ = kill_while_running(kernel, BUSY, number)
    assert f"was killed by {name}" in result.evalue


def test_a_worker_that_kills_itself_or_leaves_in_a_cell_is_lost_with_its_exit_code(kernel: Kernel) -> None:
    result = kernel.run("import os; os._exit(7)")
    assert result.ename == "WorkerLost"
    assert "exited with code 7" in result.evalue
    crashed = kernel.run("import ctypes; ctypes.string_at(0)")
    assert "SIGSEGV" in crashed.evalue
    assert kernel.run("1 + 1").value == "2"


def test_cells_queued_behind_a_lost_one_are_aborted_and_later_ones_run(kernel: Kernel) -> None:
    first = kernel.client.send(BUSY)
    queued = [kernel.client.send(f"print('never {n}')") for n in range(3)]
    kernel.client.await_output(first, "stream")
    kernel.kill_worker()
    assert kernel.client.result(first).ename == "WorkerLost"
    results = [kernel.client.result(msg_id) for msg_id in queued]
    assert [r.status for r in results] == ["aborted"] * 3
    assert [r.stdout for r in results] == [""] * 3
    assert kernel.run("print('ran')").stdout == "ran\n"


def test_a_cell_is_never_run_twice(kernel: Kernel, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"import time; open({str(trace)!r}, 'a').write('x'); print('begun', flush=True); time.sleep(60)"
    kill_while_running(kernel, code)
    kernel.run("pass")
    assert trace.read_text() == "x"


def test_killed_again_and_again_the_kernel_goes_on(kernel: Kernel) -> None:
    for n in range(5):
        kernel.kill_worker()
        assert kernel.run(f"{n} + 1").value == str(n + 1)


def test_a_worker_killed_while_it_starts_is_replaced(kernel: Kernel) -> None:
    for _ in range(3):
        first = kernel.kill_worker()
        kernel.kill(another_worker(kernel, first))
        assert kernel.run("1 + 1").value == "2"


def another_worker(kernel: Kernel, than: int) -> int:
    return int(eventually(lambda: [p for p in kernel.pids("worker") if p != than], 5.0, "a new worker")[-1])


def test_workers_killed_until_the_front_gives_up_come_back_with_the_next_cell(kernel: Kernel) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and (workers := eventually_workers(kernel)):
        kernel.kill(workers[-1])
    assert kernel.run("1 + 1").value == "2"


def eventually_workers(kernel: Kernel) -> list[int]:
    """The workers there are, once there are some; none if there are none for a second."""
    for _ in range(50):
        if workers := kernel.pids("worker"):
            return workers
        time.sleep(0.02)
    return []


def test_other_requests_survive_the_death_of_their_worker(kernel: Kernel) -> None:
    kernel.kill_worker()
    kernel.client.raw.complete("zi", 2)
    reply = kernel.client.raw.get_shell_msg(timeout=20)
    assert "zip" in reply["content"]["matches"]


def test_output_printed_before_the_kill_is_kept(kernel: Kernel) -> None:
    code = "import time\nfor n in range(100): print('line', n, flush=True)\nprint('begun', flush=True); time.sleep(60)"
    worker = kernel.worker()
    msg_id = kernel.client.send(code)
    time.sleep(1.0)
    os.kill(worker, signal.SIGKILL)
    result = kernel.client.result(msg_id)
    assert result.stdout.splitlines() == [*(f"line {n}" for n in range(100)), "begun"]


# -- the front


def test_a_killed_front_leaves_no_process_and_no_directory_and_a_restarter_brings_the_kernel_back(
    kernel: Kernel,
) -> None:
    kernel.run("pass")
    old = [p.pid for p in kernel.processes()]
    kernel.front.kill()
    eventually(lambda: not any(map(lives, old)), 5.0, "no orphan")
    eventually(lambda: kernel.directories() == [], 5.0, "no directory")
    restarter = KernelRestarter(kernel_manager=kernel.manager, random_ports_until_alive=False)
    restarter.poll()
    kernel.client.wait_for_ready()
    assert kernel.run("1 + 1").value == "2"


def test_a_front_killed_inside_a_cell_takes_the_cell_along(kernel: Kernel, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    msg_id = kernel.client.send(
        f"import time; print('begun', flush=True); time.sleep(3); open({str(trace)!r}, 'w').write('outlived')"
    )
    kernel.client.await_output(msg_id, "stream")
    worker = kernel.worker()
    kernel.front.kill()
    eventually(lambda: not lives(worker), 5.0, "the worker of a dead front gone")
    kernel.restart_as_jupyter_does()
    assert kernel.run("1 + 1").value == "2"
    assert not trace.exists()


def test_everything_killed_at_once_and_the_kernel_comes_back(kernel: Kernel) -> None:
    kernel.run("pass")
    kernel.kill_everything()
    kernel.restart_as_jupyter_does()
    assert kernel.run("1 + 1").value == "2"


# -- the zygote


def test_a_killed_zygote_takes_its_worker_along_and_both_come_back(kernel: Kernel) -> None:
    kernel.run("pass")
    old = kernel.pids("zygote")
    kernel.kill(old[0])
    assert kernel.run("1 + 1").value == "2"
    assert kernel.pids("zygote") not in ([], old)


def test_a_zygote_that_is_killed_while_it_starts_costs_no_cell(kernel: Kernel) -> None:
    assert kernel.value("1 + 1") == 2
    (first,) = kernel.pids("zygote")
    kernel.kill(first)
    msg_id = kernel.client.send("2 + 2")
    (second,) = eventually(lambda: [pid for pid in kernel.pids("zygote") if pid != first], 20, "another zygote")
    kernel.kill(second)
    assert kernel.client.result(msg_id, 30.0).value == "4"


def test_a_zygote_killed_inside_a_cell_is_the_cells_error(kernel: Kernel) -> None:
    msg_id = kernel.client.send(BUSY)
    kernel.client.await_output(msg_id, "stream")
    kernel.kill(kernel.pids("zygote")[0])
    assert kernel.client.result(msg_id).ename == "WorkerLost"
    assert kernel.run("1 + 1").value == "2"


# -- stopped, not dead


def test_a_stopped_worker_can_be_killed_and_replaced(kernel: Kernel) -> None:
    worker = kernel.worker()
    os.kill(worker, signal.SIGSTOP)
    msg_id = kernel.client.send("1 + 1")
    time.sleep(0.3)
    kernel.kill(worker)
    assert kernel.client.result(msg_id).value == "2"  # it had not begun there


def test_a_kernel_with_a_stopped_worker_still_beats_and_shuts_down(kernel: Kernel) -> None:
    kernel.run("pass")
    os.kill(kernel.worker(), signal.SIGSTOP)
    assert kernel.client.raw.hb_channel.is_beating()
    started = time.monotonic()
    kernel.shutdown()
    assert time.monotonic() - started < 10
    assert kernel.processes() == []
    assert kernel.directories() == []


def test_a_worker_that_was_stopped_and_goes_on_can_be_interrupted(kernel: Kernel) -> None:
    msg_id = kernel.client.send(BUSY)
    kernel.client.await_output(msg_id, "stream")
    worker = kernel.worker()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.1)
    os.kill(worker, signal.SIGCONT)
    time.sleep(0.3)  # an interrupt sent at once was lost in 2 of some 100 runs; why is not known
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(msg_id).ename == "KeyboardInterrupt"


# -- what cells leave


def test_what_a_cell_started_dies_with_the_worker(kernel: Kernel) -> None:
    child = kernel.value("import subprocess; subprocess.Popen(['sleep', '600']).pid")
    assert psutil.pid_exists(child)
    kernel.kill_worker()
    eventually(lambda: not lives(child), 5.0, "the cell's child gone")


def test_threads_that_never_end_do_not_keep_a_worker(kernel: Kernel) -> None:
    kernel.run("import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=False).start()")
    old = [p.pid for p in kernel.processes()]
    started = time.monotonic()
    kernel.shutdown()
    assert time.monotonic() - started < 10
    assert not any(map(lives, old))
