"""Large values that change a little are stored as edits, and come back from those as what they are.

Thresholds are lowered, so that small graphs are edited as large ones would be. A process runs the cells one after
another; after each of them a fresh one loads everything and shows it. `LK_FUZZ` sets how many programs (60 by
default), `LK_FUZZ_SEED` where they start.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvs
from lambdakernel.errors import ValueDamaged
from lambdakernel.state import edits, flat, graph
from tests.state.cold import Ran, Worker, with_worker

PROGRAMS = int(os.environ.get("LK_FUZZ", "60"))
SEED = int(os.environ.get("LK_FUZZ_SEED", "1"))
BATCH = 20
NAMES = "abcdef"
pytestmark = pytest.mark.skipif(not graph.FAST, reason="edits need the C extension: pip install -e . with a C compiler")

PRELUDE = """
import gc, weakref
class K:
    def __init__(self, **kw): self.__dict__.update(kw)
class S(K):
    __slots__ = ('s',)
class D(dict): pass
def _show():
    seen, kept = {}, []
    def walk(o):
        if isinstance(o, (int, str, type(None), frozenset)) or o == (): return repr(o)
        if id(o) in seen: return f'#{seen[id(o)]}'
        seen[id(o)] = len(seen)
        kept.append(o)
        if isinstance(o, (list, tuple)): return type(o).__name__ + '[' + ','.join(map(walk, o)) + ']'
        if isinstance(o, set): return 'set' + repr(sorted(o))
        if isinstance(o, dict): return type(o).__name__ + '{' + ','.join(f'{k}:{walk(v)}' for k, v in o.items()) + '}'
        if isinstance(o, weakref.ref): return f'ref{seen.get(id(o()))}'  # not what: garbage may be alive
        return type(o).__name__ + walk(vars(o)) + repr(getattr(o, 's', ''))
    return ' '.join(f'{n}={walk(globals()[n])}' for n in 'abcdef' if n in globals())
a = [K(v=n, l=[n]) for n in range(20)]
b = {n: k for n, k in enumerate(a)}
c = (a, {1, 2, 3}, 'text' * 9)
"""
STEPS = (
    "{x} = a[{n}]", "{x} = a", "{x} = [a[{n}], b]", "{x} = {{'k': {y}, {n}: a[{n}]}}", "{x} = ({y}, [{n}])",
    "{x} = {n}", "{x} = K(v={y}, w=a[{n}])", "{x} = S(v={n}); {x}.s = {n}", "{x} = D(k={y})",
    "{x} = weakref.ref(a[{n}])",
    "{x}.append({y})", "{x}.append(K(v={n}))", "{x}.insert({n}, [{n}])", "{x}.pop({n})", "{x}.pop()", "{x}.reverse()",
    "{x}[{n}] = {y}", "{x}[2:5] = []", "{x}[1:1] = [{y}, {n}, 'x']", "del {x}[{n}]", "{x}.sort(key=id)", "{x}.clear()",
    "{x}['k'] = {y}", "{x}[{n}] = a[{n}]", "{x}.setdefault('new', []).append({n})", "{x}.update(z={n})",
    "{x}.popitem()", "{x}.v = {y}", "{x}.v = {n}", "{x}.new = [a[{n}]]", "del {x}.v", "{x}.l.append({n})",
    "a[{n}].v = a[{n}]",
    "a[{n}].l.append({y})", "b[{n}].extra = 'e{n}'", "b[{n}] = K(v={n})", "c[0].append({n})", "c[1].add({n})",
    "c[1].discard({n})", "c[1].clear()", "a[{n}].__class__ = S", "del {x}", "{x}, {y} = {y}, {x}", "a = list(a)",
    "a = a[::2] + a[::3]", "{x} = a[{n}].l", "{x} = a[{n}].__dict__", "gc.collect()", "a[{n}] = a[{n}]",
    "for {x} in a: pass", "for {x} in a: {x}.v = {n}", "{x} = [k for k in a]", "{x} = ()", "{x}.append(())", "{x} = c",
    "{x} = {{k.v: k for k in a if type(getattr(k, 'v', a)) is int}}", "{x} += [{n}]", "{x} = frozenset({{{n}}})",
)  # fmt: skip


@pytest.fixture(autouse=True)
def all_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(edits, "WORTH_NBYTES", 0)
    monkeypatch.setattr(edits, "_PART", 0.2)
    monkeypatch.setattr("lambdakernel.state.changes.KEPT_TOGETHER", 0)
    return


def program(seed: int) -> list[str]:
    rng = random.Random(seed)
    cells = [PRELUDE]
    for _ in range(rng.randint(5, 9)):
        steps = [
            rng.choice(STEPS).format(x=rng.choice(NAMES), y=rng.choice(NAMES), n=rng.randint(0, 9))
            for _ in range(rng.choice([1, 1, 1, 2, 3]))
        ]
        cells.append("\n".join(steps))
    return cells


def compared(store: Path, cells: list[str]) -> tuple[int, int]:
    """Run the cells, each followed by a look from a fresh process; how many edits were stored, and how many cells."""

    def show(worker: Worker) -> str:
        worker.namespace.load_all()
        shown: str = eval("_show()", worker.live)
        return shown

    def all_cells(worker: Worker) -> int:
        edited = 0
        for number, cell in enumerate(cells):
            worker.run(cell)
            here = eval("_show()", worker.live)
            there = with_worker(store, show, reader=True)
            assert there == here, "\n".join(["", *cells[1 : number + 1], f"here  {here}", f"there {there}"])
            edited += count_edits(worker)
        return edited

    return with_worker(store, all_cells), len(cells) - 1


def count_edits(worker: Worker) -> int:
    """Units whose newest version is an edit."""
    units = worker.namespace._detector.here.units.values()
    return sum(unit.base is not None and bool(unit.base.edits) for unit in units)


@pytest.mark.parametrize("first", range(SEED, SEED + PROGRAMS, BATCH))
def test_what_was_edited_comes_back_as_it_is(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = total = 0
    for seed in range(first, first + BATCH):
        monkeypatch.setattr(flat, "WORTH_OBJECTS", 200 * (seed % 2))  # of every other one, what can be is written flat
        edits_of_one, cells = compared(tmp_path / str(seed), program(seed))
        edited, total = edited + edits_of_one, total + cells
    assert edited > total / 3, f"only {edited} of {total} cells were stored as edits"


# -- single things

BIG = "class N: pass\na = [N() for _ in range(30)]\nfor n, k in enumerate(a): k.v = n\nk = n = 0"


def run_all(worker: Worker, *cells: str) -> list[Ran]:
    return [worker.run(cell) for cell in cells]


def test_a_change_writes_itself_and_not_the_rest(tmp_path: Path) -> None:
    def work(worker: Worker) -> list[int]:
        ran = run_all(worker, BIG, "a[3].v = -1", "a[4].v = -2", "a.append(a[5])", "b = a[6]", "del a[0]")
        return [each.committed.nbytes for each in ran if each.committed is not None]

    whole, *edited = with_worker(tmp_path, work)
    assert all(nbytes < whole / 4 for nbytes in edited), (whole, edited)


def test_an_object_with_a_finalizer_is_never_made_by_a_load_that_does_not_need_it(tmp_path: Path) -> None:
    cells = (
        "class F:\n    def __del__(self): log.append(1)",
        "log = []; a = [F() for _ in range(20)]",
        "a[0].v = 1",
        "a.pop(); a.pop()",
        "a[0].v = 2",
    )
    with_worker(tmp_path, lambda worker: run_all(worker, *cells) and None)
    assert with_worker(tmp_path, lambda w: (w.namespace.load_all(), len(w.live["log"]), len(w.live["a"]))[1:]) == (
        2,
        18,
    )


def test_edits_are_written_whole_before_they_outgrow_their_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "_MOST_EDITS", 4)

    def work(worker: Worker) -> list[int]:
        run_all(worker, BIG, "a[3].v = -1")
        found = []
        for n in range(12):
            worker.run(f"a[{n}].v = 'new {n}'")
            (unit,) = [u for u in worker.namespace._detector.here.units.values() if ("n", "a") in u.items]
            found.append(len(unit.base.edits) if unit.base is not None else -1)
        return found

    assert with_worker(tmp_path, work) == [2, 3, 4, 0, 1] * 2 + [2, 3]
    assert with_worker(tmp_path, lambda w: (w.namespace.load_all(), [k.v for k in w.live["a"][:12]])[1]) == [
        f"new {n}" for n in range(12)
    ]


def test_an_earlier_state_of_what_was_edited_can_be_gone_back_to(tmp_path: Path) -> None:
    def work(worker: Worker) -> list[Any]:
        run_all(worker, BIG, "a[3].v = 'one'", "a[3].v = 'two'", "a.append(a[3])", "b = a")
        found = []
        for _ in range(3):
            with worker.namespace.travelling() as traveller:
                traveller.undo(1)
            worker.namespace.load_all()
            found.append((worker.live["a"][3].v, len(worker.live["a"]), "b" in worker.live))
        worker.run("a[0].v = 'after'")
        return found

    assert with_worker(tmp_path, work) == [("two", 31, False), ("two", 30, False), ("one", 30, False)]
    assert with_worker(tmp_path, lambda w: (w.namespace.load_all(), w.live["a"][0].v, w.live["a"][3].v)[1:]) == (
        "after",
        "one",
    )


def test_a_commit_that_the_store_refuses_loses_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(worker: Worker) -> None:
        run_all(worker, BIG, "a[3].v = 'one'")
        with monkeypatch.context() as broken:
            broken.setattr(worker.replica, "publish", _refuse)
            with pytest.raises(kvs.StoreFull):
                worker.run("b = N(); b.v = 'b'; a.append(b); a[3].v = 'two'; del a[0]")
        worker.run("a.append(b)")

    with_worker(tmp_path, work)
    found = with_worker(tmp_path, lambda w: (w.namespace.load_all(), w.live["a"])[1] and _shape(w.live))
    assert found == (31, "two", "b", True)


def test_what_a_name_leaves_and_another_takes_up_is_shared_still(tmp_path: Path) -> None:
    def work(worker: Worker) -> None:
        run_all(worker, BIG, "b = {n: k for n, k in enumerate(a)}", "a[0].v = 1", "a = [a[2], b]; b = {1: a[0]}")

    with_worker(tmp_path, work)
    assert with_worker(tmp_path, lambda w: (w.namespace.load_all(), w.live["b"][1] is w.live["a"][0])[1])


def _shape(live: dict[str, Any]) -> tuple[int, Any, Any, bool]:
    a = live["a"]
    return len(a), a[2].v, a[-1].v, a[-1] is a[-2] is live["b"]


def _refuse(*_: Any, **__: Any) -> Any:
    raise kvs.StoreFull("/store")


def test_a_damaged_base_is_named_and_the_others_load(tmp_path: Path) -> None:
    with_worker(tmp_path, lambda worker: run_all(worker, "other = 'x'", BIG, "a[3].v = 1", "a[4].v = 1") and None)
    blobs = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.parent.name == "blobs"]
    for path in blobs:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"x")

    def look(worker: Worker) -> tuple[Any, str]:
        worker.namespace.load_all()
        with pytest.raises(ValueDamaged) as raised:
            worker.run("a")
        return worker.live["other"], str(raised.value)

    other, error = with_worker(tmp_path, look)
    assert blobs and other == "x" and "does not hold what its name says" in error


def test_the_look_at_everything_takes_no_edit_for_a_change(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        run_all(worker, BIG, "a[3].v = 1", "a[4].v = 1")
        before = worker.namespace.examine().changed
        worker.live["a"][5].v = "unseen"
        return before, len(worker.namespace.examine().changed)

    assert with_worker(tmp_path, work) == ((), 1)
