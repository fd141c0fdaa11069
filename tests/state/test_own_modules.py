"""Which globals of one's own modules are state, and that they move."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state.ambient.own import OwnModules, changed_globals
from tests.state.cold import Worker, with_worker

SOURCES = {
    "bound anew": ("n = 0\ndef f():\n    global n\n    n += 1\n", {"n"}),
    "a list that grows": ("xs = []\ndef f(x): xs.append(x)\n", {"xs"}),
    "an entry": ("d = {}\ndef f(x):\n    d[x] = 1\n", {"d"}),
    "an entry of an entry": ("d = {1: []}\ndef f(x):\n    d[1][0] = x\n", {"d"}),
    "an entry that goes": ("d = {}\ndef f(x):\n    del d[x]\n", {"d"}),
    "an attribute": ("class C: pass\nc = C()\ndef f(x):\n    c.x = x\n", {"c"}),
    "in a method": ("log = []\nclass C:\n    def f(self):\n        log.append(self)\n", {"log"}),
    "in a lambda": ("log = set()\nf = lambda x: log.add(x)\n", {"log"}),
    "in a decorator's inside": ("reg = {}\ndef deco(f):\n    def w():\n        reg[f] = 1\n    return w\n", {"reg"}),
    "annotated, in an if": (
        "if True:\n    cache: dict = {}\ndef f(k):\n    cache.setdefault(k, 1)\n",
        {"cache"},
    ),
    "a constant": ("LIMIT = 5\ndef f(): return LIMIT\n", set()),
    "what is only read": ("table = {1: 2}\ndef f(k): return table[k] + table.get(k)\n", set()),
    "a local of that name": ("xs = []\ndef f():\n    xs = []\n    xs.append(1)\n", set()),
    "a parameter of that name": ("xs = []\ndef f(xs): xs.append(1)\n", set()),
    "at import alone": ("xs = []\nxs.append(1)\n", set()),
    "a function or a class": ("def f(): pass\nclass C: pass\ndef g():\n    f.n = 1\n    C.n = 1\n", set()),
    "no Python": ("x = [\ndef f(): x.append(1)\n", set()),
}


@pytest.mark.parametrize("what", SOURCES)
def test_a_global_that_functions_change_is_found(what: str) -> None:
    source, expected = SOURCES[what]
    assert changed_globals(source) == expected


def test_modules_beside_the_notebook_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lk_own_a.py").write_text("n = 0\ndef f():\n    global n\n    n += 1\n")
    (tmp_path / "lk_own_p").mkdir()
    (tmp_path / "lk_own_p" / "__init__.py").write_text("seen = []\ndef f(x): seen.append(x)\n")
    (tmp_path / "env" / "lib").mkdir(parents=True)  # as an environment in the notebook's folder, or above it a Python
    (tmp_path / "env" / "lib" / "lk_own_b.py").write_text("n = 0\ndef f():\n    global n\n    n += 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "env" / "lib")
    own = OwnModules(str(tmp_path))
    assert list(own.new()) == []
    try:
        __import__("lk_own_a"), __import__("lk_own_b"), __import__("lk_own_p")
        assert list(own.new()) == [("lk_own_a", "n"), ("lk_own_p", "seen")]
        assert list(own.new()) == []
    finally:
        for name in ("lk_own_a", "lk_own_b", "lk_own_p"):
            sys.modules.pop(name, None)


def test_state_of_an_own_module_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lk_own_c.py").write_text(
        "import threading\nitems, seen, LIMIT, _lock = [], 0, [1], threading.Lock()\nwaiting = None\n"
        "def add(x):\n    global seen\n    with _lock:\n        items.append(x); seen += 1\n    return len(items)\n"
        "def wait():\n    global waiting\n    waiting = (n for n in items)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    store = tmp_path / "store"

    def run(*cells: str) -> Any:
        def work(worker: Worker) -> Any:
            ran = [worker.run(cell) for cell in cells]
            assert not any(each.error for each in ran), ran
            return ran[-1].shown

        return with_worker(store, work)

    run("from lk_own_c import add, items\nimport lk_own_c", "add('a'); add('b')")
    assert run("print(items, lk_own_c.items is items, lk_own_c.seen); add('c')") == "['a', 'b'] True 2\n"
    assert run("lk_own_c.wait(); print(lk_own_c.LIMIT)") == "[1]\n"
    assert run("print(items, lk_own_c.seen)") == "['a', 'b', 'c'] 3\n"
