"""What cannot move: it stays live, is said to be lost elsewhere, hurts no other name, and can be replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lambdakernel.errors import ResidentLost, ValueDamaged
from tests.state.cold import Worker, cold, seen, warm, with_worker

RESIDENTS = {
    "an open text file": "import tempfile; x = tempfile.TemporaryFile('w+')",
    "an open binary file": "import tempfile; x = tempfile.TemporaryFile()",
    "a generator": "x = (i for i in range(3))",
    "a coroutine": "async def f(): pass\nx = f()",
    "an async generator": "async def f(): yield 1\nx = f()",
    "a held lock": "import threading; x = threading.Lock(); x.acquire()",
    "a thread": "import threading; x = threading.Thread()",
    "a socket": "import socket; x = socket.socket()",
    "a database": "import sqlite3; x = sqlite3.connect(':memory:')",
    "a child process": "import subprocess; x = subprocess.Popen(['true'])",
    "a map of memory": "import mmap; x = mmap.mmap(-1, 10)",
    "a view of memory": "x = memoryview(bytearray(3))",
    "a frame": "import sys; x = sys._getframe()",
    "a pool": "import concurrent.futures; x = concurrent.futures.ThreadPoolExecutor(1)",
    "an event loop": "import asyncio; x = asyncio.new_event_loop()",
    "a context variable": "import contextvars; x = contextvars.ContextVar('x')",
    "an array that maps a file": (
        "import numpy, tempfile; x = numpy.memmap(tempfile.TemporaryFile(), 'u1', 'w+', shape=(4,))"
    ),
    "what refuses to be pickled": "class C:\n    def __reduce__(s): raise ValueError('no')\nx = C()",
    "what recurses without end": (
        "class C:\n    def __getstate__(s): return C.__getstate__(s)\nx = C()"
    ),
    "the namespace itself": "x = [globals()]",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", RESIDENTS, ids=lambda what: what.replace(" ", "_"))
def test_it_stays_here_and_only_here(what: str, tmp_path: Path) -> None:
    def make(worker: Worker) -> tuple[list[str], str, list[str]]:
        ran = worker.run(f"{RESIDENTS[what]}\nother = [1]")
        assert ran.error == "", ran
        again = worker.run("print(x is not None); other.append(2)")
        return [r.name for r in worker.namespace.residents()], again.shown, [r.name for r in ran.committed.resident]  # type: ignore[union-attr]

    here, shown, found = with_worker(tmp_path / "store", make)
    assert "x" in here and "x" in found and shown == "True\n"
    assert seen(cold(tmp_path / "store", ["print(other)"])) == [("[1, 2]\n", "")]
    with pytest.raises(ResidentLost, match="x is gone"):
        cold(tmp_path / "store", ["print(x)"])
    assert seen(cold(tmp_path / "store", ["x = 5", "print(x)"])) == [("", ""), ("5\n", "")]


def test_the_error_names_the_variable_the_path_the_cell_and_the_remedy(tmp_path: Path) -> None:
    cold(tmp_path / "store", ["pass", "import tempfile\ncfg = {'log': [1, tempfile.TemporaryFile()]}"])
    with pytest.raises(ResidentLost) as caught:
        cold(tmp_path / "store", ["cfg"])
    text = str(caught.value)
    assert all(part in text for part in ("cfg['log'][1]", "an open file", "In [2]", "del cfg")), text


def test_nothing_of_the_cell_runs_when_it_reads_a_lost_name(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(store, ["g = (i for i in [1])\nn = [0]"])
    with pytest.raises(ResidentLost):
        cold(store, ["n.append(1)\nprint(g)"])
    assert seen(cold(store, ["print(n)"])) == [("[0]\n", "")]


@pytest.mark.parametrize(
    "cells",
    [
        ["del g", "print('g' in globals())"],
        ["g = 1", "print(g)"],
        ["for g in [1, 2]: pass", "print(g)"],
        ["def g(): return 3", "print(g())"],
        ["import json as g", "print(g.__name__)"],
        ["with open('/dev/null') as g: h = g.read()", "print(repr(h))"],
        ["def use(g): return g + 1", "print(use(1))"],
        ["print([g for g in (1, 2)])"],
        ["print((lambda g: g)(4))"],
        ["try: 1/0\nexcept ZeroDivisionError as g: pass", "print('ok')"],
    ],
)
def test_a_lost_name_can_be_deleted_bound_anew_and_be_a_local(cells: list[str], tmp_path: Path) -> None:
    made = "g = (i for i in [1])"
    cold(tmp_path / "store", [made])
    assert seen(cold(tmp_path / "store", cells)) == warm([made, *cells])[1:]


def test_a_function_that_does_not_use_the_lost_name_works_and_one_that_does_says_why(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cold(
        store,
        ["g = (i for i in [1])", "def safe(): return 1\ndef bad(): return next(g)\ndef maybe(b): return g if b else 2"],
    )
    assert seen(cold(store, ["print(safe(), maybe(False))", "bad()"])) == [("1 2\n", ""), ("", "ResidentLost")]


@pytest.mark.parametrize(
    "use", ["str(g)", "g.x", "g()", "g[0]", "len(g)", "g + 1", "list(g)", "g == 1", "bool(g)", "1 in g"]
)
def test_every_use_of_a_lost_value_says_so(use: str, tmp_path: Path) -> None:
    cold(tmp_path / "store", ["g = (i for i in [1])", f"def f(): return {use}"])
    assert seen(cold(tmp_path / "store", ["f()"])) == [("", "ResidentLost")]


def test_the_part_of_a_resident_that_has_a_name_of_its_own_is_kept(tmp_path: Path) -> None:
    """The list moves although the dict that also holds it cannot; a change through the dict is a change of the list."""

    def make(worker: Worker) -> None:
        worker.run("data = [1]\ncfg = {'d': data, 'g': (i for i in [1])}")
        worker.run("cfg['d'].append(2)")

    with_worker(tmp_path / "store", make)
    assert seen(cold(tmp_path / "store", ["print(data)"])) == [("[1, 2]\n", "")]


def test_what_cannot_be_loaded_is_named_when_it_is_read_and_harms_no_other(tmp_path: Path) -> None:
    source = "class C:\n    def __init__(s, a): s.a = a\n    def __reduce__(s): return (C, ())\nx = C(1); y = [2]"
    cold(tmp_path / "store", [source])
    with pytest.raises(ValueDamaged, match="x cannot be loaded"):
        cold(tmp_path / "store", ["print(x)"])
    assert seen(cold(tmp_path / "store", ["print(y)", "del x", "print(y, 'x' in globals())"]))[-1] == (
        "[2] False\n",
        "",
    )


def test_attaching_says_what_is_lost(tmp_path: Path) -> None:
    cold(tmp_path / "store", ["g = (i for i in [1]); a = 1"])
    attached = with_worker(tmp_path / "store", lambda worker: worker.attached)
    assert [lost.name for lost in attached.lost] == ["g"] and attached.names == 2


def test_loading_all_names_binds_what_says_why_for_each_lost_one(tmp_path: Path) -> None:
    cold(tmp_path / "store", ["g = (i for i in [1]); a = [1]"])

    def look(worker: Worker) -> tuple[Any, list[tuple[str, str]]]:
        worker.namespace.load_all()
        return worker.live["a"], [(row.name, row.state) for row in worker.namespace.rows()]

    assert with_worker(tmp_path / "store", look) == ([1], [("a", "durable"), ("g", "lost")])


BOMBS = {
    "raises": "raise OSError('boom')",
    "exits": "raise SystemExit(3)",
    "is interrupted": "raise KeyboardInterrupt",
    "recurses": "f = lambda: f()\n    f()",
}


@pytest.mark.parametrize("how", BOMBS)
def test_a_value_whose_loading_goes_wrong_harms_no_other(how: str, tmp_path: Path) -> None:
    """The loader is bound anew after the value was stored, so that no trial could have seen it coming."""
    store = tmp_path / "store"
    cold(store, [
        "class C:\n    def __setstate__(s, state): s.__dict__.update(state)\nx = C(); x.v = 1; y = [2]",
        f"def bomb(s, state):\n    {BOMBS[how]}\nC.__setstate__ = bomb",
    ])  # fmt: skip
    assert seen(cold(store, ["print(y)"])) == [("[2]\n", "")]
    with pytest.raises((ValueDamaged, KeyboardInterrupt)):
        cold(store, ["print(x)"])
    assert seen(cold(store, ["y.append(3); print(y)", "x = 1", "print(x, y)"]))[-1] == ("1 [2, 3]\n", "")


def test_a_cache_forgets_what_cannot_move_and_nothing_else(tmp_path: Path) -> None:
    define = "import functools\n@functools.cache\ndef f(n): return [n] if n < 2 else (m for m in [n])"
    ran = cold(
        tmp_path / "store",
        [define, "one = f(1); next(f(3))", "print(f(1) is one, f.cache_info().currsize, next(f(3)))"],
    )
    assert ran[-1].shown == "True 1 3\n"
