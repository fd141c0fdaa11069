"""Runs every check and every test, also after one has failed, and prints one summary: what `make test` and CI run.

Order: what takes seconds first (ruff, mypy), then pytest, in four processes at a time where there is no argument: what
starts real kernels mostly waits, what forks its own process at every step should find it small (and then comes what a
browser shows, so that they take about as long), ipykernel's own tests do little but wait (and then comes what fans
out), and the rest mostly computes.
Before that, as root on a system with apt, the packages that some tests use are installed where they are missing;
otherwise those tests are skipped, and it is said which and why.
"""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"chromium": "chromium", "redis-server": "redis-server"}
"""Command that the tests look for, and the Debian package that has it."""
USERS = {"chromium": "tests/browser", "redis-server": "tests of the network tier (planned)"}
THAT_FORK = ("tests/state",)
IN_A_BROWSER = ("tests/browser",)
WITH_KERNELS = ("tests/scenarios",)
THAT_WAIT = ("tests/conformance", "tests/parallel", "tests/futures")
SLOWEST = ("--durations=25", "--durations-min=2")
"""Says where the time went: a run has to stay far below what CI allows."""
APT_S, CHECK_S, PYTEST_S = 300.0, 300.0, 1470.0
"""Seconds after which a step is ended; all together stay below the half hour that CI allows."""
LEAVE_S = 20.0
"""Seconds for an interrupted step to say how far it came, before it is killed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run."""

    name: str
    command: tuple[str, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended: `code` is its exit code, None if it was ended at its deadline."""

    step: Step
    code: int | None
    seconds: float

    def line(self) -> str:
        word = {0: "passed", None: "ENDED AT ITS DEADLINE"}.get(self.code, f"FAILED ({self.code})")
        return f"  {self.step.name:<16}{word:<24}{self.seconds:7.1f} s"


def checks() -> list[Step]:
    """The checks; with `--only-checks` they are all that is run."""
    return [
        Step("ruff check", _tool("ruff", "check", "."), CHECK_S),
        Step("ruff format", _tool("ruff", "format", "--check", "."), CHECK_S),
        Step("mypy", _tool("mypy"), CHECK_S),
    ]


def suites(arguments: Sequence[str]) -> list[Step]:
    """Pytest, in steps that can run at the same time; together they are every test."""
    if "--only-checks" in arguments:
        return []
    if arguments:
        return [Step("pytest", _tool("pytest", *arguments), PYTEST_S)]
    rest = [f"--ignore={folder}" for folder in (*WITH_KERNELS, *THAT_FORK, *IN_A_BROWSER, *THAT_WAIT)]
    return [
        Step("pytest kernels", _tool("pytest", *SLOWEST, *WITH_KERNELS), PYTEST_S),
        Step("pytest state", _tool("pytest", *SLOWEST, *THAT_FORK, *IN_A_BROWSER), PYTEST_S),
        Step("pytest waiting", _tool("pytest", *SLOWEST, *THAT_WAIT), PYTEST_S),
        Step("pytest others", _tool("pytest", *SLOWEST, *rest), PYTEST_S),
    ]


def _tool(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def run(step: Step) -> Done:
    """Run one step to its end or its deadline."""
    return run_together([step])[0]


def run_together(together: Sequence[Step]) -> list[Done]:
    """Run steps at the same time, each to its end or its deadline. The first one's output is seen as it comes, that of
    the others when the first has ended."""
    running, done = [], []
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(len(together) or 1))
        for number, step in enumerate(together):
            print(f"\n== {step.name}: {' '.join(step.command[2:])}", flush=True)
            output = stack.enter_context(tempfile.TemporaryFile()) if number else None
            process = subprocess.Popen(step.command, cwd=ROOT, stdout=output, stderr=output)
            running.append((threads.submit(_wait, step, process), output))
        for waited, output in running:
            done.append(waited.result())
            if output is not None:
                output.seek(0)
                print(f"\n== {step.name}\n{output.read().decode(errors='replace')}", flush=True)
    return done


def _wait(step: Step, process: subprocess.Popen[bytes]) -> Done:
    start = time.monotonic()
    code: int | None = None
    try:
        code = process.wait(step.deadline_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return Done(step, code, time.monotonic() - start)


def compile_all() -> None:
    """Write bytecode of what changed: where the environment forbids to, every process that a test starts would compile
    the whole package."""
    for folder in ("lambdakernel", "kvs", "tests"):
        compileall.compile_dir(ROOT / folder, quiet=2, workers=0)


def prepare_system() -> list[str]:
    """Install missing system packages if we may; one line for each that is still missing, and what that skips."""
    missing = [command for command in PACKAGES if shutil.which(command) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt([PACKAGES[command] for command in missing])
    return [_skipped(command) for command in missing if shutil.which(command) is None]


def _skipped(command: str) -> str:
    why = "it could not be installed" if os.geteuid() == 0 else "only root may install it"
    return f"{command} is missing ({why}): {USERS[command]} are skipped. Remedy: apt-get install {PACKAGES[command]}"


def _apt(packages: Sequence[str]) -> None:
    """Best effort: what fails is said, and only the tests that need it are skipped."""
    print(f"== system packages: {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, "fonts-dejavu-core")
    for command in (("apt-get", "update", "-qq"), install):
        try:
            done = subprocess.run(command, env=environment, timeout=APT_S, capture_output=True, text=True)
        except (OSError, subprocess.TimeoutExpired) as e:
            print(f"{command[1]}: {e}", flush=True)
            return
        if done.returncode:
            print(f"apt-get {command[1]} failed:\n{done.stderr.strip()[-1000:]}", flush=True)
            return


def main(arguments: Sequence[str]) -> int:
    """Run everything; 0 only if every step passed."""
    notes = [] if "--only-checks" in arguments else prepare_system()
    compile_all()
    done = [run(step) for step in checks()]
    done += run_together(suites(arguments))
    print("\n== summary")
    print("\n".join([d.line() for d in done] + [f"  note: {note}" for note in notes]))
    return 0 if all(d.code == 0 for d in done) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
