"""What cells put into libraries: which of it is found, what it costs a reader, what happens where a library is gone."""

from __future__ import annotations

import ast
import string
import sys
import types
from collections.abc import Iterator

import pytest

from lambdakernel.state import reach
from lambdakernel.state.ambient import Patches
from lambdakernel.state.ambient.patches import Places


@pytest.fixture
def clean() -> Iterator[types.ModuleType]:
    before = dict(vars(string))
    yield string
    for name in vars(string).keys() - before.keys():
        delattr(string, name)
    vars(string).update(before)


def stores(code: str) -> set[tuple[str, ...]]:
    return reach.of_tree(ast.parse(code).body).stores


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("a.b = 1", {("a", "b")}),
        ("a.b.c += 1", {("a", "b", "c")}),
        ("del a.b", {("a", "b")}),
        ("a.x, (a.y, *a.z) = v", {("a", "x"), ("a", "y"), ("a", "z")}),
        ("for a.b in v: pass", {("a", "b")}),
        ("with v as a.b: pass", {("a", "b")}),
        ("def f():\n    a.b = 1", {("a", "b")}),
        ("setattr(a.b, 'c', 1); delattr(a, 'd')", {("a", "b", "c"), ("a", "d")}),
        ("get_ipython().run_cell_magic('time', '', 'a.b = 1')", {("a", "b")}),
        ("setattr(a, name, 1); f().b = 1; a[0].b = 1; a.b", set()),
    ],
)
def test_code_says_where_it_puts_something(code: str, found: set[tuple[str, ...]]) -> None:
    assert stores(code) == found


def test_imports_say_which_module_a_name_will_be() -> None:
    assert reach.of_source("import a.b, c.d as e\nfrom f import g").imports == {"a": "a", "e": "c.d"}


def test_what_was_there_before_is_no_change_and_comes_back(clean: types.ModuleType) -> None:
    here, there = Patches(), Patches()
    original = clean.capwords
    here.notice({("string", "capwords"), ("string", "extra")}, {"string": clean}, ran=False)
    assert here.capture() == {}
    clean.capwords, clean.extra = str.upper, [1]
    found = dict(here.capture())
    assert found == {"string capwords": str.upper, "string extra": [1]}
    clean.capwords = original
    del clean.extra
    assert here.capture() == {}
    there.restore(found)
    assert clean.capwords is str.upper and clean.extra == [1]
    assert there.originals.get("string.capwords") is original and there.capture() == found
    there.restore({})
    assert clean.capwords is original and not hasattr(clean, "extra")


def test_only_what_belongs_to_a_library_is_a_place() -> None:
    made, main = types.ModuleType("made_here"), types.ModuleType("__main__")
    mine = type("Mine", (), {"__module__": "__main__"})
    names = {"made": made, "main": main, "Mine": mine, "obj": mine(), "n": 5, "sys": sys}
    patches = Patches()
    stores = {(name, "attribute") for name in names} | {("sys", "path"), ("missing", "x"), ("sys", "nothing", "x")}
    patches.notice(stores, names, ran=True)
    assert patches.keys == {"sys attribute"}


def test_a_library_that_is_gone_is_said_and_the_rest_is_brought_back(clean: types.ModuleType) -> None:
    failed = Patches().restore({"no_such_library x": 1, "string extra": 2})
    assert list(failed) == ["no_such_library x"] and clean.extra == 2


def test_another_worker_knows_the_places_and_imports_nothing_for_them(clean: types.ModuleType) -> None:
    here, there = Patches(), Patches()
    here.notice({("string", "extra")}, {"string": clean}, ran=False)
    Places(there).restore(Places(here).capture() | {"no_such_library x"})
    assert there.capture() == {} and "no_such_library" not in sys.modules
    clean.extra = 1
    assert dict(there.capture()) == {"string extra": 1}
