"""Processes that go on from one fan-out to the next: the same with and without that, and none that is not fit."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from parallel_notebook import Notebook, alive, interrupted_after, wait_for

from lambdakernel.parallel import launch
from tests.kernels import Kernel, eventually, lives, running

FOUR = "%%parallel --workers 2 for i in range(4)"


def idle() -> set[int]:
    """Processes that wait for a fan-out; those that were not kept end soon."""
    return {process.pid for process in alive("lk-idle")}


def kept(notebook: Notebook) -> set[int]:
    """The processes that wait, once they do."""
    notebook.ok(f"{FOUR} -> _found\ni")
    wait_for(lambda: len(idle()) == 2, 10)
    return idle()


def wait_until_gone(pids: set[int]) -> None:
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), 10)


CHANGES = {
    "nothing": "",
    "a value": "x = 10",
    "a value of another type": "x = [1, 2]",
    "a list in place": "data.append(5)",
    "a function": "def f(i): return ('new', i, x)",
    "what a function uses": "def g(): return 'other'",
    "a new name": "fresh = {'a': x}\ndef f(i): return fresh, i",
    "a name that goes": "del x\ndef f(i): return 'x' in globals()",
    "an alias": "alias = data\nalias.append(7)\ndef f(i): return alias is data, alias",
    "aliases apart": "both = [data, data]\ndata = [0]\ndef f(i): return both[0] is both[1], both[0] is data",
    "an array": "import numpy as np\nx = np.arange(4.0)\ndef f(i): return float((x * i).sum())",
    "an array in place": "import numpy as np\nbig[3] = 99.0\ndef f(i): return float(big[3]), float(big.sum())",
    "a name of a module": "import math\ndef f(i): return math.floor(i / 2)",
    "a class that others use": "class P:\n    def __init__(self, n): self.n = n\nx = P(3).n",
    "seeds": "import random; random.seed(5)\ndef f(i): return random.random()",
}
SURROUNDINGS = {
    "the environment": "import os\nos.environ['LK_KEPT'] = 'yes'\ndef f(i): return x",
    "the folder": "import os\nos.chdir('/')\ndef f(i): return x",
    "a filter of warnings": "import warnings\nwarnings.simplefilter('ignore', BytesWarning)",
    "how deep calls may go": "import sys\nsys.setrecursionlimit(2000)",
}
FIRST = (
    "import numpy as np\nx, data = 1, [1, 2, 3]\nbig = np.zeros(50_000)\n"
    "def g(): return 'g'\ndef f(i): return x, data, g(), i"
)


@pytest.fixture
def restored() -> Iterator[None]:
    """What these tests change of this process."""
    folder, environment, limit = os.getcwd(), dict(os.environ), sys.getrecursionlimit()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.setrecursionlimit(limit)


def shown(notebook: Notebook, body: str) -> tuple[str, ...]:
    error = notebook.run(f"{FOUR} -> found\n{body}")
    return f"{type(error).__name__}: {error}", repr(notebook.live.get("found")), notebook.out, notebook.err


@pytest.mark.parametrize("change", [*CHANGES.values(), *SURROUNDINGS.values()], ids=[*CHANGES, *SURROUNDINGS])
def test_what_cells_did_meanwhile_is_there(restored, notebook, monkeypatch, change):
    def all_of_it() -> list[tuple[str, ...]]:
        notebook.ok(FIRST)
        found = [shown(notebook, "f(i)")]
        for cell in (change, "y = 1", "x, data = 5, [6]\ndef f(i): return x, data, i"):
            notebook.ok(cell)
            found.append(shown(notebook, "f(i)"))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_mark", lambda *_: None)
        expected = all_of_it()
    assert all_of_it() == expected


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_who_can_join_what_changed_goes_on(notebook, change):
    notebook.ok(FIRST)
    before = kept(notebook)
    notebook.ok(change)
    notebook.ok(f"{FOUR} -> found\nf(i)")
    wait_for(lambda: idle() == before, 10)


@pytest.mark.parametrize("change", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_who_cannot_ends(restored, notebook, change):
    notebook.ok(FIRST)
    before = kept(notebook)
    notebook.ok(change)
    notebook.ok(f"{FOUR} -> found\nf(i)")
    wait_until_gone(before)


def test_what_cells_showed_is_what_they_showed_last(notebook):
    kept(notebook)
    notebook.ok("41 + 1")
    assert notebook.ok(f"{FOUR} -> found\n_ + i\n") is not None
    assert notebook.live["found"] == [42, 43, 44, 45]


def test_a_large_value_is_loaded_once_for_all(notebook, monkeypatch):
    monkeypatch.setattr(launch, "MOST_LOADED_NBYTES", 100_000)
    notebook.ok("small, large = list(range(10)), list(range(100_000))")
    before = kept(notebook)
    notebook.ok(f"{FOUR} -> found\nlen(small)")
    wait_for(lambda: idle() == before, 10)
    notebook.ok(f"{FOUR} -> found\nlen(large)")
    assert notebook.live["found"] == [100_000] * 4
    wait_for(lambda: idle() == before, 10)  # they wait for a body that needs less
    notebook.ok(f"{FOUR} -> found\nlen(small)")
    wait_for(lambda: idle() == before, 10)


def test_a_large_array_that_changed_is_mapped_anew_by_the_same(notebook):
    """The map of what it was ends with the fan-out before, and its descriptor too."""
    notebook.ok("import numpy as np\nlarge = np.zeros(500_000)\ndef f(i): return float(large[7]) + i")
    notebook.ok(f"{FOUR} -> found\nf(i)")
    before = kept(notebook)
    for turn in (1, 2, 3):
        notebook.ok(f"large[7] = {turn}")
        notebook.ok(f"{FOUR} -> found\nf(i)")
        assert notebook.live["found"] == [turn, turn + 1, turn + 2, turn + 3]
    wait_for(lambda: idle() == before, 10)


def test_an_error_quotes_cells_that_came_later(notebook):
    before = kept(notebook)
    notebook.ok("def later(i):\n    return 1 // (i - 2)  # here")
    error = notebook.run(f"{FOUR} -> found\nlater(i)")
    text = error.failures[0].traceback
    assert "ZeroDivisionError" in text and "# here" in text and "later(i)" in text
    wait_for(lambda: len(before & idle()) == 1, 10)  # who failed has ended


def test_a_change_in_place_is_the_same_error(notebook):
    kept(notebook)
    notebook.ok("data = [1]\ndef f(i): data.append(i)")
    error = notebook.run(f"{FOUR} -> found\nf(i)")
    assert "changed 'data' in place" in str(error)
    notebook.ok(f"{FOUR} -> found\nlen(data)")
    assert notebook.live["found"] == [1] * 4


@pytest.mark.parametrize("how_many", [1, 2])
def test_one_that_is_killed_while_it_waits_is_replaced(notebook, how_many):
    before = sorted(kept(notebook))
    for pid in before[:how_many]:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: pid not in idle(), 10)
    notebook.ok(f"{FOUR} -> found\ni + 1")
    assert notebook.live["found"] == [1, 2, 3, 4]


def test_one_that_dies_before_it_begins_what_it_was_given_costs_nothing(notebook):
    before = kept(notebook)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)

    def kill() -> None:
        for pid in before:
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(0.7, kill)
    timer.start()
    notebook.ok(f"{FOUR} -> found\ni + 1")
    timer.join(10)
    assert notebook.live["found"] == [1, 2, 3, 4]


def test_an_interrupt_ends_them_and_the_next_fan_out_has_others(notebook):
    before = kept(notebook)
    notebook.ok("import time")
    with interrupted_after(0.5):
        error = notebook.run(f"{FOUR} -> never\nsum(n for n in range(10**12))")
    assert isinstance(error, KeyboardInterrupt) and "never" not in notebook.live
    wait_until_gone(before)
    wait_for(lambda: len(idle()) == 2, 10)
    others = idle()
    notebook.ok("x = 7")
    notebook.ok(f"{FOUR} -> found\nx + i")
    assert notebook.live["found"] == [7, 8, 9, 10]
    wait_for(lambda: idle() == others, 10)


def test_a_fan_out_right_after_an_interrupt_waits_for_those_that_come(notebook):
    for n in range(3):
        with interrupted_after(0.5):
            error = notebook.run(f"{FOUR} -> never\nsum(n for n in range(10**12))")
        assert isinstance(error, KeyboardInterrupt)
        notebook.ok(f"n = {n}\ndef later(i): return n * i")
        notebook.ok(f"{FOUR} -> found\nlater(i)")
        assert notebook.live["found"] == [0, n, 2 * n, 3 * n]


def test_those_that_come_after_an_interrupt_may_be_killed(notebook):
    with interrupted_after(0.5):
        notebook.run(f"{FOUR} -> never\nsum(n for n in range(10**12))")
    wait_for(lambda: len(idle()) == 2, 10)
    for pid in idle():
        os.kill(pid, signal.SIGKILL)
    notebook.ok(f"{FOUR} -> found\ni + 1")
    assert notebook.live["found"] == [1, 2, 3, 4]


def test_a_kept_process_ends_when_it_has_taken_its_items(notebook, monkeypatch):
    monkeypatch.setattr("lambdakernel.parallel.handover.MOST_ITEMS", 5)
    before = kept(notebook)
    for _ in range(4):
        notebook.ok(f"{FOUR} -> found\ni * 3")
        assert notebook.live["found"] == [0, 3, 6, 9]
    wait_until_gone(before)


def test_more_workers_than_are_kept(notebook):
    kept(notebook)
    notebook.ok("%%parallel --workers 4 for i in range(8) -> found\nsum(n for n in range(200_000)) and i")
    assert notebook.live["found"] == list(range(8))
    wait_for(lambda: len(idle()) == 2, 10)


def test_a_job_in_the_background_has_its_own(notebook):
    before = kept(notebook)
    notebook.ok("x = 1")
    notebook.ok("%%parallel --background for i in range(4) -> seen\nx + i")
    notebook.ok("x = 100")
    notebook.ok(f"{FOUR} -> found\nx + i")
    notebook.ok("%wait")
    assert notebook.live["seen"] == [1, 2, 3, 4] and notebook.live["found"] == [100, 101, 102, 103]
    wait_for(lambda: idle() == before, 10)


# -- in a kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with running(tmp_path_factory.mktemp("store")) as kernel:
        yield kernel


def test_they_go_on_from_cell_to_cell_and_end_with_their_worker(kernel: Kernel) -> None:
    def all_idle() -> list[int]:
        found = kernel.pids("idle")
        return found if len(found) == len(os.sched_getaffinity(0)) else []

    kernel.run("x = 1\ndef f(i): return x * i")
    kernel.run("%%parallel for i in range(8) -> found\nf(i)")
    before = eventually(all_idle, 10, "processes that wait")
    for x in (2, 3):
        kernel.run(f"x = {x}")
        assert kernel.run("1 / 0").reply["ename"] == "ZeroDivisionError"  # the last error is the shell's to show
        kernel.run(f"%alias_magic time{x} timeit")
        kernel.run("%%parallel for i in range(8) -> found\nf(i)")
        assert kernel.value("found") == [x * i for i in range(8)]
    assert eventually(all_idle, 10, "processes that wait") == before
    kernel.kill_worker()
    eventually(lambda: not any(map(lives, before)), 10, "all to end")
    kernel.run("%%parallel for i in range(8) -> found\nf(i)")
    assert kernel.value("found") == [3 * i for i in range(8)]


def test_after_undo_they_see_what_is_so_again(kernel: Kernel) -> None:
    kernel.run("x = 5\ndef f(i): return x * i")
    kernel.run("%%parallel for i in range(3) -> found\nf(i)")
    kernel.run("x = 50")
    kernel.run("%%parallel for i in range(3) -> found\nf(i)")
    assert kernel.value("found") == [0, 50, 100]
    assert kernel.run("%undo 2").status == "ok"
    assert kernel.value("x") == 5
    kernel.run("%%parallel for i in range(3) -> found\nf(i)")
    assert kernel.value("found") == [0, 5, 10]


def test_nobody_needs_them_for_long(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run("import lambdakernel.executors.spare as spare\nspare.KEEP_S = 0.5")
        kernel.run("%%parallel for i in range(4) -> found\ni")
        eventually(lambda: not kernel.pids("idle"), 20, "all to end")
        assert kernel.value("found") == [0, 1, 2, 3]
