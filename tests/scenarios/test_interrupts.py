"""Interrupts, by signal and by message, wherever the cell is; and questions asked in a cell."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.kernels import NAME, Kernel, running

CELLS = {
    "sleeping": "print('begun', flush=True); time.sleep(60)",
    "cpu_loop": "print('begun', flush=True)\nwhile True: pass",
    "big_c_call": "print('begun', flush=True)\nfor _ in range(10**4): sum(range(10**6))",
    "await": "print('begun', flush=True); await asyncio.sleep(60)",
    "subprocess": "print('begun', flush=True); subprocess.run(['sleep', '60'])",
    "shell": "print('begun', flush=True)\n!sleep 60",
    "lock": "print('begun', flush=True); lock = threading.Lock(); lock.acquire(); lock.acquire()",
}


@pytest.fixture(scope="module", params=["signal", "message"])
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp(request.param)
    manager = manager_with_mode(folder, request.param)
    with running(folder / "store", manager=manager) as kernel:
        kernel.run("import asyncio, subprocess, threading, time")
        yield kernel


def manager_with_mode(folder: Path, mode: str) -> KernelManager:
    """A manager for our installed kernel, whose kernelspec asks for interrupts in this way."""
    spec = Path(KernelSpecManager().get_kernel_spec(NAME).resource_dir)
    copied = folder / "kernels" / NAME
    shutil.copytree(spec, copied)
    said = json.loads((copied / "kernel.json").read_text()) | {"interrupt_mode": mode}
    (copied / "kernel.json").write_text(json.dumps(said))
    specs = KernelSpecManager()
    specs.kernel_dirs = [str(folder / "kernels")]
    manager = KernelManager(kernel_name=NAME, kernel_spec_manager=specs)
    assert manager.kernel_spec is not None
    assert manager.kernel_spec.interrupt_mode == mode
    return manager


@pytest.mark.parametrize("where", CELLS)
def test_an_interrupt_ends_the_cell_once_and_nothing_else(kernel: Kernel, where: str) -> None:
    worker = kernel.worker()
    msg_id = kernel.client.send(CELLS[where])
    kernel.client.await_output(msg_id, "stream")
    time.sleep(0.2)
    asked = time.monotonic()
    kernel.manager.interrupt_kernel()
    result = kernel.client.result(msg_id)
    assert time.monotonic() - asked < 3
    if where == "shell":  # the command is what is interrupted; the cell ends normally or not, as in ipykernel
        assert result.status in {"ok", "error"}
    else:
        assert (result.status, result.ename) in {("error", "KeyboardInterrupt"), ("error", "CancelledError")}
    assert kernel.run("1 + 1").value == "2"
    assert kernel.worker() == worker


def test_an_interrupt_of_an_idle_kernel_is_harmless(kernel: Kernel) -> None:
    worker = kernel.worker()
    kernel.manager.interrupt_kernel()
    time.sleep(0.2)
    assert kernel.run("1 + 1").value == "2"
    assert kernel.worker() == worker


def test_an_interrupt_aborts_what_is_queued(kernel: Kernel) -> None:
    first = kernel.client.send(CELLS["sleeping"])
    second = kernel.client.send("print('never')")
    kernel.client.await_output(first, "stream")
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(first).ename == "KeyboardInterrupt"
    assert kernel.client.result(second).status == "aborted"


def test_a_cell_can_catch_the_interrupt_and_go_on(kernel: Kernel) -> None:
    code = "try:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('caught')"
    msg_id = kernel.client.send(code)
    kernel.client.await_output(msg_id, "stream")
    kernel.manager.interrupt_kernel()
    result = kernel.client.result(msg_id)
    assert result.status == "ok"
    assert "caught" in result.stdout


def test_a_question_is_answered(kernel: Kernel) -> None:
    msg_id = kernel.client.send("name = input('who? '); print('hello', name)", allow_stdin=True)
    question = kernel.client.raw.get_stdin_msg(timeout=10)
    assert question["content"] == {"prompt": "who? ", "password": False}
    kernel.client.raw.input("Ada")
    assert "hello Ada" in kernel.client.result(msg_id).stdout


def test_a_secret_is_asked_for_as_one(kernel: Kernel) -> None:
    msg_id = kernel.client.send("import getpass; print(len(getpass.getpass('key: ')))", allow_stdin=True)
    assert kernel.client.raw.get_stdin_msg(timeout=10)["content"] == {"prompt": "key: ", "password": True}
    kernel.client.raw.input("1234")
    assert "4" in kernel.client.result(msg_id).stdout


def test_an_interrupt_while_a_question_waits_ends_the_cell_and_the_next_question_works(kernel: Kernel) -> None:
    msg_id = kernel.client.send("input('first? ')", allow_stdin=True)
    kernel.client.raw.get_stdin_msg(timeout=10)
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(msg_id).ename == "KeyboardInterrupt"
    again = kernel.client.send("print(input('second? '))", allow_stdin=True)
    assert kernel.client.raw.get_stdin_msg(timeout=10)["content"]["prompt"] == "second? "
    kernel.client.raw.input("yes")
    assert kernel.client.result(again).stdout == "yes\n"


def test_a_client_that_takes_no_questions_gets_an_error(kernel: Kernel) -> None:
    assert kernel.run("input()", allow_stdin=False).ename == "StdinNotImplementedError"


def test_a_question_goes_to_the_client_that_ran_the_cell(kernel: Kernel) -> None:
    other = kernel.another_client()
    msg_id = other.send("print(input('other? '))", allow_stdin=True)
    assert other.raw.get_stdin_msg(timeout=10)["content"]["prompt"] == "other? "
    assert not kernel.client.raw.stdin_channel.msg_ready()
    other.raw.input("mine")
    assert other.result(msg_id).stdout == "mine\n"


def test_an_interrupt_after_the_cells_own_code_still_gets_a_reply_and_a_commit(kernel: Kernel) -> None:
    # ipykernel catches this one too late: it logs it, and the client waits for a reply for ever.
    kernel.run("import os, signal")
    kernel.run(
        "def interrupted():\n"
        "    manager.read_payload = real\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "manager = get_ipython().payload_manager\nreal = manager.read_payload"
    )
    msg_id = kernel.client.send("kept = 7; manager.read_payload = interrupted")
    queued = kernel.client.send("print('never')")
    result = kernel.client.result(msg_id, 10)
    assert (result.status, result.ename) == ("error", "KeyboardInterrupt")
    assert kernel.client.result(queued).status == "aborted"
    kernel.kill_worker()
    assert kernel.value("kept") == 7


def test_interrupts_at_every_moment_leave_no_client_waiting(kernel: Kernel) -> None:
    worker = kernel.worker()
    for n in range(60):
        msg_id = kernel.client.send("for _ in range(300): str(_)")
        time.sleep(n % 20 / 4000)
        kernel.manager.interrupt_kernel()
        assert kernel.client.result(msg_id, 10).status in {"ok", "error"}
    assert kernel.value("1 + 1") == 2
    assert kernel.worker() == worker
