"""`--each dict(...)`: one task for each combination, alone and beside a loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdakernel.parallel.each import expression_at
from lambdakernel.parallel.header import HeaderError, parse_header


def test_names_and_values_are_read_as_source():
    header = parse_header("--each dict(lr=[0.1, 0.01], depth=range(2, 4)) --workers 2 for x in 'a b' -> score")
    assert header.options.each == (("lr", "[0.1, 0.01]"), ("depth", "range(2, 4)"))
    assert (header.loop, header.target, header.bound) == ("for x in 'a b'", "(x, lr, depth)", ("x", "lr", "depth"))
    assert header.options.workers == 2 and header.names == ("score",)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("--each dict(a=[1])", "a"),
        ("--each=dict(a=[1], b=[2]) -> r", "(a, b)"),
        ("--each   dict( a = ' ) ' ) for (p, q) in x", "((p, q), a)"),
    ],
)
def test_targets(text, target):
    assert parse_header(text).target == target


@pytest.mark.parametrize(
    ("text", "points_at", "says"),
    [
        ("--each for x in y", "for", "takes `dict` with names"),
        ("--each dict() -> r", "dict()", "takes `dict` with names"),
        ("--each dict(**grid)", "dict", "takes `dict` with names"),
        ("--each grid -> r", "grid", "takes `dict` with names"),
        ("--each dict(a=[1, 2", "dict", "not complete"),
        ("--each", "", "takes `dict`"),
        ("--each dict(a=[1], a=[2])", "dict", "takes `dict`"),
        ("--times 2 --each dict(a=[1]) -> r", "-> r", "--times goes without"),
        ("--each dict(x=[1]) for x in y", "for x", "bound by the loop and by --each"),
    ],
)
def test_an_error_points_at_the_place(text, points_at, says):
    with pytest.raises(HeaderError) as caught:
        parse_header(text)
    assert says in str(caught.value)
    assert text[caught.value.column :].startswith(points_at)


@given(
    st.lists(st.sampled_from(["(", ")", "[", "]", "'", '"', " ", "a", "=", ",", "dict", "#", "\\", "1"]), max_size=12)
)
def test_any_text_has_an_end_or_is_refused(pieces):
    text = "".join(pieces)
    try:
        assert 0 <= expression_at(text, 0) <= len(text)
    except ValueError:
        pass


# -- real tasks


def test_the_body_runs_for_each_combination(notebook):
    notebook.ok("rates = [0.1, 0.01]")
    notebook.ok("%%parallel --each dict(lr=rates, depth=[2, 4]) -> r\n(lr, depth)")
    assert notebook.live["r"] == [(0.1, 2), (0.1, 4), (0.01, 2), (0.01, 4)]
    assert "lr" not in notebook.live


def test_beside_a_loop_it_multiplies_and_goes_through_what_it_is_given_once(notebook):
    notebook.ok("once = iter([1, 2])")
    notebook.ok("%%parallel --each dict(n=once, s=['x']) for a in map(str, range(2)) -> r\na * n + s")
    assert notebook.live["r"] == ["0x", "00x", "1x", "11x"]


def test_errors_show_the_combination(notebook):
    notebook.run("%%parallel --each dict(lr=[1, 0], depth=[2]) -> r\ndepth / lr")
    assert notebook.live["r"][0] == 2.0 and notebook.live["r"][1].item_repr == "lr=0, depth=2"
    notebook.ok("%%parallel --each dict(k=['a', 'b'])\nprint('seen', k)")
    assert "task 1 (k='b')\nseen b" in notebook.out


@pytest.mark.parametrize(("values", "shown"), [("'rf'", "'rf'"), ("3", "3"), ("b'x'", "b'x'")])
def test_a_value_where_a_list_belongs_is_refused(notebook, values, shown):
    error = notebook.run(f"%%parallel --each dict(model={values}) -> r\nmodel")
    assert f"model has {shown}. Write `model=[...]`. Nothing ran." in str(error)


def test_no_values_are_no_tasks(notebook):
    notebook.ok("%%parallel --each dict(a=[], b=[1]) -> r\na")
    assert notebook.live["r"] == []
