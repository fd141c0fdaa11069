"""`%%parallel` from cell to bound names: real shell, real store, real forked tasks."""

import os
import resource
import time

import pytest
from parallel_notebook import alive, interrupted_after, wait_for

from lambdakernel.executors.local import spawn_zygote
from lambdakernel.parallel import ParallelError, TaskFailed
from tests.kernels import lives


def tasks_alive() -> list[int]:
    return [process.pid for process in alive("lk-task")]


# -- results


def test_results_come_in_the_order_of_the_items(notebook):
    notebook.ok("%%parallel for i in range(6) -> squares\nimport time\ntime.sleep(0.05 * (i % 2))\ni * i")
    assert notebook.live["squares"] == [0, 1, 4, 9, 16, 25]


def test_an_assigned_name_collects_its_final_value_beside_the_last_expression(notebook):
    notebook.ok("base = 10")
    notebook.ok("%%parallel for i in [1, 2] -> model, score\nmodel = {'i': i}\nmodel['b'] = base\nbase + i")
    assert notebook.live["model"] == [{"i": 1, "b": 10}, {"i": 2, "b": 10}]
    assert notebook.live["score"] == [11, 12]


def test_other_assignments_stay_in_their_task(notebook):
    notebook.ok("x = 1")
    notebook.ok("%%parallel for i in [5] -> r\nx = i\nx")
    assert notebook.live["r"] == [5] and notebook.live["x"] == 1 and "i" not in notebook.live


def test_functions_and_classes_of_the_notebook_are_there_and_results_have_their_class(notebook):
    notebook.ok("k = 3\ndef f(x):\n    return x * k\nclass P:\n    def __init__(self, v): self.v = f(v)")
    notebook.ok("%%parallel for i in [1, 2] -> ps\nP(i)")
    assert [p.v for p in notebook.live["ps"]] == [3, 6]
    assert all(type(p) is notebook.live["P"] for p in notebook.live["ps"])


def test_what_functions_among_the_items_use_is_there(notebook):
    notebook.ok("k = 3\ndef f(x): return x * k\ndef g(x): return f(x) + 1\nclass P:\n    def m(self, x): return g(x)")
    notebook.ok("%%parallel for h in [f, g, P().m, lambda x: len([x, k])] -> r\nh(2)")
    assert notebook.live["r"] == [6, 7, 7, 2]


def test_modules_beside_the_notebook_are_found(notebook, tmp_path, monkeypatch):
    (tmp_path / "lk_beside.py").write_text("def f(x): return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    notebook.ok("%%parallel for i in [1, 2] -> r\nimport lk_beside\nlk_beside.f(i)")
    notebook.ok("import lk_beside")
    try:
        notebook.ok("%%parallel for f in [lk_beside.f, lk_beside.f] -> s\nf(1), lk_beside.f(2)")
    finally:
        notebook.ok("import sys; sys.modules.pop('lk_beside')")
    assert (notebook.live["r"], notebook.live["s"]) == ([2, 3], [(2, 3), (2, 3)])


def test_a_module_made_by_hand_can_be_imported(notebook):
    notebook.ok("import sys, types\nmade = sys.modules['lk_made'] = types.ModuleType('lk_made')\nmade.v = [4]")
    try:
        notebook.ok("%%parallel for i in [1, 2] -> r\nimport lk_made\nlk_made.v[0] + i")
        assert notebook.live["r"] == [5, 6]
    finally:
        notebook.ok("del sys.modules['lk_made']")


def test_a_change_in_a_later_cell_is_seen(notebook):
    notebook.ok("data = [1]")
    notebook.ok("%%parallel for i in [0] -> a\nsum(data)")
    notebook.ok("data.append(9)")
    notebook.ok("%%parallel for i in [0] -> b\nsum(data)")
    assert notebook.live["a"] == [1] and notebook.live["b"] == [10]


def test_nested_loops_and_conditions(notebook):
    notebook.ok("%%parallel for a in 'xy' for b in range(3) if b -> r\na * b")
    assert notebook.live["r"] == ["x", "xx", "y", "yy"]


def test_without_a_loop_the_body_runs_so_many_times(notebook):
    notebook.ok("%%parallel --times 3 -> r\nimport os\nos.getpid()")
    assert len(set(notebook.live["r"])) == 3 and os.getpid() not in notebook.live["r"]


def test_no_items_are_no_tasks(notebook):
    notebook.ok("%%parallel for i in [] -> r\ni")
    assert notebook.live["r"] == []


def test_a_body_may_await(notebook):
    notebook.ok("%%parallel for i in [1, 2] -> r\nimport asyncio\nawait asyncio.sleep(0, i)")
    assert notebook.live["r"] == [1, 2]


def test_results_are_durable_like_any_variable(notebook, tmp_path):
    notebook.ok("%%parallel for i in [1, 2] -> r\ni")
    row = next(row for row in notebook.session.namespace.rows() if row.name == "r")
    assert row.state == "durable"


def test_at_most_so_many_workers_run_at_a_time(notebook, tmp_path):
    notebook.ok(f"log = {str(tmp_path / 'log')!r}")
    notebook.ok(
        "%%parallel --workers 1 for i in range(4)\nimport os, time\n"
        "with open(log, 'a') as f: f.write('+')\ntime.sleep(0.03)\nwith open(log, 'a') as f: f.write('-')"
    )
    assert (tmp_path / "log").read_text() == "+-+-+-+-"


def test_hundreds_of_tasks_at_once(notebook):
    """More than fit into the socket by which they are asked for: the fan-out ended with "does not answer"."""
    notebook.ok("%%parallel --workers 160 --timeout 100 for i in range(160) -> r\nimport time\ntime.sleep(0.5)\ni")
    assert notebook.live["r"] == list(range(160))


def test_as_many_tasks_at_once_as_there_are_descriptors(notebook):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        notebook.ok("%%parallel --workers 40 --timeout 100 for i in range(40) -> r\ni")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert notebook.live["r"] == list(range(40))


def test_random_numbers_differ_between_tasks_and_fan_outs_and_repeat_after_a_seed(notebook):
    cell = "%%parallel for i in range(3) -> r\nimport random, numpy as np\n(random.random(), np.random.rand())"
    notebook.ok("import random, numpy as np\nrandom.seed(1); np.random.seed(1)")
    notebook.ok(cell)
    first = notebook.live["r"]
    notebook.ok(cell)
    second = notebook.live["r"]
    notebook.ok("random.seed(1); np.random.seed(1)")
    notebook.ok(cell)
    assert len({x for pair in first + second for x in pair}) == 12
    assert notebook.live["r"] == first


# -- large values


def test_a_large_array_of_the_notebook_and_large_results_are_mapped_and_writable(notebook):
    np = pytest.importorskip("numpy")
    notebook.ok("import numpy as np\nbig = np.arange(12_500_000, dtype='f8')")
    notebook.ok("%%parallel for i in range(2) -> s, out\nout = big + i\nfloat(big[-1])")
    assert notebook.live["s"] == [12499999.0] * 2
    out = notebook.live["out"]
    assert [float(a[0]) for a in out] == [0.0, 1.0] and out[1].nbytes == 100_000_000
    out[0][0] = 7.0
    assert out[0][0] == 7.0 and isinstance(out[0], np.ndarray)


def test_a_large_item_reaches_its_task_writable(notebook):
    pytest.importorskip("numpy")
    notebook.ok("import numpy as np\nitems = [np.full(12_500_000, i, dtype='f8') for i in range(2)]")
    notebook.ok("%%parallel for a in items -> s\na = a.copy()\na[0] = 100\nfloat(a[0] + a[1])")
    assert notebook.live["s"] == [100.0, 101.0]


# -- output


def test_output_is_grouped_by_task_in_order_c_code_too(notebook):
    notebook.ok(
        "%%parallel for i in range(3)\nimport os, sys, time\ntime.sleep(0.2 - 0.1 * i)\nprint('one', i)\n"
        "os.system(f'echo shell {i}')\nprint('two', i, file=sys.stderr)"
    )
    heads = [line for line in notebook.out.splitlines() if line.startswith("task ")]
    assert heads == ["task 0 (i=0)", "task 1 (i=1)", "task 2 (i=2)"]
    assert notebook.out.index("one 0") < notebook.out.index("shell 0") < notebook.out.index("task 1")
    assert notebook.err.splitlines() == ["two 0", "two 1", "two 2"]


def test_a_flood_of_output_is_bounded_and_ends(notebook):
    notebook.ok("%%parallel for i in range(2) -> r\nfor _ in range(200): print('x' * 50_000)\ni")
    assert notebook.live["r"] == [0, 1]
    assert len(notebook.out) < 300_000
    assert notebook.out.count("more bytes") == 2


# -- failures


def test_a_failed_task_shows_the_cells_own_line_and_the_others_are_kept(notebook):
    error = notebook.run("\n%%parallel for i in range(3) -> r\n\nx = 1\n\ny = x / (i - 1)\ny")
    assert isinstance(error, ParallelError)
    assert notebook.live["r"][0] == -1.0 and notebook.live["r"][2] == 1.0
    failure = notebook.live["r"][1]
    assert isinstance(failure, TaskFailed)
    assert (failure.index, failure.item_repr, failure.ename) == (1, "i=1", "ZeroDivisionError")
    number = notebook.shell.execution_count - 1
    assert f"Cell In[{number}], line 6" in failure.traceback
    assert "---->   6 y = x / (i - 1)" in failure.traceback
    assert "task 1 (i=1): ZeroDivisionError" in str(error) and "1 of 3 tasks failed" in str(error)
    assert "lambdakernel" not in failure.traceback


def test_a_traceback_shows_the_lines_of_functions_from_other_cells(notebook):
    notebook.ok("def f(v):\n    return 1 / v")
    number = notebook.shell.execution_count - 1
    notebook.run("%%parallel for i in [0] -> r\nf(i)")
    assert f"Cell In[{number}], line 2, in f" in notebook.live["r"][0].traceback
    assert "return 1 / v" in notebook.live["r"][0].traceback


def test_keep_going_raises_nothing(notebook):
    notebook.ok("%%parallel --keep-going for i in range(2) -> r\n1 / i")
    assert isinstance(notebook.live["r"][0], TaskFailed) and notebook.live["r"][1] == 1.0


@pytest.mark.parametrize("how", ["import sys; sys.exit(3)", "raise KeyboardInterrupt", "input()"])
def test_a_body_that_leaves_is_a_failed_task(notebook, how):
    assert isinstance(notebook.run(f"%%parallel for i in [0] -> r\n{how}\n1"), ParallelError)
    assert notebook.live["r"][0].ename in {"SystemExit", "KeyboardInterrupt", "EOFError"}


def test_a_killed_task_is_reported_with_its_signal_and_the_others_are_kept(notebook):
    error = notebook.run("%%parallel for i in range(3) -> r\nimport os\nif i == 1: os.kill(os.getpid(), 9)\ni")
    assert isinstance(error, ParallelError)
    assert notebook.live["r"][1].ename == "TaskLost" and "SIGKILL" in notebook.live["r"][1].evalue
    assert (notebook.live["r"][0], notebook.live["r"][2]) == (0, 2)
    notebook.ok("%%parallel for i in range(2) -> again\ni")
    assert notebook.live["again"] == [0, 1]


def test_what_a_killed_task_printed_is_shown(notebook):
    notebook.run("%%parallel for i in [0]\nimport os\nprint('last words')\nos.kill(os.getpid(), 11)")
    assert "last words" in notebook.out


def test_a_task_that_takes_too_long_is_ended_and_named(notebook):
    began = time.monotonic()
    notebook.run("%%parallel --timeout 0.5 for i in range(2) -> r\nimport time\nif i: time.sleep(60)\ni")
    assert time.monotonic() - began < 10
    assert notebook.live["r"][0] == 0
    assert "--timeout 0.5" in notebook.live["r"][1].evalue


def test_a_result_that_cannot_travel_is_that_tasks_error(notebook):
    notebook.run("%%parallel for i in range(2) -> r\n(x for x in [1]) if i else 5")
    assert notebook.live["r"][0] == 5 and isinstance(notebook.live["r"][1], TaskFailed)


def test_a_name_without_a_value_in_one_task_is_that_tasks_error(notebook):
    notebook.run("%%parallel for i in range(2) -> z\nif i: z = i")
    assert notebook.live["z"][1] == 1 and notebook.live["z"][0].ename == "NotAssigned"


def test_a_change_in_place_is_never_silently_lost(notebook):
    notebook.ok("results = []\ndef add(i): results.append(i)")
    error = notebook.run("%%parallel for i in range(2)\nadd(i)")
    assert isinstance(error, ParallelError)
    assert error.failures[0].ename == "LostUpdate"
    assert "'results'" in error.failures[0].evalue and "->" in error.failures[0].evalue
    assert notebook.live["results"] == []


def test_a_change_in_place_that_the_text_shows_is_refused_before_anything_runs(notebook, tmp_path):
    notebook.ok(f"results = []\nran = {str(tmp_path / 'ran')!r}")
    error = notebook.run("%%parallel for i in range(2) -> r\nopen(ran, 'w').close()\nresults.append(i)")
    assert type(error).__name__ == "UsageError"
    for said in ("line 3", "results.append(i)", "a list of the notebook", "after `->`", "Live", "Nothing ran"):
        assert said in str(error)
    assert not (tmp_path / "ran").exists() and "r" not in notebook.live
    notebook.ok("%%parallel for i in range(2) -> results\nresults = [i]")
    assert notebook.live["results"] == [[0], [1]]
    error = notebook.run("%%background\nresults.append(1)")
    assert "Assign results in the cell" in str(error)


# -- interrupt, and the loss of what starts tasks


def test_the_loss_of_the_zygote_ends_the_cell_with_an_error_and_keeps_what_was_done(notebook, tmp_path):
    directory = tmp_path / "z"
    directory.mkdir()
    executor = spawn_zygote(str(directory))
    try:
        wait_for((directory / "zygote").exists, 30)
        notebook.kernel.parent.params["directory"] = str(directory)
        pid = executor._zygote_pid
        notebook.ok(f"zygote = {pid}")
        error = notebook.run(
            "%%parallel --workers 1 for i in range(4) -> r\nimport os, time\nif i == 1:\n"
            "    os.kill(zygote, 9)\n    time.sleep(30)\ni"
        )
        assert isinstance(error, ParallelError) and notebook.live["r"][0] == 0
        assert [f.ename for f in notebook.live["r"][1:]] == ["TaskLost"] * 3
        wait_for(lambda: not lives(pid), 30)  # the signal was sent; its sockets close a moment later
        error = notebook.run("%%parallel for i in [1] -> s\ni")
        assert type(error).__name__ == "NoWorker" and "s" not in notebook.live
    finally:
        executor.close(5.0)


def test_an_interrupt_ends_all_tasks_within_a_second_and_binds_nothing(notebook):
    with interrupted_after(1.0):
        began = time.monotonic()
        error = notebook.run("%%parallel for i in range(50) -> r\nimport time\ntime.sleep(30)\ni")
    assert time.monotonic() - began < 2.0 + 1.0
    assert isinstance(error, KeyboardInterrupt)
    assert "r" not in notebook.live
    wait_for(lambda: not tasks_alive(), 1.0)
    notebook.ok("%%parallel for i in range(2) -> r\ni")
    assert notebook.live["r"] == [0, 1]


def test_no_descriptor_is_left_open(notebook):
    notebook.ok("%%parallel for i in range(4) -> r\ni")
    before = sorted(os.listdir("/proc/self/fd"))
    notebook.ok("%%parallel for i in range(20) -> r\nbytes(1_000_000)")
    notebook.run("%%parallel for i in range(4) -> s\nimport os\nos.kill(os.getpid(), 9)")
    assert len(os.listdir("/proc/self/fd")) <= len(before)


# -- refused before anything runs


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%parallel --retry for i in x\ni", "there is no option --retry"),
        ("%%parallel for i on x\ni", "this is no loop"),
        ("%%parallel for i in [1] -> a, b\nprint(marker())", "assigns none of a, b"),
        ("%%parallel for i in [1]\n!echo hello", "line 2 is a magic or shell command (!echo hello)"),
        ("%%parallel for i in [1]\nx = 1\n%time x", "line 3 is a magic"),
    ],
)
def test_a_cell_that_cannot_run_says_why_and_what_to_do(notebook, cell, says):
    error = notebook.run(cell)
    assert type(error).__name__ == "UsageError" and says in str(error)


def test_a_syntax_error_in_the_body_has_the_cells_line(notebook):
    error = notebook.run("%%parallel for i in [1]\nx = 1\ny = = 2")
    assert isinstance(error, SyntaxError) and error.lineno == 3


def test_a_variable_that_cannot_move_is_refused_by_name_before_anything_runs(notebook, tmp_path):
    notebook.ok(f"f = open({str(tmp_path / 'f')!r}, 'w')")
    error = notebook.run("%%parallel for i in [1]\nf.write('x')")
    assert type(error).__name__ == "UsageError"
    assert "'f'" in str(error) and "resident" in str(error)
    notebook.ok("f.close()\ndel f")


def test_reading_values_of_many_kinds_is_no_change(notebook):
    notebook.ok(
        "import collections, datetime, decimal, enum, dataclasses, numpy as np, pandas as pd\n"
        "a, b = 'ab' * 3, 'ab' * 3\n"
        "key = ''.join(['na', 'me'])\n"
        "class P:\n    def __init__(self): setattr(self, key, 1); self.parts = [key, 'name']\n"
        "@dataclasses.dataclass\nclass D:\n    x: list\n"
        "class E(enum.Enum):\n    ONE = 1\n"
        "values = {'p': P(), 'd': D([1]), 'e': E.ONE, 's': {3, 1, 2}, 'c': collections.Counter('hello'),\n"
        "  'q': collections.deque([a, b]), 'dd': collections.defaultdict(list, k=[1]),\n"
        "  't': datetime.datetime(2020, 1, 1),\n"
        "  'n': decimal.Decimal('1.5'), 'f': np.arange(20.0)[::2], 'o': np.array([a, b, None], dtype=object)}\n"
        "df = pd.DataFrame({'x': np.arange(100_000), 'y': ['u', 'v'] * 50_000})\n"
        "df['z'] = pd.date_range('2020', periods=100_000)\n"
        "df2 = df.set_index('x')\n"
        "def f(v, cache={}):\n    return (v, len(cache), len(values))\n"
    )
    notebook.ok(
        "%%parallel for i in range(2) -> r\n"
        "(repr(values['p'].parts), values['d'].x, values['e'], sorted(values['s']), values['f'].sum(), f(i),\n"
        " df.groupby('y').x.sum().tolist(), df2.loc[5].y, len(df.z.dt.year), a + b,\n"
        " [str(v) for v in values.values()][0][:3])"
    )
    assert len(notebook.live["r"]) == 2


def test_a_change_inside_a_large_array_or_through_a_function_is_found(notebook):
    notebook.ok("import numpy as np\nbig = np.zeros(1_000_000)\nlog = {}\ndef note(i): log[i] = 1")
    notebook.run("%%parallel for i in range(2) -> r\nif i: big[500_000] = 1.0\ni")
    assert notebook.live["r"][0] == 0 and notebook.live["r"][1].ename == "LostUpdate"
    notebook.run("%%parallel for i in range(1) -> r\nnote(i)")
    assert "'log'" in notebook.live["r"][0].evalue


def test_a_change_to_something_that_cannot_travel_is_found_too(notebook):
    notebook.ok("config, items = {}, [{}]")
    notebook.ok("def change(): config['g'] = (x for x in [1])")
    notebook.run("%%parallel for i in range(1) -> r\nchange()\ni")
    assert notebook.live["r"][0].ename == "LostUpdate" and "'config'" in notebook.live["r"][0].evalue
    notebook.run("%%parallel for one in items -> r\none['g'] = (x for x in [1])\n1")
    assert notebook.live["r"][0].ename == "LostUpdate" and "'one'" in notebook.live["r"][0].evalue


def test_an_augmented_assignment_that_changes_in_place_is_found_and_one_that_binds_anew_stays(notebook):
    notebook.ok("results, total = [], 0")
    notebook.run("%%parallel for i in range(1) -> r\nresults += [i]\ni")
    assert notebook.live["r"][0].ename == "LostUpdate"
    notebook.ok("%%parallel for i in range(2) -> total\ntotal += i")
    assert notebook.live["total"] == [0, 1] and notebook.live["results"] == []


def test_a_changed_variable_is_collected_when_the_body_assigns_it(notebook):
    notebook.ok("import copy\nresults = []")
    notebook.ok("%%parallel for i in range(2) -> results\nresults = copy.copy(results)\nresults.append(i)")
    assert notebook.live["results"] == [[0], [1]]


def test_an_item_that_cannot_travel_is_its_tasks_failure(notebook):
    notebook.run("%%parallel for i in [1, (x for x in [1]), 3] -> r\n1")
    assert notebook.live["r"][0] == notebook.live["r"][2] == 1
    assert "cannot be sent" in notebook.live["r"][1].evalue


def test_an_item_changed_in_place_is_not_silently_lost(notebook):
    notebook.ok("lists = [[1], [2]]")
    notebook.run("%%parallel for one in lists -> r\none.append(9)\nlen(one)")
    assert notebook.live["r"][0].ename == "LostUpdate" and "'one'" in notebook.live["r"][0].evalue
    notebook.ok("%%parallel for one in lists -> one\none.append(9)")
    assert notebook.live["one"] == [[1, 9], [2, 9]] and notebook.live["lists"] == [[1], [2]]


CACHES = """
import functools
@functools.lru_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
@functools.cache
def named(*, k): return k
class Shape:
    def __init__(self, side): self.side = side
    @functools.cached_property
    def area(self): return self.side ** 2
    @functools.lru_cache
    def scaled(self, by): return self.side * by
class Slotted(Shape):
    __slots__ = ("side",)
class Listed(list):
    @functools.cached_property
    def area(self): return len(self)
slotted, listed = Slotted(2), Listed([1, 2])
shape, held = Shape(3), {"f": fib, "shape": Shape(4)}
fib(3)
"""


@pytest.mark.parametrize(
    "body",
    [
        "fib(i)",
        "named(k=i)",
        "shape.area + i",
        "held['f'](i + 5)",
        "held['shape'].area",
        "shape.scaled(i)",
        "fib(i)\nfib(i)",
    ],
)
def test_what_a_cache_remembers_is_no_change(notebook, body):
    notebook.ok(CACHES)
    notebook.ok(f"%%parallel for i in range(3) -> r\n{body}")
    expected = notebook.live["r"]
    notebook.ok(f"found = []\nfor i in range(3):\n    *_, value = {body.splitlines()[-1]},\n    found.append(value)")
    assert notebook.live["found"] == expected


@pytest.mark.parametrize(
    "body",
    [
        "shape.area, shape.__dict__.update(side=9)",
        "held['n'] = fib(9)",
        "fib.mark = i",
        "slotted.area\n    slotted.side = 9",
        "listed.area\n    listed.append(3)",
    ],
)
def test_a_change_beside_a_cache_is_one(notebook, body):
    notebook.ok(CACHES)
    error = notebook.run(f"%%parallel for i in range(3) -> r\nif i < 9:\n    {body}\n1")
    assert "in place" in str(error)


def test_an_item_whose_cache_fills_is_not_changed(notebook):
    notebook.ok(CACHES)
    notebook.ok("%%parallel for s in [Shape(1), Shape(2)] -> r\ns.area")
    assert notebook.live["r"] == [1, 4]
    assert "in place" in str(notebook.run("%%parallel for s in [Shape(1), Shape(2)] -> r\ns.area\ns.side = 3\n1"))


@pytest.mark.parametrize(
    ("made", "draw", "advice"),
    [
        ("np.random.default_rng(0)", "gen.normal()", "`gen = numpy.random.default_rng(i)`"),
        ("np.random.RandomState(0)", "gen.normal()", "`gen = numpy.random.RandomState(i)`"),
        ("random.Random(0)", "gen.random()", "`gen = random.Random(i)`"),
    ],
)
def test_a_generator_of_random_numbers_is_not_drawn_from_in_tasks(notebook, made, draw, advice):
    pytest.importorskip("numpy")
    notebook.ok(f"import random, numpy, numpy as np\ngen = {made}")
    error = str(notebook.run(f"%%parallel for i in range(2) -> r\n{draw}"))
    assert "'gen' in place" in error and "the same numbers" in error and advice in error
    notebook.ok(f"%%parallel for i in range(2) -> r\n{advice.strip('`')}\n{draw}")
    assert len(set(notebook.live["r"])) == 2


CLASSES = """
import abc, copy, enum, functools, pickle, typing
from dataclasses import dataclass, field
class C:
    n, k, d = [], 0, {}
    def m(self): return 1
    @functools.lru_cache
    def cached(self, x): return x
    @functools.cached_property
    def prop(self): return 5
    class Inner: z = [1]
class Sub(C): pass
def bump(): C.k += 1
@dataclass
class D:
    a: int = 1
    b: list = field(default_factory=list)
class S:
    __slots__ = ("a",)
class A(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class B(A):
    def f(self): return 1
class E(enum.Enum):
    X = 1
class N(typing.NamedTuple):
    x: int
class G(typing.Generic[typing.TypeVar("T")]):
    def g(self): return 2
class M(type):
    def __call__(cls, *a): return super().__call__(*a)
class WithM(metaclass=M): pass
c, d = C(), D()
"""


def test_what_a_class_has_is_a_variable_of_the_notebook_too(notebook):
    notebook.ok(CLASSES)
    for body in (
        "C.n.append(i)", "C.k += 1", "bump()", "C.d['x'] = i", "C().n.append(2)", "C.new = 3", "C.Inner.z.append(2)",
        "Sub.n.append(1)", "del C.k", "C.m = 3", "c.n.append(3)",
    ):  # fmt: skip
        error = str(notebook.run(f"%%parallel for i in range(2) -> r\nif i < 5:\n    {body}\n1"))
        assert "2 of 2" in error and "What a class has" in error, (body, error)
    assert notebook.ok("seen = C.n, C.k, C.d, C.Inner.z") is not False and notebook.live["seen"] == ([], 0, {}, [1])


def test_using_a_class_is_no_change_of_it(notebook):
    notebook.ok(CLASSES)
    for body in (
        "C.n", "[C() for _ in range(3)]", "C().cached(i), C().prop, c.cached(2)", "D(3).b.append(1), repr(D())",
        "S().a if i > 9 else S()", "isinstance(3, A), B().f(), issubclass(B, A)", "E.X.name, E(1), list(E)",
        "N(1)._replace(x=3)", "G[int]().g()", "isinstance(c, C), Sub().m()", "WithM()", "copy.deepcopy(d)",
        "C.__doc__, C.__dict__, vars(C), dir(C), D.__annotations__", "type(c), C.__subclasses__()", "pickle.dumps(3)",
    ):  # fmt: skip
        notebook.ok(f"%%parallel for i in range(2) -> r\nif i < 5:\n    {body}\n1")
        assert notebook.live["r"] == [1, 1], body
