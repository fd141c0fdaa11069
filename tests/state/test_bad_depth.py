"""Graphs that are deeper than a pickler recurses: they come back as they were, or are refused with a reason."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import deep
from tests.state.cold import Ran, Worker, cold, with_worker

N = 5000
MAKE = {
    "lists": "x = []\nfor i in range(N): x = [x]",
    "dictionaries": "x = {}\nfor i in range(N): x = {i: x}",
    "tuples": "x = ()\nfor i in range(N): x = (i, x)",
    "instances": "class C: pass\nx = None\nfor i in range(N):\n    c = C(); c.n = x; x = c",
    "instances with slots": (
        "class C:\n    __slots__ = ('n',)\nx = None\nfor i in range(N):\n    c = C(); c.n = x; x = c"
    ),
    "closures": "def f(y):\n    return lambda: y\nx = None\nfor i in range(N): x = f(x)",
    "a list of all links, last first": (
        "class C: pass\nall = []\nc = None\nfor i in range(N):\n    d = C(); d.n = c; c = d; all.append(c)\n"
        "x = [all[::-1], all]"
    ),
}  # fmt: skip
DEPTH = {
    "lists": "y = x\nn = 0\nwhile y: y = y[0]; n += 1",
    "dictionaries": "y = x\nn = 0\nwhile y: [y] = y.values(); n += 1",
    "tuples": "y = x\nn = 0\nwhile y: y = y[1]; n += 1",
    "instances": "y = x\nn = 0\nwhile y: y = y.n; n += 1",
    "instances with slots": "y = x\nn = 0\nwhile y: y = y.n; n += 1",
    "closures": "y = x\nn = 0\nwhile y: y = y(); n += 1",
    "a list of all links, last first": "y = x[0][0]\nn = 0\nassert y is x[1][-1]\nwhile y: y = y.n; n += 1",
}
DOUBLY = """
class Node:
    pass
first = last = Node(); first.before, first.items = None, []
for i in range(N):
    node = Node(); node.before, node.items, node.n = last, [i], i; last.next = node; last = node
last.next = None
"""
WALK = """
def walk(node, step):
    found = []
    while node is not None:
        found.append(node); node = getattr(node, step)
    return found
there, back = walk(first, "next"), walk(last, "before")
print(len(there), all(a is b for a, b in zip(there, reversed(back))), there[7].items, there[-1].n)
"""


def shown(ran: list[Ran]) -> list[str]:
    assert not [r.error for r in ran if r.error], ran
    return [r.shown for r in ran]


@pytest.mark.parametrize("what", MAKE, ids=lambda what: what.replace(" ", "_"))
def test_a_deep_value_moves(what: str, tmp_path: Path) -> None:
    cells = [f"N = {N}\n{MAKE[what]}", f"{DEPTH[what]}\nprint(n)"]
    assert shown(cold(tmp_path / "store", cells))[-1] == f"{N}\n"


def test_a_deep_cycle_of_instances_moves(tmp_path: Path) -> None:
    cells = [f"N = {N}\n{DOUBLY}", WALK, "del there, back\nlast.next = first", "print(last.next is first)"]
    assert shown(cold(tmp_path / "store", cells))[1::2] == [f"{N + 1} True [6] {N - 1}\n", "True\n"]


def test_a_deep_value_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run(f"N = {N}\n{MAKE['lists']}\n{DOUBLY}\ndel node")
        return [worker.run(cell).committed for cell in ("x, first", "x.append(1)")]

    same, changed = with_worker(tmp_path / "store", work)
    assert (same.written, changed.written) == ((), ("x",))


def test_deep_values_share_nothing_by_how_they_are_dumped(tmp_path: Path) -> None:
    # What a dump in pieces made for itself lay where another value's came to lie: the two became one unit.
    def work(worker: Worker) -> Any:
        worker.run(f"N = {N}\n{MAKE['lists']}\nz = {{}}\nfor i in range(N): z = {{1: z}}")
        worker.run("u = []\nfor i in range(N): u = [u]")
        return [row.group for row in worker.namespace.rows() if row.name in ("x", "z", "u")]

    assert with_worker(tmp_path / "store", work) == [("u",), ("x",), ("z",)]


def test_no_instance_is_left_empty_for_a_while_if_its_own_code_could_notice() -> None:
    class Plain:
        pass

    class Hashed:
        def __hash__(self) -> int:
            return hash(self.n)  # type: ignore[attr-defined]

    class Restored:
        def __setstate__(self, state: Any) -> None: ...

    class Made:
        def __new__(cls) -> Made:
            return super().__new__(cls)

    assert [deep.may_be_empty(kind) for kind in (Plain, Hashed, Restored, Made)] == [True, False, False, False]
    a, b = Plain(), Hashed()
    a.other, b.other, b.n = b, a, 1  # type: ignore[attr-defined]
    pieces = deep.in_pieces([a, b], {})
    assert pieces.empty == {id(a)}


def test_nothing_is_left_empty_where_an_object_that_is_not_understood_looks_on() -> None:
    class Plain:
        pass

    class Watcher:
        def __init__(self, seen: Any) -> None:
            self.seen = seen

        def __reduce__(self) -> Any:
            return Watcher, (self.seen,)

    a = Plain()
    a.me, a.watcher = a, Watcher(a)  # type: ignore[attr-defined]
    assert not deep.in_pieces(a, {}).empty


def test_a_raised_limit_of_recursion_is_the_same_afterwards() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(ZeroDivisionError), deep.shallow():
            within = sys.getrecursionlimit()
            1 / 0  # noqa: B018
        assert sys.getrecursionlimit() == 100_000
        assert within == (deep.SAFE_LIMIT if sys.version_info < (3, 12) else 100_000)
    finally:
        sys.setrecursionlimit(before)
