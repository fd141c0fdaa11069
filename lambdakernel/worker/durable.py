"""What makes a worker's variables outlive it: the namespace, attached before the first cell and committed after each.

Theory of operation
- Attaching binds no variable. It restores ambient state and history, and learns what the store holds.
- Before a cell, the shell hands its syntax tree to `before`, which loads what the cell can reach.
- After a cell and before its reply, `after` publishes one delta. The reply is the promise that it is durable.
- What changes outside cells (widget callbacks, tasks, threads of the user) is committed soon after by `soon`, on the
  main thread while it is idle; and by the next cell at the latest.
- An idle worker has everything looked at (`scrub`), for what no analysis of a cell could see.
- If the store cannot be used, no cell runs: it says why and what to do, and the next cell tries again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import kvs
from lambdakernel.errors import LambdaKernelError, NotSaved
from lambdakernel.session import Opened, hold, name_of, space_of, sweep
from lambdakernel.settings import Settings, default_store
from lambdakernel.state import (
    Attached,
    Backend,
    Bounds,
    Cell,
    Committed,
    Finalizers,
    Findings,
    Namespace,
    default_ambient,
)
from lambdakernel.worker import history, preload
from lambdakernel.worker.ambient import AutoReload, LoadedExtensions
from lambdakernel.worker.customs import customs_of, fixtures_of
from lambdakernel.worker.last_error import LastError
from lambdakernel.worker.scrub import Scrub
from lambdakernel.worker.underscores import ClearedInputs, Kept, OutputTexts

SOON_S = 0.15
"""Seconds from a change outside a cell to its commit: long enough to gather a slider's events into one."""
SYNC_S = 0.8
"""Seconds from a commit to the flush that lets it survive a power loss."""
COLLECT_EVERY_NBYTES = 256 << 20
"""Bytes of values written after which superseded ones are collected, in the background."""
RECENT = 32
"""Cells whose outcome a new worker reports, so that the front can answer for one that died after its commit."""


class Durable:
    """See the module. Owned by the kernel; used on the main thread, but for `close`."""

    def __init__(self, kernel: Any, settings: Settings, params: dict[str, Any]) -> None:
        self._kernel = kernel
        self._settings = settings
        self._params = params
        self._ignored = dict(kernel.shell.user_ns)
        self._threads = threading.active_count()
        self._opened: Opened | None = None
        self._failure: Exception | None = None
        self._unreachable: OSError | None = None
        self._commit_due = self._is_armed = False
        self._outside = False
        self._flush_due = False
        self._modules = len(sys.modules)
        self._told: set[str] = set()
        self._news = ""
        self._uncollected_nbytes = 0
        self.at_cells: list[Callable[[], None]] = []
        """Called before a cell is prepared, and before its commit: what ran beside cells may change names then."""
        self.pins: set[object] = set()
        """What runs in this worker beside cells, and would be lost with it."""
        self._swept = False
        self._scrub = Scrub(kernel.main_loop, settings.scrub_after_s, self._is_idle, self._examine, self._take)
        self.backend = Backend()
        self.namespace: Namespace | None = None
        self.attached: Attached | None = None
        self.session = name_of(settings, os.environ, params["key"])
        self.store = settings.store or default_store(os.environ)

    # -- attaching

    def attach(self) -> None:
        """Open the session; a failure is kept and told to the cell that needs it."""
        try:
            opened = hold(space_of(self._settings, os.environ, self.session), self.session, self._params["front_pid"])
            worker = f"worker {os.getpid()}"
            shell = self._kernel.shell
            last_error, cleared = LastError(), ClearedInputs(shell)
            ours = (
                LoadedExtensions(shell), AutoReload(shell), *customs_of(shell), last_error, cleared, Kept(shell),
                Finalizers(shell.user_ns),
            )  # fmt: skip
            ambient = (*default_ambient(shell.user_ns, self.backend), *ours)
            namespace = Namespace(
                shell.user_ns, opened.replica, ignore=self._ignored, worker=worker, ambient=ambient,
                fixtures=fixtures_of(shell),
                bounds=Bounds(self._settings.hook_deadline_s, self._settings.max_value_bytes),
            )  # fmt: skip
            last_error.namespace = namespace
            self.attached = namespace.attach()
        except (kvs.KvsError, LambdaKernelError, OSError) as e:
            self._failure = e
            return
        self._opened, self.namespace, self._failure = opened, namespace, None
        history.restore(shell, self.attached.cells, cleared.until)
        shell.history_manager.output_hist_reprs = OutputTexts(shell, namespace.output, self.attached.cells)
        if self.attached.resumed and self._params["generation"] == 1 and self.attached.names:
            self._news = history.resumed_line(self.session, self.attached)
        if self.attached.unrestored:
            self._news = f"{self._news} Not brought back: {'; '.join(self.attached.unrestored)}.".strip()

    def committed_cells(self) -> dict[str, dict[str, Any]]:
        """Replies of the last cells in the store, by the request that ran them."""
        cells = self.attached.cells[-RECENT:] if self.attached else ()
        return {cell.msg_id: history.reply_of(cell) for cell in cells if cell.msg_id}

    def ready(self) -> Namespace:
        """The namespace, opened now if it could not be before.

        Raises:
            kvs.KvsError, LambdaKernelError, OSError: it still cannot; says what to do.
        """
        if self.namespace is None:
            self.attach()
        if self.namespace is None:
            assert self._failure is not None
            raise self._failure
        return self.namespace

    def news(self) -> str:
        """What the user should be told once, in the first cell: that the session was resumed."""
        news, self._news = self._news, ""
        return news

    # -- around a cell

    def before(self, nodes: Sequence[Any]) -> None:
        """Load what the cell can reach.

        Raises:
            ResidentLost, ValueDamaged: a name that the cell reads cannot be had; nothing ran.
            kvs.KvsError: the store cannot be used; nothing ran.
        """
        namespace = self.ready()
        self._at_cell()
        self._tell_wanted(nodes)
        self._unreachable = None
        try:
            namespace.refresh()
        except OSError as e:  # deleted under us: the cell runs on what is live, and then says that nothing is saved
            self._unreachable = e
        namespace.prepare(list(nodes))
        if self._kernel.is_debugged:  # where the cell stops, all names can be looked at
            namespace.load_all()

    def after(self, cell: Cell | None) -> Committed | None:
        """Publish what changed. None if there is no namespace, in which case no cell ran.

        Raises:
            NotSaved: the store refused (full, read-only, gone); the values live on in this worker, and the next
                commit tries again.
        """
        if self.namespace is None:
            return None
        if cell is not None:
            self._at_cell()
        self._commit_due = False
        outside = self._user_runs_outside_cells()
        if outside or self._outside:  # what ran beside the last cell may have gone on after its commit, and ended since
            self.namespace.touch_all()
        self._outside = outside
        try:
            committed = self._commit(cell)
        except NotSaved:
            self._commit_due = True  # what is here is nowhere else
            raise
        self._uncollected_nbytes += committed.nbytes
        self._flush_later()
        self._scrub.later()
        self._tell(committed)
        return committed

    def _commit(self, cell: Cell | None) -> Committed:
        if self._unreachable is not None:
            raise NotSaved(str(self._unreachable))
        assert self.namespace is not None
        try:
            return self.namespace.commit(cell)
        except (kvs.KvsError, OSError) as e:
            raise NotSaved(str(e)) from e
        except MemoryError as e:
            raise NotSaved("no memory is left to encode what changed; delete something and run a cell") from e
        except Exception as e:  # code of a value that pretends to be another, most likely
            self._kernel.log.exception("a commit failed")
            raise NotSaved(f"{type(e).__name__}: {e}") from e

    def _at_cell(self) -> None:
        if self.at_cells and threading.current_thread() is threading.main_thread():  # not a subshell's
            for call in self.at_cells:
                call()

    def _tell(self, committed: Committed) -> None:
        if committed.resident or committed.deleted:
            names = [f"{r.name} ({r.reason})" for r in self.residents() if not r.name.startswith("_")]
            self._kernel.link.say("resident", names=names[:20])
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            wanted = [name for name in self.modules_used() if name not in self._told]
            if wanted:
                self._told.update(wanted)
                self._kernel.link.say("modules", names=wanted, now=False)

    def _tell_wanted(self, nodes: Sequence[Any]) -> None:
        """What the cell is about to import: the zygote does so at the same time, where it has a processor for that."""
        if len(os.sched_getaffinity(0)) > 1 and (names := preload.wanted(nodes, self._settings.preload)):
            self._kernel.link.say("modules", names=names, now=True)

    def modules_used(self) -> list[str]:
        """What other processes had better be born with."""
        return preload.used(self._settings.preload)

    def may_preload(self, name: str) -> bool:
        """Whether other processes may be born with a module: if the setting `preload` names it, or its library."""
        return not {name, name.partition(".")[0]}.isdisjoint(self._settings.preload)

    @property
    def modules_named(self) -> int:
        """How many modules of `preload` the front was told of, so that the next processes are born with them."""
        return len(self._told.intersection(self._settings.preload))

    def residents(self) -> list[Any]:
        return [] if self.namespace is None else list(self.namespace.residents())

    def is_pinned(self) -> bool:
        """Whether something lives here that would be lost with this worker: also what is about to be committed."""
        if self.namespace is None or self.pins or self._commit_due:
            return True
        return bool(self.namespace.residents()) or self._user_runs_outside_cells()

    def snapshot(self) -> kvs.Snapshot:
        """The session as it is committed now; it stays readable until it is closed."""
        self.ready()
        assert self._opened is not None
        return self._opened.replica.snapshot()

    # -- outside cells

    def soon(self) -> None:
        """Something ran that was no cell: commit what it changed, once things are quiet. From any thread."""
        self._commit_due = True
        self._kernel.main_loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        if self.namespace is None:
            self._commit_due = False
            return
        self.namespace.touch_all()
        self._commit_due = True
        if not self._is_armed:
            self._is_armed = True
            self._kernel.main_loop.call_later(SOON_S, self._commit_soon)

    def _commit_soon(self) -> None:
        self._is_armed = False
        if not self._commit_due or self._kernel.running_cells:
            return  # a cell's commit has it, or will
        try:
            self.after(None)
        except NotSaved as e:
            self._kernel.log.error("%s", e)

    # -- looking at everything, when idle

    def _is_idle(self) -> bool:
        is_quiet = not self._kernel.running_cells and not self._kernel.is_debugged
        return self.namespace is not None and is_quiet

    def _examine(self) -> Findings:
        assert self.namespace is not None
        return self.namespace.examine()

    def _take(self, findings: Findings) -> None:
        if self.namespace is not None and self.namespace.take(findings):
            self._commit_due = True
            self._commit_soon()  # if a cell runs meanwhile, its commit has it

    def _user_runs_outside_cells(self) -> bool:
        """Whether a thread or task that a cell started is still there, so that any name may change at any time."""
        live = self._kernel.shell.user_ns
        if threading.active_count() > self._threads:
            own = threading.get_ident()
            if any(_runs_user_code(f, live) for ident, f in sys._current_frames().items() if ident != own):
                return True
        current = _current_task()
        return any(task is not current and _is_users(task, live) for task in asyncio.all_tasks(self._kernel.main_loop))

    # -- power loss

    def _flush_later(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            loop = self._kernel.main_loop
            loop.call_soon_threadsafe(loop.call_later, SYNC_S, self._start_flush)

    def _start_flush(self) -> None:
        self._flush_due = False
        if self._opened is not None:
            threading.Thread(target=self._flush, args=(self._opened,), name="lk-sync", daemon=True).start()

    def _flush(self, opened: Opened) -> None:
        """Off the path of cells: bring commits to the disk, and now and then take out the garbage."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # an interrupt is for the main thread
        try:
            opened.replica.sync()
            if self._uncollected_nbytes > COLLECT_EVERY_NBYTES:
                self._uncollected_nbytes = 0
                opened.replica.collect(now_s=time.time())
            if not self._swept:
                self._swept = True
                sweep(self._settings, os.environ, time.time())
        except (kvs.KvsError, OSError) as e:
            self._kernel.log.error("the store could not be flushed or collected: %s", e)

    # -- the end

    def close(self, *, forget: bool) -> None:
        """Release the session; with `forget`, one that nobody named is deleted."""
        if self.namespace is not None:
            if not (forget and self._opened is not None and self._opened.fresh):
                self.namespace.outlive_process()
            self.namespace.close()
        if self._opened is not None:
            self._opened.close(forget=forget)
            self._opened = None


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # not called from a coroutine
        return None


def _runs_user_code(frame: Any, live: dict[str, Any]) -> bool:
    while frame is not None:
        if frame.f_globals is live:
            return True
        frame = frame.f_back
    return False


def _is_users(task: Any, live: dict[str, Any]) -> bool:
    """Whether a task runs code of the notebook, at any depth of its awaits."""
    awaited = task.get_coro()
    for _ in range(64):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return False
        if frame.f_globals is live:
            return True
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return False
