"""Variables outlive every process: real kills, shutdowns and restarts, and what the user is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, eventually, lives, running

SESSION = "notebooks/story.ipynb"
MAKE = """
import collections, math, os, random, sys
import numpy as np
import pandas as pd
number, text, data = 42, "héllo", b"\\x00\\xff"
items = [1, [2, 3]]
alias = items
nested = {"items": items, "pair": (items, 7)}
itself = []; itself.append(itself)
big = np.arange(2_000_000)
view = big[10:20]
frame = pd.DataFrame({"x": [1, 2, 3], "y": list("abc")})
def area(r): return round(math.pi * r * r * number, 6)
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
count = counter(); count()
class Point:
    made = 0
    def __init__(self, x): self.x = x; type(self).made += 1
p = Point(items)
Named = collections.namedtuple("Named", "a b")
named = Named(1, items)
"""
CHECK = (
    "(number, text, data, items, alias is items, nested['items'] is items, nested['pair'][0] is items,"
    " itself[0] is itself, int(big.sum()), view.base is big, frame.y.tolist(), area(2), count(), p.x is items,"
    " isinstance(p, Point), Point.made, named.b is items, type(named) is Named)"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def kernel(store: Path) -> Iterator[Kernel]:
    with running(store, session=SESSION) as kernel:
        yield kernel


def kill_worker(kernel: Kernel) -> None:
    kernel.kill_worker()


def kill_front(kernel: Kernel) -> None:
    kernel.front.kill()
    kernel.restart_as_jupyter_does()


def kill_all(kernel: Kernel) -> None:
    kernel.kill_everything()
    kernel.restart_as_jupyter_does()


def kill_zygote(kernel: Kernel) -> None:
    kernel.kill(kernel.pids("zygote")[0])


# -- deaths


@pytest.mark.parametrize("kill", [kill_worker, kill_front, kill_all, kill_zygote])
def test_every_variable_is_there_after_a_kill(kernel: Kernel, kill: object) -> None:
    assert callable(kill)
    assert kernel.run(MAKE).status == "ok"
    before = kernel.value(CHECK)
    kill(kernel)
    after = kernel.value(CHECK)
    assert after[12] == before[12] + 1  # the closure went on counting
    assert after[:12] + after[13:] == before[:12] + before[13:]
    assert all(value is True for value in after if isinstance(value, bool))


def test_a_change_through_one_alias_after_a_kill_is_seen_through_the_others(kernel: Kernel) -> None:
    kernel.run(MAKE)
    kernel.kill_worker()
    kernel.run("alias.append('new'); view[0] = -1; number = 1")
    kernel.kill_worker()
    assert kernel.value("(items[-1], nested['pair'][0][-1], p.x[-1], int(big[10]), area(1))") == (
        "new",
        "new",
        "new",
        -1,
        3.141593,
    )


def test_a_cell_killed_inside_leaves_the_namespace_as_it_was(kernel: Kernel) -> None:
    kernel.run("items = [1]; x = 'before'")
    msg_id = kernel.client.send(
        "import time; x = 'torn'; items.append(2); y = 1; print('begun', flush=True); time.sleep(60)"
    )
    kernel.client.await_output(msg_id, "stream")
    kernel.kill_worker()
    assert kernel.client.result(msg_id).ename == "WorkerLost"
    assert kernel.value("(x, items, 'y' in globals())") == ("before", [1], False)


def test_a_cell_that_raised_keeps_what_it_did_before_it_raised(kernel: Kernel) -> None:
    kernel.run("items = []")
    assert kernel.run("items.append(1); x = 5; 1 / 0; items.append(2)").ename == "ZeroDivisionError"
    kernel.kill_worker()
    assert kernel.value("(items, x)") == ([1], 5)


def test_an_interrupted_cell_keeps_what_it_did(kernel: Kernel) -> None:
    msg_id = kernel.client.send("import time; x = 1; print('begun', flush=True); time.sleep(60); x = 2")
    kernel.client.await_output(msg_id, "stream")
    kernel.manager.interrupt_kernel()
    assert kernel.client.result(msg_id).ename == "KeyboardInterrupt"
    kernel.kill_worker()
    assert kernel.value("x") == 1


def test_count_history_and_tracebacks_go_on_after_a_kill(kernel: Kernel) -> None:
    kernel.run("def f():\n    return 1 / 0")
    kernel.run("x = 10")
    kernel.kill_worker()
    result = kernel.run("f()")
    assert result.reply["execution_count"] == 3
    traceback = "\n".join(result.reply["traceback"])
    assert "return" in traceback
    assert "In[1]" in traceback.replace("\x1b[39m", "").replace("\x1b[32m", "").replace(" ", "")
    assert kernel.value("In[2]") == "x = 10"


def test_where_a_cell_is_moves_too(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run(f"import os, random, sys; os.chdir({str(tmp_path)!r}); os.environ['GREETING'] = 'hello'")
    kernel.run("sys.path.append('/nowhere/special'); random.seed(7)")
    kernel.kill_worker()
    there = kernel.value("(os.getcwd(), os.environ['GREETING'], sys.path[-1], random.random())")
    import random

    assert there == (str(tmp_path), "hello", "/nowhere/special", random.Random(7).random())


def test_a_deleted_name_stays_deleted(kernel: Kernel) -> None:
    kernel.run("x = 1; y = 2")
    kernel.run("del x")
    kernel.kill_worker()
    assert kernel.run("x").ename == "NameError"
    assert kernel.value("y") == 2


def test_what_a_thread_changes_after_its_cell_is_kept_by_the_next_cell(kernel: Kernel) -> None:
    kernel.run("import threading, time; seen = []; go = threading.Event()")
    kernel.run("t = threading.Thread(target=lambda: (time.sleep(0.2), seen.append('late'))); t.start()")
    kernel.run("t.join()")
    kernel.kill_worker()
    assert kernel.value("seen") == ["late"]


# -- residents


def test_what_cannot_move_is_named_with_its_reason_when_it_is_lost(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("one\ntwo\n")
    kernel.run(f"log = open({str(tmp_path / 'data')!r}); first = log.readline()")
    assert kernel.value("log.readline()") == "two\n"
    kernel.kill_worker()
    result = kernel.run("log.readline()")
    assert result.ename == "ResidentLost"
    assert "log is gone" in result.evalue
    assert "In [1]" in result.evalue
    assert kernel.value("first") == "one\n"
    assert kernel.run("del log").status == "ok"
    assert kernel.run("log").ename == "NameError"


def test_the_error_of_a_lost_cell_names_the_residents(kernel: Kernel) -> None:
    kernel.run("squares = (n * n for n in range(10)); next(squares)")
    msg_id = kernel.client.send("import time; print('begun', flush=True); time.sleep(60)")
    kernel.client.await_output(msg_id, "stream")
    kernel.kill_worker()
    text = kernel.client.result(msg_id).evalue
    assert "squares" in text
    assert "generator" in text


# -- shutdown, restart


def test_a_session_resumes_after_a_shutdown_and_says_so_once(store: Path) -> None:
    with running(store, session=SESSION) as kernel:
        kernel.run(MAKE)
        before = kernel.value(CHECK)
        kernel.shutdown()
    with running(store, session=SESSION) as kernel:
        first = kernel.run("number")
        assert first.value == "42"
        assert first.reply["execution_count"] == 3
        told = [m["content"]["data"]["text/plain"] for m in first.messages if m["msg_type"] == "display_data"]
        assert len(told) == 1
        assert told[0].startswith("Resumed session story.ipynb")
        assert "\n" not in told[0]
        assert "display_data" not in kernel.run("number").types
        after = kernel.value(CHECK)
        assert after[:12] == before[:12]


def test_a_session_without_a_name_does_not_resume(store: Path) -> None:
    with running(store) as kernel:
        kernel.run("x = 1")
        kernel.shutdown()
    with running(store) as kernel:
        assert kernel.run("x").ename == "NameError"


def test_the_notebooks_path_names_the_session(store: Path) -> None:
    env = {"JPY_SESSION_NAME": "/home/ada/a.ipynb"}
    with running(store, env=env) as kernel:
        kernel.run("x = 1")
        kernel.shutdown()
    with running(store, env=env) as kernel:
        assert kernel.value("x") == 1
    with running(store, env={"JPY_SESSION_NAME": "/home/ada/b.ipynb"}) as kernel:
        assert kernel.run("x").ename == "NameError"


def test_a_restart_is_empty_and_restore_brings_the_old_epoch_back(kernel: Kernel) -> None:
    kernel.run(MAKE)
    before = kernel.value(CHECK)
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready()
    result = kernel.run("number")
    assert result.ename == "NameError"
    assert result.reply["execution_count"] == 1
    kernel.run("fresh = 1")
    restored = kernel.run("%restore")
    assert restored.status == "ok", restored.shown
    after = kernel.value(CHECK)
    assert after[:12] == before[:12]
    assert kernel.value("fresh") == 1
    kernel.kill_worker()
    assert kernel.value("(number, fresh)") == (42, 1)


def test_a_death_right_after_a_restart_does_not_bring_the_old_epoch_back(kernel: Kernel) -> None:
    kernel.run("x = 1")
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready()
    kernel.kill_worker()
    assert kernel.run("x").ename == "NameError"


# -- cold


def test_in_cold_mode_the_last_output_follows_what_is_shown(store: Path) -> None:
    # `_` that came from the store was never bound anew: the shell did not know it as the one it had shown.
    with running(store, session=SESSION, env={"LAMBDAKERNEL_COLD": "1"}) as kernel:
        kernel.run("[1]")
        assert kernel.run("'a' in globals() and 5").value == "False"
        assert kernel.run("_").value == "False"
        assert kernel.run("eval('_'), __").value == "(False, False)"


def test_in_cold_mode_every_cell_has_a_fresh_worker_and_the_same_variables(store: Path) -> None:
    with running(store, session=SESSION, env={"LAMBDAKERNEL_COLD": "1"}) as kernel:
        pids = [kernel.value("__import__('os').getpid()") for _ in range(3)]
        assert len(set(pids)) == 3
        assert kernel.run(MAKE).status == "ok"
        values = kernel.value(CHECK)
        assert all(value is True for value in values if isinstance(value, bool))
        kernel.run("alias.append('x')")
        assert kernel.value("(items[-1], p.x[-1], nested['items'][-1])") == ("x", "x", "x")
        assert kernel.value("count()") == 3


def test_a_retired_worker_that_does_not_end_is_killed_and_hinders_no_cell(store: Path) -> None:
    # One that was stopped while it closed its log held the lane of the store, and every later cell failed.
    with running(store, session=SESSION, env={"LAMBDAKERNEL_COLD": "1"}) as kernel:
        stuck = kernel.value(
            "__import__('atexit').register(__import__('time').sleep, 600) and __import__('os').getpid()"
        )
        kernel.run("x = 1")
        assert kernel.value("x") == 1
        eventually(lambda: not lives(stuck), 6.0, "the worker that hangs at its end killed")


# -- secrets


def test_secrets_of_the_environment_never_reach_the_store(kernel: Kernel, store: Path) -> None:
    secret = "s3cr3t-value-never-stored"
    kernel.run("import os; os.environ['HARMLESS'] = 'plain-value-stored'")
    names = ["MY_TOKEN", "DB_PASSWORD", "API_KEY", "CLIENT_SECRET", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"]
    kernel.run("import os\n" + "\n".join(f"os.environ[{n!r}] = 's3cr3t-' + 'value-never-stored'" for n in names))
    kernel.run("pass")
    files = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    assert not any(secret.encode() in data for data in files)
    kernel.kill_worker()
    assert kernel.value("os.environ['HARMLESS']") == "plain-value-stored"
    assert kernel.value("'MY_TOKEN' in os.environ") is False


def test_the_store_and_its_key_are_for_their_owner_alone(kernel: Kernel, store: Path) -> None:
    kernel.run("big = b'x' * 300_000")
    assert store.stat().st_mode & 0o777 == 0o700
    key = store.with_name(store.name + ".key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes() not in b"".join(p.read_bytes() for p in store.rglob("*") if p.is_file())


# -- one that was given up


def test_a_worker_whose_front_died_while_it_was_stopped_cannot_commit_later(kernel: Kernel) -> None:
    kernel.run("x = 'before'")
    msg_id = kernel.client.send("import time; print('begun', flush=True); time.sleep(1); x = 'zombie'")
    kernel.client.await_output(msg_id, "stream")
    worker = kernel.worker()
    os.kill(worker, signal.SIGSTOP)
    kernel.front.kill()
    kernel.restart_as_jupyter_does()
    assert kernel.value("x") == "before"
    eventually(lambda: not lives(worker), 5.0, "the stopped worker gone")
    assert kernel.value("x") == "before"
