"""A snapshot of an object graph: every change is seen, reading is not a change, and nothing is kept or run by it.

Each test runs on the C extension and on the Python implementation. Graphs and mutations are source text, run in a
dictionary of their own, which is the `live` namespace of the snapshot.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import importlib.util
import os
import pickle
import random
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdakernel.state import graph
from lambdakernel.state.snapshots import Leaf, Snapshot

Take = Callable[..., Snapshot | None]

needs_extension = pytest.mark.skipif(
    graph.native_snapshot is None, reason="the C extension is not built: pip install -e . with a C compiler builds it"
)
IMPLEMENTATIONS = [pytest.param("native", marks=needs_extension), "python"]


def taking(implementation: str) -> Take:
    chosen = graph.native_snapshot if implementation == "native" else graph.python_snapshot
    assert chosen is not None

    def take(roots: Any, live: dict[str, Any], leaf: Leaf | None = None, limit: int = graph.LIMIT) -> Snapshot | None:
        return chosen(tuple(roots), live, leaf, limit, graph.late_atoms())

    return take


@pytest.fixture(params=IMPLEMENTATIONS)
def take(request: pytest.FixtureRequest) -> Take:
    return taking(request.param)


PRELUDE = """
import collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, gc, pickle, types, uuid, weakref

class P:
    def __init__(self, **kw): self.__dict__.update(kw)
    def m(self): return self
class Q(P): pass
class S:
    __slots__ = ("a", "b", "__weakref__")
    def __init__(self, a): self.a = a
class T(S):
    __slots__ = ("c", "__dict__")
class L(list): pass
class D(dict): pass
class E(set): pass
class I(int): pass
class J(str):
    pass
class Pair(tuple): pass
class Dq(collections.deque): pass
NT = collections.namedtuple("NT", "a b")
@dataclasses.dataclass
class DC:
    a: int
    b: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass(slots=True)
class DS:
    a: int
    b: list = dataclasses.field(default_factory=list)
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
class Borg:
    shared = {}
    def __init__(self): self.__dict__ = Borg.shared
def counter(start=0, *, step=[1]):
    n = [start]
    def up(by=[1], *, k={"z": 1}):
        nonlocal n
        n = n + by
        return n
    def look(): return n
    return up, look
"""

CHANGES: dict[str, tuple[str, list[str]]] = {
    "list": ("[1, [2], 'x', 10**9]", [
        "x.append(3)", "x[0] = 5", "x[1].append(1)", "x.reverse()", "del x[0]", "x.insert(0, 0)", "x[1] = [2]",
        "x.clear()", "x[3] += 1", "x[3] = 10**9 + 1", "x[0] = True", "x[2] = 'y'", "x[1], x[0] = x[0], x[1]", "x *= 2",
    ]),
    "a list in a list at its old address": ("[[1000], [2000]]", [
        "x[0] = None; x[0] = [1001]", "x[0][0] = None; x[0][0] = 1001", "x[0] = None; x[0] = [2000]", "x[0] = x[1]",
    ]),
    "tuple": ("([1], (2, [3]))", ["x[0].append(1)", "x[1][1].clear()", "x = ([1], (2, [3]))", "x = (x[1], x[0])"]),
    "dict": ("{'a': 1, 'b': [2], 3: None}", [
        "x['a'] = 2", "x['c'] = 1", "del x['a']", "x['d'] = x.pop('a')", "x['b'].append(1)", "x[3] = x['b']",
        "x['a'] = x.pop('a')", "x.clear()", "x[3.0] = 1", "x['b'] = [2]", "x.update(z=1)", "x.popitem()",
    ]),
    "dict with keys that are objects": ("{P(a=1): 1, (2, 3): 4}", [
        "next(iter(x)).a = 2", "next(iter(x)).b = 2", "x[P(a=1)] = 1", "x[2, 3] = 5",
    ]),
    "dict with an empty table": ("{}", ["x[1] = 1", "x['a'] = 1"]),
    "set": ("{1, 2, 'a'}", ["x.add(5)", "x.remove(1)", "x.clear()", "x -= {2}; x.add(2.5)", "x |= {7}"]),
    "set of objects": ("{P(a=[1]), (1, P(b=2))}", [
        "[p.a for p in x if type(p) is P][0].append(1)", "[t for t in x if type(t) is tuple][0][1].c = 1", "x.pop()",
    ]),
    "frozenset": ("frozenset({1, P(a=1)})", [
        "[p for p in x if p != 1][0].a = 2", "x = frozenset({1, 2})", "x |= {3}",
    ]),
    "instance": ("P(a=1, b=[2])", [
        "x.a = 2", "x.c = 1", "del x.a", "x.b.append(1)", "x.z = x.__dict__.pop('a')", "x.a = x.__dict__.pop('a')",
        "x.__class__ = Q", "x.__dict__ = {'a': 1, 'b': [2]}",
        "x.__dict__['new key'] = 1", "vars(x).clear()", "x.a, x.b = x.b, x.a", "setattr(x, 'a', 10**10)",
        "x.__dict__ = D(x.__dict__)",
    ]),
    "instance with no attribute": ("P()", ["x.a = 1", "x.__class__ = Q", "x.__dict__[1] = 2"]),
    "instance with a dictionary of a subclass": ("P(); x.__dict__ = D(a=1)", [
        "x.a = 2", "x.__dict__.extra = 1", "x.__dict__ = {'a': 1}", "x.__dict__['k'] = 1",
    ]),
    "instances that swap classes": ("[P(a=1), Q(a=1)]", ["x[0].__class__, x[1].__class__ = Q, P"]),
    "instances that share a dictionary": ("[Borg(), Borg()]", [
        "Borg.shared['a'] = 1", "x[0].b = 2", "x[0].__dict__ = {}", "x[1].__dict__ = dict(Borg.shared)",
        "x[0].__dict__ = dict(x[0].__dict__)",
    ]),
    "slots": ("S([1])", ["x.a = 2", "x.b = 1", "del x.a", "x.a.append(1)", "x.b = x.a; del x.a", "x.a = [1]"]),
    "slots under slots and a dictionary": ("T([1])", [
        "x.a = 1", "x.c = 1", "x.d = 1", "x.a.append(2)", "x.c = x.a; del x.a", "x.__dict__ = {'q': 1}",
    ]),
    "dataclass": ("DC(1)", ["x.a = 2", "x.b.append(1)", "x.c = 3", "del x.b"]),
    "dataclass with slots": ("DS(1)", ["x.a = 2", "x.b.append(1)", "del x.b", "x.a = x.b"]),
    "subclass of list": ("L([1, [2]])", [
        "x.append(1)", "x.a = 1", "x[1].append(1)", "x[0] = 2", "x.__class__ = type('M', (list,), {})",
    ]),
    "subclass of dict": ("D(a=1)", ["x['a'] = 2", "x.b = 1", "x['z'] = x.pop('a')", "dict.clear(x)"]),
    "subclass of set": ("E([1])", ["x.add(2)", "x.a = 1", "x.clear()"]),
    "subclass of int": ("[I(5)]", ["x[0].a = 1", "x[0] = I(6)", "x[0] = I(5)", "x[0] = 5"]),
    "subclass of str": ("J('a')", ["x.a = 1", "x = J('b')", "x.__dict__ = {'k': 1}"]),
    "subclass of tuple": ("Pair([1, [2]])", ["x[1].append(1)", "x.a = 1", "x = Pair([1, [3]])"]),
    "named tuple": ("NT([1], 2)", ["x.a.append(1)", "x = x._replace(b=3)", "x = x._replace(a=[1])"]),
    "Counter": ("collections.Counter('aab')", ["x['a'] += 1", "x.update('z')", "x.extra = 1", "x.subtract('b')"]),
    "defaultdict": ("collections.defaultdict(list, a=[1])", [
        "x['new']", "x['a'].append(2)", "x.default_factory = set", "x.default_factory = None", "del x['a']",
    ]),
    "OrderedDict": ("collections.OrderedDict(a=1, b=[2], c=3)", [
        "x.move_to_end('a')", "x.move_to_end('c', last=False)", "x['a'] = 2", "x['b'].append(1)", "x.extra = 1",
        "x['d'] = x.pop('a')", "x.popitem(last=False)", "x.pop('b')", "x.clear()",
    ]),
    "deque": ("collections.deque([1, [2], 3], maxlen=5)", [
        "x.append(1)", "x.appendleft(1)", "x.rotate(1)", "x.pop()", "x.popleft()", "x[1].append(1)", "x[0] = 9",
        "x.clear()", "x.__init__([1, x[1], 3], 6)", "x.__init__([1, x[1], 3])", "x.reverse()", "x.extend(range(200))",
    ]),
    "subclass of deque": ("Dq([1])", ["x.append(1)", "x.a = 1", "x.popleft()"]),
    "SimpleNamespace": ("types.SimpleNamespace(a=1, b=[2])", ["x.a = 2", "x.c = 1", "del x.a", "x.b.append(1)"]),
    "function": ("counter()[0]", [
        "x()", "x.__defaults__ = ([2],)", "x.__defaults__[0].append(1)", "x.__kwdefaults__['z'] = 2", "x.attr = 1",
        "x.__kwdefaults__ = None", "x.__defaults__ = None", "x.__code__ = (lambda n: (lambda by, *, k: n))(1).__code__",
        "x.__doc__ = 'new'", "x.__name__ = 'other'", "x.__qualname__ = 'other'", "x.__module__ = 'elsewhere'",
        "x.__annotations__ = {'by': int}", "x.__dict__ = {'q': 1}", "x.__closure__[0].cell_contents = [5]",
    ]),
    "functions that share a cell": ("counter()[1]", ["x.__closure__[0].cell_contents.append(1)", "x.a = 1"]),
    "decorated": ("functools.wraps(counter)(lambda: 1)", ["x.__wrapped__.__defaults__ = (5,)", "x.__wrapped__ = 1"]),
    "lambda with a default": ("lambda a=[]: a", ["x().append(1)", "x.__defaults__ = ([],)"]),
    "cell": ("types.CellType([1])", ["x.cell_contents = 1", "x.cell_contents.append(1)", "del x.cell_contents"]),
    "empty cell": ("types.CellType()", ["x.cell_contents = 1", "x.cell_contents = None"]),
    "bound method": ("P(a=1).m", ["x.__self__.a = 2", "x = P(a=1).m", "x.__self__.b = 3"]),
    "builtin method": ("[1].append", ["x(2)", "x = [1].append", "x = x.__self__.extend"]),
    "partial": ("functools.partial(counter, [1], step=[2])", [
        "x.args[0].append(1)", "x.keywords['step'].append(1)", "x.keywords['start'] = 1", "x.attr = 1",
        "x.__setstate__((counter, (), {}, {}))",
    ]),
    "slice": ("slice([1], 2)", ["x.start.append(1)", "x = slice([1], 3)"]),
    "view of a dictionary": ("{'a': [1]}.items()", ["x.mapping['a'][0]; next(iter(x))[1].append(2)", "x = {}.items()"]),
    "weak reference": ("S([1]); keep = x; x = weakref.ref(x)", [
        "keep.a = 2", "keep.a.append(1)", "del keep", "x = weakref.ref(S([1]))", "x = weakref.ref(keep, print)",
    ]),
    "WeakValueDictionary": ("P(a=1); keep = x; x = weakref.WeakValueDictionary(k=x)", [
        "keep.a = 2", "del keep", "x['j'] = keep", "x.clear()",
    ]),
    "WeakKeyDictionary": ("P(a=1); keep = x; x = weakref.WeakKeyDictionary({x: [1]})", [
        "keep.a = 2", "x[keep].append(1)", "del keep", "x[keep] = 1",
    ]),
    "WeakSet": ("P(a=1); keep = x; x = weakref.WeakSet([x])", ["keep.a = 2", "del keep", "x.add(S(1)); x.clear()"]),
    "atoms": (
        "[1.5, 2j, b'b', None, ..., range(3), datetime.datetime(2020, 1, 1), datetime.timedelta(1), Colour.RED,"
        " decimal.Decimal(1), fractions.Fraction(1, 2), uuid.UUID(int=1), datetime.date(2020, 1, 1), len, P, gc,"
        " datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), list[int], int | None]",
        [f"x[{i}] = {new}" for i, new in enumerate([
            "2.5", "3j", "b'c'", "0", "None", "range(4)", "datetime.datetime(2021, 1, 1)", "datetime.timedelta(2)",
            "Colour.BLUE", "decimal.Decimal(2)", "fractions.Fraction(1, 3)", "uuid.UUID(int=2)",
            "datetime.date(2020, 1, 2)", "abs", "Q", "types", "datetime.datetime(2020, 1, 1)", "list[str]",
            "str | None",
        ])],
    ),
    "cycle": ("[1]; x.append(x)", ["x[0] = 2", "x[1] = [1, x]", "x.append(x)", "x.pop()"]),
    "cycle of instances": ("P(); x.me = P(up=x)", ["x.me.up = None", "x.me.me = x", "x.me.up = x.me"]),
    "shared child": ("[[1]] * 2", ["x[0].append(1)", "x[1] = [1]", "x[0] = list(x[0])"]),
    "what an atom hid": ("[{'k': (1, [2, {'deep': P(a={3})}])}]", [
        "x[0]['k'][1][1]['deep'].a.add(4)", "x[0]['k'][1][1]['deep'].b = 1", "x[0]['k'][1][0] = 9",
    ]),
}  # fmt: skip

READS = [
    "repr(x)", "str(x)", "bool(x is None)", "type(x)", "id(x)", "dir(x)", "hasattr(x, 'nothing')", "copy.copy(x)",
    "[gc.get_referents(x), gc.get_referrers(x)]", "gc.collect()", "vars(x) if hasattr(x, '__dict__') else None",
    "list(x) if isinstance(x, (list, tuple, dict, set, frozenset)) else None", "isinstance(x, list)",
    "pickle.dumps(x) if isinstance(x, (list, tuple, dict, set, P, S)) and not kind.startswith('cycle') else None",
    "x == x", "[getattr(x, n, None) for n in ('a', 'b', 'm', 'me')]", "weakref.ref(x) if isinstance(x, (P, S)) else 0",
    "(x.append(1), x.pop()) if type(x) is list else None",
]  # fmt: skip


def namespace_with(made: str) -> dict[str, Any]:
    live: dict[str, Any] = {"__name__": "__main__"}
    exec(PRELUDE + "\nx = " + made, live)
    return live


def taken(take: Take, live: dict[str, Any]) -> Snapshot:
    found = take([live["x"]], live)
    assert found is not None, "opaque"
    assert found.is_unchanged([live["x"]])
    return found


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_is_seen(take: Take, kind: str) -> None:
    made, mutations = CHANGES[kind]
    missed = []
    for mutation in mutations:
        live = namespace_with(made)
        before = taken(take, live)
        exec(mutation, live)
        if before.is_unchanged([live["x"]]):
            missed.append(mutation)
    assert missed == []


def test_the_table_of_changes_is_as_long_as_it_should_be() -> None:
    assert len(CHANGES) >= 40
    assert sum(len(mutations) for _, mutations in CHANGES.values()) >= 200


@pytest.mark.parametrize("kind", CHANGES)
def test_reading_is_not_a_change(take: Take, kind: str) -> None:
    live = namespace_with(CHANGES[kind][0])
    live["kind"] = kind
    if sys.version_info[:2] == (3, 12) and "instance" in kind:
        exec("vars(x) if hasattr(x, '__dict__') else None", live)
    for read in READS:
        before = taken(take, live)
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):  # refused, but a read
            exec(read, live)
        assert before.is_unchanged([live["x"]]), read


OPAQUE = [
    "iter([1])", "bytearray(b'x')", "memoryview(b'x')", "(i for i in [1])", "__import__('random').Random(1)",
    "__import__('array').array('i', [1])", "__import__('io').StringIO()", "__import__('itertools').count()",
    "ValueError('x')", "type('Mine', (ValueError,), {})()", "type('Mine', (__import__('random').Random,), {})()",
    "types.ModuleType('mine')", "globals()", "functools.lru_cache(len)", "__import__('threading').Lock()",
    "__import__('ctypes').c_int(1)", "type('Mine', (bytearray,), {})()", "eval('lambda: 1', {})",
    "datetime.datetime(2020, 1, 1, tzinfo=type('Zone', (datetime.tzinfo,), {})())", "weakref.ref(P)",
    "__import__('operator').itemgetter(1)", "__import__('time').localtime()", "__import__('os').stat('/')",
    "types.MappingProxyType({})", "__import__('numpy').zeros(3)",
    "__import__('pandas').DataFrame({'a': [1]})",
]  # fmt: skip


@pytest.mark.parametrize("wrapped", ["{}", "[1, {}]", "{{'k': P(a={})}}"])
@pytest.mark.parametrize("made", OPAQUE)
def test_what_is_not_understood_gives_no_snapshot(take: Take, made: str, wrapped: str) -> None:
    live = namespace_with(wrapped.format(made))
    assert take([live["x"]], live) is None


def test_globals_that_are_the_namespace_are_not_followed(take: Take) -> None:
    live = namespace_with("counter")
    live["opaque"] = iter([])
    before = taken(take, live)
    live["other"] = 1
    assert before.is_unchanged([live["x"]])


def test_a_function_of_a_library_is_an_atom(take: Take) -> None:
    assert taken(take, {"x": [textwrap.dedent, pickle.dumps, subprocess.run]}).references == 4


def test_roots_are_compared_too(take: Take) -> None:
    a, b = [1], [1]
    before = take([a, b], {})
    assert before is not None
    assert before.is_unchanged((a, b))
    assert not before.is_unchanged([b, a])
    assert not before.is_unchanged([a])
    assert not before.is_unchanged([a, b, b])
    assert not before.is_unchanged([])


def test_a_graph_over_the_limit_gives_no_snapshot(take: Take) -> None:
    assert take([list(range(100))], {}, None, 100) is None
    found = take([list(range(100))], {}, None, 101)
    assert found is not None
    assert found.references == 101


def test_memory_stays_under_16_bytes_a_reference(take: Take) -> None:
    x = [{"id": i, "tags": [str(i)], "at": (i, i + 0.5)} for i in range(2000)]
    found = take([x], {})
    assert found is not None
    assert 8 * found.references < found.nbytes < 16 * found.references


@pytest.mark.parametrize("made", [
    "[]\nfor _ in range(200_000): x = [x]",
    "P()\nfor _ in range(200_000): x = P(next=x)",
    "()\nfor _ in range(100_000): x = (x, {'k': x})",
])  # fmt: skip
def test_a_deep_graph_is_walked(take: Take, made: str) -> None:
    live = namespace_with(made)
    before = taken(take, live)
    assert before.references > 100_000
    del before


def test_the_other_implementation_is_chosen_by_the_environment() -> None:
    code = "from lambdakernel.state import graph; print(type(graph.snapshot([[1]], {})).__module__)"
    env = {**os.environ, "LAMBDAKERNEL_NO_EXTENSION": "1"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "lambdakernel.state.walk"


@needs_extension
def test_the_extension_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "FAST", True)
    assert type(graph.snapshot([[1]], {})).__module__ == "lambdakernel.state._graph"


# -- leaves


def test_a_leaf_is_compared_by_its_token(take: Take) -> None:
    array = bytearray(b"abc")
    x = [array, {"k": array}, (array, iter([]))]

    def leaf(obj: Any) -> object | None:
        return (id(obj), bytes(obj)) if isinstance(obj, bytearray) else "iterator"

    before = take([x], {}, leaf)
    assert before is not None
    assert before.is_unchanged([x])
    array[0] = 0
    assert not before.is_unchanged([x])
    array[0] = ord("a")
    assert before.is_unchanged([x])
    x[1] = {"k": bytearray(b"abc")}
    assert not before.is_unchanged([x])


def test_a_leaf_without_a_token_gives_no_snapshot(take: Take) -> None:
    assert take([[bytearray()]], {}, lambda obj: None) is None


def test_a_leaf_that_has_no_token_any_more_is_a_change(take: Take) -> None:
    tokens: list[object] = [1, 1, None]
    x = bytearray()
    before = take([x], {}, lambda obj: tokens.pop(0))
    assert before is not None
    assert before.is_unchanged([x])
    assert not before.is_unchanged([x])


def test_what_a_leaf_raises_is_not_hidden(take: Take) -> None:
    with pytest.raises(ZeroDivisionError):
        take([bytearray()], {}, lambda obj: 1 // 0)


def test_a_leaf_is_not_asked_about_what_is_understood(take: Take) -> None:
    asked: list[object] = []
    assert take([[1, {"k": {2}}, bytearray()]], {}, lambda obj: asked.append(type(obj)) or 1) is not None
    assert asked == [bytearray]


def test_the_namespace_itself_is_never_a_leaf(take: Take) -> None:
    live: dict[str, Any] = {}
    live["x"] = [live]
    assert take([live["x"]], live, lambda obj: 1) is None


class Big(bytearray):
    """Something large that a leaf answers for, and whose death can be seen."""


def test_leaves_and_objects_die_as_if_there_were_no_snapshot(take: Take) -> None:
    """A first design kept everything alive: `__del__` and weak references would have told, and memory with them."""

    class Thing:
        pass

    big, thing, inner = Big(10), Thing(), Thing()
    thing.inner = inner  # type: ignore[attr-defined]
    dead = [weakref.ref(big), weakref.ref(thing), weakref.ref(inner)]
    x: list[Any] = [big, thing, {"k": thing}]
    before = take([x], {}, lambda obj: len(obj))
    del big, thing, inner
    assert before is not None
    x.clear()
    assert [ref() for ref in dead] == [None, None, None]
    assert not before.is_unchanged([x])


def test_an_atom_lives_as_long_as_the_snapshot(take: Take) -> None:
    text = "".join(["some", " text"])
    count = sys.getrefcount(text)
    x = [text, [text]]
    before = take([x], {})
    assert sys.getrefcount(text) > count + 2
    x.clear()
    del before
    assert sys.getrefcount(text) == count


# -- nobody's code


HOSTILE = """
class Meta(type):
    def __eq__(cls, other): 1 / 0
    def __hash__(cls): return boom() if armed else 1
    def __getattribute__(cls, name): return boom() if armed else type.__getattribute__(cls, name)
    def __instancecheck__(cls, obj): 1 / 0
    def __subclasscheck__(cls, other): 1 / 0
def boom(): raise ZeroDivisionError("code of the notebook ran")
class Hostile(metaclass=Meta):
    def __init__(self): object.__setattr__(self, "a", [1])
    def __getattribute__(self, name): return boom() if armed else object.__getattribute__(self, name)
    def __setattr__(self, name, value): boom()
    def __eq__(self, other): return boom() if armed else self is other
    def __hash__(self): return boom() if armed else 7
    def __reduce_ex__(self, protocol): boom()
    def __bool__(self): boom()
    def __len__(self): boom()
    def __iter__(self): boom()
    def __repr__(self): boom()
    @property
    def prop(self): boom()
    @property
    def __class__(self): return boom() if armed else Hostile
class HostileList(list, Hostile): pass
class HostileDict(dict, Hostile): pass
class HostileDeque(collections.deque, Hostile):
    @property
    def maxlen(self): boom()
armed = False
x = [Hostile(), HostileList([1]), HostileDict(a=1), HostileDeque([2]), {Hostile(): 1, Hostile(): 2}, {Hostile()},
     frozenset({Hostile()}), Hostile.prop.fget, types.MethodType(Hostile.prop.fget, Hostile()),
     functools.partial(len, Hostile()), [].append, types.CellType(Hostile())]
armed = True
"""


def test_no_code_of_the_notebook_runs(take: Take) -> None:
    live = namespace_with("1")
    exec(HOSTILE, live)
    try:
        before = taken(take, live)
        list.append(live["x"][1], 2)
        assert not before.is_unchanged([live["x"]])
    finally:
        live["armed"] = False


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(take: Take, enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        before = take([[1]], {})
        assert before is not None
        before.is_unchanged([[1]])
        assert take([iter([])], {}) is None
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


# -- fuzz


class Node:
    """An instance with a dictionary."""


class Items(list[Any]):
    """A subclass of a container, with a dictionary."""


class Slotted:
    """An instance with slots."""

    __slots__ = ("left", "right")


def random_value(rng: random.Random, pool: list[Any]) -> Any:
    if pool and rng.random() < 0.5:
        return rng.choice(pool)
    return rng.choice([rng.randrange(5), rng.randrange(10**6), rng.random(), f"s{rng.randrange(50)}", None, (1, 2)])


def random_object(rng: random.Random, pool: list[Any]) -> Any:
    values = [random_value(rng, pool) for _ in range(rng.randrange(4))]
    kind = rng.randrange(9)
    if kind == 0:
        return values
    if kind == 1:
        return {f"k{i}": value for i, value in enumerate(values)}
    if kind == 2:
        return tuple(values)
    if kind == 3:
        node = Node()
        node.__dict__.update((f"a{i}", value) for i, value in enumerate(values))
        return node
    if kind == 4:
        slotted = Slotted()
        slotted.left = random_value(rng, pool)  # type: ignore[attr-defined]
        return slotted
    if kind == 5:
        return {rng.randrange(100) for _ in values}
    if kind == 6:
        return collections.deque(values, rng.choice([None, 5]))
    if kind == 7:
        items = Items(values)
        items.__dict__.update((f"i{i}", value) for i, value in enumerate(values[:2]))
        return items
    return collections.OrderedDict((f"o{i}", value) for i, value in enumerate(values))


def mutate(rng: random.Random, target: Any, pool: list[Any]) -> None:
    value = random_value(rng, pool)
    if isinstance(target, Items) and rng.random() < 0.5:
        mutate(rng, target.__dict__, pool)
    elif isinstance(target, collections.deque):
        rng.choice([
            lambda: target.append(value), lambda: target.clear(), lambda: target.rotate(1),
            lambda: target.extendleft([value, value]), lambda: target and target.popleft(),
        ])()  # fmt: skip
    elif isinstance(target, list):
        rng.choice([
            lambda: target.append(value), lambda: target.clear(), lambda: target.reverse(),
            lambda: target.__setitem__(slice(0, 1), [value]), lambda: target and target.pop(),
        ])()  # fmt: skip
    elif isinstance(target, collections.OrderedDict) and target and rng.random() < 0.3:
        target.move_to_end(rng.choice([*target]), last=rng.random() < 0.5)
    elif isinstance(target, dict):
        key = rng.choice([*target, "new"])
        rng.choice([
            lambda: target.__setitem__(key, value), lambda: target.pop(key, None),
            lambda: target.__setitem__("moved", target.pop(key, None)), lambda: target.update({key: target.get(key)}),
        ])()  # fmt: skip
    elif isinstance(target, set):
        rng.choice([lambda: target.add(rng.randrange(100)), lambda: target.discard(rng.randrange(100))])()
    elif isinstance(target, Node):
        mutate(rng, target.__dict__, pool)
    elif isinstance(target, Slotted):
        setattr(target, rng.choice(["left", "right"]), value)


MUTABLE = (list, dict, set, collections.deque, Node, Slotted)


def fuzz(take: Take, seed: int, rounds: int) -> int:
    """Mutate a random graph; whenever its pickle differs, the snapshot must say so. The number of real changes."""
    rng = random.Random(seed)
    changes = 0
    pool: list[Any] = []
    for _ in range(rng.randrange(1, 25)):
        pool.append(random_object(rng, pool))
    root = [pool[-1], rng.choice(pool), rng.choice(pool)]
    del pool
    for _ in range(rounds):
        reachable = [o for o in reach(root) if isinstance(o, MUTABLE)]
        before, dumped = take([root], {}), pickle.dumps(root)
        assert before is not None
        assert before.is_unchanged([root])
        target = rng.choice(reachable)
        fresh = [random_object(rng, reachable) for _ in range(2)] if rng.random() < 0.5 else []
        del reachable
        mutate(rng, target, [*fresh, *root])
        del fresh, target  # so that what was replaced dies, and its address is used again
        if pickle.dumps(root) != dumped:
            changes += 1
            assert not before.is_unchanged([root]), "a change was missed"
        else:
            before.is_unchanged([root])
        check_difference(before, root)
    return changes


def check_difference(before: Any, root: Any) -> None:
    """What `advance` says of a change must agree with what both snapshots say apart; the extension only has it."""
    if not hasattr(before, "shared"):
        return
    now, found = graph.advance(before, [root], {})
    assert now is not None
    assert now.is_unchanged([root])
    if found is None:  # an object changed its class, or is at the address of one of another
        return
    assert bool(found.edits) != before.is_unchanged([root])
    containers, shared = (before.containers(), now.containers()), (before.shared(), now.shared())
    assert (set(found.added), set(found.gone)) == (containers[1] - containers[0], containers[0] - containers[1])
    assert (set(found.shared_added), set(found.shared_gone)) == (shared[1] - shared[0], shared[0] - shared[1])
    for obj, first, last, between in found.edits:
        if type(obj) is list:
            assert between is not None and obj[first : len(obj) - last] == between
        elif type(obj) is dict:
            assert between is not None
            assert [x for pair in list(obj.items())[first : len(obj) - last] for x in pair] == between


def reach(root: Any) -> list[Any]:
    found, queue = {id(root): root}, [root]
    while queue:
        for child in gc.get_referents(queue.pop()):
            if id(child) not in found and not isinstance(child, type):
                found[id(child)] = child
                queue.append(child)
    return list(found.values())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_fuzz_no_change_that_a_pickle_shows_is_missed(implementation: str, seed: int) -> None:
    fuzz(taking(implementation), seed, 12)


@needs_extension
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_fuzz_both_implementations_say_the_same(seed: int) -> None:
    rng = random.Random(seed)
    pool: list[Any] = []
    for _ in range(12):
        pool.append(random_object(rng, pool))
    both = [taking(implementation)([pool], {}) for implementation in ("native", "python")]
    for _ in range(6):
        if rng.random() < 0.3:
            mutate(rng, rng.choice(pool), pool)
        assert len({found.is_unchanged([pool]) for found in both if found is not None}) == 1


FUZZ = """
import sys
from tests.state.test_graph import fuzz, taking
changes = sum(fuzz(taking("native"), seed, 30) for seed in range(int(sys.argv[1])))
print(changes)
"""


@needs_extension
def test_fuzz_under_a_debugging_allocator() -> None:
    """Freed memory is overwritten and its surroundings are checked: reading a dead object would not go unnoticed."""
    env = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    command = [sys.executable, "-c", FUZZ, "60"]
    out = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert out.returncode == 0, out.stderr[-2000:]
    assert int(out.stdout) > 300


# -- differences


@needs_extension
def test_a_difference_says_what_changed_and_no_more() -> None:
    nodes: list[Any] = [Node() for _ in range(100)]
    for n, node in enumerate(nodes):
        node.n = n
    root = {"nodes": nodes, "by": dict(enumerate(nodes))}
    before: Any = taking("native")([root], {})

    def difference(now: Any = None) -> graph.Difference:
        found = graph.advance(before, [root if now is None else now], {})[1]
        assert found is not None
        return found

    assert difference() == ([], [], [], [], [])
    nodes[7].n = -1
    assert [edit.obj for edit in difference().edits] == [nodes[7]]
    nodes[50:52] = ["a", "b", "c"]
    assert [tuple(edit[1:]) for edit in difference().edits if edit.obj is nodes] == [(50, 48, ["a", "b", "c"])]
    root["by"][99] = root["by"].pop(98)
    moved = next(edit for edit in difference().edits if edit.obj is root["by"])
    assert (moved.before, moved.after, moved.between) == (98, 0, [99, root["by"][99]])
    nodes.append(Node())
    assert difference().added == [id(nodes[-1])] == difference().shared_added
    assert difference([root, nodes]).added[0] != id(nodes)


@needs_extension
@pytest.mark.parametrize("change", ["root[0].__class__ = Other", "root.append(root[0].__dict__)", "root[2].append(0)"])
def test_what_a_difference_cannot_say_it_does_not(change: str) -> None:
    class Other:
        pass

    root = [Node(), Node(), bytearray(5)]
    root[0].x = root[1].x = 1  # type: ignore[attr-defined]
    before: Any = taking("native")([root], {}, lambda obj: bytes(obj))
    exec(change, {"root": root, "Other": Other})
    now, found = graph.advance(before, [root], {}, leaf=lambda obj: bytes(obj))
    assert now is not None
    assert found is None


@needs_extension
def test_whether_a_dictionary_is_shared_with_something_else_is_said() -> None:
    root: Any = [Node()]
    root[0].x = 1
    before: Any = taking("native")([root], {})
    assert not before.has_shared_dict
    root.append(root[0].__dict__)
    after: Any = taking("native")([root], {})
    assert after.has_shared_dict


# -- depth


def nested(root: Any, live: dict[str, Any] | None = None) -> tuple[list[Any], bool]:
    found = graph.nested(root, live if live is not None else {}, 64, lambda kind: kind is Node)
    assert found is not None
    return found


@needs_extension
@pytest.mark.parametrize("link", ["[{}]", "{{'k': {}}}", "({},)", "node({})", "(lambda v: lambda: v)({})"])
def test_parts_of_a_deep_graph_come_innermost_first_and_let_a_pickler_through(link: str) -> None:
    def node(value: Any) -> Node:
        made = Node()
        made.value = value
        return made

    live: dict[str, Any] = {"node": node}
    step = eval(f"lambda v: {link.format('v')}", live)
    root: Any = [1]
    for _ in range(10_000):
        root = step(root)
    parts, is_cyclic = nested(root, live)
    assert not is_cyclic
    assert len(parts) >= 10_000 // 64
    if "lambda" not in link:
        assert pickle.loads(pickle.dumps([*parts, root]))
    depth = {id(part): n for n, part in enumerate(parts)}
    assert len(depth) == len(parts)
    while root != [1] and not callable(root):  # from outside in, the numbers fall
        number = depth.pop(id(root), None)
        assert number is None or number == len(depth)
        root = next(iter(root.values())) if type(root) is dict else root.value if type(root) is Node else root[0]


@needs_extension
def test_a_cycle_is_said_and_what_has_its_own_ways_is_not_gone_into() -> None:
    class Own(Node):
        def __reduce__(self) -> str:
            return "Own"

    own = Own()
    own.deep = [1]
    for _ in range(1000):
        own.deep = [own.deep]
    assert nested([own]) == ([], False)
    ring: list[Any] = [[]]
    ring[0].append(ring)
    assert nested(ring) == ([], True)
    live: dict[str, Any] = {}
    assert graph.nested([live], live, 64, lambda _: True) is None


# -- the build

ROOT = Path(__file__).resolve().parents[2]


def build_hook() -> Any:
    pytest.importorskip("hatchling", reason="the build backend, which pip brings for itself, is not installed")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCES = sorted(path.name for path in (ROOT / "lambdakernel/state").glob("_graph*.[ch]"))


@pytest.fixture
def source_tree(tmp_path: Path) -> Path:
    (tmp_path / "lambdakernel/state").mkdir(parents=True)
    for source in SOURCES:
        shutil.copy(ROOT / "lambdakernel/state" / source, tmp_path / "lambdakernel/state" / source)
    return tmp_path


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_extension_builds_without_a_warning(source_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-Wall -Wextra -Werror")
    built = build_hook().build(source_tree)
    assert sorted(path.name for path in built.parent.iterdir()) == sorted([built.name, *SOURCES])


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false"])
def test_without_a_compiler_nothing_is_built_and_nothing_is_left(
    source_tree: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    hook = build_hook()
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(hook.CannotBuild, match=compiler):
        hook.build(source_tree)
    assert [path.name for path in (source_tree / "lambdakernel/state").iterdir() if path.name not in SOURCES] == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_extension_that_was_there_stays_until_the_new_one_takes_its_place(
    source_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kernel that starts while another process builds a wheel of the same tree would do without."""
    hook = build_hook()
    built = hook.build(source_tree)
    before, ran = built.read_bytes(), []

    def run(command: list[str], deadline_s: float) -> None:
        ran.append(built.read_bytes() == before)
        there(command, deadline_s)

    there = hook.run
    monkeypatch.setattr(hook, "run", run)
    inode = built.stat().st_ino
    assert hook.build(source_tree) == built
    assert ran == [True, True]
    assert built.stat().st_ino != inode


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_an_extension_of_another_source_goes_when_no_new_one_is_made(
    source_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = build_hook()
    built = hook.build(source_tree)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(hook.CannotBuild):
        hook.build(source_tree)
    assert not built.exists()


# -- leaks


def grown(one: Callable[[], object], rounds: int) -> int:
    """Bytes that are traced more after `rounds` calls than before."""
    tracemalloc.start()
    try:
        for _ in range(50):
            one()
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(rounds):
            one()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()


def test_nothing_leaks_in_a_thousand_rounds(take: Take) -> None:
    live = namespace_with("[P(a=[1, 2]), {'k': S(3), 4: (5, 'six')}, counter(), I(7), bytearray(8)]")
    opaque, big = [live["x"], iter([])], list(range(500))

    def one() -> None:
        found = take([live["x"]], live, lambda obj: [len(obj)])
        assert found is not None
        assert found.is_unchanged([live["x"]])
        assert not found.is_unchanged([opaque])
        assert take([opaque], live) is None
        assert take([live["x"], big], live, lambda obj: None) is None
        assert take([big], live, None, 100) is None
        if hasattr(found, "shared"):
            graph.advance(found, [live["x"], big], live, leaf=lambda obj: [len(obj)])
            graph.advance(found, [opaque], live)
        with pytest.raises(ZeroDivisionError):
            take([live["x"]], live, lambda obj: 1 // 0)

    counts = [sys.getrefcount(o) for o in (live["P"], live["I"], live["counter"].__code__)]
    assert grown(one, 1000) < 20_000
    assert [sys.getrefcount(o) for o in (live["P"], live["I"], live["counter"].__code__)] == counts
