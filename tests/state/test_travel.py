"""Going back in time: what held at an earlier moment holds again, as one more commit, and nothing is lost by it.

Every program is played twice: by one worker (as it is between kills), and with each cell in a process of its own.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state import Cell
from lambdakernel.state.replay import Replay
from lambdakernel.state.travel import Moved
from tests.state.cold import SPACE, Ran, Worker, execute, in_child, with_worker

BIG = "import numpy as np; big = np.arange(300_000.); view = big[10:20]"


@dataclass(frozen=True, slots=True)
class Travelled:
    """What a cell that goes back did, or why it could not; and what its own commit wrote."""

    moved: Moved | None
    error: str
    written: tuple[str, ...]
    deleted: tuple[str, ...]


def step(worker: Worker, line: str) -> Any:
    """One cell: Python, or a line such as `%undo 2`, whose move is made while the cell is under way."""
    worker.number += 1
    started_s = time.time()
    worker.namespace.refresh()
    worker.namespace.prepare("pass" if line.startswith("%") else line)
    if not line.startswith("%"):
        shown, raised = execute(line, worker.live)
        cell = Cell(worker.number, line, "", "error" if raised else "ok", raised, "", "", started_s, 0.0)
        return Ran(shown, raised, worker.namespace.commit(cell))
    kind, *numbers = line[1:].split()
    moved, error = None, ""
    try:
        with worker.namespace.travelling() as traveller:
            moved = getattr(traveller, kind)(*map(int, numbers), by=worker.number)
    except LambdaKernelError as e:
        error = str(e)
    status = "error" if error else "ok"
    done = worker.namespace.commit(Cell(worker.number, line, "", status, "", error, "", started_s, 0.0))
    return Travelled(moved, error, done.written, done.deleted)


Play = Callable[[Path, Sequence[str]], list[Any]]


def play_warm(store: Path, lines: Sequence[str]) -> list[Any]:
    return list(with_worker(store, lambda worker: [step(worker, line) for line in lines]))


def play_cold(store: Path, lines: Sequence[str]) -> list[Any]:
    return [with_worker(store, lambda worker, line=line: step(worker, line)) for line in lines]  # type: ignore[misc]


@pytest.fixture(params=[play_warm, play_cold], ids=["warm", "cold"])
def play(request: pytest.FixtureRequest) -> Play:
    return request.param  # type: ignore[no-any-return]


def blobs(store: Path) -> set[Path]:
    return {path for path in store.rglob("blobs/*/*") if path.is_file()}


# -- undo


def test_an_undo_brings_back_values_and_deletes_what_did_not_exist(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s", ["a = [1]; b = 2", "a.append(2); b = 3; c = 4", "%undo", "print(a, b, 'c' in globals())"]
    )
    moved = ran[2].moved
    assert (moved.cells, moved.back, moved.removed, moved.lost) == ((2,), ("a", "b"), ("c",), ())
    assert ran[3].shown == "[1] 2 False\n"


def test_the_cell_of_an_undo_changes_nothing_itself(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s", ["a = [1]; o = a", "a.append(2)\nclass C: n = a\nc = C()", "%undo", "%redo", "%checkout 1"]
    )
    assert [(done.error, done.written, done.deleted) for done in ran[2:]] == [("", (), ())] * 3


def test_aliases_come_back_as_aliases(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s",
        [
            "a = [1]; b = a; d = {'k': a}",
            "b = list(b); d = {'k': 5}",
            "%undo",
            "a.append(2); print(a is b, d['k'] is a, b)",
            "print(a is b, d['k'] is a, b)",
        ],
    )
    assert [done.shown for done in ran[3:]] == ["True True [1, 2]\n"] * 2


def test_a_deletion_is_undone_with_the_alias_that_was_left(play: Play, tmp_path: Path) -> None:
    ran = play(tmp_path / "s", ["a = [1]; b = a", "del b; a.append(2)", "%undo", "print(a, b, a is b)"])
    assert ran[3].shown == "[1] [1] True\n"


def test_a_mutation_of_a_big_array_is_undone_by_reference(play: Play, tmp_path: Path) -> None:
    store = tmp_path / "s"
    play(store, [BIG, "big[15] = -1", "big[299_999] = -1"])
    before = blobs(store)
    ran = play(store, ["%undo 2", "print(big[15], view[5], big[-1], view.base is big)"])
    assert blobs(store) == before
    assert ran[0].moved.back == ("big", "view")
    assert ran[1].shown == "15.0 15.0 299999.0 True\n"
    again = play(store, ["view[5] = 7", "%undo", "print(big[15])", "%checkout 3", "print(view[5], big[-1])"])
    assert again[2].shown == "15.0\n" and again[4].shown == "-1.0 -1.0\n"


def test_an_array_that_is_changed_after_an_undo_is_stored_as_it_is(play: Play, tmp_path: Path) -> None:
    """What a worker remembers of the blobs of a buffer must go with the version that they belonged to."""
    ran = play(
        tmp_path / "s",
        [BIG, "big[0] = 1", "%undo", "x = 1", "copy = big.copy(); both = [big, copy]", "big[1] = 50", "%undo",
         "print(big[0], big[1], copy[0], copy[1], both[0] is big)"],
    )  # fmt: skip
    assert ran[-1].shown == "0.0 1.0 0.0 1.0 True\n"


def test_a_class_that_was_defined_anew_is_the_old_one_again_for_old_and_new_instances(
    play: Play, tmp_path: Path
) -> None:
    ran = play(
        tmp_path / "s",
        [
            "class C:\n    def who(self): return 'old'\nc = C()",
            "class C:\n    def who(self): return 'new'\nd = C()",
            "%undo",
            "print(c.who(), C().who(), type(c) is C, 'd' in globals())",
            "%redo",
            "print(c.who(), d.who(), C().who(), type(c) is C, type(d) is C)",
        ],
    )
    assert ran[3].shown == "old old True False\n"
    assert ran[5].shown == "old new new False True\n"


def test_a_class_that_was_changed_in_place_is_what_it_was_for_every_instance(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s",
        [
            "class C:\n    n = 1\n    def f(self): return 'f'\nc = C(); other = [C()]",
            "C.n = 2; C.extra = 5\ndef g(self): return 'g'\nC.f = g",
            "%undo",
            "print(C.n, hasattr(C, 'extra'), c.f(), other[0].n, type(c) is C, type(other[0]) is C)",
            "pass",
            "print(C.n, hasattr(c, 'extra'), c.f())",
            "%redo",
            "print(C.n, c.extra, other[0].f())",
        ],
    )
    assert ran[2].moved.classes == ("C",)
    assert ran[3].shown == "1 False f 1 True True\n" and ran[4].committed.written == ()
    assert (ran[5].shown, ran[7].shown) == ("1 False f\n", "2 5 g\n")


def test_functions_see_what_is_brought_back(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s",
        [
            "n = 1\ndef f(): return n\ndef counter():\n    k = [0]\n    def count():\n        k[0] += 1"
            "\n        return k[0]\n    return count\ncount = counter()",
            "n = 2; count(); count()",
            "%undo",
            "print(f(), count())",
        ],
    )
    assert ran[3].shown == "1 1\n"


def test_ambient_state_goes_back_too(play: Play, tmp_path: Path) -> None:
    look = "import os, random, decimal\nprint(os.getcwd(), os.environ.get('NEW'), os.environ.get('HOME'), x, y)"
    for n, (work, home) in enumerate([("/tmp", "h"), ("/usr", "i")]):
        store = tmp_path / str(n)
        ran = play(
            store,
            [
                "import os, random, decimal\nx = y = 0\nrandom.seed(5)",
                look,
                "x = random.random()",
                f"os.chdir({work!r}); os.environ['NEW'] = '1'; os.environ['HOME'] = {home!r}; y = random.random()"
                "; decimal.getcontext().prec = 3",
                "print(os.getcwd(), os.environ['NEW'], os.environ['HOME'])",
                "%undo",
                look,
                "print(random.random() == random.Random(5).random(), decimal.getcontext().prec)",
                "%undo 2",
                "x = random.random(); print(x == random.Random(5).random())",
            ],
        )
        assert ran[4].shown == f"{work} 1 {home}\n"
        assert ran[5].moved.ambient == ("cwd", "decimal", "environ", "random")
        first, second = ran[1].shown.split(), ran[6].shown.split()
        assert second[:3] == first[:3] and second[4] == "0", (first, second)
        assert ran[7].shown == "False 28\n"
        assert ran[9].shown == "True\n"


def test_outputs_of_undone_cells_go_and_those_before_stay(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        live = worker.live
        worker.run("a = [1]")
        for number in (2, 3):  # each shows `a`, as a shell does
            live[f"_{number}"] = live["Out"][number] = live["_"] = live["a"]
            worker.run(f"a.append({number})")
        moved = step(worker, "%undo").moved
        return moved.cells, live["a"], live["_2"] is live["a"], sorted(live["Out"]), "_3" in live, "_" in live

    assert with_worker(tmp_path / "s", work) == ((3,), [1, 2], True, [2], False, True)


def test_a_cell_that_only_showed_something_is_no_step(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        live = worker.live
        worker.run("a = [1]; b = a; other = 0")
        worker.run("a.append(2)")
        live["_3"] = live["Out"][3] = live["_"] = live["a"]
        worker.run("a")
        rows = [(row.number, row.written) for row in worker.namespace.past().log()]
        undo = step(worker, "%undo")
        live["_5"] = live["Out"][5] = live["_"] = live["a"]
        worker.run("a")
        return rows, undo.moved.cells, list(live["a"]), step(worker, "%redo").error, live["a"], live["b"] is live["a"]

    rows, cells, values, error, after, alias = with_worker(tmp_path / "s", work)
    assert rows == [(1, ("a", "b", "other")), (2, ("a", "b")), (3, ())]
    assert (cells, values, error, after, alias) == ((2,), [1], "", [1, 2], True)


def test_what_python_and_libraries_change_on_the_side_is_no_step(play: Play, tmp_path: Path) -> None:
    lines = ["import warnings; a = 1", "__warningregistry__ = {}; _exit_code = 0", "_ = 5"]
    lines += ["warnings.simplefilter('ignore')", "%undo", "print('a' in globals(), '_exit_code' in globals())"]
    ran = play(tmp_path / "s", lines)
    assert (
        ran[4].moved.cells == (1,)
        and ran[4].moved.removed == ("a", "warnings")
        and ran[4].moved.ambient == ("warnings",)
    )
    assert ran[5].shown == "False False\n"


def test_two_undos_in_a_row_go_back_twice_and_redos_come_forward_again(play: Play, tmp_path: Path) -> None:
    lines = [
        "a = 1",
        "a = 2",
        "print(a)",
        "a = 3",
        "%undo",
        "%undo",
        "print(a)",
        "%redo",
        "print(a)",
        "%redo",
        "print(a)",
    ]
    ran = play(tmp_path / "s", lines)
    assert [ran[at].moved.cells for at in (4, 5)] == [(4,), (2,)]
    assert [ran[at].shown for at in (6, 8, 10)] == ["1\n", "2\n", "3\n"]


def test_a_cell_after_an_undo_is_undone_first_and_then_what_was_before_the_undone_ones(
    play: Play, tmp_path: Path
) -> None:
    lines = ["a = 1", "a = 2", "a = 3", "%undo", "a = 9", "%redo", "%undo", "print(a)", "%undo", "print(a)"]
    lines += ["%checkout 3", "print(a)", "%undo", "print(a)"]
    ran = play(tmp_path / "s", lines)
    assert "nothing to redo" in ran[5].error
    assert [ran[at].shown for at in (7, 9, 11, 13)] == ["2\n", "1\n", "3\n", "1\n"]


def test_several_cells_are_undone_at_once(play: Play, tmp_path: Path) -> None:
    ran = play(tmp_path / "s", ["a = 1", "a = 2", "b = 3", "print(a)", "%undo 2", "print(a, 'b' in globals())"])
    assert ran[4].moved.cells == (2, 3) and ran[5].shown == "1 False\n"


def test_nothing_to_undo_says_so(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s",
        ["%undo", "print(1)", "%undo", "%redo", "a = 1", "%undo 2", "%undo", "%undo", "print('a' in globals())"],
    )
    assert all("nothing to undo" in ran[at].error for at in (0, 2, 7))
    assert "nothing to redo" in ran[3].error
    assert ran[5].error == "2 cells cannot be undone, only 1 that changed something: In [5]."
    assert (ran[6].error, ran[8].shown) == ("", "False\n")


def test_a_cell_that_raised_is_undone_with_what_it_did_before(play: Play, tmp_path: Path) -> None:
    ran = play(tmp_path / "s", ["a = [1]", "a.append(2); 1/0", "%undo", "print(a)"])
    assert ran[2].moved.cells == (2,) and ran[3].shown == "[1]\n"


def test_an_undo_stands_after_a_kill(tmp_path: Path) -> None:
    """Killed with SIGKILL between the undo's commit and the end of its cell, and after it."""
    for inside in (True, False):
        store = tmp_path / str(inside)
        play_warm(store, ["a = [1]; b = a", "a.append(2)", "x = 5"])

        def work(worker: Worker, inside: bool = inside) -> None:
            if not inside:
                step(worker, "%undo 2")
            else:
                with worker.namespace.travelling() as traveller:
                    traveller.undo(2, by=4)
            os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(EOFError):
            with_worker(store, work)
        ran = play_cold(store, ["print(a, b is a, 'x' in globals())", "%redo", "print(a, b is a, x)"])
        assert [ran[0].shown, ran[2].shown] == ["[1] True False\n", "[1, 2] True 5\n"]
        log = with_worker(store, lambda worker: worker.namespace.past().log())
        assert [row.status for row in log if row.deleted] == ["undo" if inside else "ok"]


def test_what_the_cell_did_before_it_asked_is_in_history(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        worker.run("a = [1]; b = 1")
        worker.run("b = 2")
        worker.namespace.prepare("a.append(9)")
        worker.live["a"].append(9)
        moved = step(worker, "%undo").moved
        values = list(worker.live["a"]), worker.live["b"]
        return moved.cells, values, [(row.number, row.status, row.written) for row in worker.namespace.past().log()]

    cells, values, rows = with_worker(tmp_path / "s", work)
    assert (cells, values) == ((2,), ([1], 1))
    assert rows[2:] == [(0, "outside cells", ("a",)), (3, "ok", ("a", "b"))]


def test_what_the_cell_does_after_it_asked_is_committed(tmp_path: Path) -> None:
    """`%undo` and then `a.append(5)` in one cell: `a` is there, and the change is no less durable."""

    def work(worker: Worker) -> None:
        worker.run("a = [1]; b = [1]")
        worker.run("a.append(2); b.append(2)")
        worker.namespace.prepare("a.append(5)")
        with worker.namespace.travelling() as traveller:
            traveller.undo(by=3)
        worker.live["a"].append(5)
        worker.namespace.commit(Cell(3, "%undo\na.append(5)", "", "ok", "", "", "", 0.0, 0.0))

    with_worker(tmp_path / "s", work)
    assert play_cold(tmp_path / "s", ["print(a, b)"])[0].shown == "[1, 5] [1]\n"


def test_what_was_live_stays_live(tmp_path: Path) -> None:
    """A callback or a thread uses its names without any cell that would load them."""

    def work(worker: Worker) -> list[int]:
        worker.run("a = [1]\ndef callback(): return a")
        worker.run("a.append(2)")
        step(worker, "%undo")
        return list(worker.live["callback"]())

    assert with_worker(tmp_path / "s", work) == [1]


def test_an_undo_that_the_store_refuses_changes_nothing_and_can_be_asked_for_again(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        worker.run("a = [1]; b = a")
        worker.run("a.append(2)")
        publish = worker.replica.publish
        worker.replica.publish = refuse  # type: ignore[method-assign]
        with pytest.raises(kvs.StoreFull), worker.namespace.travelling() as traveller:
            traveller.undo()
        worker.replica.publish = publish  # type: ignore[method-assign]
        before = worker.run("print(a, a is b)").shown
        step(worker, "%undo")
        return before, worker.run("print(a, a is b)").shown

    def refuse(*_: object, **__: object) -> None:
        raise kvs.StoreFull("/nowhere")

    assert with_worker(tmp_path / "s", work) == ("[1, 2] True\n", "[1] True\n")


@pytest.mark.parametrize("where", ["bind", "load", "forget"])
def test_an_interrupt_in_the_middle_leaves_what_is_live_and_what_is_stored_alike(where: str, tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        worker.run("a = [1]; b = a\nclass C: n = 1\nc = C()")
        worker.run("a.append(2); C.n = 2; C.extra = 1")
        loader = worker.namespace._loader
        real = getattr(loader, where)

        def interrupted(*_: object) -> None:
            setattr(loader, where, real)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), worker.namespace.travelling() as traveller:
            setattr(loader, where, interrupted)
            traveller.undo(by=3)
        look = worker.run("print(a, a is b, C.n, hasattr(C, 'extra'), c.n)")
        assert look.committed is not None
        return look.shown, look.committed.written

    assert with_worker(tmp_path / "s", work) == ("[1] True 1 False 1\n", ())
    assert play_cold(tmp_path / "s", ["print(a, a is b, C.n, hasattr(C, 'extra'))"])[0].shown == "[1] True 1 False\n"


def test_a_reader_cannot_go_back(tmp_path: Path) -> None:
    play_warm(tmp_path / "s", ["a = 1", "a = 2"])
    with pytest.raises(kvs.ReadOnlyReplica):
        with_worker(tmp_path / "s", lambda worker: step(worker, "%undo"), reader=True)
    assert play_cold(tmp_path / "s", ["print(a)"])[0].shown == "2\n"


def test_the_cell_of_another_worker_is_undone_like_any_other(tmp_path: Path) -> None:
    store = tmp_path / "s"

    def work(worker: Worker) -> list[str]:
        worker.run("a = [1]; b = [1]")
        in_child(lambda: play_cold(store, ["a.append(2)"]))
        worker.namespace.refresh()
        shown = [worker.run("b.append(2); print(a, b)").shown]
        for line in ("%undo", "%undo", "%redo"):
            step(worker, line)
            shown.append(worker.run("print(a, b)").shown)
        return shown

    shown = with_worker(store, work)
    assert shown == ["[1, 2] [1, 2]\n", "[1, 2] [1]\n", "[1] [1]\n", "[1, 2] [1]\n"]
    assert play_cold(store, ["print(a, b)"])[0].shown == shown[-1]


# -- checkout


def test_a_checkout_brings_the_state_after_a_cell_and_cells_go_on_from_there(play: Play, tmp_path: Path) -> None:
    lines = ["a = [1]", "a.append(2)", "a.append(3)", "%checkout 2", "print(a)", "a.append(4)", "%checkout 3"]
    lines += ["print(a)", "%checkout 6", "print(a)", "%undo", "print(a)"]
    store = tmp_path / "s"
    ran = play(store, lines)
    shown = [ran[at].shown for at in (4, 7, 9, 11)]
    assert shown == ["[1, 2]\n", "[1, 2, 3]\n", "[1, 2, 4]\n", "[1, 2, 3]\n"]
    rows = with_worker(store, lambda worker: worker.namespace.past().log())
    assert [(row.number, row.written) for row in rows] == [
        (n, ("a",) if n in (1, 2, 3, 4, 6, 7, 9, 11) else ()) for n in range(1, 13)
    ]
    assert rows[3].source == "%checkout 2" and rows[-1].number == 12


def test_a_checkout_of_now_changes_nothing(play: Play, tmp_path: Path) -> None:
    ran = play(
        tmp_path / "s", ["a = [1]", "print(a)", "%checkout 2", "%checkout 1", "%undo", "print('a' in globals())"]
    )
    assert [ran[at].moved.back for at in (2, 3)] == [(), ()]
    assert ran[5].shown == "False\n"


def test_a_cell_that_is_not_there_is_an_error_that_says_which_are(play: Play, tmp_path: Path) -> None:
    ran = play(tmp_path / "s", ["%checkout 1", "a = 1", "%checkout 9", "%checkout 4"])
    assert "no cell In [1] in this epoch. None has run yet" in ran[0].error
    assert "no cell In [9] in this epoch. There is In [1] to In [2]" in ran[2].error
    assert "There is In [1] to In [3]" in ran[3].error


def test_cells_of_another_epoch_are_not_meant(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["a = 1", "a = 2"])
    with_worker(store, lambda worker: worker.namespace.begin_epoch())
    ran = play_cold(store, ["b = 5", "%checkout 2"])
    assert "There is In [1] to In [1]" in ran[1].error
    with_worker(store, lambda worker: worker.namespace.restore(1))
    ran = play_cold(store, ["print(a, b)", "%undo", "print('a' in globals(), b)"])
    assert [ran[0].shown, ran[2].shown] == ["2 5\n", "False 5\n"]


# -- residents


def test_a_resident_that_is_untouched_stays_and_one_that_was_replaced_is_named(tmp_path: Path) -> None:
    store = tmp_path / "s"
    ran = play_warm(
        store,
        [
            "g = (i for i in [1, 2]); kept = (i for i in [5, 6])",
            "next(kept); a = 1",
            "g = [1]",
            "%undo",
            "print(next(kept))",
            "def use(): return next(g)",
            "use()",
            "%undo 2",
            "print(next(kept, 'end'))",
        ],
    )
    assert ran[3].moved.lost == ("g (a generator)",) and ran[3].moved.dropped == ()
    assert ran[4].shown == "6\n" and ran[6].error == "ResidentLost"
    assert ran[7].moved.cells == (2, 6) and ran[8].shown == "end\n"
    with pytest.raises(LambdaKernelError, match=r"g is gone.*%replay g"):
        play_cold(store, ["print(g)"])


def test_a_resident_that_an_undo_ends_is_named(tmp_path: Path) -> None:
    ran = play_warm(tmp_path / "s", ["a = 1", "g = (i for i in [1])", "%undo", "print('g' in globals())", "%redo"])
    assert (ran[2].moved.removed, ran[2].moved.dropped) == (("g",), ("g (a generator)",))
    assert ran[3].shown == "False\n"
    assert ran[4].moved.lost == ("g (a generator)",)


# -- versions that are gone, rows that are damaged


def collect(store: Path) -> None:
    """As a worker with no budget for old versions does, long after."""
    with kvs.open(store, settings=kvs.Settings(retain_bytes=0)).space(SPACE).replica() as replica:
        assert replica.collect(now_s=time.time() + 10_000).versions


def test_a_version_that_was_collected_refuses_the_whole_move_and_is_named(play: Play, tmp_path: Path) -> None:
    store = tmp_path / "s"
    play(store, ["a = [1]; b = a; keep = [1]", "a.append(2)", "other = 1"])
    collect(store)
    ran = play(
        store,
        ["%undo", "%undo", "%checkout 1", "print(a, b is a, keep, 'other' in globals())", "%redo", "print(other)"],
    )
    assert ran[0].error == "" and ran[0].moved.removed == ("other",)
    for refused in ran[1:3]:
        assert "nothing was changed" in refused.error and "a, b: " in refused.error and "collected" in refused.error
        assert "keep" not in refused.error
    assert ran[3].shown == "[1, 2] True [1] False\n" and ran[5].shown == "1\n"
    rows = with_worker(store, lambda worker: worker.namespace.past().log())
    assert [(row.number, row.written) for row in rows[:3]] == [(1, None), (2, None), (3, ("other",))]


def corrupt(store: Path, sql: str, *arguments: object) -> None:
    (path,) = store.rglob("log.sqlite")
    with closing(sqlite3.connect(path)) as log, log:
        assert log.execute(sql, arguments).rowcount > 0


def test_a_damaged_old_version_refuses_the_move_and_is_named(play: Play, tmp_path: Path) -> None:
    store = tmp_path / "s"
    play(store, ["a = ['old']; keep = [1]", "a.append('new')"])
    corrupt(store, "update entries set payload = zeroblob(9) where n = 1 and instr(payload, cast('old' as blob))")
    ran = play(store, ["%undo", "print(a, keep)"])
    assert "a: " in ran[0].error and "not authentic" in ran[0].error and "keep" not in ran[0].error
    assert ran[1].shown == "['old', 'new'] [1]\n"


def test_a_blob_that_is_gone_refuses_the_move(play: Play, tmp_path: Path) -> None:
    store = tmp_path / "s"
    play(store, [BIG])
    (first,) = blobs(store)
    play(store, ["big = big + 1; view = 5"])
    first.unlink()
    ran = play(store, ["%undo", "print(big[0], view)"])
    assert "big, view: " in ran[0].error and "is missing" in ran[0].error
    assert ran[1].shown == "1.0 5\n"


def test_an_undo_mends_a_value_whose_newest_version_was_damaged(play: Play, tmp_path: Path) -> None:
    store = tmp_path / "s"
    play(store, ["a = ['old']; b = a; keep = [1]", "a.append('new')"])
    corrupt(store, "update entries set payload = zeroblob(9) where n = 2 and instr(payload, cast('new' as blob))")
    ran = play(store, ["%undo", "print(a, b is a, keep)"])
    assert ran[0].error == "" and ran[1].shown == "['old'] True [1]\n"


def test_a_damaged_commit_is_a_line_of_the_log_and_costs_no_other_moment(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["a = 1", "a = 2", "a = 3"])
    corrupt(store, "update commits set note = 'x' || note where n = 2")
    rows = with_worker(store, lambda worker: worker.namespace.past().log())
    assert [(row.number, row.status, row.written) for row in rows] == [
        (1, "ok", ("a",)), (0, "damaged", ("a",)), (3, "ok", ("a",)),
    ]  # fmt: skip
    ran = play_cold(store, ["%undo", "print(a)", "%checkout 1", "print(a)"])
    assert [ran[1].shown, ran[3].shown] == ["2\n", "1\n"]


# -- differences


def differences(store: Path, *cells: int) -> list[tuple[Any, ...]]:
    found = with_worker(store, lambda worker: worker.namespace.past().differences(*cells))
    return [(d.name, d.change, d.types, d.shown) for d in found]


def test_differences_show_what_was_added_removed_and_changed(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_cold(store, ["a = [1]; b = a; c = 'x'; same = {1}", "a.append(2); del c; d = 5.0", "pass", "d = 'text'"])
    assert differences(store, 1, 2) == [
        ("a", "changed", ("list", "list"), ("[1]", "[1, 2]")),
        ("b", "changed", ("list", "list"), ("[1]", "[1, 2]")),
        ("c", "removed", ("str", ""), ("'x'", "")),
        ("d", "added", ("", "float"), ("", "5.0")),
    ]
    assert differences(store, 2, 3) == []
    assert differences(store, 3) == [("d", "changed", ("float", "str"), ("5.0", "'text'"))]
    assert [(d[0], d[1]) for d in differences(store, 4, 1)] == [
        ("a", "changed"), ("b", "changed"), ("c", "added"), ("d", "removed"),
    ]  # fmt: skip


def test_a_name_that_only_shares_a_unit_with_a_changed_one_does_not_differ(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_cold(store, ["inner = [1]; outer = [inner, 0]", "outer[1] = 5"])
    assert differences(store, 1, 2) == [("outer", "changed", ("list", "list"), ("[[1], 0]", "[[1], 5]"))]


def test_differences_bind_nothing_and_touch_no_live_class(tmp_path: Path) -> None:
    def work(worker: Worker) -> tuple[Any, ...]:
        worker.run("class C:\n    n = 1\n    def __repr__(self): return f'C{self.n}{word}'\nc = C(); word = 'old'")
        worker.run("C.n = 2; word = 'new'; c.x = 1; big = 'x' * 500")
        before = dict(worker.live)
        found = worker.namespace.past().differences(1, 2)
        same = worker.live.keys() == before.keys() and all(worker.live[n] is before[n] for n in before)
        done = worker.run("print(c, C.n)")
        return same, {d.name: d.shown for d in found}, done.shown, done.committed.written  # type: ignore[union-attr]

    same, shown, printed, written = with_worker(tmp_path / "s", work)
    assert same and printed == "C2new 2\n" and written == ()
    assert shown == {
        "C": ("<class '__main__.C'>",) * 2,
        "big": ("", ""),
        "c": ("C1old", "C2new"),
        "word": ("'old'", "'new'"),
    }


def test_differences_of_large_values_have_sizes_and_are_not_loaded(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_cold(store, [BIG, "big = big[:10].copy(); view = 0", "g = (i for i in [1])"])
    found = with_worker(store, lambda worker: worker.namespace.past().differences(1))
    assert [(d.name, d.shown) for d in found] == [
        ("big", ("", "array([0., 1., 2., 3., 4., 5., 6., 7., 8., 9.])")),
        ("g", ("", "(a generator)")),
        ("view", ("", "0")),
    ]
    assert found[0].nbytes[0] > 2_000_000 > found[0].nbytes[1]


def test_a_value_that_cannot_be_shown_is_no_error(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_cold(store, ["class C:\n    def __repr__(self): raise OSError('no')\nc = C()", "c.x = 1"])
    assert differences(store, 1, 2) == [("c", "changed", ("C", "C"), ("(OSError)", "(OSError)"))]


def test_a_collected_version_is_unknown_and_the_others_are_compared(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_cold(store, ["a = [1]; b = [1]", "a.append(2)"])
    collect(store)
    play_cold(store, ["b = 7"])
    found = with_worker(store, lambda worker: worker.namespace.past().differences(1))
    assert [(d.name, d.change) for d in found] == [("a", "unknown"), ("b", "changed")]
    assert "collected" in found[0].why


# -- replay


def replay_of(store: Path, name: str) -> Replay:
    found: Replay = with_worker(store, lambda worker: worker.namespace.past().replay(name, str))
    return found


def run_for(store: Path, name: str) -> list[tuple[int, tuple[str, ...]]]:
    found = replay_of(store, name)
    return [(cell.number, wanted) for cell, wanted in zip(found.cells, found.wanted, strict=True)]


def test_a_lost_resident_is_replayed_from_the_cell_that_bound_it_last(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["g = (i for i in [1])", "g = (i for i in [2])", "a = 1; n = next(g)"])
    found = replay_of(store, "g")
    assert [cell.number for cell in found.cells] == [2] and found.later == (3,)


def test_what_a_cell_needs_and_was_lost_is_replayed_before_it_and_what_is_durable_is_not(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(
        store,
        ["import io", "raw = (i for i in [1, 2])", "scale = 3\ndef wrap(x): return (scale * i for i in x)", "scale = 4",
         "extra = 1; both = wrap(raw)", "last = (i for i in both)"],
    )  # fmt: skip
    assert run_for(store, "last") == [(2, ("raw",)), (5, ("both",)), (6, ("last",))]
    assert replay_of(store, "last").rebinds == ((), ("extra",), ())
    assert run_for(store, "wrap") == [(3, ("wrap",))]


def test_what_a_function_needs_is_found_through_it(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["raw = (i for i in [1])", "def read(): return next(raw)", "g = (read() for _ in [1])"])
    assert run_for(store, "g") == [(1, ("raw",)), (3, ("g",))]


def test_a_name_that_was_deleted_since_is_bound_again_first(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["path = [1]", "g = (i for i in path)", "del path"])
    assert run_for(store, "g") == [(1, ("path",)), (2, ("g",))]


def test_cells_that_raised_or_went_back_are_not_replayed(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["g = (i for i in [1])", "a = 1", "raise OSError; g = 5", "g = 2", "%undo", "a = 3"])
    assert run_for(store, "g") == [(1, ("g",))]


def test_a_name_that_no_cell_binds_is_an_error(tmp_path: Path) -> None:
    store = tmp_path / "s"
    play_warm(store, ["a = 1"])
    with pytest.raises(LambdaKernelError, match="no cell of this epoch binds 'nope'"):
        replay_of(store, "nope")


def test_a_need_that_cannot_be_met_is_an_error_that_names_it(tmp_path: Path) -> None:
    def work(worker: Worker) -> None:
        worker.live["raw"] = (i for i in [1])  # no cell's source says where it comes from
        worker.namespace.commit(None)
        worker.run("g = (i for i in raw)")

    with_worker(tmp_path / "s", work)
    with pytest.raises(LambdaKernelError, match=r"'g' cannot be replayed: cell In \[1\] needs 'raw'"):
        replay_of(tmp_path / "s", "g")


# -- against a model


MAKE = ["a = [{n}]", "b = a", "c = {{'k': a, 'n': {n}}}", "x = {n}", "b = [a, {n}]"]
CHANGE = [
    "a.append({n})",
    "c['n'] = {n}",
    "b.append({n})",
    "del b",
    "del a",
    "c['b'] = b",
    "a[:] = [{n}]",
    "x += 1; y = a",
]
LOOK = (
    "print([(n, repr(globals()[n])) for n in ['last', *'abcxy'] if n in globals()],"
    " [n + m for n in 'abc' for m in 'abc' if n in globals() and m in globals() and globals()[n] is globals()[m]])"
)


@dataclass(slots=True)
class Model:
    """What should hold: the state as bytes, the states to go back to, and the state after each cell."""

    state: bytes
    undo: list[tuple[int, bytes]]
    redo: list[tuple[bytes, list[tuple[int, bytes]]]]
    after: dict[int, bytes]

    def run(self, number: int, line: str) -> str:
        """What the cell shows; `refused` for a line that cannot go there."""
        kind, *numbers = line[1:].split() if line.startswith("%") else ("",)
        before = self.state
        if not kind:
            shown, changed = self._execute(line)
            if changed:
                self.undo.append((number, before))
                self.redo.clear()
        else:
            shown = "" if getattr(self, f"_{kind}")(number, *map(int, numbers)) else "refused"
        self.after[number] = self.state
        return shown

    def _execute(self, source: str) -> tuple[str, bool]:
        live: dict[str, Any] = pickle.loads(self.state)
        before = {name: id(value) for name, value in live.items()}
        live["__builtins__"] = __builtins__
        shown, _ = execute(source, live)
        del live["__builtins__"]
        state = pickle.dumps(live)
        rebound = {name: id(value) for name, value in live.items()} != before
        changed = rebound or pickle.dumps(pickle.loads(self.state)) != pickle.dumps(pickle.loads(state))
        if changed:
            self.state = state
        return shown, changed

    def _undo(self, _: int, count: int = 1) -> bool:
        if len(self.undo) < count:
            return False
        self.redo.append((self.state, list(self.undo)))
        self.state = self.undo[-count][1]
        del self.undo[-count:]
        return True

    def _redo(self, _: int) -> bool:
        if not self.redo:
            return False
        self.state, self.undo = self.redo.pop()
        return True

    def _checkout(self, number: int, cell: int) -> bool:
        if cell not in self.after:
            return False
        if self.state != self.after[cell]:
            self.undo.append((number, self.state))
            self.redo.clear()
            self.state = self.after[cell]
        return True


def program(seed: int, length: int) -> list[str]:
    rng = random.Random(seed)
    lines = []
    for n in range(length):
        kind = rng.choices(["make", "change", "undo", "undo 2", "redo", "checkout"], [4, 5, 3, 1, 2, 2])[0]
        if kind in ("make", "change"):
            change = rng.choice(MAKE if kind == "make" else CHANGE).format(n=100 + n)
            lines.append(f"last = {n}; {change}")  # so that no two cells end in the same state
        else:
            lines.append(f"%{kind} {rng.randrange(1, 2 * n + 3)}" if kind == "checkout" else f"%{kind}")
        lines.append(LOOK)
    return lines


def play_both(store: Path, lines: Sequence[str], play: Play) -> list[tuple[int, str, str, str]]:
    """Where what was shown differs from the model: cell, line, shown, expected."""
    model = Model(pickle.dumps({}), [], [], {})
    expected = [model.run(number, line) for number, line in enumerate(lines, 1)]
    ran = play(store, lines)
    shown = [done.shown if isinstance(done, Ran) else "refused" if done.error else "" for done in ran]
    together = zip(range(1, len(lines) + 1), lines, shown, expected, strict=True)
    return [each for each in together if each[2] != each[3]]


@pytest.mark.parametrize("seed", range(10))
def test_random_travels_end_where_a_model_does(seed: int, tmp_path: Path) -> None:
    lines = program(seed, 40)
    wrong = in_child(lambda: play_both(tmp_path / "s", lines, play_warm), 90)
    assert wrong == [], lines[: wrong[0][0]]


@pytest.mark.parametrize("seed", range(100, 103))
def test_random_travels_end_where_a_model_does_with_each_cell_in_its_own_process(seed: int, tmp_path: Path) -> None:
    lines = program(seed, 16)
    wrong = in_child(lambda: play_both(tmp_path / "s", lines, play_cold), 90)
    assert wrong == [], lines[: wrong[0][0]]
