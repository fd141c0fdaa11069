"""Runs a program of cells twice: each cell in a fresh process over a store, and all cells in one ordinary process.

Every process is forked from the test's, so both ways start alike. A cell that does not answer within `DEADLINE_S` is
killed and fails its test.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import os
import pickle
import selectors
import signal
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import kvs
from lambdakernel.state import Attached, Cell, Committed, Namespace

DEADLINE_S = 30.0
SPACE = "notebook"


@dataclass(frozen=True, slots=True)
class Ran:
    """What one cell showed, how it ended, and what its commit said."""

    shown: str
    error: str
    committed: Committed | None = None


class Worker:
    """A namespace attached in this process, with `live` as the dict of `__main__`."""

    def __init__(self, store: Path, *, reader: bool = False, name: str = "") -> None:
        self.live = fresh_main()
        self.live["Out"] = {}
        space = kvs.open(store).space(SPACE)
        self.replica = space.reader() if reader else space.replica()
        worker = name or f"worker {os.getpid()}"
        self.namespace = Namespace(self.live, self.replica, ignore=dict(self.live), worker=worker)
        self.attached: Attached = self.namespace.attach()
        self.number = max((cell.number for cell in self.attached.cells), default=0)

    def run(self, source: str) -> Ran:
        """Run and commit one cell. An error of ours before the cell runs is raised."""
        self.number += 1
        tree = ast.parse(source)
        self.namespace.refresh()
        self.namespace.prepare(tree.body)
        shown, error = execute(source, self.live)
        status = "error" if error else "ok"
        cell = Cell(self.number, source, f"m{self.number}", status, error, "", file_name(source), 0.0, 0.0)
        return Ran(shown, error, self.namespace.commit(cell))

    def close(self) -> None:
        self.replica.close()


def fresh_main() -> dict[str, Any]:
    """The dict of a new module that is `__main__`."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module.__dict__


def file_name(source: str) -> str:
    return f"/tmp/cell_{abs(hash(source))}.py"


def execute(source: str, live: dict[str, Any]) -> tuple[str, str]:
    """What a cell prints, and the type of its error."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(source, file_name(source), "exec"), live)
        except Exception as e:
            return out.getvalue(), type(e).__name__
    return out.getvalue(), ""


def in_child(work: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """What `work` returns in a forked process; its exception is raised here, of its type and with its text.

    Raises:
        TimeoutError: it took longer than `deadline_s`; the process was killed.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left a thread; the child starts none
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_child(work, writer)
    os.close(writer)
    try:
        kind, value = pickle.loads(_read_all(reader, deadline_s))
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    if kind == "raised":
        cls, text = value
        error = cls.__new__(cls)
        error.args = (text,)
        raise error
    return value


def _be_child(work: Callable[[], Any], writer: int) -> NoReturn:
    try:
        try:
            answer = pickle.dumps(("returned", work()))
        except BaseException as e:
            answer = pickle.dumps(("raised", (type(e), str(e))))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _read_all(fd: int, deadline_s: float) -> bytes:
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(deadline_s):
            part = os.read(fd, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    raise TimeoutError(f"the child did not answer within {deadline_s} s")


def with_worker(store: Path, work: Callable[[Worker], Any], **options: Any) -> Any:
    """`work(worker)` in a fresh process."""

    def run() -> Any:
        worker = Worker(store, **options)
        try:
            return work(worker)
        finally:
            worker.close()

    return in_child(run)


def cold(store: Path, cells: Sequence[str]) -> list[Ran]:
    """Each cell in a fresh process."""
    return [with_worker(store, lambda worker, source=source: worker.run(source)) for source in cells]  # type: ignore[misc]


def warm(cells: Sequence[str]) -> list[tuple[str, str]]:
    """All cells in one ordinary process: what each shows, and its error."""

    def run() -> list[tuple[str, str]]:
        live = fresh_main()
        return [execute(source, live) for source in cells]

    answer: list[tuple[str, str]] = in_child(run)
    return answer


def seen(ran: Sequence[Ran]) -> list[tuple[str, str]]:
    return [(r.shown, r.error) for r in ran]
