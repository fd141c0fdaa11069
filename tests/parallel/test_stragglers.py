"""Tasks that take much longer than the others: when one is late, and real tasks, really stopped, that run twice."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from math import inf

import psutil
import pytest
from parallel_notebook import alive, wait_for

from lambdakernel.parallel.guard import guarded
from lambdakernel.parallel.stragglers import FLOOR_S, Stragglers

SETUP = "import operator, random, time\nfrom lambdakernel import Live\nfrom kvs.lattices import *"
BODY = "print('begin', i)\ntime.sleep(0.5)\nprint('end', i)\n"


# -- when a task is late


def after(total, *seconds):
    stragglers = Stragglers(total)
    for one in seconds:
        stragglers.ended(one)
    return stragglers


def test_what_is_usual_is_known_when_three_quarters_have_ended_and_three_at_least():
    assert after(8, 1, 1, 1, 1, 1).limit_s == inf
    assert after(8, 1, 1, 1, 1, 1, 1).limit_s == 2
    assert after(3, 1, 1).limit_s == inf
    assert after(3, 1, 1, 1).limit_s == 2


def test_a_task_is_late_after_twice_what_nine_tenths_took():
    stragglers = after(12, *range(1, 11))
    assert stragglers.limit_s == 18
    assert stragglers.late([(0, 90.0), (1, 80.0), (2, 81.0), (3, inf)], 100.0) == [1, 2]


def test_short_tasks_are_not_late_before_a_second_attempt_could_help():
    assert after(4, 0.01, 0.01, 0.01).limit_s == FLOOR_S


# -- real tasks


@pytest.fixture
def here(notebook):
    notebook.ok(SETUP)
    return notebook


@pytest.fixture
def folder(here, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    here.ok(f"folder = {str(folder)!r}")
    return folder


def tasks():
    return alive("lk-task")


@contextmanager
def one_stopped(goes_on_after_s=None, or_when=None):
    """Stop the first task that begins; give it back its time later, if that is asked for, or when an event is set."""
    stopped = []

    def stop():
        wait_for(tasks, 20)
        time.sleep(0.15)
        stopped.append(tasks()[0].pid)
        os.kill(stopped[0], signal.SIGSTOP)
        if goes_on_after_s is not None:
            (or_when or threading.Event()).wait(goes_on_after_s)
            os.kill(stopped[0], signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stopped
    finally:
        thread.join(60)


def test_a_task_that_hangs_runs_a_second_time_and_the_first_result_wins(here):
    here.ok("random.seed(3)")
    here.ok("%%parallel --workers 2 for i in range(4) -> expected\nrandom.random()")
    here.ok("random.seed(3)")
    with one_stopped() as stopped:
        here.ok(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}random.random()")
    assert here.live["r"] == here.live["expected"]
    assert sorted(line for line in here.out.splitlines() if line.startswith(("begin", "end"))) == [
        *(f"begin {i}" for i in range(4)),
        *(f"end {i}" for i in range(4)),
    ]
    wait_for(lambda: not psutil.pid_exists(stopped[0]), 10)


def test_a_task_that_is_merely_longer_keeps_its_first_attempt(here):
    here.ok("%%parallel --workers 4 for i in range(4) -> r\nimport os\ntime.sleep(0.1 if i else 1.8)\ni")
    assert here.live["r"] == [0, 1, 2, 3]


def test_a_body_that_acts_outside_runs_once(here, tmp_path):
    here.ok(f"path = {str(tmp_path / 'log')!r}")
    write = "with open(path, 'a') as f: f.write(f'{i} ')\n"
    with one_stopped(goes_on_after_s=2.2):
        here.ok(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}{write}i")
    assert here.live["r"] == [0, 1, 2, 3]
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "2", "3"]


def test_nothing_runs_twice_where_that_was_refused(here):
    began = time.monotonic()
    with one_stopped(goes_on_after_s=2.2):
        here.ok(f"%%parallel --again no --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}i")
    assert time.monotonic() - began > 2.2


def test_a_body_that_acts_outside_runs_twice_where_that_was_asked_for(here, folder):
    mark = "import pathlib\n(pathlib.Path(folder) / str(i)).touch()\n"
    with one_stopped():
        here.ok(f"%%parallel --again yes --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}{mark}i")
    assert here.live["r"] == [0, 1, 2, 3] and len(list(folder.iterdir())) == 4


def test_what_the_analysis_cannot_see_ends_the_second_attempt_before_it_acts(here, folder):
    pytest.importorskip("numpy")
    here.ok("import numpy as np\ntable = np.ones(3)")
    hidden = "operator.methodcaller('tofile', f'{folder}/{i}')(table)\n"
    seen, is_over = [], threading.Event()

    def look():
        wait_for(lambda: len(list(folder.iterdir())) == 3 and len(tasks()) == 2, 20)  # there is a second attempt
        wait_for(lambda: len(tasks()) == 1, 20)
        seen.append(len(list(folder.iterdir())))
        is_over.set()

    looker = threading.Thread(target=look)
    looker.start()
    with one_stopped(30.0, is_over):
        here.ok(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}{hidden}i")
    looker.join(30)
    assert here.live["r"] == [0, 1, 2, 3]
    assert seen == [3] and len(list(folder.iterdir())) == 4


def test_a_second_attempt_that_dies_leaves_the_first_alone(here):
    """The body is the same, but the second attempt is killed as soon as it is there."""
    killed = threading.Event()

    def kill_second():
        wait_for(lambda: len(tasks()) == 1 and tasks()[0].status() == psutil.STATUS_STOPPED, 20)
        wait_for(lambda: len(tasks()) == 2, 20)
        os.kill(tasks()[1].pid, signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill_second)
    thread.start()
    with one_stopped(30.0, killed):
        here.ok(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}i")
    thread.join(30)
    assert killed.is_set() and here.live["r"] == [0, 1, 2, 3]


def test_joins_of_both_attempts_are_one(here):
    here.ok("best, seen = Live(Max(-1)), Live(GrowSet())")
    with one_stopped():
        here.ok(f"%%parallel --workers 4 --timeout 60 for i in range(4) -> r\nseen.add(i)\n{BODY}best.merge(i)\ni")
    assert here.live["r"] == [0, 1, 2, 3]
    assert here.live["best"].value == 3 and sorted(here.live["seen"]) == [0, 1, 2, 3]


def test_a_background_job_does_it_too(here):
    with one_stopped():
        here.ok(f"%%parallel --background --workers 4 --timeout 60 for i in range(4) -> r\n{BODY}i")
        here.ok("%wait --timeout 50")
    assert here.live["r"] == [0, 1, 2, 3]


# -- the guard, in this process: an audit hook stays, so each test has one that does nothing afterwards


class GaveUp(Exception):
    pass


def give_up(what):
    raise GaveUp(what)


def test_the_guard_stops_what_acts_outside_and_only_inside(tmp_path):
    with guarded(give_up):
        with pytest.raises(GaveUp, match="open"):
            (tmp_path / "a").open("w")
        with pytest.raises(GaveUp, match="mkdir"):
            os.mkdir(tmp_path / "b")
        with pytest.raises(GaveUp, match="Popen"):
            import subprocess

            subprocess.run(["true"])
        with open(__file__) as f:
            assert f.readline()
        with open(os.devnull, "w") as f:
            f.write("x")
    (tmp_path / "c").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_no_guard_is_none(tmp_path):
    with guarded(None):
        (tmp_path / "a").touch()
