"""How programs with an `Executor` end: plain scripts, without a guard of `__main__`, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from lambdakernel.futures.answers import exit_code_of

DEADLINE_S = 60.0


def run(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "script.py"
    file.write_text(script)
    return subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=DEADLINE_S)


def test_calls_that_were_submitted_end_before_the_interpreter(tmp_path: Path) -> None:
    script = """
import lambdakernel, time
def later():
    time.sleep(0.5)
    print("apple", flush=True)
lambdakernel.Executor(5).submit(later)
"""
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("apple\n", "", 0)


def test_shutdown_without_wait_does_not_hang_at_exit(tmp_path: Path) -> None:
    script = """
import lambdakernel, time
executor = lambdakernel.Executor(3)
executor.submit(lambda: (time.sleep(0.5), print("apple", flush=True)))
executor.shutdown(wait=False)
"""
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr) == ("apple\n", "")


def test_no_call_is_taken_after_the_interpreter_has_ended(tmp_path: Path) -> None:
    script = """
import atexit
atexit.register(lambda: executor.submit(abs, 1))
import lambdakernel
executor = lambdakernel.Executor(1)
executor.submit(abs, 1).result()
"""
    assert "RuntimeError: cannot schedule new futures" in run(script, tmp_path).stderr


def test_a_dropped_executor_lets_its_calls_end_and_its_workers_go(tmp_path: Path) -> None:
    script = """
import lambdakernel, threading, time
executor = lambdakernel.Executor(2)
calls = [executor.submit(abs, -n) for n in range(20)]
del executor
print(sum(c.result() for c in calls))
end = time.monotonic() + 30
while threading.active_count() > 1 and time.monotonic() < end:
    time.sleep(0.02)
print(threading.active_count())
"""
    assert run(script, tmp_path).stdout == "190\n1\n"


def test_a_fork_of_the_program_is_told_to_make_its_own(tmp_path: Path) -> None:
    script = """
import lambdakernel, os
executor = lambdakernel.Executor(1)
executor.submit(abs, 1).result()
if os.fork() == 0:
    try:
        executor.submit(abs, 1)
    except RuntimeError as e:
        print(e, flush=True)
    os._exit(0)
os.wait()
"""
    done = run(script, tmp_path)
    assert "Make a new one here" in done.stdout
    assert done.returncode == 0


def test_nothing_outlives_a_program_that_is_killed(tmp_path: Path) -> None:
    """Not its workers, nor what they started, even while a fork of the program holds its sockets open."""
    script = """
import lambdakernel, os, subprocess, time
executor = lambdakernel.Executor(2)
def work():
    subprocess.Popen(["sleep", "1000"])
    return os.getpid()
executor.submit(work).result()
executor.submit(time.sleep, 1000)
if os.fork() == 0:
    time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        family = psutil.Process(program.pid).children(recursive=True)
        fork = next(p for p in family if p.ppid() == program.pid and p.cmdline() == [sys.executable, str(file)])
        assert len(family) >= 4
        program.kill()
        _, alive = psutil.wait_procs([p for p in family if p != fork], timeout=DEADLINE_S)
        os.kill(fork.pid, signal.SIGKILL)
    assert alive == []


def test_an_interrupt_ends_a_with_block_that_waits_for_long_calls(tmp_path: Path) -> None:
    script = """
import lambdakernel, time
try:
    with lambdakernel.Executor(1) as executor:
        call = executor.submit(time.sleep, 1000)
        while not executor.worker_pids():
            time.sleep(0.01)
        print("ready", flush=True)
        call.result()
except KeyboardInterrupt:
    print(type(call.exception()).__name__)
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=DEADLINE_S)
    assert out == "TaskLost\n"


def test_how_a_process_ended_is_known_to_who_is_not_its_parent() -> None:
    for end, code in (("import os; os.kill(os.getpid(), 9)", -9), ("raise SystemExit(3)", 3)):
        with subprocess.Popen([sys.executable, "-c", end]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
            assert exit_code_of(process.pid) == code
        assert exit_code_of(process.pid) is None
    assert exit_code_of(os.getpid()) is None
