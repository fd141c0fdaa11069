"""Cells that go on in the background: real shell, real store, real forked tasks."""

import threading
import time

import pytest
from parallel_notebook import interrupted_after, wait_for

from lambdakernel.parallel import ParallelError
from lambdakernel.parallel.background import State

UNTIL = "import os, time\nwhile not os.path.exists(gate): time.sleep(0.02)\n"


@pytest.fixture
def gate(notebook, tmp_path):
    """A file for which tasks wait."""
    notebook.ok(f"gate = {str(tmp_path / 'gate')!r}")
    return tmp_path / "gate"


def test_the_cell_returns_at_once_and_the_name_is_bound_when_all_is_done(notebook, gate):
    notebook.ok(f"%%parallel --background for i in range(3) -> r\n{UNTIL}i * i")
    assert "r" not in notebook.live
    notebook.ok("other = 5")
    gate.touch()
    notebook.ok("%wait 1")
    assert notebook.live["r"] == [0, 1, 4]
    assert notebook.jobs.get(1).state is State.DONE


def test_names_are_bound_before_the_next_cell_without_waiting_and_are_durable(notebook, gate):
    gate.touch()
    notebook.ok("%%parallel --background for i in range(2) -> r\ni")
    wait_for(lambda: notebook.jobs.get(1).is_over, 30)
    notebook.ok("total = sum(r)")
    assert notebook.live["total"] == 1
    assert next(row for row in notebook.session.namespace.rows() if row.name == "r").state == "durable"


def test_tasks_see_the_notebook_as_it_was_however_late_they_start(notebook, gate):
    notebook.ok("data = [1]\nitems = [[10], [20], [30]]")
    notebook.ok(f"%%parallel --background --workers 1 for one in items -> r\n{UNTIL}(one[0], list(data))")
    notebook.ok("data.append(2)\nitems[2][0] = 99")
    notebook.ok("data = 'bound anew'")
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["r"] == [(10, [1]), (20, [1]), (30, [1])]


def test_a_large_array_and_a_large_graph_are_seen_as_they_were_too(notebook, gate):
    notebook.ok("import numpy as np\nbig = np.zeros(1_000_000)\ngraph = [[n] for n in range(50_000)]")
    notebook.ok("class Old:\n    version = 1\nthing = Old()")
    body = "(big[:3].sum(), sum(x[0] for x in graph[:3]), thing.version)"
    notebook.ok(f"%%parallel --background --workers 1 for i in range(2) -> r\n{UNTIL}{body}")
    notebook.ok("big[0] = 5")
    notebook.ok("big[1] = 6; graph[0][0] = 7")
    notebook.ok("Old.version = 2; del graph")
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["r"] == [(0.0, 3, 1)] * 2
    notebook.ok("%%parallel for i in range(1) -> now\n(big[:3].sum(), thing.version)")
    assert notebook.live["now"] == [(11.0, 2)]


def test_random_numbers_are_those_of_a_seeded_cell_that_waits(notebook):
    cell = "for i in range(2) -> {}\nimport random, numpy as np\n(random.random(), np.random.rand())"
    notebook.ok("import random, numpy as np\nrandom.seed(3); np.random.seed(3)")
    notebook.ok(f"%%parallel {cell.format('here')}")
    notebook.ok("random.seed(3); np.random.seed(3)")
    notebook.ok(f"%%parallel --background {cell.format('there')}")
    notebook.ok("random.random()\n%wait")
    assert notebook.live["here"] == notebook.live["there"]


def test_a_whole_cell_goes_on_and_binds_what_it_assigns_with_what_is_shared(notebook, gate):
    notebook.ok("base = 40")
    notebook.ok(
        f"%%background\n{UNTIL}import math\na = [base]\nb = [a, a]\ndef f(x): return x + base\nif base < 0: never = 1"
    )
    assert "a" not in notebook.live
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["b"][0] is notebook.live["b"][1] is notebook.live["a"]
    assert notebook.live["f"](2) == 42 and "never" not in notebook.live
    notebook.ok("base = 1\nnew = f(2)")
    assert notebook.live["new"] == 3 and notebook.live["math"].pi > 3


def test_a_whole_cell_that_fails_binds_nothing_and_waiting_raises(notebook):
    notebook.ok("%%background\nx = 1\n1 / 0")
    error = notebook.run("%wait 1")
    assert isinstance(error, ParallelError) and "ZeroDivisionError" in str(error)
    assert "x" not in notebook.live and notebook.jobs.get(1).state is State.FAILED


def test_a_whole_cell_that_changes_a_variable_in_place_says_what_to_do(notebook):
    notebook.ok("seen = []\ndef add(): seen.append(1)")
    notebook.ok("%%background\nadd()")
    error = notebook.run("%wait")
    assert "LostUpdate" in str(error) and notebook.live["seen"] == []
    notebook.ok("%%background\nimport copy\nseen = copy.copy(seen)\nseen.append(1)")
    notebook.ok("%wait")
    assert notebook.live["seen"] == [1]


def test_failed_tasks_leave_their_places_and_waiting_raises(notebook):
    notebook.ok("%%parallel --background for i in range(3) -> r\n1 // (i - 1)")
    error = notebook.run("%wait")
    assert isinstance(error, ParallelError) and "task 1 (i=1): ZeroDivisionError" in str(error)
    assert (notebook.live["r"][0], notebook.live["r"][2]) == (-1, 1)
    notebook.ok("%%parallel --background --keep-going for i in range(3) -> r\n1 // (i - 1)")
    notebook.ok("%wait")


def test_a_name_that_was_bound_anew_is_left_alone_and_the_result_is_kept(notebook, gate):
    notebook.ok("r, s = [0], 'old'")
    notebook.ok(f"%%parallel --background for i in range(2) -> r, s\n{UNTIL}s = i\ni + 5")
    notebook.ok("r = 'mine'\nlen(s)")
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["r"] == "mine" and notebook.live["s"] == [0, 1]
    view = notebook.ok("%jobs 1")
    assert view.results == {"r": [5, 6]}


def test_jobs_are_listed(notebook, gate):
    assert "no background jobs" in repr(notebook.ok("%jobs"))
    notebook.ok(f"%%parallel --background for i in range(2) -> r\n{UNTIL}i")
    text = repr(notebook.ok("%jobs"))
    assert "running" in text and "0/2" in text and "Cell In[" in text
    gate.touch()
    notebook.ok("%wait 1")
    text = repr(notebook.ok("%jobs"))
    assert "done" in text and "2/2" in text


def test_a_cancelled_job_ends_at_once_and_binds_nothing(notebook):
    notebook.ok("%%parallel --background for i in range(2) -> r\nimport time; time.sleep(60)\ni")
    began = time.monotonic()
    notebook.ok("%cancel 1")
    assert time.monotonic() - began < 5 and "cancelled: job 1" in notebook.out
    assert notebook.jobs.get(1).state is State.CANCELLED
    notebook.ok("%wait 1")
    assert "r" not in notebook.live
    notebook.ok("%cancel")
    assert "nothing to cancel" in notebook.out


def test_waiting_has_a_deadline_and_an_interrupt_ends_it_alone(notebook, gate):
    notebook.ok(f"%%parallel --background for i in range(2) -> r\n{UNTIL}i")
    error = notebook.run("%wait --timeout 0.2")
    assert type(error).__name__ == "StillRunning" and "0 of 2 done" in str(error)
    with interrupted_after(0.5):
        assert isinstance(notebook.run("%wait"), KeyboardInterrupt)
    assert notebook.jobs.get(1).state is State.RUNNING
    gate.touch()
    notebook.ok("%wait --timeout 30")
    assert notebook.live["r"] == [0, 1]


def test_an_interrupt_of_a_later_cell_leaves_the_job_alone(notebook, gate):
    notebook.ok(f"%%parallel --background for i in range(2) -> r\n{UNTIL}i")
    with interrupted_after(0.5):
        assert isinstance(notebook.run("import time; time.sleep(30)"), KeyboardInterrupt)
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["r"] == [0, 1]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%wait 7", "there is no job 7"),
        ("%%background for i in x\ni", "nothing else"),
        ("%%background --workers 2\ni", "no option --workers"),
        ("%%background\n!ls", "magic or shell command"),
        ("%%background --retry-errors\ni", "%%background --retry-errors"),
    ],
)
def test_what_cannot_be_says_why(notebook, cell, says):
    error = notebook.run(cell)
    assert type(error).__name__ == "UsageError" and says in str(error)


def test_a_job_pins_its_worker_until_its_names_are_bound_and_leaves_no_thread(notebook, gate):
    notebook.ok(f"%%parallel --background for i in range(2) -> r\n{UNTIL}i")
    assert len(notebook.session.pins) == 1
    gate.touch()
    notebook.ok("%wait")
    assert not notebook.session.pins
    wait_for(lambda: not any(t.name.startswith("lk-job") for t in threading.enumerate()), 10)


def test_an_item_that_cannot_travel_is_its_tasks_failure(notebook):
    notebook.ok("%%parallel --background for i in [1, (x for x in [1])] -> r\n1")
    assert "cannot be sent" in str(notebook.run("%wait"))
    assert notebook.live["r"][0] == 1


# -- two at once


def test_two_fan_outs_share_the_processors(notebook, gate, monkeypatch):
    notebook.kernel.settings.parallel_workers = 4
    notebook.ok(f"%%parallel --background for i in range(8) -> slow\n{UNTIL}i")
    wait_for(lambda: notebook.jobs.get(1).progress.running == 4, 30)
    notebook.ok("%%parallel for i in range(6) -> quick\ni")  # does not wait for the other
    assert notebook.live["quick"] == list(range(6))
    gate.touch()
    notebook.ok("%wait")
    assert notebook.live["slow"] == list(range(8))
