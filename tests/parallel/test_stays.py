"""Bodies whose process may take further items, as their text and the notebook's variables show; and others."""

from __future__ import annotations

import ast
import sys
import types

import pytest

from lambdakernel.parallel.known import libraries_in
from lambdakernel.parallel.met import loaded_by
from lambdakernel.parallel.stays import MOST_LOOKED, stays

AWAITS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def found(body: str, setup: str = "", target: str = "i"):
    module = types.ModuleType("__main__")
    notebook = module.__dict__
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", module)
        exec(setup, notebook)
    tree = compile(body, "<body>", "exec", AWAITS)
    bound = {node.id for node in ast.walk(ast.parse(target)) if isinstance(node, ast.Name)}
    return stays(tree, target, bound, notebook)


@pytest.mark.parametrize(
    ("body", "setup"),
    [
        ("i * i", ""),
        ("f(i)", "def g(x): return x + 1\ndef f(x): return [g(y) for y in range(x)]"),
        ("import math\nmath.sqrt(i) + math.pi", ""),
        ("s(i)", "from math import sqrt as s"),
        ("random.random() + random.randint(1, 5)", "import random"),
        ("g(i)", "import random\ng = random.seed"),
        ("import random\nrandom.Random(i).random()", ""),
        ("import json\njson.loads(json.dumps([i]))", ""),
        ("import re\nre.sub('a', 'b', 'c', flags=re.I)", ""),
        ("from collections import Counter, defaultdict\nCounter('abc')", ""),
        ("import time\ntime.sleep(i)\nprint(i)", ""),
        ("import sys\nprint(i, file=sys.stderr)", ""),
        ("import datetime as d\nd.datetime.now()", ""),
        ("from fractions import Fraction as F\nF(1, 3)", ""),
        ("import decimal\ndecimal.Decimal(1) / 3", ""),
        ("import os.path as p\np.join('a', 'b')", ""),
        ("import os\nos.path.join('a', 'b')", ""),
        ("import collections.abc\nisinstance(i, collections.abc.Iterable)", ""),
        ("x = [1]\nx.append(2)\nsum(x)", ""),
        ("try:\n    1 / i\nexcept ZeroDivisionError as e:\n    print(e)", ""),
        ("f(i)", "import functools\ndef g(a, b): return a\nf = functools.partial(g, 1)"),
        ("import heapq, bisect, itertools, operator\nheapq.nsmallest(1, [i]), operator.itemgetter(0)([1])", ""),
        ("import copy\ncopy.deepcopy([i])", ""),
        ("with open('x') as f: f.read()", ""),
        ("p.with_suffix('.b').write_text(p.read_text() + str(i))", "from pathlib import Path\np = Path('a')"),
        ("from pathlib import Path\n[q.stat().st_size for q in (Path('x') / 'y').glob('*') if q.is_file()]", ""),
        ("import os, glob, shutil\nos.makedirs('x', exist_ok=True)\nshutil.copy('a', 'x')\nglob.glob('x/*')", ""),
        ("import csv, gzip, json\nwith gzip.open('x', 'wt') as f: csv.writer(f).writerow([i])", ""),
        ("import json, os\nwith open(os.path.abspath('x'), 'w') as f: json.dump([i], f)", ""),
        ("def gen(n):\n    for k in range(n): yield k\nsum(gen(i))", ""),
        ("h(i)", "h = lambda x, acc=[]: x"),
        ("table[i]", "import datetime\ntable = {1: [2, (3.5, 'x', datetime.date(2020, 1, 1))]}"),
        ("d[i], c[i], o[i]", "from collections import *\nd, c, o = defaultdict(list), Counter('a'), OrderedDict(a=[])"),
        ("x = f(2)\ndef local(): return x\nlocal()", "def f(n): return n"),
        ("f()", "def f(): return later"),
    ],
)  # fmt: skip
def test_a_body_that_leaves_no_trace(body, setup):
    later = "\nlater = 1" if "later" in setup else ""
    assert found(body + later, setup).why == ""


def test_numpy_is_known():
    pytest.importorskip("numpy")
    setup = "import numpy as np\na = np.ones(3)"
    for body in (
        "np.linalg.norm(a + i) + np.add.reduce(a) + np.sum(a) + np.float64(3) + np.pi",
        "import numpy as np\nnp.random.default_rng(i).normal(size=3).sum(), np.random.rand(3)",
        "with np.errstate(divide='ignore'): np.log(0.0)",
        "np.vectorize(lambda x: x)(a), np.fft.fft(np.arange(4)).real",
    ):
        assert found(body, setup).why == ""
    for body, says in (
        ("np.seterr(all='ignore')", ".seterr"),
        ("np.set_printoptions(3)", ".set_printoptions"),
        ("np.ma.masked", ".ma"),
        ("np.r_[1, 2]", "numpy.r_"),
        ("np.random.set_state(1)", ".set_state"),
        ("np.memmap('x')", ".memmap"),
        ("np.typecodes['x'] = 1", "numpy.typecodes can change"),
        ("np.fromfile('x')", ".fromfile"),
        ("np.char.add('a', 'b')", "numpy.char"),
        ("import numpy.testing", "imports numpy.testing"),
        ("a.setflags(write=False)", ".setflags"),
        ("a.resize(2)", ".resize"),
        ("a.shape = (3, 1)", "STORE_ATTR"),
    ):
        assert says in found(body, setup).why
    assert "numpy.ndarray" in found("o", f"{setup}\no = np.array([[], None], dtype=object)").why
    assert "Generator" in found("r.random()", f"{setup}\nr = np.random.default_rng(0)").why


P = "class P:\n    def __del__(self): pass\n"
PANDAS = "import pandas as pd\ndf = pd.DataFrame({'a': [1.0, 2.0], 'k': ['x', 'y']})\n"
SKLEARN = """
import numpy as np, sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import sklearn.linear_model as lm, sklearn.datasets
X, y = sklearn.datasets.load_iris(return_X_y=True)
fitted = RandomForestClassifier(3).fit(X, y)
data = sklearn.datasets.load_iris()
"""
SCIPY = (
    "import numpy as np, scipy.stats, scipy.spatial\nfrom scipy import optimize\ntree = scipy.spatial.KDTree(np.eye(3))"
)


@pytest.mark.parametrize(
    ("body", "setup", "modules"),
    [
        ("df[df.a > i].a.sum() + df.groupby('k').a.mean().iloc[0]", PANDAS, {"pandas"}),
        ("d = df.assign(b=i)\nd.columns = list('xyz')\nd['w'] = 1\npd.concat([d, d]).merge(d)", PANDAS, {"pandas"}),
        ("pd.Timestamp('2020-01-01') + pd.offsets.Day(i) + t[0]", f"{PANDAS}t = [pd.Timedelta(days=1)]", {"pandas"}),
        ("s.str.upper()", f"{PANDAS}s = pd.Series(['a', None, 3], dtype=object, name='n')", {"pandas"}),
        ("c.cat.codes", f"{PANDAS}c = pd.Series(['a', 'b'], dtype='category')", {"pandas"}),
        ("m.loc[1]", f"{PANDAS}m = df.set_index(['a', 'k'])", {"pandas"}),
        ("f(i)", f"{PANDAS}def f(n): return pd.to_datetime('2020-01-01').year + len(df) + n", {"pandas"}),
        (
            "cross_val_score(RandomForestClassifier(max_depth=i), X, y).mean()",
            SKLEARN,
            {"sklearn.ensemble", "sklearn.model_selection"},
        ),
        ("make_pipeline(StandardScaler(), lm.Ridge(i)).fit(X, y).score(X, y)", SKLEARN, {"sklearn.pipeline"}),
        ("sklearn.clone(fitted).set_params(max_depth=i), sklearn.linear_model.Lasso(i)", SKLEARN, {"sklearn.ensemble"}),
        ("fitted.predict(data.data)[i]", SKLEARN, {"sklearn.ensemble", "sklearn.utils"}),
        ("scipy.stats.norm(0, 1).cdf(i) + scipy.stats.norm.rvs()", SCIPY, {"scipy.stats"}),
        ("optimize.minimize(lambda x: (x - i) ** 2, 0.0).x[0]", SCIPY, {"scipy.optimize"}),
        ("tree.query([0, 0, i])[0]", f"{SCIPY}\nimport sys\nsys.modules.pop('pandas', None)", {"scipy.spatial"}),
    ],
)
def test_libraries_that_leave_no_trace(monkeypatch, body, setup, modules):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "pandas", sys.modules["pandas"])  # back afterwards
    result = found(body, setup)
    assert result.why == "" and modules <= result.modules


@pytest.mark.parametrize(
    ("body", "setup", "says"),
    [
        ("pd.set_option('display.width', i)", PANDAS, ".set_option"),
        ("pd.options.display.width", PANDAS, ".options"),
        ("pd.read_sql('x', i)", PANDAS, ".read_sql"),
        ("df.plot()", PANDAS, ".plot"),
        ("df.query('a > 1')", PANDAS, ".query"),
        ("d = df\nd.eval('a + 1')", PANDAS, ".eval"),
        ("df.attrs['n'] = i", PANDAS, ".attrs"),
        ("df.name = i", PANDAS, "STORE_ATTR"),
        ("pd.api.extensions.register_dataframe_accessor", PANDAS, ".register_dataframe_accessor"),
        ("pd.api.extensions.no_default", PANDAS, "pandas.api.extensions"),
        ("pd.core.frame", PANDAS, ".core"),
        ("pd.plotting.scatter_matrix(df)", PANDAS, "pandas.plotting"),
        ("o.a", f"{PANDAS}{P}o = pd.DataFrame({{'a': [P()]}})", "has __del__"),
        ("o.a", f"{PANDAS}o = pd.DataFrame([1.0], index=pd.Index([exec], dtype=object))", "is of builtins"),
        ("o", f"{PANDAS}{P}o = pd.Series(pd.Categorical([P()]))", "has __del__"),
        ("o", f"{PANDAS}{P}o = df.copy(); o.attrs['p'] = P()", "has __del__"),
        ("o", f"{PANDAS}class T(pd.DataFrame): pass\no = T(df)", "is a DataFrame"),
        ("o", f"{PANDAS}class T(pd.DataFrame): pass\nT.__module__ = 'pandas'\no = T(df)", "is of pandas.T"),
        ("DataFrame(i)", f"{PANDAS}class DataFrame: pass\nDataFrame.__module__ = 'pandas'", "is pandas.DataFrame"),
        ("df.apply(f)", f"{PANDAS}import os\ndef f(x): return os.getpid()", "os.getpid"),
        ("sklearn.set_config(display='text')", SKLEARN, ".set_config"),
        ("sklearn.datasets.fetch_openml('x')", SKLEARN, ".fetch_openml"),
        ("sklearn.utils.Bunch()", SKLEARN, "sklearn.utils"),
        ("sklearn.metrics.ConfusionMatrixDisplay", SKLEARN, ".ConfusionMatrixDisplay"),
        ("model", f"{SKLEARN}model = RandomForestClassifier(random_state=np.random.RandomState(1))", "RandomState"),
        ("t", f"{SKLEARN}import os, sklearn.preprocessing as p\nt = p.FunctionTransformer(os.getpid)", "is of"),
        ("sklearn.x = 1", SKLEARN, "STORE_ATTR"),
        ("scipy.io.loadmat('x')", f"import scipy.io\n{SCIPY}", "scipy.io"),
    ],
)  # fmt: skip
def test_what_of_libraries_may_leave_a_trace(body, setup, says):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    why = found(body, setup).why
    assert why and says in why


@pytest.mark.parametrize(
    ("body", "modules"),
    [
        ("from sklearn.svm import SVC\nSVC(C=i)", {"sklearn.svm"}),
        ("import sklearn.svm as s, pandas as pd\npd.DataFrame({'a': [i]}), s.SVC", {"sklearn.svm", "pandas"}),
        ("from sklearn.linear_model import *\nLasso()", None),
        ("import pandas as pd\npd.set_option('a', i)", None),
        ("import pandas as pd\nprint(pd)", None),
        ("import pandas.plotting", None),
        ("from sklearn.utils import shuffle\nshuffle([i])", None),
    ],
)
def test_libraries_that_only_the_body_imports(monkeypatch, body, modules):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sklearn", "pandas")]:
        monkeypatch.delitem(sys.modules, name)
    result = found(body)
    assert (result.why == "" and result.modules == modules) if modules else result.why
    assert not {"pandas", "sklearn.svm"} & sys.modules.keys(), "they are not imported here for that"


def test_a_module_of_the_notebooks_folder_is_not_the_library(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pandas"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "pandas.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert "imports pandas" in found("import pandas as pd\npd.DataFrame()").why


@pytest.mark.parametrize("body", ["np.ones(i)", "a[i]", "f(i)", "norm(a)", "kind(i)", "sum(held[0])"])
def test_numpy_is_named_where_it_is_used(body):
    setup = (
        "import numpy as np\na = np.ones(3)\nf = np.sqrt\nfrom numpy.linalg import norm\nkind = np.float64\nheld = [a]"
    )
    assert found(body, setup).modules == {"numpy"} and found("i * i", setup).modules == set()


def test_items_of_libraries():
    assert libraries_in([(1, pytest.importorskip("numpy").ones(3))]) == {"numpy"}
    pd, linear_model = pytest.importorskip("pandas"), pytest.importorskip("sklearn.linear_model")
    frame, model = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), linear_model.Ridge(2.0)
    assert libraries_in([frame, ("x", frame.a), {"i": frame.index}]) == {"pandas"}
    assert libraries_in([model, 3]) == {"sklearn.linear_model"}
    assert libraries_in([pd.DataFrame({"a": [test_items_of_libraries]})]) is None
    assert libraries_in([linear_model.Ridge(test_items_of_libraries)]) is None


POINT = """
class Point:
    unit = (1, 2)
    def __init__(self, x, y=0):
        self.x, self.y = x, y
        self.n = 0
    def __add__(self, other): return Point(self.x + other.x, self.y + other.y)
    def __eq__(self, other): return isinstance(other, Point) and self.x == other.x
    def step(self, by=1):
        self.x += by
        self.n = self.n + 1
        return [k * self.x for k in self.unit]
    @property
    def size(self): return abs(self.x)
    @size.setter
    def size(self, value): self.x = value
    @staticmethod
    def zero(): return Point(0)
    @classmethod
    def of(cls, pair): return cls(*pair)
class Named(Point):
    __slots__ = ("name",)
    def __init__(self, x, name):
        super().__init__(x)
        self.name = name
class TooFar(ValueError): pass
"""
DATA = """
from dataclasses import dataclass, field, replace
@dataclass
class Row:
    a: int
    b: list = field(default_factory=list)
    c: str = "x"
    def __post_init__(self): self.a = self.a + 1
    def total(self): return self.a + len(self.b)
"""


@pytest.mark.parametrize(
    ("body", "setup"),
    [
        ("p = Point(i)\np.step()\n(p + Point.zero()).x + Point.of((1, 2)).size", POINT),
        ("Named(i, 'a').step(2), isinstance(i, Point)", POINT),
        ("p.x + q.name", f"{POINT}p, q = Point(1), Named(2, 'q')"),
        ("try:\n    raise TooFar(i)\nexcept TooFar as e:\n    str(e)", POINT),
        ("Row(i).total() + Row(1, [2]).a\nreplace(Row(i), a=3) == Row(2)\nprint(Row(i))", DATA),
        ("f(i)", f"{POINT}def f(n): return Point(n).step()"),
        ("c.x + C.x", "class C: x = 1\nc = C()"),
    ],
)
def test_classes_of_the_notebook_that_leave_no_trace(body, setup):
    assert found(body, setup).why == ""


def test_what_methods_read_may_be_met():
    setup = (
        "class C:\n    def f(self): return table\n    @staticmethod\n    def g(): return other\ntable, other = [1], [2]"
    )
    assert {"table", "other", "C"} <= found("C().f()", setup).met


@pytest.mark.parametrize(
    ("setup", "says"),
    [
        ("class C:\n    def __del__(self): print('gone')", "has __del__"),
        ("class C:\n    def __getattr__(self, name): return 1", "has __getattr__"),
        ("class C:\n    def __setattr__(self, name, v): pass", "has __setattr__"),
        ("class C:\n    def __init_subclass__(cls): pass", "has __init_subclass__"),
        ("class M(type): pass\nclass C(metaclass=M): pass", "is __main__.C"),
        ("import abc\nclass C(abc.ABC): pass", "is __main__.C"),
        ("import enum\nclass C(enum.Enum):\n    A = 1", "is __main__.C"),
        ("class C(dict): pass", "is a dict"),
        ("import typing\nclass C(typing.NamedTuple):\n    a: int", "is a tuple"),
        ("class C:\n    def f(self):\n        C.n = 1", "STORE_ATTR"),
        ("class C:\n    n = 0\n    def f(self):\n        C.n += 1", "STORE_ATTR"),
        ("class C:\n    @classmethod\n    def f(cls):\n        cls.n = 1", "STORE_ATTR"),
        ("class C:\n    @staticmethod\n    def f(other):\n        other.n = 1", "STORE_ATTR"),
        ("class C:\n    def f(self, other):\n        other.n = 1", "STORE_ATTR"),
        ("class C:\n    def f(self, other):\n        other.n += self.n", "STORE_ATTR"),
        ("class C:\n    def f(self, other):\n        self = other\n        self.n = 1", "STORE_ATTR"),
        ("class C:\n    def f(self):\n        def g(): self.n = 1\n        g()", "STORE_ATTR"),
        ("class C:\n    def f(self):\n        del self.n", "DELETE_ATTR"),
        ("class C:\n    def f(self): return type(self)", "uses type"),
        ("class C:\n    def f(self): return self.__class__", ".__class__"),
        ("class C:\n    def f(self): return self.__dict__", ".__dict__"),
        ("import os\nclass C:\n    def f(self): return os.getpid()", "os.getpid"),
        ("import os\nclass C:\n    pid = os.getpid", ".pid"),
        ("import functools\nclass C:\n    @functools.cached_property\n    def f(self): return 1", ".f"),
        ("import functools\nclass C:\n    @functools.lru_cache\n    def f(self): return 1", ".f"),
        ("import functools\nclass C:\n    @functools.partialmethod\n    def f(self): return 1", ".f"),
        ("import os\nclass B:\n    def f(self): return os.getpid()\nclass C(B): pass", "os.getpid"),
        ("class C: pass\nC.f = C", ""),
        ("class C: memo = {}", "memo can change"),
        ("class C: memo = (1, [2])", "memo can change"),
        ("class C:\n    def f(self, a=[]): return a", "holds what can change"),
    ],
)
def test_classes_of_the_notebook_that_may_leave_a_trace(setup, says):
    for body in ("C()", "c"):
        why = found(body, f"{setup}\nc = {{'c': C}}").why
        assert says in why and bool(why) is bool(says)


def test_instances_are_looked_at_without_their_code():
    setup = (
        "import os\nclass S:\n    __slots__ = ('a', 'b')\nclass C:\n    @property\n    def a(self): raise SystemExit\n"
        "c, s, t = C(), S(), S()\nc.__dict__['f'] = os.getpid\ns.a = os.getpid\nt.a = c0 = C()\nc0.x = [1]\n"
        "class E(Exception): pass\ne = E(os.getpid)"
    )
    assert "os.getpid" in found("c", setup).why or "is of" in found("c", setup).why
    assert found("s", setup).why and found("e", setup).why and not found("t", setup).why


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import os\nos.getpid()", "os.getpid"),
        ("import os\nos.environ['a'] = '1'", "os.environ"),
        ("import json\njson.x = 1", "STORE_ATTR"),
        ("import json\ndel json.x", "DELETE_ATTR"),
        ("import json\nm = json", "the module json"),
        ("import json\nprint(json)", "the module json"),
        ("def f():\n    import json\n    return [json]\nf()", "the module json"),
        ("import os.path\nprint(os.path)", "the module os.path"),
        ("class A: pass", "LOAD_BUILD_CLASS"),
        ("import threading", "imports threading"),
        ("import lk_of_the_user", "imports lk_of_the_user"),
        ("from . import x", "imports"),
        ("from json import *", "IMPORT_STAR"),
        ("import functools\n@functools.lru_cache\ndef f(x): return x\nf(i)", "lru_cache"),
        ("exec('x')", "exec"),
        ("open('x').close()", ".close"),
        ("import os\nos.chdir('x')", "os.chdir"),
        ("import os\nos.umask(0)", "os.umask"),
        ("import pathlib\npathlib.os.getpid()", "pathlib.os"),
        ("import tempfile", "imports tempfile"),
        ("import os\nos.listdir('/proc/self/fd')", "of this process"),
        ("id(i)", "uses id"),
        ("globals()", "globals"),
        ("type(i)", "uses type"),
        ("setattr(i, 'x', 1)", "setattr"),
        ("exit()", "exit"),
        ("display(i)", "display"),
        ("nowhere(i)", "nowhere, which is not known"),
        ("import decimal\ndecimal.getcontext()", "decimal.getcontext"),
        ("await x", "awaits"),
        ("async def f(): pass\nf()", "awaits"),
        ("import sys\nsys.path.append('x')", "sys.path"),
        ("import sys\nsys.modules", "sys.modules"),
        ("import sys\nsys.stdout.close()", ".close"),
        ("import time\ntime.process_time()", "time.process_time"),
        ("import operator\noperator.attrgetter('__dict__')(i)", ".attrgetter"),
        ("i.__class__", ".__class__"),
        ("i.gi_frame.f_back", ".gi_frame"),
        ("def g():\n    try:\n        yield 1\n    finally:\n        print(1)\nnext(g())", "PUSH_EXC_INFO"),
        ("def g():\n    with x:\n        yield 1\nnext(g())", "PUSH_EXC_INFO"),
        ("match i:\n    case int(real=x): x", "MATCH_CLASS"),
        ("import statistics\nstatistics.namedtuple", ".namedtuple"),
        ("import statistics\nstatistics.sys", "the module statistics.sys"),
        ("import random\nrandom._inst", "random._inst"),
        ("__builtins__", "__builtins__"),
        ("import keyword\nkeyword.kwlist.append('x')", "keyword.kwlist can change"),
        ("import hashlib\nhashlib.algorithms_available.add('x')", "can change"),
    ],
)
def test_a_body_that_may_leave_a_trace_or_see_one_and_where(body, says):
    assert says in found(body, "x = 1" if "await x" in body else "").why


@pytest.mark.parametrize(
    ("body", "setup"),
    [
        ("f(i)", "import functools\n@functools.lru_cache\ndef f(x): return x"),
        ("f(i)", "def f(x): f.c = 1"),
        ("f(i)", "def f(x): return 1\nf.c = 3"),
        ("f(i)", "import os\ndef f(x): return os.getpid()"),
        ("d[i]", "import os\nfrom collections import defaultdict\nd = defaultdict(os.getpid)"),
        ("d[i]", "class D(dict): pass\nd = D()"),
        ("fs[0](i)", "import os\nfs = [lambda x: os.getpid()]"),
        ("f(i)", "import os\nf = os.getpid"),
        ("f(i)", "import os\ndef make():\n    g = os.getpid\n    return lambda x: g()\nf = make()"),
        ("f(i)", "import os\ndef f(x, g=os.getpid): return g()"),
        ("f(i)", "import functools, os\nf = functools.partial(map, os.getpid)"),
        ("c.x", f"{P}c = P()"),
        ("P.x", P),
        ("it", "it = iter([1])"),
        ("r.random()", "import random\nr = random.Random(1)"),
        ("h[0].x", "import json\nh = [json]"),
        ("f(i)", "import functools, json\n@functools.wraps(json.dumps)\ndef f(x): return 1"),
        ("f(i)", "import types\nf = types.FunctionType((lambda x: 1).__code__, {'__name__': 'json'})"),
        ("f(i)", "import warnings\nf = warnings.warn"),
        ("print(i)", "import os\nprint = os.write"),
        ("len(big)", f"big = [(n,) for n in range({MOST_LOOKED + 1})]"),
        ("deep", "deep = []\nfor _ in range(5000): deep = [deep]"),
    ],
)
def test_variables_of_the_notebook_that_are_not_known(body, setup):
    assert found(body, setup).why


def test_a_module_that_is_not_pythons_own_is_not_known(monkeypatch):
    import json

    assert found("json.dumps(i)", "import json").why == ""
    theirs = types.ModuleType("json")
    theirs.dumps = json.dumps
    monkeypatch.setitem(sys.modules, "json", theirs)
    assert "not Python's own" in found("json.dumps(i)", "import json").why
    assert "imports json" in found("import json\njson.dumps(i)").why


@pytest.mark.parametrize("target", ["x[0]", "x.y", "(a, x[0])"])
def test_a_target_that_is_no_name(target):
    assert "it binds" in found("1", "x = [1]", target).why


@pytest.mark.parametrize(
    ("body", "met"),
    [
        ("x = 1\nx", set()),
        ("x += 1", {"x"}),
        ("y = x\nx = 1", {"x"}),
        ("if i: x = 1\nx", {"x"}),
        ("x, (y, *z) = i\nx + y + z", set()),
        ("x = [x for y in i]", {"x", "y"}),
        ("del x", {"x"}),
        ("def x(): return x\nx()", set()),
        ("def y(): return x\nx = 1\ny()", {"x"}),
        ("import math as x\nx.pi", set()),
        ("x = y = 1\nx, y", set()),
        ("for x in []: pass\nx", {"x"}),
        ("f()\nx = 1", {"x"}),
    ],
)
def test_names_whose_value_of_the_notebook_the_body_may_meet(body, met):
    result = found(body, "def f(): return x\nx, y = [1], [2]")
    assert result.why == "" and result.met & {"x", "y", "z"} == met


@pytest.mark.parametrize(
    ("body", "is_loaded"),
    [
        ("for _ in range(3): x", False),
        ("a, _ = x", False),
        ("[1 for _ in x]", False),
        ("_ = 1", False),
        ("print(_)", True),
        ("_ += 1", True),
        ("del _", True),
        ("lambda: _", True),
        ("def f():\n    global _\n    _ = 1", True),
        ("_[0] = 1", True),
    ],
)
def test_a_name_that_is_only_bound_is_not_loaded(body, is_loaded):
    assert ("_" in loaded_by(ast.parse(body))) is is_loaded


def is_passive(item):
    return libraries_in([item]) is not None


def test_items_that_reach_no_code():
    assert all(map(is_passive, [1, "a", None, (1, [2, {"a": {3}}]), range(3), b"x", [[]] * 9]))
    own = test_items_that_reach_no_code
    assert not any(map(is_passive, [print, [len], {"a": {1: own}}, object(), iter([]), [types]]))
    assert not is_passive([[0]] * 300_000)
    assert libraries_in(range(1_000_000)) == libraries_in([1, [2]]) == frozenset() and libraries_in([1, [own]]) is None


ODD = {
    "an attribute": (
        "class W:\n    def __getattr__(self, name): raise RuntimeError(seen.append(name))\nseen = []\nw = W()"
    ),
    "its class": (
        "class W:\n    @property\n    def __class__(self): raise RuntimeError('no context')\nw = W()\nseen = []"
    ),
}


@pytest.mark.parametrize("setup", ODD.values(), ids=ODD.keys())
def test_a_value_whose_own_code_raises_is_not_known_and_not_asked(setup):
    live: dict[str, object] = {}
    exec(setup, live)
    assert stays(ast.parse("w.n + i"), "i", ("i",), live).why
    assert not live["seen"]
