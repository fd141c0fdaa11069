"""A real zygote with real forks and real kills; only what a worker becomes is small (see `roles`)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lambdakernel.executors import local
from lambdakernel.executors.base import Event, ExecutorLost, Exited, Invocation, Refused, Started
from lambdakernel.executors.local import LocalExecutor, connect, spawn_zygote
from tests.executors.roles import NOBODY
from tests.kernels import eventually, gone_within, lives

DEADLINE_S = 15.0
ROLES = {"test": "tests.executors.roles"}
ROOT = Path(__file__).resolve().parents[2]

Spawn = Callable[..., LocalExecutor]


@pytest.fixture
def directory() -> Iterator[str]:
    """A runtime directory, short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp", ignore_cleanup_errors=True) as base:
        path = base + "/run"
        os.mkdir(path, 0o700)
        yield path


@pytest.fixture
def spawn(directory: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spawn]:
    """Starts zygotes with test roles, and ends them."""
    monkeypatch.setattr(local, "ZYGOTE_MODULE", "tests.executors.roles")
    monkeypatch.chdir(ROOT)
    made: list[LocalExecutor] = []

    def start(roles: dict[str, str] = ROLES, **env: str) -> LocalExecutor:
        monkeypatch.setenv("TEST_ROLES", json.dumps(roles))
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        made.append(spawn_zygote(directory))
        return made[-1]

    yield start
    for executor in made:
        if executor.fileno() >= 0:
            executor.close(5.0)


def await_event(executor: LocalExecutor, kind: type[Event], id: str | None = None) -> Any:
    """The first event of `kind` (of invocation `id`); other events are passed over."""
    end = time.monotonic() + DEADLINE_S
    poller = select.poll()
    poller.register(executor.fileno(), select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        poller.poll(left * 1000)
        for event in executor.events():
            if isinstance(event, kind) and id in {None, getattr(event, "id", None)}:
                return event
    raise AssertionError(f"no {kind.__name__} within {DEADLINE_S} s")


def start(executor: LocalExecutor, id: str = "1", **params: Any) -> int:
    """Start a worker; its pid."""
    executor.start(Invocation(id, "test", params or {"do": "wait"}))
    return int(await_event(executor, Started, id).pid)


def facts(executor: LocalExecutor, id: str = "1", role: str = "test", **params: Any) -> dict[str, Any]:
    """Start a worker that tells about itself and waits."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        executor.start(Invocation(id, role, {"do": "wait", **params}), (theirs.fileno(),))
        theirs.close()
        ours.settimeout(DEADLINE_S)
        with ours.makefile("r") as lines:
            said: dict[str, Any] = json.loads(lines.readline())
    await_event(executor, Started, id)
    return said


def zygote_of(executor: LocalExecutor) -> psutil.Process:
    assert executor._zygote_pid is not None
    return psutil.Process(executor._zygote_pid)


@pytest.mark.parametrize(("role", "name"), [("test", "lk-worker"), ("task", "lk-task")])
def test_a_process_has_the_name_of_its_role_before_it_does_anything(spawn: Spawn, role: str, name: str) -> None:
    """What looks for the worker, to show or to kill it, does not find a task that begins."""
    assert facts(spawn({role: ROLES["test"]}), role=role)["name"] == name


# -- how a worker ends


def test_a_killed_worker_is_reported_with_its_signal_and_reaped(spawn: Spawn) -> None:
    executor = spawn()
    pid = start(executor)
    os.kill(pid, signal.SIGKILL)
    exited = await_event(executor, Exited)
    assert (exited.id, exited.pid, exited.code, exited.out_of_memory) == ("1", pid, -signal.SIGKILL, False)
    assert exited.reason() == "was killed by SIGKILL"
    assert exited.peak_nbytes > 1_000_000
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("params", "code"),
    [({"do": "exit", "code": 0}, 0), ({"do": "exit", "code": 3}, 3), ({"do": "crash"}, -11), ({"do": "raise"}, 1)],
)
def test_every_end_is_one_exited_event(spawn: Spawn, params: dict[str, Any], code: int) -> None:
    executor = spawn()
    executor.start(Invocation("x", "test", params))
    assert await_event(executor, Exited, "x").code == code
    assert executor.events() == []


def test_many_workers_die_at_once_and_each_is_reported_once(spawn: Spawn) -> None:
    executor = spawn()
    pids = [start(executor, str(n)) for n in range(8)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    reported: list[int] = []

    def all_reported() -> bool:
        reported.extend(event.pid for event in executor.events() if isinstance(event, Exited))
        return len(reported) >= len(pids)

    eventually(all_reported, DEADLINE_S, "eight reports")
    assert sorted(reported) == sorted(pids)


def test_what_a_workers_cells_started_dies_with_it(spawn: Spawn) -> None:
    executor = spawn()
    said = facts(executor, children=2)
    children = [psutil.Process(pid) for pid in said["children"]]
    os.kill(said["pid"], signal.SIGKILL)
    await_event(executor, Exited)
    gone_within(children, 5.0)


# -- what a worker is born with


def test_a_worker_leads_a_session_of_its_own(spawn: Spawn) -> None:
    executor = spawn()
    said = facts(executor)
    assert said["pid"] == said["session"] == said["group"]
    assert said["parent"] == zygote_of(executor).pid
    assert os.getpgid(said["parent"]) != os.getpgrp()


def test_a_worker_holds_none_of_the_zygotes_sockets(spawn: Spawn) -> None:
    executor = spawn()
    start(executor, "a")
    start(executor, "b")
    assert facts(executor, "c")["sockets"] == 1  # the one that was handed to it


def test_two_workers_draw_different_random_numbers(spawn: Spawn) -> None:
    executor = spawn({**ROLES, "numpy": "numpy.random"})
    first, second = facts(executor, "a")["drawn"], facts(executor, "b")["drawn"]
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_interrupts_leave_the_zygote_alone(spawn: Spawn) -> None:
    executor = spawn()
    start(executor, "a")
    zygote_of(executor).send_signal(signal.SIGINT)
    assert start(executor, "b") > 0


def test_the_door_is_for_its_owner_alone(spawn: Spawn, directory: str) -> None:
    start(spawn())
    mode = os.stat(directory + "/zygote").st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


# -- warming


def test_a_wanted_module_is_there_in_later_workers_and_a_local_one_is_not(spawn: Spawn, directory: str) -> None:
    executor = spawn()
    assert "wave" not in facts(executor, "a")["modules"]
    executor.warm(("tabnanny", "msgspec", "no_such_module", "tests.kernels"))
    end = time.monotonic() + DEADLINE_S
    for attempt in range(100):
        modules = facts(executor, f"w{attempt}")["modules"]
        if "msgspec" in modules:
            break
        assert time.monotonic() < end
        time.sleep(0.4)
    assert "tests.kernels" not in modules
    assert "no_such_module" not in modules


def test_a_module_that_is_wanted_now_is_there_in_the_next_worker(spawn: Spawn, directory: str) -> None:
    """Which waits for it; whoever asks, and all later ones have it, too."""
    executor = spawn()
    assert "msgspec" not in facts(executor, "a")["modules"]
    asker = connect(directory)
    asker.warm(("no_such_module", "tests.kernels", "msgspec"), now=True)
    assert "msgspec" in facts(asker, "b")["modules"]
    later = facts(executor, "c")["modules"]
    assert "msgspec" in later and "tests.kernels" not in later
    asker.close(1.0)


# -- owners


def test_when_an_asker_goes_its_workers_go_and_the_others_stay(spawn: Spawn, directory: str) -> None:
    executor = spawn()
    ours = psutil.Process(start(executor, "mine"))
    asker = connect(directory)
    theirs = [psutil.Process(start(asker, str(n))) for n in range(3)]
    asker.close(1.0)
    gone_within(theirs, 5.0)
    assert ours.is_running()
    assert start(executor, "next") > 0


def test_when_the_front_goes_everything_goes_with_the_directory(spawn: Spawn, directory: str) -> None:
    executor = spawn()
    zygote = zygote_of(executor)
    first = start(executor)
    asker = connect(directory)
    workers = [psutil.Process(pid) for pid in (first, start(asker))]
    executor.close(5.0)
    gone_within(workers, 1.0)
    assert not zygote.is_running()
    assert not os.path.exists(directory)
    asker.close(1.0)


def test_a_stopped_worker_goes_too(spawn: Spawn, directory: str) -> None:
    executor = spawn()
    worker = psutil.Process(start(executor))
    worker.suspend()
    executor.close(5.0)
    gone_within([worker], 1.0)


def test_a_released_zygote_leaves_the_directory_to_the_next(spawn: Spawn, directory: str) -> None:
    first = spawn()
    start(first)
    zygote = zygote_of(first)
    first.release()
    assert not zygote.is_running()
    assert os.path.isdir(directory)
    assert start(spawn()) > 0


def test_a_killed_zygote_takes_its_workers_along_and_is_reported(spawn: Spawn) -> None:
    executor = spawn()
    workers = [psutil.Process(start(executor, str(n))) for n in range(2)]
    zygote_of(executor).kill()
    assert "ended" in await_event(executor, ExecutorLost).reason
    gone_within(workers, 5.0)
    executor.start(Invocation("late", "test", {}))
    assert any(isinstance(event, ExecutorLost) for event in executor.events())


def test_when_the_process_that_forked_the_zygote_is_killed_nothing_is_left(directory: str) -> None:
    code = f"""
        import os, select, sys
        from lambdakernel.executors import local
        from lambdakernel.executors.base import Invocation
        from lambdakernel.worker import zygote
        zygote._ROLES = {ROLES!r}
        executor = local.fork_zygote({directory!r})
        executor.start(Invocation("1", "test", {{"do": "wait"}}))
        select.select([executor], [], [], 10)
        print(executor._zygote_pid, executor.events()[0].pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, timeout=30, cwd=ROOT
    )
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    eventually(lambda: not any(map(lives, pids)), 5.0, "both gone")
    eventually(lambda: not os.path.exists(directory), 5.0, "directory removed")


# -- when it cannot


def test_a_refused_fork_is_told_with_the_reason_and_the_zygote_lives(spawn: Spawn, directory: str) -> None:
    if os.geteuid() == 0:
        for path in (os.path.dirname(directory), directory):
            os.chown(path, NOBODY, NOBODY)
    executor = spawn(TEST_REFUSE_FORKS="1")
    for id in ("1", "2"):
        executor.start(Invocation(id, "test", {"do": "wait"}))
        reason = await_event(executor, Refused, id).reason
        assert "refused to fork" in reason
        assert "raise the process limit" in reason


def test_a_zygote_that_cannot_import_says_why(spawn: Spawn) -> None:
    executor = spawn({"test": "no_such_module_anywhere"})
    assert "no_such_module_anywhere" in await_event(executor, ExecutorLost).reason


def test_connecting_to_a_zygote_that_is_gone_is_an_oserror(directory: str) -> None:
    with pytest.raises(OSError, match="No such file"):
        connect(directory)
