"""A task's process takes further items of its fan-out only where nobody can tell: the same with and without that."""

from __future__ import annotations

import builtins
import os
import re
import signal
import statistics
import threading
import time

import pytest
from parallel_notebook import alive, interrupted_after, wait_for

from lambdakernel.parallel import cell, handover, processes
from lambdakernel.parallel.attempts import Attempts
from tests.kernels import running

ITEMS = 6
PLACES = re.compile(r"(?i:0x[0-9a-f]+)|In\[\d+\]|ipython-input-\d+-")
"""Where things are, and the numbers of cells: these differ with each run."""
NUMPY = "import numpy as np"
WALK = (
    "class Walk:\n    by = 2\n    def __init__(self, x): self.x = x\n    def double(self): return self.x * 2\n"
    "    def step(self):\n        self.x += self.by\n        return self.x\n"
    "    def __repr__(self): return f'Walk({self.x})'\n"
)
PANDAS = (
    "import numpy as np, pandas as pd\n"
    "T = pd.DataFrame({'a': np.arange(9.0), 'k': np.arange(9) % 3, 't': list('abcabcabc')})\n"
)
SKLEARN = (
    "import numpy as np\nfrom sklearn.linear_model import Ridge\n"
    "from sklearn.ensemble import RandomForestRegressor as F\n"
    "X = np.arange(40.0).reshape(20, 2) % 7; y = X[:, 0] * 2 - 1\n"
)
WAITING = ("lk-idle", "lk-template")


@pytest.fixture
def births(monkeypatch):
    """The tasks that had a process of their own made for them."""
    made: list[int] = []
    begin = Attempts.begin

    def counted(self, waiting, *args, **named):
        made.append(waiting.index)
        return begin(self, waiting, *args, **named)

    monkeypatch.setattr(Attempts, "begin", counted)
    return made


def outcome(notebook, setup: str, header: str, body: str, names: str, times: int) -> tuple[str, ...]:
    """All that a user sees of a fan-out that runs so often: errors, results, output."""
    notebook.ok(setup)
    found: list[str] = []
    for _ in range(times):
        error = notebook.run(f"%%parallel {header}{f' -> {names}' if names else ''}\n{body}")
        values = [notebook.live.get(name) for name in names.split(", ") if name]
        found += [f"{type(error).__name__}: {error}", repr(values), notebook.out, notebook.err]
    state = notebook.ok("{n: repr(v) for n, v in sorted(globals().items()) if n in ('x', 'data', 'acc', 'table')}")
    return tuple(PLACES.sub("", text) for text in (*found, repr(state)))


def _skip_without(setup: str) -> None:
    for name in ("pandas", "sklearn", "scipy", "matplotlib"):
        if name in setup:
            pytest.importorskip(name)


ONCE_MORE = {
    "nothing but the item": ("", "i * i"),
    "a function of the notebook": ("def g(n): return n + 1\ndef f(n): return sum(g(k) for k in range(n))", "f(i)"),
    "a local name that the notebook has not": ("", "fresh = i + 1\nfresh * 2"),
    "a local name that the notebook has": ("x = 5", "y = x + i\nx = 7\n(x, y)"),
    "a name that is deleted": ("x = 5", "y = x\ndel x\ny + i"),
    "a name that is bound in a function": ("x = 5", "def f():\n    global x\n    x += i\nf()\nx"),
    "seeded numbers": ("import random; random.seed(3)", "random.random(), random.gauss(0, 1)"),
    "seeded arrays": ("import numpy as np; np.random.seed(3)", "np.random.rand(2).tolist(), np.random.normal()"),
    "a generator that is left seeded": ("import random; random.seed(3)", "v = random.random()\nrandom.seed(1)\nv"),
    "variables that are read": ("data = list(range(50)); table = {1: [2]}", "sum(data) + table[1][0] + i"),
    "an array that is read": ("import numpy as np\ndata = np.arange(1000.0)", "float((data * i).sum())"),
    "what is imported already": ("", "import math, json\njson.dumps([math.sqrt(i)])"),
    "what is not imported yet": ("", "import colorsys\ncolorsys.rgb_to_hsv(0, i, 1)"),
    "an error that is caught": ("", "try:\n    v = 1 // (i % 2)\nexcept ZeroDivisionError as e:\n    v = str(e)\nv"),
    "lines on both streams": ("", "import sys\nprint('out', i)\nprint('err', i, file=sys.stderr)\ni"),
    "text without an end of line": ("", "print('no end', i, end='')\ni"),
    "much text": ("", "print('x' * 20_000 * (i % 3))\ni"),
    "a generator that is left": ("", "def g():\n    yield 1\n    yield 2\nleft = g()\nnext(left)"),
    "a default that is not touched": ("def f(n, acc=[1]): return n + len(acc)", "f(i)"),
    "a name that the cell collects": ("", "model = {'i': i}\nmodel['j'] = i + 1\ni"),
    "a name that was collected before": ("model = [{}]", "model = {'i': i}\ni"),
    "names that are bound together": ("x = [1]; data = [2]", "x, (data, *_) = i, [i, 1]\nx + data"),
    "an entry that comes and goes": ("table = {1: 2}", "v = list(table)\ntable[5] = 1\ndel table[5]\nv"),
    "a list that is turned and turned again": ("data = [1, 2]", "data.reverse()\nv = data[:]\ndata.reverse()\nv"),
    "a number that a function counts up": ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "f()"),
    "a last value that is nothing": ("def f(n): print(n)", "f(i)"),
    "files that are written and read": (
        "import json, tempfile\nfrom pathlib import Path\n"
        "home = Path(tempfile.gettempdir(), 'lk-further')\nhome.mkdir(exist_ok=True)",
        "p = home / f'{i}.json'\nwith open(p, 'w') as f: json.dump({'n': i}, f)\n"
        "json.loads(p.read_text())['n'], p.exists()",
    ),
    "a table in a file": (
        f"{PANDAS}import tempfile\nhome = tempfile.gettempdir()",
        "import os\npath = f'{home}/lk-further-{i}.csv'\nT.head(i + 1).to_csv(path)\n"
        "n = len(pd.read_csv(path))\nos.remove(path)\nn",
    ),
    "objects of the notebook's class": (
        f"{WALK}class Far(Walk):\n    def step(self): return super().step() + 10",
        "w, f = Walk(i), Far(i)\n(w.step(), f.step(), [p.x for p in (w, f)])",
    ),
    "an object that is read": (f"{WALK}data = Walk(3)", "data.double() + i"),
    "a class of data": (
        "from dataclasses import dataclass, field\n@dataclass\nclass R:\n"
        "    a: int\n    b: list = field(default_factory=list)",
        "r = R(i)\nr.b.append(i)\nprint(r)\n(r == R(i), len(r.b))",
    ),
    "an error of the notebook": (
        "class Far(ValueError): pass\ndef f(n):\n    if n > 2: raise Far(n)",
        "try:\n    f(i)\n    v = 0\nexcept Far as e:\n    v = e.args\nv",
    ),
    "a result of the notebook's class": (WALK, "model = Walk(i)\nmodel.step()"),
    "a table that is read": (
        f"{PANDAS}data = T",
        "float(data[data.k == i % 3].a.sum() + data.groupby('k').a.max()[0])",
    ),
    "a table that is made": (
        PANDAS,
        "d = pd.DataFrame({'a': [i, 2]})\nd.columns = ['b']\nd['c'] = 1\nd.sum().tolist()",
    ),
    "a column of texts": (f"{PANDAS}data = T.t", "data.str.upper().value_counts().to_dict()"),
    "seeded rows of a table": (f"{PANDAS}np.random.seed(3)", "T.sample(2).index.tolist()"),
    "a library that only the body imports": (
        "",
        "from sklearn.tree import DecisionTreeRegressor as T\nfloat(T().fit([[0], [1]], [0, i]).predict([[1]])[0])",
    ),
    "a model that is fitted": (SKLEARN, "model = Ridge(i + 1).fit(X, y)\nround(model.score(X, y), 6)"),
    "a model that is read": (f"{SKLEARN}data = Ridge().fit(X, y)", "round(float(data.predict(X[i : i + 1])[0]), 6)"),
    "a forest without a seed": (f"{SKLEARN}np.random.seed(3)", "round(F(2).fit(X, y).score(X, y), 6)"),
    "parts of scipy that come late": (
        "import scipy",
        "import scipy.optimize\nround(float(scipy.optimize.brentq(lambda v: v - i, -1, 99)), 6)",
    ),
}


@pytest.mark.parametrize(("setup", "body"), ONCE_MORE.values(), ids=ONCE_MORE.keys())
def test_a_process_takes_further_items_and_nobody_can_tell(notebook, births, monkeypatch, setup, body):
    _skip_without(setup + body)
    names = "model, r" if "model" in body else "" if body == "f(i)" and "print" in setup else "r"
    with monkeypatch.context() as patch:
        patch.setattr(handover, "MOST_ITEMS", 1)
        expected = outcome(notebook, setup, f"--workers 2 for i in range({ITEMS})", body, names, 2)
    assert len(births) == 2 * ITEMS
    births.clear()
    assert outcome(notebook, setup, f"--workers 2 for i in range({ITEMS})", body, names, 2) == expected
    assert len(births) == 2  # two workers, that the second fan-out takes too


OF_ITS_OWN = {
    "a module's attribute": ("", "import json\nseen = hasattr(json, 'x')\njson.x = i\nseen"),
    "a module as a value": (
        "import json\ndef look(m): return hasattr(m, 'x')\ndef mark(m, v): setattr(m, 'x', v)",
        "v = look(json)\nmark(json, i)\nv",
    ),
    "the environment": ("", "import os\nv = os.environ.get('LK_X')\nos.environ['LK_X'] = str(i)\nv"),
    "the folder": ("", "import os\nv = os.getcwd()\nos.chdir('/')\nv"),
    "warnings": ("", "import warnings\nwarnings.warn('look')\ni"),
    "warnings of numpy": (NUMPY, "float(np.log(np.zeros(1))[0])"),
    "filters of warnings": ("", "import warnings\nn = len(warnings.filters)\nwarnings.simplefilter('ignore')\nn"),
    "a cache": (
        "import functools",
        "@functools.lru_cache\ndef f(n):\n    print('computes')\n    return n\nf(1), f(1)",
    ),
    "a cache of the notebook": (
        "import functools\n@functools.lru_cache\ndef f(n):\n    print('computes')\n    return n",
        "f(1)",
    ),
    "a default that grows": ("def f(n, acc=[]):\n    acc.append(n)\n    return len(acc)", "f(i)"),
    "a closure that counts": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return f\nf = make()",
        "f()",
    ),
    "a closure that grows": (
        "def make():\n    n = []\n    def f():\n        n.append(1)\n        return len(n)\n    return f\nf = make()",
        "f()",
    ),
    "a function's attribute": ("def f():\n    f.n = 1 + f.__dict__.get('n', 0)\n    return f.n", "f()"),
    "a class attribute": ("class C: n = []", "C.n.append(i)\nlen(C.n)"),
    "a list of the notebook": ("data = []", "data.append(i)\nlen(data)"),
    "a list that is bound anew": ("data = []", "data.append(i)\nn = len(data)\ndata = 1\nn"),
    "a list that is deleted": ("data = []", "data.append(i)\nn = len(data)\ndel data\nn"),
    "a list that is bound anew on one way": (
        "data = []",
        "if i > 99: data = 0\ndata.append(i)\nn = len(data)\ndata = 1\nn",
    ),
    "a list that is added to": ("acc = []", "acc += [i]\nlen(acc)"),
    "a list under two names": ("data = []", "x = data\nx.append(i)\nlen(data)"),
    "a list in a function": ("data = []\ndef f(n):\n    data.append(n)\n    return len(data)", "n = f(i)\ndata = 1\nn"),
    "a list in a list": ("data = [[1], {2: [3]}]", "data[1][2].append(3)\nlen(data[1][2])"),
    "a list in a tuple": ("data = (1, [2])", "data[1].append(1)\nlen(data[1])"),
    "a list that a partial holds": (
        "import functools\ndef f(a, n):\n    a.append(n)\n    return len(a)\ng = functools.partial(f, [])",
        "g(i)",
    ),
    "a default by name that grows": ("def f(n, *, a=[]):\n    a.append(n)\n    return len(a)", "f(i)"),
    "a list that functions of a list hold": ("fs = [lambda n, a=[]: a.append(n) or len(a)]", "fs[0](i)"),
    "a memory of calls": (
        "memo = {}\ndef f(k):\n    if k in memo: return 'hit'\n    memo[k] = 1\n    return 'miss'",
        "f(1)",
    ),
    "a set whose order changes": (
        "data = {0, 8, 16, 24, 5000, 10000}",
        "v = list(data)\ndata.update(range(1000))\ndata.difference_update(set(range(1000)) - {0, 8, 16, 24})\nv",
    ),
    "numbers that are counted": ("from collections import Counter\ndata = Counter()", "data[1] += 1\ndata[1]"),
    "a default that is made": (
        "from collections import defaultdict\ndata = defaultdict(list)",
        "v = len(data)\ndata[i]\nv",
    ),
    "an order that changes": (
        "from collections import OrderedDict\ndata = OrderedDict(a=1, b=2)",
        "v = next(iter(data))\ndata.move_to_end(v)\nv",
    ),
    "a queue": ("from collections import deque\ndata = deque([1])", "v = len(data)\ndata.append(3)\nv"),
    "numbers in a row": ("import array\ndata = array.array('i', [1])", "v = data[0]\ndata[0] = i + 2\nv"),
    "a large array": (f"{NUMPY}\ndata = np.zeros(300_000)", "v = float(data[150_000])\ndata[150_000] = i + 1\nv"),
    "an array of another shape": (
        f"{NUMPY}\ndata = np.arange(5)",
        "v = data.shape\ndata.resize((2, 2), refcheck=False)\nv",
    ),
    "an array of the notebook": (f"{NUMPY}\ndata = np.zeros(3)", "v = float(data[0])\ndata[0] = i + 1\nv"),
    "an array by a view": (f"{NUMPY}\ndata = np.zeros(3)", "x = data[1:]\nx[0] = i + 1\nfloat(data[1])"),
    "a list of a class, by its object": ("class C:\n    n = []", "c = C()\nc.n.append(i)\nlen(c.n)"),
    "a memory of a class": (
        "class C:\n    memo = {}\n    def f(self, k):\n        new = k not in self.memo\n"
        "        self.memo[k] = 1\n        return new",
        "C().f(1)",
    ),
    "an attribute that a class is given": (
        f"{WALK}class C(Walk):\n    def set(self, v): self.n = v\n    def get(self): return self.n",
        "v = 0\ntry: v = C.get(Walk)\nexcept AttributeError: pass\nC.set(Walk, i)\nv",
    ),
    "an attribute that a function is given": (
        "class C:\n    def set(self, v): self.n = v\n    def get(self): return self.n\ndef h(): pass",
        "v = 0\ntry: v = C.get(h)\nexcept AttributeError: pass\nC.set(h, i)\nv",
    ),
    "a default of a method": (
        "class C:\n    def f(self, a=[]):\n        a.append(1)\n        return len(a)",
        "C().f()",
    ),
    "a closure of a method": (
        "def made():\n    a = []\n    class C:\n        def f(self):\n"
        "            a.append(1)\n            return len(a)\n    return C\nC = made()",
        "C().f()",
    ),
    "an object that moves": (f"{WALK}data = Walk(0)", "data.step()"),
    "an object in a list that moves": (f"{WALK}data = [Walk(0)]", "data[0].step()"),
    "an end of an object": ("class C:\n    def __del__(self): print('gone')", "c = C()\ni"),
    "a count of a class": ("class C:\n    n = 0\n    def __init__(self): C.n += 1", "C()\nC.n"),
    "a table of the notebook": (f"{PANDAS}data = T", "v = float(data.a[0])\ndata.loc[0, 'a'] = i + 1\nv"),
    "a table by a column": (f"{PANDAS}data = T", "v = list(data)\ndata.insert(0, 'x' + str(i), 1)\nv"),
    "names of columns": (f"{PANDAS}data = T", "v = list(data)\ndata.columns = [i, 1, 2]\nv"),
    "a setting of pandas": (PANDAS, "v = pd.get_option('display.width')\npd.set_option('display.width', 50 + i)\nv"),
    "warnings of pandas": (PANDAS, "pd.to_datetime(pd.Series(['x', 'y']), errors='coerce').isna().tolist()"),
    "a plot": (PANDAS, "import matplotlib.pyplot as plt\nn = len(plt.get_fignums())\nT.plot()\nn"),
    "a model of the notebook": (
        f"{SKLEARN}data = Ridge()",
        "v = hasattr(data, 'coef_')\ndata.fit(X, y)\nv",
    ),
    "a setting of a model": (f"{SKLEARN}data = Ridge()", "v = data.get_params()['alpha']\ndata.set_params(alpha=i)\nv"),
    "warnings of a model": (
        f"{SKLEARN}from sklearn.linear_model import Lasso",
        "round(float(Lasso(1e-9, max_iter=1, tol=0).fit(X, y).coef_[0]), 6)",
    ),
    "an iterator of the notebook": ("data = iter(range(100))", "next(data)"),
    "a generator of numbers": (f"{NUMPY}\ndata = np.random.default_rng(0)", "data.random()"),
    "leaving": ("", "import sys\nif i == 3: sys.exit(2)\ni"),
    "threads": (
        "",
        "import threading, time\nn = threading.active_count()\n"
        "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\nn",
    ),
    "an open file": ("import os", "n = len(os.listdir('/proc/self/fd'))\nf = open('/dev/null')\nn"),
    "a file that is left open": ("", "f = open('/dev/null')\ni"),
    "a child": ("", "import subprocess\nsubprocess.run(['true']).returncode"),
    "a finalizer": ("", "class D:\n    def __del__(self): print('gone', i)\nkept = D()\ni"),
    "a generator with an end": (
        "",
        "def g():\n    try:\n        yield 1\n    finally:\n        print('ends')\nleft = g()\nnext(left)",
    ),
    "settings of numpy": (NUMPY, "v = np.geterr()['divide']\nnp.seterr(divide='ignore')\nv"),
    "a context of decimals": ("", "import decimal\nc = decimal.getcontext()\nv = c.prec\nc.prec = 5 + i\nv"),
    "the depth of recursion": ("", "import sys\nv = sys.getrecursionlimit()\nsys.setrecursionlimit(2000 + i)\nv"),
    "a built-in name": ("", "import builtins\nv = hasattr(builtins, 'mine')\nbuiltins.mine = 1\nv"),
    "a stream that is closed": ("", "import sys\nprint('last')\nsys.stdout.close()\ni"),
    "a signal": (
        "",
        "import signal\nv = str(signal.getsignal(signal.SIGUSR1))\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\nv",
    ),
    "a class": ("", "class P:\n    def __init__(self, v): self.v = v\nP(i).v"),
    "a display": ("", "display({'text/plain': str(i)}, raw=True)\ni"),
    "text from C": ("", "import ctypes\nprint('p', i)\nctypes.CDLL(None).puts(b'from C')\ni"),
    "a coroutine": ("", "import asyncio\nawait asyncio.sleep(0)\ni"),
}


@pytest.mark.parametrize(("setup", "body"), OF_ITS_OWN.values(), ids=OF_ITS_OWN.keys())
def test_what_may_be_seen_by_the_next_item_has_a_process_of_its_own(notebook, births, monkeypatch, setup, body):
    _skip_without(setup)
    header = f"--workers 2 --keep-going for i in range({ITEMS})"
    monkeypatch.setattr(cell, "refuse_lost_updates", lambda *_: None)  # else some would not run at all
    with monkeypatch.context() as patch:
        patch.setattr(handover, "MOST_ITEMS", 1)
        expected = outcome(notebook, setup, header, body, "r", 1)
    births.clear()
    assert outcome(notebook, setup, header, body, "r", 1) == expected
    assert len(births) == ITEMS


# -- failures, limits, and the end


def slept(notebook, seconds: float) -> None:
    notebook.ok(f"import time\ndef f(i):\n    print('begin', i)\n    if i == 3: time.sleep({seconds})\n    return i")


def test_a_task_that_fails_ends_its_process_and_the_others_go_on(notebook, births):
    notebook.ok("def f(i): return 1 // (i % 3)")
    notebook.ok("%%parallel --workers 1 --keep-going for i in range(9) -> r\nf(i)")
    assert [type(one).__name__ for one in notebook.live["r"]] == ["TaskFailed", "int", "int"] * 3
    assert births == [0, 1, 4, 7]


def test_of_a_process_that_is_killed_one_item_is_lost(notebook, births, monkeypatch):
    """Its results before that are kept, and those after it have another process."""
    slept(notebook, 60)
    given: list[int] = []

    def noted(give):
        def wrapped(process, waiting, *args, **named):
            given.append(waiting.index)
            return give(process, waiting, *args, **named)

        return wrapped

    def kill():
        wait_for(lambda: 3 in given, 20)
        time.sleep(0.5)  # it has printed by then
        os.kill(alive("lk-task")[0].pid, signal.SIGKILL)

    monkeypatch.setattr(processes, "hand_over", noted(handover.hand_over))
    monkeypatch.setattr(processes, "gone_on", noted(handover.gone_on))
    thread = threading.Thread(target=kill)
    thread.start()
    notebook.ok("%%parallel --workers 1 --keep-going for i in range(6) -> r\nf(i)")
    thread.join(30)
    assert [one if isinstance(one, int) else one.ename for one in notebook.live["r"]] == [0, 1, 2, "TaskLost", 4, 5]
    assert "SIGKILL" in notebook.live["r"][3].evalue
    assert births == [0, 4]
    assert notebook.out == "".join(f"task {i} (i={i})\nbegin {i}\n" for i in range(6))


def test_a_further_item_that_takes_too_long_is_ended_and_may_be_tried_again(notebook, births):
    slept(notebook, 60)
    notebook.ok("%%parallel --workers 1 --timeout 1 --retries 1 --keep-going for i in range(6) -> r\nf(i)")
    assert [one if isinstance(one, int) else one.ename for one in notebook.live["r"]] == [0, 1, 2, "TaskLost", 4, 5]
    assert "--timeout 1" in notebook.live["r"][3].evalue and "attempt 2 of 2" in notebook.live["r"][3].evalue
    assert notebook.out.count("begin 3") == 2
    assert births == [0, 3, 4]


def test_an_interrupt_ends_a_process_with_a_further_item_and_binds_nothing(notebook):
    slept(notebook, 60)
    began = time.monotonic()
    with interrupted_after(1.5):
        error = notebook.run("%%parallel --workers 2 for i in range(6) -> never\nf(i)")
    assert isinstance(error, KeyboardInterrupt) and time.monotonic() - began < 3.5
    assert "never" not in notebook.live
    wait_for(lambda: not alive("lk-task"), 2)


def test_no_process_is_left_and_no_descriptor(notebook):
    notebook.ok("%%parallel for i in range(4) -> r\ni")
    before = len(os.listdir("/proc/self/fd"))
    notebook.ok("%%parallel for i in range(40) -> r\ni")
    assert len(os.listdir("/proc/self/fd")) == before
    wait_for(lambda: not alive("lk-task"), 5)
    notebook.magics.spares.close()
    wait_for(lambda: not alive(*WAITING), 5)


def test_a_process_takes_so_many_items_and_no_more(notebook, births, monkeypatch):
    monkeypatch.setattr(handover, "MOST_ITEMS", 3)
    notebook.ok("%%parallel --workers 1 for i in range(7) -> r\ni")
    assert notebook.live["r"] == list(range(7)) and births == [0, 3, 6]


def test_a_process_that_has_grown_ends_with_its_item(notebook, births):
    notebook.ok("%%parallel --workers 1 for i in range(4) -> r\nlen(bytearray(80_000_000 * (i == 1)))")
    assert notebook.live["r"] == [0, 80_000_000, 0, 0] and births == [0, 2]


WITH_CODE = """
import os
from dataclasses import dataclass, field
k, table, other = 3, {1: 10, 2: 20}, [5]
def f(x): return x * k
def g(x): return table.get(x, 0) + len(other)
@dataclass
class Config:
    n: int
    tags: list = field(default_factory=list)
    def scaled(self): return self.n * k + f(self.n)
class Quiet:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return self.n == other.n
    def value(self): return g(self.n)
def remembers(x):
    table[x] = 1
    return 0
def appends(x, acc=[]):
    acc.append(x)
    return len(acc)
class Ends:
    def __del__(self): pass
"""


@pytest.mark.parametrize(
    ("items", "body"),
    [
        ("[f, g, f, g]", "h(2)"),
        ("[1, [f], (2, g), {'a': f}]", "len([h])"),
        ("[Config(1), Config(2, ['a']), Config(3)]", "h.scaled() + len(h.tags)"),
        ("[Quiet(1), Quiet(2), Quiet(3)]", "h.value(), h == Quiet(2)"),
        ("[(1, Config(1)), (2, Config(2))]", "n, config = h\nn * config.scaled()"),
    ],
)
def test_items_with_code_go_on_where_that_is_known(notebook, births, monkeypatch, items, body):
    notebook.ok(WITH_CODE)
    cell = f"%%parallel --workers 1 for h in {items} -> r\n{body}"
    with monkeypatch.context() as patch:
        patch.setattr(handover, "MOST_ITEMS", 1)
        notebook.ok(cell)
    expected, count = notebook.live["r"], len(births)
    assert count == len(expected)
    for change in ("", "k = 3", "table[2] = 20; other[0] = 5"):
        births.clear()
        notebook.ok(f"{change}\n")
        notebook.ok(cell)
        assert notebook.live["r"] == expected and len(births) <= 1
    notebook.ok("k = 4; table[2] = 21; other.append(6)")
    notebook.ok(cell)
    changed = notebook.live["r"]
    with monkeypatch.context() as patch:
        patch.setattr(handover, "MOST_ITEMS", 1)
        notebook.ok(cell)
    assert notebook.live["r"] == changed


@pytest.mark.parametrize(
    ("items", "body", "fails"),
    [
        ("[remembers] * 3", "h(7)", True),
        ("[appends] * 3", "h(7)", True),
        ("[Config(1), Config(2), Config(3)]", "h.n = 5\n1", True),
        ("[Config(1), Config(2), Config(3)]", "h.tags.append(5)\n1", True),
        ("[Ends(), Ends()]", "1", False),
        ("[os.getpid, os.getppid]", "1", False),
        ("[exec, len]", "1", False),
    ],
)
def test_items_with_code_that_may_leave_a_trace_have_processes_of_their_own(notebook, births, items, body, fails):
    notebook.ok(WITH_CODE)
    notebook.ok(f"%%parallel --workers 1 --keep-going for h in {items} -> r\n{body}")
    assert len(births) == len(notebook.live["r"])
    assert all((getattr(one, "ename", "") == "LostUpdate") is fails for one in notebook.live["r"])


def test_items_that_are_data_go_on(notebook, births):
    notebook.ok("import numpy as np")
    notebook.ok("%%parallel --workers 1 for h in [1, [2, {'a': (3,)}], np.ones(3)] -> r\nh")
    assert births == [0]


def test_values_that_are_shown_have_processes_of_their_own(notebook, births):
    notebook.ok("%%parallel --workers 1 for i in range(3)\n{'a': i}")
    assert births == [0, 1, 2] and "{'a': 2}" in notebook.out


PATCH = "seen = []\ndef mine(x):\n    seen.append(1)\n    return len(seen)\n"


@pytest.mark.parametrize("setup", [f"{PATCH}statistics.mean = mine", f"{PATCH}builtins.abs = mine"])
def test_what_the_notebook_has_patched_is_its_own_code(notebook, births, monkeypatch, setup):
    monkeypatch.setattr(statistics, "mean", statistics.mean)  # as it was, afterwards
    monkeypatch.setattr(builtins, "abs", builtins.abs)
    notebook.ok(f"import builtins, statistics\n{setup}")
    notebook.ok("%%parallel --workers 1 --keep-going for i in range(3) -> r\nstatistics.mean([abs(i)])")
    assert births == [0, 1, 2]


LIVES = """
from lambdakernel import Live
from kvs.lattices import Average, GCounter, GrowSet, Map, Max, Min
from kvs.causal import AddWinsSet
count, best, words = Live(GCounter()), Live(Min(100.0)), Live(GrowSet())
mean, scores, people, held = Live(Average()), Live(Map()), Live(AddWinsSet()), {"a": Live(Max(0))}
def note(i):
    best.merge(float(50 - i))
    return best.value <= 50 - i  # others may have joined less
"""


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("count.increment()", "count.total()"),
        ("for _ in range(i): count.increment()", "count.total()"),
        ("note(i)", "best.value"),
        ("words.add(str(i))\nlen(words) > 0", "sorted(words)"),
        ("mean.add(float(i))", "mean.mean()"),
        ("scores.merge(str(i % 3), Max(i))\nstr(i % 3) in scores", "{k: v.value for k, v in scores.items()}"),
        ("people.add(str(i), 'all')", "sorted(people)"),
        ("held['a'].merge(i)", "held['a'].value"),
        ("best |= Min(3.0 - i)\nbest.value <= 3", "best.value"),
        ("if i == 5: 1 / 0\ncount.increment()", "count.total()"),
    ],
)
def test_tasks_that_share_a_lattice_go_on(notebook, births, monkeypatch, body, after):
    """They count once each, whichever process they run in, and begin with what others have joined."""
    found = []
    for most in (1, handover.MOST_ITEMS):
        notebook.ok(LIVES)
        births.clear()
        with monkeypatch.context() as patch:
            patch.setattr(handover, "MOST_ITEMS", most)
            for times in (1, 2):
                cell = f"%%parallel --workers 2 --keep-going for i in range(8) -> r\n{body}"
                notebook.ok(f"{cell}\n0" if "merge" in body or "add" in body or "increment" in body else cell)
                found.append((times, repr(notebook.live["r"]), notebook.ok(f"seen = {after}") or notebook.live["seen"]))
        assert len(births) == 16 if most == 1 else len(births) <= 5
    assert found[:2] == found[2:]


def test_a_task_begins_with_all_that_was_joined_before(notebook, births):
    notebook.ok(LIVES)
    notebook.ok("%%parallel --workers 1 for i in range(40) -> r\nseen = len(words)\nwords.add(str(i))\nseen")
    assert notebook.live["r"] == list(range(40)) and births == [0]
    notebook.ok("words.add('more')")
    notebook.ok("%%parallel --workers 1 for i in range(3) -> r\nseen = len(words)\nwords.add('x' + str(i))\nseen")
    assert notebook.live["r"] == [41, 42, 43] and len(births) <= 2


def test_much_that_was_joined_reaches_the_next_task(notebook, births):
    notebook.ok(LIVES)
    notebook.ok(
        "%%parallel --workers 1 for i in range(4) -> r\nwords.add(*(f'{i}/{n}' * 9 for n in range(900)))\nlen(words)"
    )
    assert notebook.live["r"] == [900, 1800, 2700, 3600] and births == [0]


def test_a_plain_change_beside_a_lattice_is_refused(notebook):
    notebook.ok(f"{LIVES}\nplain = []")
    error = notebook.run("%%parallel --workers 1 for i in range(3) -> r\nif i < 9: plain.append(i)\ncount.increment()")
    assert "in place" in str(error)


def test_an_item_that_holds_a_lattice_has_a_process_of_its_own(notebook, births):
    notebook.ok(LIVES)
    notebook.ok("%%parallel --workers 1 for one in [(count, 1), (count, 2)]\none[0].increment()")
    assert births == [0, 1] and notebook.ok("count.total()") in (2, None)


def test_a_limit_on_memory_is_of_one_item(notebook, births):
    notebook.ok("%%parallel --memory 500MB for i in range(4) -> r\ni")
    assert sorted(births) == [0, 1, 2, 3]


def test_what_tasks_take_adds_up(notebook):
    notebook.ok("def f(n):\n    return sum(k * k for k in range(300_000))")
    cell = "%%parallel --background --workers 2 for i in range({}) -> r\nf(i)\n"
    taken = []
    for count in (4, 16):
        notebook.ok(cell.format(count))
        notebook.ok("%wait --timeout 60")
        taken.append(notebook.jobs.all()[-1].progress.cost.cpu_s)
    assert 2 < taken[1] / taken[0] < 8


def test_output_of_many_further_items_is_each_ones_own(notebook, births):
    both = "print(i, k)\n        print(-i, file=sys.stderr, end='')"
    notebook.ok(f"import sys\ndef f(i):\n    for k in range(i % 4):\n        {both}")
    notebook.ok("%%parallel --workers 2 for i in range(120)\nf(i)")
    shown = [i for i in range(120) if i % 4]
    expected = "".join(f"task {i} (i={i})\n" + "".join(f"{i} {k}\n" for k in range(i % 4)) for i in shown)
    assert notebook.out.replace("\n\n", "\n") == expected
    assert notebook.err == "".join(f"{-i}" * (i % 4) for i in shown)
    assert len(births) == 2


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with running(tmp_path_factory.mktemp("store"), session="further-test") as kernel:
        yield kernel


@pytest.mark.parametrize(
    ("setup", "body", "is_few"),
    [
        ("import time", "time.sleep(0.1)\ni", True),
        ("import time, matplotlib.pyplot as plt, numpy as np, pandas", "time.sleep(0.1)\nfloat(np.sqrt(i))", True),
        ("import time, os", "time.sleep(0.1)\nos.getpid() and i", False),
    ],
)
def test_the_processes_of_a_fan_out_in_a_kernel(kernel, setup, body, is_few):
    """What a library leaves where code meets it, such as how IPython prints numbers, is nothing that tasks meet."""
    if "matplotlib" in setup:
        pytest.importorskip("matplotlib")
        pytest.importorskip("pandas")
    assert kernel.run(setup).status == "ok"
    kernel.run("%%parallel for i in range(2) -> r\ni")
    seen, is_over = set[int](), threading.Event()

    def look():
        while not is_over.wait(0.02):
            seen.update(kernel.pids("task"))

    looker = threading.Thread(target=look)
    looker.start()
    result = kernel.run(f"%%parallel --workers 2 for i in range(12) -> r\n{body}")
    is_over.set()
    looker.join(10)
    assert result.status == "ok", result.shown
    assert (len(seen) <= 3) if is_few else (len(seen) >= 8)
