"""`%log`, `%undo`, `%redo`, `%checkout`, `%diff`, `%replay`: what they show, and that they hold in a real kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lambdakernel.magics import load
from lambdakernel.magics.travel import diff_table, log_table, moved_line, replay_table
from lambdakernel.state import Cell
from lambdakernel.state.differences import Difference
from lambdakernel.state.replay import Replay
from lambdakernel.state.timeline import LogRow
from lambdakernel.state.travel import Moved
from tests.kernels import Kernel

MAGICS = ("log", "undo", "redo", "checkout", "diff", "replay")


# -- what is shown


def test_the_log_has_a_line_a_cell_newest_last_and_says_when_there_are_more() -> None:
    rows = [
        LogRow(1, "ok", 0.0, ("a",), (), "a = 1"),
        LogRow(0, "outside cells", 0.0, ("slider",), (), ""),
        LogRow(2, "ZeroDivisionError", 1.5, None, None, "1/0"),
    ]
    lines = repr(log_table(rows, 2)).splitlines()
    assert lines[0].split() == ["cell", "status", "seconds", "wrote", "deleted", "source"]
    assert lines[1].split() == ["outside", "cells", "slider"]
    assert lines[2].split() == ["2", "ZeroDivisionError", "1.50", "?", "?", "1/0"]
    assert lines[3] == "The last 2; `%log --all` shows all."
    assert "%log --all" not in repr(log_table(rows))
    assert "<td" in log_table(rows)._repr_html_()
    assert "No cells" in repr(log_table([]))


def test_differences_show_types_sizes_and_short_values() -> None:
    text = repr(
        diff_table(
            [
                Difference("a", "changed", ("list", "tuple"), (10, 2048), ("[1]", "(1,)")),
                Difference("b", "added", ("", "int"), (0, 5), ("", "7")),
                Difference("c", "unknown", why="it was collected"),
            ]
        )
    )
    _, a, b, c = text.splitlines()
    assert a.split() == ["a", "changed", "list", "->", "tuple", "10", "B", "2.0", "KB", "[1]", "(1,)"]
    assert b.split() == ["b", "added", "int", "5", "B", "7"]
    assert c.split(maxsplit=2) == ["c", "unknown", "it was collected"]
    assert "No variable differs." in repr(diff_table([]))


def cell(number: int, source: str) -> Cell:
    return Cell(number, source, "", "ok", "", "", "", 0.0, 0.0)


def test_a_replay_shows_its_cells_what_they_are_run_for_and_what_is_not_run() -> None:
    found = Replay("f", (cell(2, "p = 1"), cell(4, "f, g = 1")), (("p",), ("f",)), ((), ("g",)), (5, 7))
    lines = repr(replay_table(found)).splitlines()
    assert lines[1].split(maxsplit=2) == ["2", "p", "p = 1"]
    assert lines[2].split(maxsplit=3) == ["4", "f", "g", "f, g = 1"]
    assert lines[3] == "Not run, though it names f too: In [5], In [7]."


def moved(kind: Any, **facts: Any) -> Moved:
    nothing: dict[str, Any] = dict.fromkeys(("back", "classes", "removed", "lost", "dropped", "ambient"), ())
    return Moved(kind=kind, **{"cells": (3, 4), **nothing, **facts})


def test_a_move_is_told_in_one_line_with_what_cannot_come_back_and_the_way_back() -> None:
    said = moved_line(moved("undo", back=("a", "C"), removed=("b",), classes=("C", "D"), ambient=("cwd",)))
    assert said == (
        "Undid In [3], In [4]: brought back a, C; brought back the definition of class D; removed b; brought back"
        " ambient state: cwd. `%redo` takes this back."
    )
    said = moved_line(moved("checkout", cells=(3,), lost=("f (an open file)",), dropped=("g (a lock)",)))
    assert said == (
        "As after In [3]. Cannot come back, since only their process had them: f (an open file). Gone, and no undo"
        " brings them back: g (a lock). `%undo` takes this back."
    )
    assert moved_line(moved("redo")) == "Took the last undo back: no variable differs."
    assert "Not brought back: cwd (gone)." in moved_line(moved("undo", ambient=("cwd",), unrestored=("cwd (gone)",)))
    assert moved_line(moved("undo", cells=(0,), back=("a",))).startswith("Undid a `%restore`: ")


# -- arguments


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    load(shell, SimpleNamespace(ready=lambda: pytest.fail("it was asked")), SimpleNamespace())
    yield shell
    InteractiveShell.clear_instance()


def test_every_magic_has_help(shell: Any) -> None:
    for name in MAGICS:
        assert len(shell.find_magic(name, "line").__doc__) > 80, name


@pytest.mark.parametrize(
    "line",
    ["undo x", "undo 0", "undo -1", "undo 1 2", "redo 1", "checkout", "checkout x", "checkout 1 2", "diff", "diff x",
     "diff 1 2 3", "log 5", "log -n", "log -n x", "log --what", "replay", "replay a b"],
)  # fmt: skip
def test_bad_arguments_are_usage_errors_and_the_namespace_is_not_asked(shell: Any, line: str) -> None:
    name, _, rest = line.partition(" ")
    with pytest.raises(UsageError):
        shell.run_line_magic(name, rest)


# -- in a kernel


@pytest.fixture(params=["0", "1"], ids=["warm", "cold"])
def kernel(request: pytest.FixtureRequest, start_kernel: Callable[..., Kernel]) -> Kernel:
    return start_kernel(session="travel", env={"LAMBDAKERNEL_COLD": request.param})


def shown(kernel: Kernel, code: str) -> str:
    result = kernel.run(code)
    assert result.status == "ok", result.shown
    return result.shown


def test_a_notebook_goes_back_and_forth(kernel: Kernel) -> None:
    shown(kernel, "import os\nimport numpy as np\na = [1]; b = a; big = np.zeros(200_000)")
    shown(kernel, "a.append(2); big[7] = 7; os.chdir('/usr'); new = 1")
    assert shown(kernel, "a") == "[1, 2]"
    said = shown(kernel, "%undo")
    assert said.startswith("Undid In [2]: brought back a, b, big; removed new; brought back ambient state: cwd.")
    look = "a, b is a, float(big[7]), 'new' in globals(), os.getcwd() == '/usr'"
    assert kernel.value(look) == ([1], True, 0.0, False, False)
    assert "Took the last undo back" in shown(kernel, "%redo")
    assert kernel.value(look) == ([1, 2], True, 7.0, True, True)
    result = kernel.run("%checkout 1\na.append(5); print(a, b)")
    assert result.status == "ok" and "As after In [1]" in result.stdout and result.stdout.endswith("[1, 5] [1, 5]\n")
    assert kernel.value(look) == ([1, 5], True, 0.0, False, False)
    assert kernel.value("1 + 1") == 2
    assert kernel.value("_ + 1") == 3
    kernel.value("_")
    rows = shown(kernel, "%log -n 20").splitlines()
    assert [row.split()[0] for row in rows[1:]] == [str(n) for n in range(1, 13)]
    assert rows[8].split() == ["8", "ok", rows[8].split()[2], "a,", "b,", "big", "new", "%checkout", "1"]
    difference = shown(kernel, "%diff 2").splitlines()
    assert [row.split()[:2] for row in difference[1:]] == [
        ["a", "changed"], ["b", "changed"], ["big", "changed"], ["new", "removed"],
    ]  # fmt: skip


def test_the_tables_are_html_too(start_kernel: Callable[..., Kernel]) -> None:
    kernel = start_kernel()
    kernel.run("a = 1")
    for line in ("%log", "%diff 1"):
        (data,) = (m["content"]["data"] for m in kernel.run(line).messages if m["msg_type"] == "execute_result")
        assert data["text/html"].startswith("<table>")


def test_an_undo_goes_back_over_the_death_of_everything(start_kernel: Callable[..., Kernel]) -> None:
    kernel = start_kernel(session="travel")
    shown(kernel, "a = [1]; b = a")
    kernel.kill_everything()
    kernel.restart_as_jupyter_does()
    shown(kernel, "a.append(2)")
    kernel.kill_worker()
    assert "brought back a, b" in shown(kernel, "%undo")
    kernel.kill_everything()
    kernel.restart_as_jupyter_does()
    assert kernel.value("a, b is a") == ([1], True)
    shown(kernel, "%redo")
    assert kernel.value("a, b is a") == ([1, 2], True)


def test_a_lost_resident_is_replayed_when_it_is_asked_for(start_kernel: Callable[..., Kernel], tmp_path: Path) -> None:
    kernel = start_kernel(session="travel")
    shown(kernel, f"path = {str(tmp_path / 'file')!r}\nruns = []")
    shown(kernel, "runs.append(1)\nlog = open(path, 'w')")
    shown(kernel, "class Writer:\n    def __init__(self, file): self.file = file\nwriter = Writer(log)")
    kernel.kill_worker()
    lost = kernel.run("writer.file")
    assert lost.ename == "ResidentLost" and "`%replay writer`" in lost.evalue
    dry = shown(kernel, "%replay writer --dry-run").splitlines()
    assert [row.split()[:2] for row in dry[1:3]] == [["2", "log"], ["3", "writer"]]
    assert kernel.value("runs") == [1]
    said = shown(kernel, "%replay writer")
    assert said.rstrip().endswith("Ran In [2], In [3]; writer is bound again.")
    assert kernel.value("writer.file is log, log.closed, runs, type(writer) is Writer") == (True, False, [1, 1], True)
    kernel.kill_worker()
    shown(kernel, "path = '/nonexistent/file'")
    failed = kernel.run("%replay writer")
    assert failed.status == "error" and "No such file or directory: '/nonexistent" in failed.shown
    assert "In [2] failed, so the replay stopped there. No other cell was run." in failed.shown
    assert kernel.value("runs") == [1, 1, 1]


def test_what_cannot_be_done_is_an_error_that_says_what_can(start_kernel: Callable[..., Kernel]) -> None:
    kernel = start_kernel()
    for line, says in (
        ("%undo", "nothing to undo"),
        ("%redo", "nothing to redo"),
        ("%checkout 77", "There is In [1] to In [2]"),
        ("%diff 77", "There is In [1] to In [3]"),
        ("%replay nope", "no cell of this epoch binds 'nope'"),
    ):
        result = kernel.run(line)
        assert (result.status, result.ename) == ("error", "UsageError"), result.shown
        assert says in result.shown
