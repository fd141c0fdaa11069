"""The first line of `%%parallel`: what it says, and what is said about one that says nothing."""

import ast
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdakernel.parallel.header import Header, HeaderError, Options, parse_header


def test_a_loop_with_one_name():
    header = parse_header("for i in range(3) -> runs")
    assert header == Header(Options(), "for i in range(3)", "i", ("i",), ("runs",))
    assert eval(header.items_source) == [0, 1, 2]


def test_nothing_at_all_is_a_body_without_loop_or_results():
    assert parse_header("") == Header(Options(), "", "", (), ())


def test_results_without_a_loop():
    assert parse_header("--times 3 -> runs") == Header(Options(times=3), "", "", (), ("runs",))
    assert parse_header("-> a, b").names == ("a", "b")


def test_all_options():
    header = parse_header("--workers 2 --timeout=1.5 --keep-going for i in x")
    assert header.options == Options(workers=2, timeout_s=1.5, keep_going=True)
    assert header.loop == "for i in x"


def test_retries_and_memory():
    header = parse_header("--retries 2 --retry-errors --memory=1.5GB for i in x")
    assert header.options == Options(retries=2, retry_errors=True, memory_nbytes=1_500_000_000)
    assert parse_header("--retries 0").options.retries == 0


def test_nested_loops_with_a_condition_give_items_that_fit_the_target():
    header = parse_header("for a in range(3) for b in 'xy' if a > 1 -> r")
    assert header.bound == ("a", "b")
    assert eval(header.items_source) == [(2, "x"), (2, "y")]
    scope: dict[str, object] = {}
    exec(f"{header.target} = (2, 'x')", scope)
    assert (scope["a"], scope["b"]) == (2, "x")


@pytest.mark.parametrize(
    ("loop", "items", "bound"),
    [
        ("for i, (a, b) in [(1, (2, 3))]", [(1, (2, 3))], ("i", "a", "b")),
        ("for first, *rest in ['abc']", [("a", "b", "c")], ("first", "rest")),
        ("for [a, b] in [(1, 2)]", [[1, 2]], ("a", "b")),
        ("for (i) in [1]", [1], ("i",)),
        ("for i, in [(1,)]", [(1,)], ("i",)),
        ("for _ in range(1)", [0], ("_",)),
        ("for a in [1] for a, b in [(2, 3)]", [(2, (2, 3))], ("a", "b")),
    ],
)
def test_targets_of_every_shape(loop, items, bound):
    header = parse_header(loop)
    assert eval(header.items_source) == items
    assert header.bound == bound
    for item in items:
        exec(f"{header.target} = item", {"item": item})


@pytest.mark.parametrize(
    ("text", "loop", "names"),
    [
        ("for s in ['a -> b', \"-> c\"] -> d", "for s in ['a -> b', \"-> c\"]", ("d",)),
        ("for f in {'->': 1}->x,y", "for f in {'->': 1}", ("x", "y")),
        ("for i in x  # the -> runs\t", "for i in x", ()),
        ("for i in x -> runs # -> others", "for i in x", ("runs",)),
        ("for ü in ürs -> ergebnis", "for ü in ürs", ("ergebnis",)),
    ],
)
def test_only_an_arrow_of_the_header_itself_counts(text, loop, names):
    header = parse_header(text)
    assert (header.loop, header.names) == (loop, names)


@pytest.mark.parametrize(
    ("text", "points_at", "says"),
    [
        ("for i on x", "i on x" if sys.version_info < (3, 13) else "on x", "no loop"),
        ("for i in", "", "no loop"),
        ("i in x", "i in x", "no loop"),
        ("for i in x] + [1 for j in y", "for i", "no loop"),
        ("for x.y in z", "for", "cannot take the items"),
        ("for d['k'] in z", "for", "cannot take the items"),
        ("async for i in z", "async", "async for"),
        ("for i in x -> ", "", "no variable name"),
        ("for i in x -> a b", "a b", "'a b'"),
        ("for i in x -> a, a", "a", "named twice"),
        ("for i in x -> class", "class", "'class'"),
        ("for i in x -> a.b", "a.b", "'a.b'"),
        ("for i in x -> a -> b", "-> b", "more than one arrow"),
        ("--wokers 3 for i in x", "--wokers", "--workers N"),
        ("--workers 0 for i in x", "0 for", "a whole number from 1"),
        ("--workers for i in x", "for i", "a whole number"),
        ("--timeout -1 for i in x", "-1", "seconds above 0"),
        ("--timeout inf for i in x", "inf", "seconds above 0"),
        ("--timeout nan", "nan", "seconds above 0"),
        ("--retries -1 for i in x", "-1", "a whole number from 0"),
        ("--retry-errors for i in x", "--retry-errors", "without --retries"),
        ("--memory 500 for i in x", "500", "`--memory 500MB`"),
        ("--keep-going=yes", "--keep-going", "takes no value"),
        ("--times 3 for i in x", "for i", "--times goes without"),
        ("for i in (1, 2", None, ""),
        ("for i in 'abc", None, ""),
        ("for i in x\0y", None, ""),
    ],
)
def test_an_error_points_at_the_place_and_says_what_to_do(text, points_at, says):
    with pytest.raises(HeaderError) as caught:
        parse_header(text)
    message = str(caught.value)
    assert says in message
    lines = message.split("\n")
    assert any(line.strip() == "^" for line in lines)
    if points_at is not None:
        assert text[caught.value.column :].startswith(points_at)


PIECES = ["for", " ", "in", "x", "->", ",", "(", ")", "[", "]", "'", '"', "--workers", "--times", "=", "3", "#", "\\"]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_any_text_gives_a_header_or_a_header_error(text):
    try:
        header = parse_header(text)
    except HeaderError as e:
        assert 0 <= e.column <= len(text)
        return
    if header.loop:
        ast.parse(header.items_source, mode="eval")
        ast.parse(f"{header.target} = 0")
    assert all(name.isidentifier() for name in header.names)
