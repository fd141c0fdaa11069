"""What `%workers` and JupyterLab are told of a kernel's processes, checked against the system's own account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from lambdakernel.worker import processes
from tests.kernels import Kernel, running

MIB = 1 << 20


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("kernel") / "store") as kernel:
        kernel.run("import subprocess; child = subprocess.Popen(['sleep', '600'])")
        yield kernel


def test_no_cell_waits_for_the_table_of_descriptors_to_grow(kernel: Kernel) -> None:
    """In a process with threads the system takes milliseconds for that."""
    table = "[int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('FDSize')][0]"
    assert kernel.value(table) >= 256


def test_every_process_has_its_role(kernel: Kernel) -> None:
    rows = processes.rows(kernel.front.pid)
    roles = {row.pid: row.role for row in rows}
    assert rows[0].pid == kernel.front.pid
    assert roles[kernel.front.pid] == "front"
    assert [pid for pid, role in roles.items() if role == "worker"] == kernel.pids("worker")
    assert [pid for pid, role in roles.items() if role == "zygote"] == kernel.pids("zygote")
    assert list(roles.values()).count("user") == 1
    assert set(roles) == {p.pid for p in kernel.processes()}


def test_what_a_cell_forks_is_the_users_and_no_worker(kernel: Kernel) -> None:
    kernel.run("import os, time\nforked = os.fork()\nif forked == 0:\n    time.sleep(60)\n    os._exit(0)")
    forked = int(kernel.value("forked"))
    found = {row.pid: row.role for row in processes.rows(kernel.front.pid)}
    assert found[forked] == "user"
    assert [pid for pid, role in found.items() if role == "worker"] == [kernel.worker()]
    kernel.run("os.kill(forked, 9)\n_ = os.waitpid(forked, 0)")


def test_memory_is_shared_out_and_never_counted_twice(kernel: Kernel) -> None:
    rows = processes.rows(kernel.front.pid)
    resident = sum(psutil.Process(row.pid).memory_info().rss for row in rows)
    total = sum(row.pss_nbytes for row in rows)
    assert all(row.pss_nbytes > 0 for row in rows)
    assert 10 * MIB < total < resident


def test_a_kernel_that_is_gone_has_no_rows() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert processes.rows(pid) == []
    assert processes.tree(pid) == []


def test_a_usage_request_sums_every_process(kernel: Kernel) -> None:
    reply = usage(kernel)
    rows = processes.rows(kernel.front.pid)
    total = sum(row.pss_nbytes for row in rows)
    assert 0.5 * total < reply["kernel_memory"] < 1.5 * total
    assert reply["host_virtual_memory"]["total"] == psutil.virtual_memory().total
    assert reply["cpu_count"] == psutil.cpu_count()


def test_memory_that_a_cell_takes_is_seen(kernel: Kernel) -> None:
    before = usage(kernel)["kernel_memory"]
    kernel.run("block = bytearray(b'x') * (100 << 20)")
    after = usage(kernel)["kernel_memory"]
    kernel.run("del block")
    assert after - before > 80 * MIB


def usage(kernel: Kernel) -> Any:
    """The content of a `usage_reply`."""
    raw = kernel.client.raw
    raw.control_channel.send(raw.session.msg("usage_request", {}))
    reply = raw.get_control_msg(timeout=10)
    assert reply["msg_type"] == "usage_reply"
    return reply["content"]
