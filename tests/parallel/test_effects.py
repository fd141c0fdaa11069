"""Which bodies are known to do nothing outside: what names, functions, classes and values of a notebook show of it."""

import ast
import types

import pytest

from lambdakernel.live import Live
from lambdakernel.parallel.again import effect_of_source
from lambdakernel.parallel.effects import MOST_VALUES


def effect(body, setup="", items=(1, 2), load=lambda name: None):
    notebook = types.ModuleType("__main__").__dict__
    notebook["Live"] = Live
    exec("from kvs.lattices import *\n" + setup, notebook)
    return effect_of_source(body, {"i"}, notebook, load, items)


@pytest.mark.parametrize(
    ("body", "setup"),
    [
        ("i * 2", ""),
        ("import time\ntime.sleep(i)\nprint(i)", ""),
        ("import random\nrandom.gauss(0, 1) + i", ""),
        ("import os\nos.path.join('a', str(os.getpid()))", ""),
        ("import os.path as p\np.join('a')", ""),
        ("values = [1]; values.remove(1); values.sort()", ""),
        ("try:\n    1 / i\nexcept ZeroDivisionError as e:\n    print(e)", ""),
        ("f(i)", "def g(x): return x + 1\ndef f(x): return [g(y) for y in range(x)]"),
        ("f(i)", "import functools\n@functools.lru_cache\ndef f(x): return x"),
        ("P(i).m()", "class P:\n    def __init__(self, v): self.v = v\n    @property\n    def w(self): return self.v\n"
         "    def m(self): return self.w"),
        ("class Q:\n    def m(self): return i\nQ().m()", ""),
        ("def search(n):\n    return best.value if n > 3 else search(n + 1)\nsearch(i)", "best = Live(Min(9))"),
        ("best.merge(i); seen.add(i)", "best, seen = Live(Max(0)), Live(GrowSet())"),
        ("import asyncio", None),
        ("sorted(table.items(), key=lambda pair: pair[1])", "table = {n: [n] for n in range(100)}"),
        ("import json\njson.dumps({'a': i})", ""),
        ("for j in range(3):\n    total = j\ntotal", ""),
    ],
)  # fmt: skip
def test_a_body_that_does_nothing_outside(body, setup):
    if setup is None:
        assert "imports asyncio" in effect(body)
    else:
        assert effect(body, setup) == ""


def test_libraries_that_compute_are_known():
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    setup = (
        "import numpy as np, pandas as pd\nfrom sklearn.linear_model import LinearRegression\n"
        "from sklearn.model_selection import cross_val_score\n"
        "X, y, df = np.ones((9, 1)), np.ones(9), pd.DataFrame({'a': ['x', 'y'], 'b': [1, 2]})"
    )
    assert effect("model = LinearRegression().fit(X, y)\ncross_val_score(model, X, y).mean()", setup) == ""
    assert effect("df.groupby('a').b.sum().to_dict(), np.random.default_rng(i).normal(size=3)", setup) == ""
    assert effect("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", setup) == ""
    assert "uses .to_csv" in effect("df.to_csv('x')", setup)
    assert "uses .save" in effect("np.save('x', y)", setup)
    assert "uses .tofile" in effect("(X + 1).tofile('x')", setup)
    assert "uses open" in effect("v(i)", setup + "\nv = np.vectorize(lambda x: open('x', 'w'))")


@pytest.mark.parametrize(
    ("body", "setup", "says"),
    [
        ("open('x', 'w')", "", "line 1 uses open"),
        ("open('x')", "from io import open", "uses open"),
        ("import os\n\nos.remove('x')", "", "line 3 uses os.remove"),
        ("import os\ndef f(): os.unlink('x')\nf()", "", "line 2 uses os.unlink"),
        ("from os import remove as r\nr('x')", "", "os.remove"),
        ("from os import *", "", "imports *"),
        ("import os.path as p, os as q\nq.remove('x')", "", "os.remove"),
        ("o = os\no.remove('x')", "import os", "the module os"),
        ("def f():\n    import os\n    x = 1\n    return x, os.remove('a')\nf()", "", "os.remove"),
        ("import subprocess", "", "imports subprocess"),
        ("import random\nrandom._os.remove('x')", "", "os.remove"),
        ("eval('1')", "", "uses eval"),
        ("getattr(i, 'x')", "", "uses getattr"),
        ("print(i, file=files[0])", "import io\nfiles = [open('/dev/null')]\nfiles[0].close()", "is of"),
        ("f(i)", "def f(x):\n    with open('y', 'w') as g: g.write('x')", "uses open"),
        ("f(i)", "g = None\ndef f(x): return g(x)\ng = open", "open"),
        ("f(i)", "import functools\n@functools.lru_cache\ndef f(x): open('z', 'w')", "uses open"),
        ("f(i)", "import functools, json\n@functools.wraps(json.dumps)\ndef f(x): open('z', 'w')", "uses open"),
        ("fs[0]()", "fs = [lambda: open('x')]", "uses open"),
        ("fs[0]()", "import functools\nfs = [functools.partial(lambda x: open(x), 'x')]", "uses open"),
        ("d[3]", "import collections\nd = collections.defaultdict(lambda: open('x', 'w'))", "uses open"),
        ("P(i)", "class P:\n    def __init__(self, v): open('x')", "uses open"),
        ("h.run()", "class H:\n    def __init__(s): s.f = lambda: open('x')\n    def run(s): s.f()\nh = H()", "open"),
        ("p.touch()", "import pathlib\np = pathlib.Path('x')", "is of pathlib"),
        ("import json\njson.dump({}, i)", "", "uses .dump"),
        ("nowhere(i)", "", "nowhere, which is not known"),
        ("n.increment()", "n = Live(GCounter())", "a Live GCounter"),
        ("f()", "n = Live(Average())\ndef f(): n.add(1.0)", "a Live Average"),
        ("last.value", "last = Live(Last())", "a Live Last"),
        ("len(big)", f"big = [(n,) for n in range({MOST_VALUES + 1})]", "more than is looked at"),
    ],
)
def test_a_body_that_may_act_outside_and_where(body, setup, says):
    assert says in effect(body, setup)


def test_items_are_looked_at():
    assert "an item" in effect("i", items=[(1, __import__("subprocess").Popen)])
    assert effect("i", items=[(1, [2, {"a": (3,)}])] * 3) == ""


def test_a_name_that_is_in_the_store_alone_is_brought():
    notebook = {"__name__": "__main__"}
    asked = []

    def load(name):
        asked.append(name)
        exec("def f(x): open(x)", notebook)

    assert "uses open" in effect_of_source("f(i)", {"i"}, notebook, load, [1])
    assert asked == ["f"]


def test_what_cannot_be_looked_at_may_do_anything():
    def load(name):
        raise ValueError("torn")

    assert "cannot be looked at: ValueError: torn" in effect("f(i)", load=load)
    odd = "class Odd(dict):\n    @property\n    def default_factory(self): raise KeyError('odd')\nodd = Odd()"
    assert "cannot be looked at: KeyError" in effect("odd", odd)


def test_the_body_may_await():
    assert effect("async def f(): return 1\nawait f()") == ""
    assert ast.parse("await f()")
