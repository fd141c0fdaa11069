"""Background cells in a whole kernel, as a client sees them: late output, bars, kills, interrupts."""

import time

import pytest

from tests.kernels import Kernel, eventually, running

UNTIL = "import os, time\nwhile not os.path.exists(gate): time.sleep(0.02)\n"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with running(tmp_path_factory.mktemp("store"), session="background-test") as kernel:
        yield kernel


@pytest.fixture
def gate(kernel: Kernel, tmp_path):
    kernel.run(f"gate = {str(tmp_path / 'gate')!r}")
    return tmp_path / "gate"


def bar_of(result) -> str:
    first = next(m for m in result.messages if m["msg_type"] == "display_data")
    return first["content"]["transient"]["display_id"]


def late_messages(kernel: Kernel, message: str, is_there) -> list:
    """What the cell of `message` still publishes after its reply, until `is_there` of one of it."""
    client = kernel.client
    found: list = []

    def look() -> bool:
        client._take_iopub(0.2)
        found.extend(client._outputs.pop(message, []))
        return any(map(is_there, found))

    eventually(look, 30, "late output")
    return found


def test_output_and_bar_come_to_the_cell_after_its_reply_and_names_are_bound_while_nothing_runs(kernel, gate):
    message = kernel.client.send(f"%%parallel --background for i in range(2) -> r\n{UNTIL}print('late', i)\ni")
    result = kernel.client.result(message)
    assert result.status == "ok"
    bar = bar_of(result)
    assert "job 1: 0 of 2 done" in result.shown
    gate.touch()
    found = late_messages(kernel, message, lambda m: "r is bound" in str(m["content"]))
    assert any(m["msg_type"] == "stream" and "late 1" in m["content"]["text"] for m in found)
    last = [m for m in found if m["msg_type"] == "update_display_data"][-1]
    assert last["content"]["transient"]["display_id"] == bar
    assert "2 of 2 done" in last["content"]["data"]["text/plain"]
    # committed while idle: it outlives the worker
    eventually(lambda: "durable" in (kernel.run("%namespace r").value or ""), 10, "r in the store")
    kernel.kill_worker()
    assert kernel.value("r") == [0, 1]


def test_a_failure_is_told_by_the_bar_and_raised_by_wait(kernel, gate):
    message = kernel.client.send("%%background\nx = 1\nx / 0")
    result = kernel.client.result(message)
    assert result.status == "ok"
    if "ZeroDivisionError" not in str([m["content"] for m in result.messages]):
        late_messages(kernel, message, lambda m: "ZeroDivisionError" in str(m["content"]))
    text = kernel.run("%jobs").value or ""
    number = text.strip().splitlines()[-1].split()[0]
    waited = kernel.run(f"%wait {number}")
    assert waited.ename == "ParallelError"
    assert "x / 0" in "\n".join(waited.reply["traceback"])


def test_an_interrupt_of_a_later_cell_leaves_the_job_and_a_cell_beside_it_runs(kernel, gate):
    kernel.run(f"%%parallel --background for i in range(2) -> survived\n{UNTIL}i")
    eventually(lambda: kernel.pids("task"), 10, "tasks")
    message = kernel.client.send("import time; time.sleep(60)")
    eventually(lambda: kernel.client.reply_so_far(message) is None, 1, "it runs")
    time.sleep(0.5)
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(message, 15).ename == "KeyboardInterrupt"
    assert kernel.run("%%parallel for i in range(2) -> beside\ni").status == "ok"
    gate.touch()
    assert kernel.run("%wait").status == "ok"
    assert kernel.value("survived, beside") == ([0, 1], [0, 1])


def test_a_job_that_ends_while_an_async_cell_runs_is_bound_at_its_end(kernel, gate):
    kernel.run(f"%%parallel --background for i in range(2) -> during\n{UNTIL}i")
    cell = "import asyncio\nopen(gate, 'w').close()\nfor _ in range(40): await asyncio.sleep(0.05)\n"
    assert kernel.run(cell + "'during' in globals()").value == "False"
    assert kernel.run("%wait").status == "ok"
    assert kernel.value("during") == [0, 1]


def test_a_job_whose_worker_is_killed_is_missed_at_the_next_cell(kernel, gate):
    result = kernel.run(f"%%parallel --background for i in range(2) -> gone\n{UNTIL}i")
    bar = bar_of(result)
    eventually(lambda: kernel.pids("task"), 10, "tasks")
    kernel.kill_worker()
    eventually(lambda: not kernel.pids("task"), 10, "its tasks end with it")
    after = kernel.run("'gone' in globals()")
    assert after.value == "False"
    assert "was lost with the worker that ran it. gone was not bound" in after.shown
    updated = [m for m in after.messages if m["msg_type"] == "update_display_data"]
    assert [m["content"]["transient"]["display_id"] for m in updated] == [bar]
    assert "was lost" not in kernel.run("1").shown


def test_cancel_ends_the_tasks(kernel, gate):
    kernel.run(f"%%background\n{UNTIL}never = 1")
    eventually(lambda: kernel.pids("task"), 10, "a task")
    assert "cancelled" in kernel.run("%cancel").stdout
    eventually(lambda: not kernel.pids("task"), 5, "no task")
    assert kernel.value("'never' in globals()") is False


def test_a_worker_with_a_job_is_not_given_back_when_idle(tmp_path):
    with running(tmp_path / "store", session="pinned-test", env={"LAMBDAKERNEL_IDLE_S": "0.5"}) as kernel:
        gate = tmp_path / "gate"
        kernel.run(f"gate = {str(gate)!r}")
        kernel.run(f"%%parallel --background for i in range(2) -> r\n{UNTIL}i")
        worker = kernel.worker()
        time.sleep(2.5)
        assert kernel.pids("worker") == [worker]
        gate.touch()
        eventually(lambda: not kernel.pids("worker"), 20, "given back once the job is done")
        assert kernel.value("r") == [0, 1]


def test_the_kernel_ends_with_a_job_that_runs_and_leaves_nothing(tmp_path):
    with running(tmp_path / "store", session="end-test") as kernel:
        kernel.run("%%parallel --background for i in range(2)\nimport time; time.sleep(60)")
        eventually(lambda: kernel.pids("task"), 10, "tasks")
        tasks = kernel.pids("task")
        kernel.manager.shutdown_kernel()
        eventually(lambda: not [pid for pid in tasks if pid in kernel.pids("task")], 10, "no task is left")


def test_cells_of_two_subshells_fan_out_at_the_same_time(kernel, gate):
    raw = kernel.client.raw
    raw.control_channel.send(raw.session.msg("create_subshell_request", {}))
    subshell = raw.get_control_msg(timeout=20)["content"]["subshell_id"]
    try:
        first = kernel.client.send(f"%%parallel for i in range(4) -> one\n{UNTIL}i")
        eventually(lambda: kernel.pids("task"), 10, "tasks")
        content = {"code": "%%parallel for i in range(4) -> two\ni * 2", "silent": False, "store_history": False}
        message = raw.session.msg("execute_request", content)
        message["header"]["subshell_id"] = subshell
        raw.shell_channel.send(message)
        beside = kernel.client.result(message["header"]["msg_id"], 30)
        assert beside.status == "ok", beside.shown
        assert kernel.client.reply_so_far(first) is None
        gate.touch()
        assert kernel.client.result(first, 30).status == "ok"
        assert kernel.value("one, two") == ([0, 1, 2, 3], [0, 2, 4, 6])
    finally:
        raw.control_channel.send(raw.session.msg("delete_subshell_request", {"subshell_id": subshell}))
        raw.get_control_msg(timeout=20)
