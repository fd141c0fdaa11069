"""A snapshot that was amended is the one that would have been taken, and says of the change what that would say."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import flat, graph
from lambdakernel.state.bases import Numbers
from lambdakernel.state.classes import ClassBook
from tests.state.test_graph import CHANGES, MUTABLE, grown, mutate, namespace_with, random_object, reach

pytestmark = pytest.mark.skipif(not graph.FAST, reason="the C extension is not built, or not used")
ROOT = Path(__file__).parents[2]
DICTS_COME_AND_GO = sys.version_info[:2] == (3, 12)
"""Reading an attribute can replace the dictionary of an instance, so its address says nothing."""


def check(old: Any, roots: list[Any], leaf: Any = None, live: dict[str, Any] | None = None) -> Any:
    """What `old` was amended to, if it was: it and what it says compared with a whole snapshot of `roots`."""
    live = live if live is not None else {}
    was_same = old.is_unchanged(roots)
    amended = graph.amend(old, roots, live)
    if amended is None:
        return None
    now, difference = amended
    assert now.is_unchanged(roots)
    if was_same:
        assert not any(difference)
    again = graph.amend(now, roots, live)
    assert again is not None
    assert not any(again[1]), "it changed, and nothing did"
    twin, whole = again[0], graph.take(roots, live, leaf=leaf)
    assert whole is not None
    assert twin.containers() == whole.containers()
    assert DICTS_COME_AND_GO or twin.shared() == whole.shared()
    assert (twin.objects, twin.references) == (whole.objects, whole.references)
    assert twin.is_unchanged(roots), "not by itself"
    full = graph.native_advance(old, tuple(roots), live, leaf, graph.LIMIT, graph.late_atoms())  # type: ignore[misc]
    if full is not None and full[1] is not None:
        assert said(tuple(difference)) == said(full[1])
    return now


def said(difference: tuple[Any, ...]) -> list[Any]:
    edits, *addresses = difference
    found = sorted((id(obj), a, b, None if between is None else list(map(id, between))) for obj, a, b, between in edits)
    return [found, *map(set, addresses[: 2 if DICTS_COME_AND_GO else None])]


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_is_amended_or_left_to_a_whole_snapshot(kind: str) -> None:
    made, changes = CHANGES[kind]
    for change in changes:
        live = namespace_with(made)
        old = graph.take([live["x"]], live, leaf=id)
        assert old is not None
        exec(change, live)
        assert not old.is_unchanged([live["x"]])
        now = check(old, [live["x"]], id, live)
        assert now is None or not old.is_unchanged([live["x"]])


class Node:
    """An instance with a dictionary."""


def tree(n: int) -> list[Any]:
    nodes = [Node() for _ in range(n)]
    for at, node in enumerate(nodes):
        vars(node).update(v=at, tags=[at], next=None)
    return nodes


AMENDED = {
    "an attribute": "x[500].v = -1",
    "one more attribute": "x[500].extra = 'e'",
    "one less": "del x[500].v",
    "an item of a list": "x[500].tags[0] = 'y'",
    "one more object": "x.append(fresh())",
    "some more that refer to each other": "x.append(fresh()); x[-1].next = fresh(); x[-1].next.next = x[-1]",
    "one less object": "del x[500]",
    "the last one": "x.pop()",
    "another in its place": "x[500] = fresh()",
    "one that moves": "x[10].next = x.pop()",
    "one that moves with what it has": "x[10].next = x[500].tags; del x[500]",
    "two that change places": "x[3], x[4] = x[4], x[3]",
    "another name for one": "roots.append(x[7])",
    "a dictionary of all": "roots.append({node.v: node for node in x})",
}


@pytest.mark.parametrize("what", AMENDED)
def test_what_is_common_is_amended(what: str) -> None:
    x = tree(1000)
    roots: list[Any] = [x]

    def fresh() -> Node:
        node = Node()
        vars(node).update(v=0, tags=[], next=None)
        return node

    old = graph.take(roots, {})
    assert old is not None
    exec(AMENDED[what], {"x": x, "fresh": fresh, "roots": roots})
    assert check(old, roots) is not None or DICTS_COME_AND_GO


def test_many_changes_one_after_another_are_amended() -> None:
    x = tree(300)
    look: Any = graph.take([x], {})
    for n in range(100):
        x[n].v += 1
        x.append(x.pop(0))
        look = check(look, [x])
        assert look is not None


def test_an_opaque_object_that_is_as_it_was_does_not_matter() -> None:
    data = bytearray(b"ab")
    x = [*tree(50), data]
    look = graph.take([x], {}, leaf=bytes)
    assert look is not None
    x[3].v = "new"
    assert check(look, [x], leaf=bytes) is not None
    data[0] = 0
    assert graph.amend(look, [x], {}) is None


def test_a_new_kind_of_object_is_left_to_a_whole_snapshot() -> None:
    x = tree(50)
    look = graph.take([x], {})
    assert look is not None
    x.append(type("New", (), {})())
    assert graph.amend(look, [x], {}) is None


def test_objects_die_as_if_there_were_no_snapshot() -> None:
    x = tree(50)
    look = graph.take([x], {})
    assert look is not None
    x[5].next = Node()
    amended = graph.amend(look, [x], {})
    dead = weakref.ref(x[5].next)
    del amended[1].edits[:]  # type: ignore[index]
    x[5].next = None
    assert dead() is None


def test_nothing_leaks_in_a_thousand_rounds() -> None:
    x, book, live, other = tree(200), ClassBook(), {"__name__": "__main__"}, type("Other", (), {})()
    x[9].v = {f"k{n}" for n in range(30)} - {"k1", "k2", "k9"}

    def one() -> None:
        roots: list[Any] = [x]
        look = graph.take(roots, live)
        assert look is not None and flat.dump(look, ["x"], {"x": x}, book) is not None
        assert look.disordered((x,)) is not None
        x[0].v, last = "new", x.pop()
        roots.append(dict(enumerate(x)))
        amended = graph.amend(look, roots, live)
        assert amended is not None
        parts: Any = ([], {"d": roots[1]}, [])
        assert flat.edit(*amended, roots, parts, Numbers(look.place), {}, book) is not None
        assert amended[0].containers() and amended[0].is_unchanged(roots)
        x.append(last)
        assert graph.amend(amended[0], [x, other], live) is None

    assert grown(one, 1000) < 20_000


def fuzz(first: int, count: int) -> tuple[int, int]:
    """Random graphs, changed a little, many times: how often that was amended, and how often it was not."""
    amended = whole = 0
    for seed in range(first, first + count):
        rng = random.Random(seed)
        pool: list[Any] = []
        for _ in range(rng.randrange(5, 20 + seed % 100)):
            pool.append(random_object(rng, pool))
        root = [pool[-1], *(rng.choice(pool) for _ in range(rng.randrange(1, 8)))]
        roots = [root, rng.choice(pool)]
        del pool
        look: Any = graph.take(roots, {})
        for _ in range(12):
            change(rng, roots)
            look = check(look, roots)
            amended, whole = amended + (look is not None), whole + (look is None)
            look = look or graph.take(roots, {})
    return amended, whole


def change(rng: random.Random, roots: list[Any]) -> None:
    for _ in range(rng.randrange(1, 4)):
        reachable = [obj for obj in reach(roots) if isinstance(obj, MUTABLE) and obj is not roots]
        target, old = rng.choice(reachable), rng.sample(reachable, min(3, len(reachable)))
        fresh = [random_object(rng, old if rng.random() < 0.5 else []) for _ in range(rng.randrange(3))]
        del reachable
        mutate(rng, target, [*fresh, *(old if rng.random() < 0.5 else roots[0])])
        del fresh, target, old  # so that what was replaced dies, and its address is used again
    if roots[0] and rng.random() < 0.1:
        roots[1] = rng.choice(roots[0])
    if rng.random() < 0.1:
        gc.collect(0)


def test_fuzz_an_amended_snapshot_is_the_one_that_would_be_taken() -> None:
    amended, whole = fuzz(0, 60)
    assert amended > 2 * whole, "most of these changes are small"


FUZZ = "from tests.state.test_amend import fuzz\nprint(*fuzz(5000, 50))"


def test_fuzz_under_a_debugging_allocator() -> None:
    env = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FUZZ], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 100
