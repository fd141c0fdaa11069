"""`%%parallel` and the magics in a whole kernel, as a client sees them."""

import os
import signal
import threading
import time

import pytest

from tests.kernels import Kernel, eventually, running


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with running(tmp_path_factory.mktemp("store"), session="parallel-test") as kernel:
        yield kernel


def test_a_fan_out_binds_results_that_outlive_the_worker(kernel: Kernel):
    assert kernel.run("base = {'k': 10}\ndef f(i): return i + base['k']").status == "ok"
    result = kernel.run("%%parallel for i in range(4) -> runs, twice\ntwice = f(i) * 2\nf(i)")
    assert result.status == "ok", result.shown
    kernel.kill_worker()
    assert kernel.value("runs, twice") == ([10, 11, 12, 13], [20, 22, 24, 26])


def test_the_bar_is_one_display_that_is_updated_in_place(kernel: Kernel):
    result = kernel.run("%%parallel for i in range(8)\nimport time; time.sleep(0.1)")
    first = [m for m in result.messages if m["msg_type"] == "display_data"]
    updates = [m for m in result.messages if m["msg_type"] == "update_display_data"]
    assert len(first) == 1 and updates
    assert len({m["content"]["transient"]["display_id"] for m in first + updates}) == 1
    last = updates[-1]["content"]["data"]
    assert "8 of 8 done" in last["text/plain"] and "progressbar" in last["text/html"]
    assert len(updates) <= 10 * result.seconds + 2


def test_output_of_tasks_reaches_the_cell_in_order(kernel: Kernel):
    result = kernel.run("%%parallel for i in range(3)\nimport time; time.sleep(0.2 - i / 10)\nprint('hello', i)")
    assert result.stdout == "".join(f"task {i} (i={i})\nhello {i}\n" for i in range(3))


def test_figures_of_tasks_reach_the_cell_folded_by_task(kernel: Kernel):
    pytest.importorskip("matplotlib")
    body = "import matplotlib.pyplot as plt\nprint('about', i)\nplt.figure(figsize=(1, 1)); plt.plot([i, 2]);"
    result = kernel.run(f"%%parallel for i in range(2)\n{body}")
    assert result.status == "ok", result.shown
    shown = [m["content"]["data"] for m in result.messages if m["msg_type"] == "display_data"]
    folds = [data["text/html"] for data in shown if "<details" in data.get("text/html", "")]
    assert len(folds) == 2 and all("data:image/png;base64" in fold for fold in folds)
    assert "task 0 (i=0)" in folds[0] and "about 0" in folds[0]


def test_a_lost_task_runs_again_and_the_bar_says_so(kernel: Kernel, tmp_path):
    mark = tmp_path / "mark"
    body = (
        f"import os, pathlib\np = pathlib.Path({str(mark)!r})\nif not p.exists(): p.touch(); os.kill(os.getpid(), 9)\ni"
    )
    result = kernel.run(f"%%parallel --retries 1 --memory 1GB --workers 1 for i in range(2) -> again\n{body}")
    assert result.status == "ok", result.shown
    assert kernel.value("again") == [0, 1]
    updates = [m for m in result.messages if m["msg_type"] == "update_display_data"]
    assert "2 of 2 done, 1 retried" in updates[-1]["content"]["data"]["text/plain"]


def test_a_task_that_hangs_runs_twice_and_the_bar_says_so(kernel: Kernel):
    body = "import time\ntime.sleep(0.5)\nprint('hello', i)\ni"
    message = kernel.client.send(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> hung\n{body}")
    os.kill(eventually(lambda: kernel.pids("task"), 10, "tasks")[0], signal.SIGSTOP)
    result = kernel.client.result(message, 30)
    assert result.status == "ok", result.shown
    assert kernel.value("hung") == [0, 1, 2, 3]
    assert result.stdout.count("hello") == 4
    updates = [m for m in result.messages if m["msg_type"] == "update_display_data"]
    assert "4 of 4 done, 1 run twice" in updates[-1]["content"]["data"]["text/plain"]
    eventually(lambda: not kernel.pids("task"), 5.0, "all tasks gone")


def test_a_grid_of_values_is_a_task_for_each_combination(kernel: Kernel):
    result = kernel.run("%%parallel --each dict(a=[1, 0], b=[2]) -> ratio\nb / a")
    assert "task 1 (a=0, b=2): ZeroDivisionError" in result.shown
    assert kernel.value("ratio[0]") == 2.0
    assert "--each dict(NAME=VALUES" in kernel.run("%%parallel --eech dict() -> r\n1").shown


def test_options_are_completed_and_explained(kernel: Kernel):
    def completed(line: str) -> list[str]:
        return kernel.client.raw.complete(line, len(line), reply=True, timeout=20)["content"]["matches"]

    assert completed("%%parallel --ti") == ["--timeout", "--times"]
    assert "--memory" in completed("%%parallel --workers 2 --mem")
    assert "range" in completed("%%parallel for i in ran")
    assert "--each dict(NAME=VALUES" in kernel.run("%%parallel?").shown or kernel.run("?%%parallel").reply["payload"]


def test_a_failed_task_is_shown_with_the_cells_own_line(kernel: Kernel):
    result = kernel.run("%%parallel for i in range(2) -> r\nx = 2\nx / i")
    assert (result.status, result.ename) == ("error", "ParallelError")
    shown = "\n".join(result.reply["traceback"])
    count = result.reply["execution_count"]
    assert f"Cell In[{count}], line 3" in shown and "x / i" in shown
    assert "fanout.py" not in shown
    assert kernel.value("type(r[0]).__name__, r[1]") == ("TaskFailed", 2.0)


def test_an_interrupt_ends_the_tasks_and_binds_nothing(kernel: Kernel):
    message = kernel.client.send("%%parallel for i in range(9) -> never\nimport time; time.sleep(60)")
    eventually(lambda: kernel.pids("task"), 10, "tasks")
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    result = kernel.client.result(message, 10)
    assert time.monotonic() - began < 1.5
    assert result.ename == "KeyboardInterrupt"
    assert "fanout.py" not in "".join(result.reply["traceback"])  # the user's cell, not the way through ours
    eventually(lambda: not kernel.pids("task"), 1.0, "all tasks gone")
    assert kernel.value("'never' in globals()") is False
    assert kernel.run("%%parallel for i in range(2) -> after\ni").status == "ok"


def test_a_worker_that_is_killed_takes_its_tasks_along(kernel: Kernel):
    message = kernel.client.send("%%parallel for i in range(2)\nimport time; time.sleep(60)")
    eventually(lambda: kernel.pids("task"), 10, "tasks")
    worker = kernel.worker()
    threading.Timer(0.1, os.kill, (worker, signal.SIGKILL)).start()
    eventually(lambda: not kernel.pids("task"), 5.0, "all tasks gone")
    # A cell that is sent before the front has answered this one was queued behind it, and is aborted with it.
    assert kernel.client.result(message, 5.0).ename == "WorkerLost"


def test_the_namespace_shows_names_and_states(kernel: Kernel):
    kernel.run("durable_one = [1]\nf_open = open('/dev/null')")
    text = kernel.run("%namespace durable_one f_open").value or ""
    rows = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert "durable" in rows["durable_one"] and "resident" in rows["f_open"]
    result = kernel.run("%%parallel for i in [1]\nf_open.read()")
    assert "'f_open' is resident" in result.shown
    assert "no variable nope" in kernel.run("%namespace nope").shown
    kernel.run("f_open.close(); del f_open")


def test_workers_are_listed_with_their_roles(kernel: Kernel):
    text = kernel.run("%workers").value or ""
    roles = {line.split()[1] for line in text.splitlines()[1:-1]}
    assert {"front", "zygote", "worker"} <= roles


def test_an_epoch_comes_back_after_a_restart(tmp_path):
    with running(tmp_path / "store", session="restore-test") as kernel:
        kernel.run("kept = [1, 2]")
        kernel.manager.restart_kernel()
        kernel.client.wait_for_ready()
        assert kernel.value("'kept' in globals()") is False
        assert "2" in (kernel.run("%epochs").value or "")
        assert "kept" in kernel.run("%restore").stdout
        assert kernel.value("kept") == [1, 2]
