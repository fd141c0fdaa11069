"""What a fan-out has taken, in processor seconds, GB-seconds and dollars."""

import pytest

from lambdakernel.parallel.attempts import Limits
from lambdakernel.parallel.cost import Cost
from lambdakernel.parallel.memory import cpu_seconds
from lambdakernel.parallel.progress import Progress, as_text
from lambdakernel.settings import from_env


def test_attempts_add_up():
    cost = Cost().plus(1.5, 2.0, 500_000_000).plus(0.5, 1.0, 2_000_000_000)
    assert cost == Cost(2.0, 3.0)


def test_little_is_not_told_and_dollars_only_where_there_is_a_price():
    assert Cost(0.4, 0.9).said(0.0) == ""
    assert Cost(0.4, 12.3).said(0.0) == "0.4 CPU-s, 12 GB-s"
    assert Cost(0.4, 3.0).said(0.0000166667) == "0.4 CPU-s, 3.0 GB-s, $5e-05"
    assert Cost(2000.0, 150_000.0).said(0.00002) == "2,000 CPU-s, 150,000 GB-s, $3"


def test_the_bar_says_it_at_the_end():
    assert as_text(Progress(4, done=2, cost=Cost(9.0, 9.0), elapsed_s=2.0)).endswith("2.0 s, 2.0 s left")
    assert as_text(Progress(4, done=4, cost=Cost(9.0, 3.0), elapsed_s=2.0)).endswith("; 2.0 s; 9.0 CPU-s, 3.0 GB-s")


def test_the_price_is_a_setting():
    assert from_env({"LAMBDAKERNEL_GB_SECOND_PRICE": "0.0000166667"}).gb_second_price == pytest.approx(1.66667e-5)
    assert Limits(1).workers == 1


def test_a_process_that_is_gone_has_computed_nothing():
    assert cpu_seconds(2**22 + 1) == 0.0


def test_tasks_say_what_they_have_computed(notebook):
    body = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ni"
    notebook.ok(f"%%parallel --background for i in range(3) -> r\n{body}")
    notebook.ok("%wait --timeout 100")
    (job,) = notebook.jobs.all()
    assert 1.5 <= job.progress.cost.cpu_s < 20.0
    assert job.progress.cost.gb_s > 0.0
    table = repr(notebook.ok("%jobs"))
    assert "CPU-s" in table and "taken" in table
    assert "CPU-s" in notebook.ok("%jobs 1").taken


def test_an_attempt_that_is_killed_counts_what_it_lived(notebook):
    notebook.run("%%parallel --background --timeout 2 for i in range(1) -> r\nimport time\ntime.sleep(60)")
    error = notebook.run("%wait --timeout 100")
    assert error is not None
    (job,) = notebook.jobs.all()
    assert job.progress.cost.gb_s > 0.01
