"""How a kernel ends: politely, rudely, or because whoever started it is gone. Nothing is left of it but its store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import MARKER, Kernel, clean_environment, eventually, processes_marked, running


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running(tmp_path / "store") as kernel:
        yield kernel


def assert_nothing_left(kernel: Kernel) -> None:
    eventually(lambda: kernel.processes() == [], 5.0, "no process left")
    eventually(lambda: kernel.directories() == [], 5.0, "no directory left")


def test_a_polite_shutdown_leaves_nothing_and_is_quick(kernel: Kernel) -> None:
    kernel.run("import subprocess; child = subprocess.Popen(['sleep', '600'])")
    started = time.monotonic()
    kernel.shutdown()
    assert time.monotonic() - started < 4
    assert_nothing_left(kernel)


def test_a_shutdown_while_a_cell_runs_leaves_nothing(kernel: Kernel) -> None:
    msg_id = kernel.client.send("print('begun', flush=True)\nwhile True: pass")
    kernel.client.await_output(msg_id, "stream")
    kernel.shutdown()
    assert_nothing_left(kernel)


def test_a_shutdown_of_a_kernel_without_a_worker_leaves_nothing(kernel: Kernel) -> None:
    for _ in range(3):
        kernel.kill_worker()
    kernel.shutdown()
    assert_nothing_left(kernel)


def test_exit_handlers_of_cells_run_at_a_shutdown(kernel: Kernel, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    kernel.run(f"import atexit; atexit.register(lambda: open({str(trace)!r}, 'w').write('ran'))")
    kernel.shutdown()
    assert trace.read_text() == "ran"


def test_a_terminated_front_ends_in_order(kernel: Kernel) -> None:
    kernel.run("pass")
    kernel.front.send_signal(signal.SIGTERM)
    assert_nothing_left(kernel)


def test_quit_in_a_cell_ends_its_worker_and_loses_nothing(kernel: Kernel) -> None:
    worker = kernel.worker()
    assert kernel.run("quit()").status == "ok"
    eventually(lambda: worker not in kernel.pids("worker"), 5.0, "the worker gone")
    assert kernel.run("1 + 1").value == "2"


def test_a_restart_keeps_the_client_connected_and_begins_anew(kernel: Kernel) -> None:
    old = kernel.front.pid
    kernel.run("x = 1")
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready()
    assert kernel.front.pid != old
    result = kernel.run("x")
    assert result.ename == "NameError"
    assert result.reply["execution_count"] == 1


def test_the_shutdown_reply_comes_and_says_what_was_asked(kernel: Kernel) -> None:
    kernel.client.raw.shutdown(restart=False)
    reply = kernel.client.raw.get_control_msg(timeout=10)
    assert reply["msg_type"] == "shutdown_reply"
    assert reply["content"]["restart"] is False
    assert_nothing_left(kernel)


def test_when_the_server_is_killed_its_kernel_ends(tmp_path: Path) -> None:
    marker = os.urandom(8).hex()
    runtime = Path(f"/tmp/lk-{marker}")
    runtime.mkdir(0o700)
    env = clean_environment(runtime, marker) | {"LAMBDAKERNEL_STORE": str(tmp_path / "store")}
    script = """
        import os
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="lambdakernel")
        client.execute_interactive("x = 1", timeout=20)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=env, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    eventually(lambda: processes_marked(marker) == [], 5.0, f"no process with {MARKER}={marker}")
    eventually(lambda: not any(p.name.startswith("lambdakernel-") for p in runtime.iterdir()), 5.0, "no directory")


def test_two_kernels_do_not_see_each_others_names(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("x = 1")
    with running(tmp_path / "store") as other:
        assert other.run("x").ename == "NameError"
        other.run("x = 2")
        assert kernel.value("x") == 1


def test_two_clients_share_a_kernel(kernel: Kernel) -> None:
    other = kernel.another_client()
    kernel.run("x = 41")
    assert other.run("x + 1").value == "42"
    assert [kernel.client.send("x += 1") for _ in range(20)]
    results = [other.run("x").value for _ in range(5)]
    assert results == sorted(results, key=lambda text: int(text or 0))


def test_both_clients_see_what_one_runs(kernel: Kernel) -> None:
    other = kernel.another_client()
    msg_id = kernel.client.send("print('for all')")
    seen = other.await_output(msg_id, "stream")
    assert seen["content"]["text"] == "for all\n"
