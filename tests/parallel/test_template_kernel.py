"""Tasks are born with what their body reaches: loaded once for all of them, and each sees what it would have loaded."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, lives, running

LOADS = """
import os, pathlib, threading, time
class Loaded:
    def __init__(self): self.v = 10
    def __setstate__(self, state):
        how = pathlib.Path({how!r}).read_text()
        with open({log!r}, "a") as log: log.write(f"{{os.getpid()}}\\n")
        if how == "raise": raise OSError("no such luck")
        if how == "exit": os._exit(3)
        if how == "blas": import scipy.linalg
        if how == "thread": threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        self.__dict__.update(state)
x = Loaded()
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("store"), session="template-test") as kernel:
        yield kernel


@pytest.fixture
def loading(kernel: Kernel, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Binds `x`, whose loading does what the first file says and is noted in the second."""
    how, log = tmp_path / "how", tmp_path / "log"
    how.write_text("well")
    assert kernel.run(LOADS.format(how=str(how), log=str(log))).status == "ok"
    log.write_text("")
    yield how, log
    how.write_text("well")
    assert kernel.run("del x, Loaded").status == "ok"


def test_what_the_body_reaches_is_loaded_in_one_process(kernel: Kernel, loading: tuple[Path, Path]) -> None:
    result = kernel.run("%%parallel for i in range(6) -> values, pids\npids = os.getpid()\nx.v + i")
    assert result.status == "ok", result.shown
    assert kernel.value("values, len(set(pids))") == ([10, 11, 12, 13, 14, 15], 6)
    assert len(set(loading[1].read_text().split())) == 1


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_each_task_says_itself_why_it_cannot_load(kernel: Kernel, loading: tuple[Path, Path], how: str) -> None:
    loading[0].write_text(how)
    result = kernel.run("%%parallel for i in range(3) -> values\nx.v + i")
    assert result.ename == "ParallelError" and "3 of 3" in result.evalue
    assert ("no such luck" if how == "raise" else "exited with code 3") in result.shown


def test_a_thread_that_loading_starts_is_not_forked(kernel: Kernel, loading: tuple[Path, Path]) -> None:
    loading[0].write_text("thread")
    result = kernel.run("%%parallel for i in range(3) -> values\nthreading.active_count() + x.v + i")
    assert result.status == "ok", result.shown
    assert kernel.value("values") == [12, 13, 14]


def test_threads_that_see_to_forks_themselves_are_forked(kernel: Kernel, loading: tuple[Path, Path]) -> None:
    """Those of scipy's OpenBLAS, which its import starts."""
    pytest.importorskip("scipy")
    loading[0].write_text("blas")
    result = kernel.run("%%parallel for i in range(3) -> values\nx.v + i")
    assert result.status == "ok", result.shown
    assert kernel.value("values") == [10, 11, 12]
    assert len(set(loading[1].read_text().split())) == 1


def test_what_only_an_item_reaches_is_loaded_by_its_task(kernel: Kernel) -> None:
    assert kernel.run("late = {'k': 7}\ndef f(): return late['k']\ndef g(): return -late['k']").status == "ok"
    result = kernel.run("%%parallel for call in [f, g, f] -> values\ncall()")
    assert result.status == "ok", result.shown
    assert kernel.value("values") == [7, -7, 7]


def test_a_change_in_place_is_refused_in_each_task(kernel: Kernel) -> None:
    assert (
        kernel.run("import numpy as np\nlarge = np.zeros(1 << 18); small = np.zeros(3); names = ['a']").status == "ok"
    )
    read = kernel.run("%%parallel for i in range(3) -> values\nlarge[i] + small[i] + len(names)")
    assert read.status == "ok", read.shown
    for change in ("large[5] = 1", "small[1] = 1", "names.append(i)"):
        result = kernel.run(f"%%parallel for i in range(2)\nexec({change!r})")
        assert result.ename == "ParallelError" and "2 of 2" in result.evalue, change
        assert "in place" in result.shown
    assert kernel.value("float(large.sum() + small.sum()) + len(names)") == 1


@pytest.mark.parametrize("victim", ["worker", "front"])
def test_what_tasks_started_ends_when_the_kernel_is_killed(tmp_path: Path, victim: str) -> None:
    with running(tmp_path / "store", session=f"template-{victim}") as kernel:
        body = f"""
import subprocess
p = subprocess.Popen(["sleep", "97"])
open({str(tmp_path)!r} + f"/{{p.pid}}.pid", "w")"""
        kernel.client.send(f"%%parallel for i in range(2)\n{body}\nimport time; time.sleep(60)")
        started = eventually(
            lambda: len(found := list(tmp_path.glob("*.pid"))) == 2 and found, 20, "processes of tasks"
        )
        kernel.kill(kernel.worker() if victim == "worker" else kernel.front.pid, signal.SIGKILL)
        for path in started:
            eventually(lambda path=path: not lives(int(path.stem)), 10, "the end of what a task had started")
        eventually(lambda: not kernel.pids("task") and not kernel.pids("template"), 10, "the end of tasks")


def test_no_process_is_left_of_a_fan_out_but_those_that_wait_for_the_next(kernel: Kernel) -> None:
    assert kernel.run("%%parallel for i in range(4) -> parents\nimport os\nos.getppid()").status == "ok"
    used = set(kernel.value("parents"))
    eventually(lambda: not kernel.pids("task") and not used & set(kernel.pids("template")), 5, "the end of tasks")
    waits = lambda: (len(kernel.pids("template")), len(kernel.pids("idle")))  # noqa: E731
    eventually(lambda: waits() in ((2, 0), (0, 2)), 5, "a spare, or processes that were kept, and no more")
