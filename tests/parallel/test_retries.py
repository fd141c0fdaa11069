"""Tasks that are lost and run again, and tasks that want too much memory: real forked tasks, really killed."""

import pytest

from lambdakernel.parallel import ParallelError

FIRST_TIME = "import os, pathlib\nmark = pathlib.Path(folder) / str(i)\nfirst = not mark.exists()\nmark.touch()\n"


@pytest.fixture
def folder(notebook, tmp_path):
    notebook.ok(f"folder = {str(tmp_path)!r}")
    return tmp_path


def test_a_task_that_was_killed_runs_again_and_what_it_printed_is_kept_and_marked(notebook, folder):
    body = FIRST_TIME + "print('try', i)\nif first and i == 1: os.kill(os.getpid(), 9)\ni * 10"
    notebook.ok(f"%%parallel --retries 1 for i in range(3) -> r\n{body}")
    assert notebook.live["r"] == [0, 10, 20]
    assert notebook.out.count("try 1") == 2
    assert "attempt 1 of task 1 was killed by SIGKILL; it runs again" in notebook.err


def test_a_task_that_is_lost_each_time_is_reported_with_its_attempts(notebook):
    error = notebook.run("%%parallel --retries 2 for i in range(2) -> r\nimport os\nif i: os._exit(7)\ni")
    assert isinstance(error, ParallelError)
    assert notebook.live["r"][0] == 0
    assert "exited with code 7 (attempt 3 of 3)" in notebook.live["r"][1].evalue


def test_an_exception_of_the_body_is_no_loss(notebook, folder):
    body = FIRST_TIME + "if first: raise ValueError('once')\ni"
    notebook.run(f"%%parallel --retries 2 for i in range(1) -> r\n{body}")
    assert notebook.live["r"][0].ename == "ValueError"


def test_an_exception_is_tried_again_when_that_is_asked_for(notebook, folder):
    body = FIRST_TIME + "if first: raise ValueError('once')\ni"
    notebook.ok(f"%%parallel --retries 1 --retry-errors for i in range(2) -> r\n{body}")
    assert notebook.live["r"] == [0, 1]


def test_a_task_that_took_too_long_runs_again(notebook, folder):
    body = FIRST_TIME + "import time\nif first: time.sleep(60)\ni"
    notebook.ok(f"%%parallel --retries 1 --timeout 2 for i in range(1) -> r\n{body}")
    assert notebook.live["r"] == [0]


def test_random_numbers_are_the_same_in_the_next_attempt(notebook, folder):
    notebook.ok("import random; random.seed(4)")
    notebook.ok("%%parallel for i in range(1) -> once\nimport random\nrandom.random()")
    notebook.ok("random.seed(4)")
    body = FIRST_TIME + "import random\nif first: os._exit(1)\nrandom.random()"
    notebook.ok(f"%%parallel --retries 1 for i in range(1) -> again\n{body}")
    assert notebook.live["once"] == notebook.live["again"]


# -- memory


def test_a_task_that_wants_more_memory_than_it_may_has_an_error_with_the_limit(notebook):
    body = "import numpy as np\nbig = np.ones(40_000_000 if i else 1_000)\nfloat(big.sum())"
    error = notebook.run(f"%%parallel --memory 100MB for i in range(2) -> r\n{body}")
    assert isinstance(error, ParallelError)
    assert notebook.live["r"][0] == 1000.0
    assert notebook.live["r"][1].ename == "MemoryError"
    assert "(the task may take 100 MB: --memory)" in notebook.live["r"][1].evalue


def test_code_in_c_that_ends_its_process_under_a_limit_is_reported_with_the_limit(notebook):
    notebook.run("%%parallel --memory 100MB for i in range(1) -> r\nimport os\nos.abort()")
    assert "was killed by SIGABRT (--memory 100 MB may be too little for it)" in notebook.live["r"][0].evalue


def test_variables_of_the_notebook_do_not_count(notebook):
    notebook.ok("import numpy as np\nbig = np.ones(40_000_000)")
    notebook.ok("%%parallel --memory 100MB for i in range(2) -> r\nfloat(big[i] + big[-1])")
    assert notebook.live["r"] == [2.0, 2.0]


def test_pages_of_a_variable_that_are_written_count(notebook):
    notebook.ok("import numpy as np\nbig = np.ones(40_000_000)")
    body = "import time\nbig += 1\nfor _ in range(600): time.sleep(0.1)\nbig = None"
    error = notebook.run(f"%%parallel --memory 100MB for i in range(1) -> big\n{body}")
    assert isinstance(error, ParallelError)
    assert "more than --memory 100 MB, and was ended" in notebook.live["big"][0].evalue


def test_the_limit_ends_with_the_body_so_that_a_result_still_travels(notebook):
    notebook.ok("%%parallel --memory 60MB for i in range(1) -> r\n'x' * 50_000_000")
    assert len(notebook.live["r"][0]) == 50_000_000


def test_memory_that_carries_the_result_is_not_looked_at(notebook):
    """What a task held was looked at until its process was gone, so that a slow encoding of a large result ended it."""
    notebook.ok(
        "import sys, time\nclass Slow:\n    def __reduce__(self):\n        big = bytearray(b'x') * 150_000_000\n"
        "        if not hasattr(sys, 'was_slow'): sys.was_slow = time.sleep(2.2)\n        return str, (chr(big[5]),)"
    )
    notebook.ok("%%parallel --memory 60MB for i in range(1) -> r\nSlow()")
    assert notebook.live["r"] == ["x"]
