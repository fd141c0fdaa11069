"""CPython's own tests of executors, with ours in place of the process pool: `python -m tests.futures.cpython`.

With `0/2` and `1/2` it runs one half: most of what they do is sleep, so halves may run at a time.

They are in the standard library's `test` package. Where the distribution leaves them out, they are taken from Debian's
package of them, which is unpacked into a temporary directory. They run as `unittest` classes made of CPython's mixins.
`NOT_OURS` lists each that cannot apply, with the reason; what ours does instead is tested in `test_executor_*.py`.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import warnings
from pathlib import Path
from typing import Any

import lambdakernel

NAME = "test.test_concurrent_futures"
DEBIAN = f"libpython3.{sys.version_info.minor}-testsuite"
DEADLINE_S = 110
CANNOT_BE_HAD = 77
"""The exit code that says that CPython's tests cannot be had here."""

MIXINS = (
    "ExecutorShutdownTest",
    "WaitTests",
    "AsCompletedTests",
    "ExecutorTest",
    "ProcessPoolShutdownTest",
    "ProcessPoolExecutorTest",
    "ExecutorDeadlockTest",
    "InitializerMixin",
    "FailingInitializerMixin",
)
LOOKS_INSIDE = "looks at threads, queues or pipes that only CPython's own pool has"
BY_NAME = "its script imports the class by name from concurrent.futures; test_executor_ends.py runs the same with ours"
ONE_CALL = "CPython's pool breaks; ours fails this one call, with the value's own error"
NOT_OURS = {
    "test_interpreter_shutdown": BY_NAME,
    "test_submit_after_interpreter_shutdown": BY_NAME,
    "test_hang_gh83386": BY_NAME,
    "test_hang_gh94440": "it limits a queue's pipe, which ours has none of",
    "test_processes_terminate": LOOKS_INSIDE,
    "test_context_manager_shutdown": LOOKS_INSIDE,
    "test_del_shutdown": LOOKS_INSIDE,
    "test_shutdown_no_wait": LOOKS_INSIDE,
    "test_shutdown_deadlock_pickle": LOOKS_INSIDE,
    "test_killed_child": "CPython's pool breaks; ours loses the one call and goes on",
    "test_traceback": "the cause is of CPython's own private class",
    "test_traceback_when_child_process_terminates_abruptly": "the cause is of CPython's own private class",
    "test_saturation": "a semaphore of multiprocessing can only be inherited, and our workers are no children",
    "test_max_tasks_per_child_defaults_to_spawn_context": "ours has no start method",
    "test_python_finalization_error": "it replaces the thread class inside CPython's pool",
    "test_error_at_task_unpickle": ONE_CALL,
    "test_exit_at_task_unpickle": ONE_CALL,
    "test_error_during_result_unpickle_in_result_handler": ONE_CALL,
    "test_exit_during_result_unpickle_in_result_handler": ONE_CALL,
}


class ExecutorUnderTest(lambdakernel.Executor):
    """Ours, with the few inner names that CPython's tests look at."""

    def __init__(self, max_workers: int | None = None, mp_context: Any = None, **options: Any) -> None:
        super().__init__(max_workers, **options)
        self._max_workers = self._pool.limits.most

    @property
    def _broken(self) -> bool:
        return self._pool.broken is not None

    @property
    def _executor_manager_thread(self) -> Any:
        return self._pool._thread

    @property
    def _processes(self) -> dict[int, Any]:
        return dict.fromkeys(self._pool.pids)


class OurMixin:
    """Takes the place of `ProcessPoolSpawnMixin`; the context is for the queues and managers of the tests."""

    executor_type = ExecutorUnderTest

    def get_context(self) -> Any:
        return multiprocessing.get_context("spawn")


def load(directory: Path) -> dict[str, Any]:
    """Every name of CPython's tests, from one module (until 3.11) or several.

    Raises:
        LookupError: they cannot be had; says why.
    """
    if importlib.util.find_spec(NAME) is None:
        _unpack(directory)
    module = importlib.import_module(NAME)
    names = dict(vars(module))
    for path in getattr(module, "__path__", ()):
        for file in sorted(Path(path).glob("*.py")):
            if file.stem not in {"__init__", "test_interpreter_pool"}:
                names |= vars(importlib.import_module(f"{NAME}.{file.stem}"))
    return names


def _unpack(directory: Path) -> None:
    if shutil.which("apt-get") is None:
        raise LookupError(f"this Python has no {NAME}, and there is no apt-get to fetch it with")
    fetched = subprocess.run(
        ["apt-get", "download", "-q", DEBIAN], cwd=directory, capture_output=True, text=True, timeout=60
    )
    packages = list(directory.glob("*.deb"))
    if not packages:
        why = fetched.stderr.strip()[-200:]
        raise LookupError(f"this Python has no {NAME}, and {DEBIAN} cannot be fetched: {why}")
    subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(directory / "unpacked")], check=True, timeout=60)
    import test

    (found,) = (directory / "unpacked").glob("usr/lib/python3*/test")
    # A package with CPython's files and the missing ones, which workers find on `sys.path` too.
    shadow = directory / "shadow" / "test"
    shadow.mkdir(parents=True)
    for entry in [*found.glob("test_concurrent_futures*"), *Path(test.__path__[0]).iterdir()]:
        if entry.name != "__pycache__" and not (shadow / entry.name).exists():
            (shadow / entry.name).symlink_to(entry)
    sys.path.insert(0, str(shadow.parent))
    test.__path__ = [str(shadow)]
    importlib.invalidate_caches()


def most_derived(names: dict[str, Any]) -> list[str]:
    """The mixins that no other one extends, and so runs too."""
    present = [mixin for mixin in MIXINS if mixin in names]
    return [m for m in present if not any(m != n and issubclass(names[n], names[m]) for n in present)]


def suite(names: dict[str, Any], mixin: str) -> unittest.TestSuite:
    bases = (names[mixin], OurMixin, names["ExecutorMixin"], names["BaseTestCase"])
    if issubclass(names[mixin], names["ExecutorMixin"]):
        bases = (names[mixin], OurMixin, names["BaseTestCase"])
    made = type(f"Our{mixin}", bases, {})
    loader = unittest.defaultTestLoader
    return unittest.TestSuite(made(name) for name in loader.getTestCaseNames(made) if name not in NOT_OURS)


class _Timed(unittest.TextTestResult):
    """Says of each test what it took."""

    def startTest(self, test: unittest.TestCase) -> None:
        self._began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.stream.write(f"{time.monotonic() - self._began:.2f} s ")
        super().addSuccess(test)


def main() -> int:
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    warnings.simplefilter("ignore", DeprecationWarning)  # CPython's tests use what it deprecates itself
    with tempfile.TemporaryDirectory() as directory:
        try:
            names = load(Path(directory))
        except LookupError as e:
            print(e)
            return CANNOT_BE_HAD
        part, _, parts = (sys.argv[1] if len(sys.argv) > 1 else "0/1").partition("/")
        chosen = most_derived(names)[int(part) :: int(parts)]
        every = unittest.TestSuite(suite(names, mixin) for mixin in chosen)
        result = unittest.TextTestRunner(verbosity=2, resultclass=_Timed).run(every)
    faulthandler.cancel_dump_traceback_later()
    return int(not result.wasSuccessful())


if __name__ == "__main__":
    sys.exit(main())
