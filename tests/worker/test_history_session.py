"""A kernel is one session of IPython's history, whichever workers its cells run on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, running

NUMBER = "get_ipython().history_manager.session_number"


@pytest.fixture(params=["warm", "cold"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    env = {"IPYTHONDIR": str(tmp_path / "ipython")} | ({"LAMBDAKERNEL_COLD": "1"} if request.param == "cold" else {})
    with running(tmp_path / "store", env=env) as kernel:
        yield kernel


def rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(tmp_path / "ipython" / "profile_default" / "history.sqlite")) as db:
        return list(db.execute(query))


def test_workers_that_follow_each_other_are_one_session(kernel: Kernel, tmp_path: Path) -> None:
    numbers = {kernel.value(NUMBER) for _ in range(3)}
    kernel.run("'a text'")
    kernel.kill_worker()
    assert {kernel.value(NUMBER), kernel.value(NUMBER)} == numbers == {1}
    assert rows(tmp_path, "SELECT count(*) FROM sessions") == [(1,)]
    kernel.run("'the last'")
    last = "SELECT source_raw FROM history WHERE session = 1 ORDER BY line DESC LIMIT 1"
    eventually(lambda: rows(tmp_path, last) == [("'the last'",)], 20, "the cell in the history")


def test_a_session_that_reset_begins_is_that_of_later_workers(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("before = 1")
    kernel.run("get_ipython().history_manager.reset()")
    assert kernel.value(NUMBER) == 2
    kernel.kill_worker()
    assert kernel.value(NUMBER) == 2
    assert "before = 1" in kernel.run("%history ~1/1-2").stdout
    assert rows(tmp_path, "SELECT count(*) FROM sessions") == [(2,)]


def test_the_session_ends_with_the_kernel(tmp_path: Path) -> None:
    with running(tmp_path / "store", env={"IPYTHONDIR": str(tmp_path / "ipython")}) as kernel:
        kernel.run("1")
        kernel.shutdown()
    assert rows(tmp_path, "SELECT session, end IS NOT NULL, num_cmds FROM sessions") == [(1, 1, 1)]
