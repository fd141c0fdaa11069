"""`%parallel for x in items: f(x)`: how a line is read, its value and names, and where its errors point."""

from __future__ import annotations

import pytest

from lambdakernel.parallel import ParallelError, TaskFailed
from lambdakernel.parallel.completion import completions
from lambdakernel.parallel.one_line import split_line
from lambdakernel.parallel.options import HeaderError


@pytest.mark.parametrize(
    ("text", "header", "body"),
    [
        ("for x in items: f(x)", "for x in items", "f(x)"),
        ("--workers 2 for x in items -> y : f(x)", "--workers 2 for x in items -> y", "f(x)"),
        ("--times 3: f()", "--times 3", "f()"),
        (": f()", "", "f()"),
        ("--memory 1.5GB --timeout 3 for x in items: f(x)", "--memory 1.5GB --timeout 3 for x in items", "f(x)"),
        ("for x in d[1:3] if x: g(x)[2:]", "for x in d[1:3] if x", "g(x)[2:]"),
        ("for k in sorted(d, key=lambda k: d[k]): {k: 1}", "for k in sorted(d, key=lambda k: d[k])", "{k: 1}"),
        ("for f in lambda: 1, lambda: 2: f()", "for f in lambda: 1, lambda: 2", "f()"),
        ("for x in a for y in b: lambda: x", "for x in a for y in b", "lambda: x"),
        ("--each dict(lr=[0.1], n=[1, 2]): lr * n", "--each dict(lr=[0.1], n=[1, 2])", "lr * n"),
        ("for s in [':', '->']: s + ':'", "for s in [':', '->']", "s + ':'"),
        ("for x in items: y = f(x); y + 1  # why", "for x in items", "y = f(x); y + 1  # why"),
    ],
)
def test_the_first_colon_that_ends_the_header_begins_the_body(text, header, body):
    assert split_line(text) == (header, body)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("for x in items", "no body"),
        ("for x in items:", "no body"),
        ("", "no body"),
        ("for x in items: f(x) -> y", "names stand before the colon"),
    ],
)
def test_what_is_no_line_says_what_to_write(text, what):
    with pytest.raises(HeaderError, match=what):
        split_line(text)


def test_its_value_is_the_list_of_what_the_tasks_give(notebook):
    notebook.ok("items, k = range(4), 10")
    assert notebook.ok("%parallel for x in items: x * k") == [0, 10, 20, 30]
    notebook.ok("found = %parallel --workers 2 for x in items if x: x * k")
    assert notebook.live["found"] == [10, 20, 30]
    assert notebook.ok("%parallel --times 3: k") == [10, 10, 10]
    assert notebook.ok("%parallel --each dict(a=[1, 2], b=[3]): a * b") == [3, 6]
    assert not [name for name in notebook.live if name.startswith("__lambdakernel")]
    assert notebook.ok("for n in range(2):\n    twice = %parallel for x in items: x + n\ntwice") == [1, 2, 3, 4]


def test_it_binds_names_as_a_cell_does(notebook):
    notebook.ok("%parallel for x in [1, 2] -> y, z: y = x * 10; y + 1")
    assert (notebook.live["y"], notebook.live["z"]) == ([10, 20], [11, 21])
    assert "x" not in notebook.live
    notebook.ok("%parallel --background for x in [1, 2] -> later: -x\n")
    notebook.ok("%wait")
    assert notebook.live["later"] == [-1, -2]


def test_braces_and_dollars_are_pythons(notebook):
    notebook.ok("x = 'not this'")
    assert notebook.ok("%parallel for i in range(2): {i: f'{i}$x'}") == [{0: "0$x"}, {1: "1$x"}]


def test_its_errors_are_those_of_a_cell_and_quote_the_line(notebook):
    error = notebook.run("a = 1\nb = 2\nfound = %parallel for x in [1, 0]: 1 // x")
    assert isinstance(error, ParallelError) and "found" not in notebook.live
    assert "holds" not in str(error), "there is no name that holds anything"
    assert "line 3" in error.failures[0].traceback and "found = %parallel" in error.failures[0].traceback
    notebook.ok("found = %parallel --keep-going for x in [1, 0]: 1 // x")
    one, other = notebook.live["found"]
    assert one == 1 and isinstance(other, TaskFailed)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%parallel for x in", "%parallel for x in"),
        ("%parallel for x in [1] -> 2y: x", "which is no variable name"),
        ("%parallel --background for x in [1]: x", "needs names"),
        ("%parallel for x in [1]: results.append(x)", "changes results"),
        ("%parallel for x in [1]: x +", "SyntaxError"),
        ("%parallel --wrkers 2 for x in [1]: x", "%parallel --wrkers"),
    ],
)
def test_what_cannot_run_is_refused_and_nothing_runs(notebook, line, said):
    notebook.ok("results = []")
    error = notebook.run(line)
    assert error is not None and said in f"{type(error).__name__}: {error}\n{notebook.err}"
    assert notebook.live["results"] == []


def test_code_may_run_it(notebook):
    notebook.ok("found = get_ipython().run_line_magic('parallel', 'for x in [1, 2]: x * 2')")
    assert notebook.live["found"] == [2, 4]
    error = notebook.run("get_ipython().run_line_magic('parallel', 'for x in [0]: 1 / x')")
    assert "ZeroDivisionError" in error.failures[0].traceback


def test_its_options_are_completed():
    assert completions("%parallel --wo", "--wo") == ["--workers"]
    assert "for" in completions("%parallel f", "f")
