"""Exceptions and tracebacks after a move: the same frames, lines and marks, without anything run again."""

from __future__ import annotations

import copyreg
import gc
import inspect
import json
import linecache
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import dump
from lambdakernel.state.decoding import load
from lambdakernel.state.lines import location_table, with_line_at
from tests.state.cold import Worker, in_child

CELL = """
import json
class Broken(Exception): pass
def closure(n, *more, **named):
    seen = [n]
    def inner(x, y=1):
        return [x / (n - n) + len(seen) for _ in range(2)]
    return inner(3)
def generator(n):
    yield closure(n, 5, key=6)
class Maker:
    def __init__(self, n): list(generator(n))
def down(n): return down(n + 1)
def parse():
    try: return json.loads("{" * 3)
    except ValueError as e:
        e.add_note("noted")
        raise Broken("outer") from e
"""


def moved(value: Any, live: dict[str, Any]) -> Any:
    """`value` as a worker loads it that has the same namespace and classes."""
    book = ClassBook()
    found, _ = dump({"value": value}, live, book)
    return load("a value", found.head, found.buffers, live, book, _unknown, _unknown)["value"]


def _unknown(name: str) -> Any:
    raise AssertionError(f"{name} was not to be asked for")


@pytest.fixture()
def live() -> Iterator[dict[str, Any]]:
    """A namespace in which `CELL` ran."""
    name = "<cell of a test>"
    linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    live: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, name, "exec"), live)
    yield live
    del linecache.cache[name]


def raised(source: str, live: dict[str, Any]) -> BaseException:
    try:
        exec(compile(source, "<another cell>", "exec"), live)
    except Exception as e:
        return e
    raise AssertionError(f"{source} raised nothing")


def frames(error: BaseException) -> list[types.FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


@pytest.mark.parametrize("source", ["closure(1)", "Maker(2)", "down(0)", "parse()", "closure(1)\nx = 5"])
def test_a_moved_error_is_shown_as_the_original(source: str, live: dict[str, Any]) -> None:
    error = raised(source, live)
    back = moved(error, live)
    assert back is not error
    assert traceback.format_exception(back) == traceback.format_exception(error)


def test_the_frames_are_in_the_notebook_and_say_where_they_were(live: dict[str, Any]) -> None:
    error = raised("pass\n\nMaker(2)", live)
    back = moved(moved(error, live), live)
    inside = [(f.f_code.co_name, f.f_lineno) for f in frames(error)]
    assert [(f.f_code.co_name, f.f_lineno) for f in frames(back)] == inside
    ours = [frame for frame in frames(back) if frame.f_code.co_filename != __file__]
    assert all(frame.f_globals is live for frame in ours)
    assert ours[0].f_locals is live  # of a module; what a function had stays behind
    assert [inspect.getargvalues(f).args for f in ours] == [inspect.getargvalues(f).args for f in frames(error)[1:]]
    assert all(set(inspect.getargvalues(f).args) <= set(f.f_locals) for f in ours)


def test_a_frame_of_a_library_imports_nothing(live: dict[str, Any]) -> None:
    error = raised("parse()", live)
    assert error.__cause__ is not None
    library = [frame for frame in frames(moved(error, live).__cause__) if frame.f_code.co_filename == json.__file__]
    assert [frame.f_globals is vars(json) for frame in library] == [True]
    live["json"] = None
    alien = types.ModuleType("not.there")
    alien.__file__ = "/nowhere/there.py"
    exec(compile("def f(g): g()", alien.__file__, "exec"), vars(alien))
    error = raised("f(lambda: 1 / 0)", {**live, "f": vars(alien)["f"]})
    names = [frame.f_globals.get("__name__") for frame in frames(moved(error, live))]
    assert "not.there" in names


def test_rebuilt_frames_can_be_cleared_and_freed(live: dict[str, Any]) -> None:
    back = moved(raised("Maker(2)", live), live)
    traceback.clear_frames(back.__traceback__)
    assert frames(back)[-1].f_locals == {}
    del back
    gc.collect()


def test_an_error_that_pickles_itself_keeps_what_raising_gave_it(live: dict[str, Any]) -> None:
    cause = moved(raised("parse()", live), live).__cause__
    assert isinstance(cause, json.JSONDecodeError)
    assert (cause.pos, cause.__notes__) == (1, ["noted"])
    assert [frame.f_code.co_name for frame in frames(cause)][:2] == ["parse", "loads"]


def test_a_registered_reducer_is_asked_first(live: dict[str, Any]) -> None:
    copyreg.pickle(_Registered, lambda error: (_Registered, (error.args[0] + 1,)))
    try:
        assert moved(_Registered(1), live).args == (2,)
    finally:
        copyreg.dispatch_table.pop(_Registered)


class _Registered(Exception):
    pass


def test_a_group_keeps_its_members_and_what_is_raised_again_its_path(live: dict[str, Any]) -> None:
    first = raised("closure(1)", live)
    both = moved({"group": ExceptionGroup("g", [first]), "first": first}, live)  # type: ignore[list-item]
    assert both["group"].exceptions[0] is both["first"]
    depth = len(frames(both["first"]))
    live["saved"] = both["first"]
    again = raised("raise saved", live)
    assert len(frames(again)) == depth + 2


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("module", [inspect, json.decoder, traceback], ids=lambda module: str(module.__name__))
def test_a_table_says_the_positions_that_it_was_made_of(module: types.ModuleType) -> None:
    assert module.__file__ is not None
    for code in codes(compile(Path(module.__file__).read_text(), module.__file__, "exec")):
        positions = list(code.co_positions())
        again = code.replace(co_linetable=location_table(positions, code.co_firstlineno))
        assert list(again.co_positions()) == positions
        changed = list(with_line_at(code, 0, 100_000).co_positions())
        assert changed[0][0] == 100_000
        assert changed[1:] == positions[1:]


def test_an_error_in_a_variable_has_its_traceback_in_the_next_worker(tmp_path: Path) -> None:
    def first() -> str:
        worker = Worker(tmp_path)
        worker.run("def f(n): return 1 / n")
        worker.run("try: f(0)\nexcept Exception as e: saved = e")
        worker.close()
        return shown(worker.live["saved"])

    def second() -> str:
        worker = Worker(tmp_path)
        worker.run("saved")
        worker.close()
        return shown(worker.live["saved"])

    def shown(error: BaseException) -> str:
        return repr([(f.name, f.lineno) for f in traceback.extract_tb(error.__traceback__)])

    expected = in_child(first)
    assert "'f', 1" in expected
    assert in_child(second) == expected
