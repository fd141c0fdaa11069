"""A notebook for tests: a real IPython shell, a real session in a store on disk, tasks of a real zygote."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import kvs
from lambdakernel.magics.jobs import JobMagics
from lambdakernel.magics.parallel import ParallelMagics
from lambdakernel.settings import Settings
from lambdakernel.state import Cell, Namespace
from lambdakernel.worker import preload


def wait_for(is_so, seconds: float) -> None:
    """Wait until `is_so()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def alive(*names: str) -> list[psutil.Process]:
    """Processes of that name below this one, the oldest first; one that ends meanwhile is none."""
    found: list[tuple[float, psutil.Process]] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in names and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.create_time(), process))
    return [process for _, process in sorted(found, key=lambda each: each[0])]


class Session:
    """What `Durable` is to a kernel: the session's namespace, committed when asked."""

    def __init__(self, store: str, live: dict[str, Any]) -> None:
        self.store = store
        self.session = "test"
        self.replica = kvs.open(store).space(self.session).replica()
        self.namespace = Namespace(live, self.replica, ignore=dict(live), worker="test")
        self.namespace.attach()
        self.pins: set[object] = set()
        self.modules_named = 0
        self.modules_used = lambda: preload.used(Settings().preload)
        self.may_preload = lambda name: name.partition(".")[0] in Settings().preload
        self.at_cells: list[Callable[[], None]] = []

    def ready(self) -> Namespace:
        return self.namespace

    def snapshot(self) -> kvs.Snapshot:
        return self.replica.snapshot()

    def soon(self) -> None:
        self.namespace.touch_all()

    def after(self, cell: Cell | None) -> Any:
        return self.namespace.commit(cell)


class Notebook:
    """Runs cells as a worker does: prepare, run, commit."""

    def __init__(self, store: str, zygote: str) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        module = ModuleType("__main__")
        self.shell = InteractiveShell.instance(config=config, user_module=module)
        self.live = self.shell.user_ns
        self.session = Session(store, self.live)
        self.kernel = SimpleNamespace(
            parent=SimpleNamespace(params={"directory": zygote, "front_pid": os.getpid()}),
            settings=SimpleNamespace(parallel_workers=0, gb_second_price=0.0, cold=False),
            cells_run=0,
            running_cells=0,
            # no loop runs between the cells of this notebook: what jobs found is bound when the next one begins
            main_loop=SimpleNamespace(call_soon_threadsafe=lambda *_: None, call_later=None),
        )
        magics = ParallelMagics(self.shell, self.session, self.kernel)
        self.shell.register_magics(magics)
        self.shell.register_magics(JobMagics(self.shell, self.session, lambda: magics.jobs))
        self.jobs, self.magics = magics.jobs, magics
        self.session.at_cells.append(magics.settle)
        self.out = self.err = ""

    def run(self, source: str) -> BaseException | None:
        """Run a cell; its error, if it had one. What it printed is in `out` and `err`."""
        self._at_cell()
        self.session.namespace.refresh()
        self.session.namespace.prepare(self.shell.transform_cell(source))
        with capture_output() as captured:
            result = self.shell.run_cell(source, store_history=True)
        self.out, self.err = captured.stdout, captured.stderr
        number = self.shell.execution_count - 1
        name = self.shell.compile.get_code_name(source, self.shell.transform_cell(source), number)
        self._at_cell()
        self.session.after(Cell(number, source, "", "ok", "", "", name, time.time(), 0.0))
        return result.error_before_exec or result.error_in_exec

    def _at_cell(self) -> None:
        for call in self.session.at_cells:
            call()

    def ok(self, source: str) -> Any:
        """Run a cell that must succeed; the value of its last expression."""
        error = self.run(source)
        assert error is None, f"{error!r}\n{self.out}\n{self.err}"
        return self.live.get("_")

    def close(self) -> None:
        self.jobs.close()
        self.magics.spares.close()
        self.session.replica.close()
        self.shell.restore_sys_module_state()
        atexit.unregister(self.shell.atexit_operations)  # a collection for each shell at the end of all tests
        InteractiveShell.clear_instance()


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Send this process an interrupt in a while."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join(5.0)
