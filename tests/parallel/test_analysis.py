"""What a body assigns, reads and ends in, and how each name after the arrow is collected."""

import ast
import importlib
import inspect
import symtable

import pytest

from lambdakernel.parallel.analysis import BadCollect, Final, LastValue, analyse, collects


def body(source: str):
    return analyse(ast.parse(source))


@pytest.mark.parametrize(
    ("source", "assigned"),
    [
        ("a = b = 1", {"a", "b"}),
        ("a, (b, *c) = x", {"a", "b", "c"}),
        ("a += 1", {"a"}),
        ("a: int = 1", {"a"}),
        ("a: int", set()),
        ("import os.path, numpy as np", {"os", "np"}),
        ("from x import y as z", {"z"}),
        ("def f(p):\n    q = 1", {"f"}),
        ("class C:\n    x = 1", {"C"}),
        ("def f():\n    global g\n    g = 1", {"f", "g"}),
        ("with open(p) as f: pass", {"f"}),
        ("for i in x: y = i", {"i", "y"}),
        ("[i for i in x]", set()),
        ("[(j := i) for i in x]", {"j"}),
        ("if (n := f()): pass", {"n"}),
        ("try: pass\nexcept E as e: z = 1", {"z"}),
        ("match v:\n    case [a, *b]: pass\n    case {'k': c, **d}: pass\n    case E() as e: pass", {*"abcde"}),
        ("x.attribute = 1\ny[0] = 2", set()),
        ("lambda q: q", set()),
    ],
)
def test_names_that_the_body_assigns(source, assigned):
    assert body(source).assigned == assigned


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("f = open(p)\nf.read()", {"open", "p"}),
        ("f.read()\nf = 1", {"f"}),
        ("a += 1", {"a"}),
        ("a = a + 1", {"a"}),
        ("def g(x): return x + y", {"y"}),
        ("[i + k for i in data]", {"data", "k"}),
        ("x.append(1)", {"x"}),
        ("x[0] = v", {"x", "v"}),
        ("with lock as l: l", {"lock"}),
        ("for i in items: i", {"items"}),
        ("lambda a=d: a", {"d"}),
        ("class C(Base):\n    def m(self): return helper(self)", {"Base", "helper"}),
    ],
)
def test_names_that_the_body_reads_before_it_binds_them(source, read):
    assert body(source).read == read


def test_the_last_expression_is_the_value():
    assert body("a = 1\na").has_value
    assert not body("a = 1").has_value
    assert not body("").has_value


def test_an_assigned_name_is_collected_by_its_final_value_the_other_by_the_last_expression():
    seen = body("model = fit(i)\nmodel.score")
    assert collects(["model"], seen, ["i"]) == (Final("model"),)
    assert collects(["runs"], seen, ["i"]) == (LastValue("runs"),)
    assert collects(["model", "score"], seen, ["i"]) == (Final("model"), LastValue("score"))
    assert collects(["i"], seen, ["i"]) == (Final("i"),)
    assert collects([], seen, ["i"]) == ()


def test_two_names_that_nothing_assigns_are_an_error_that_names_them():
    with pytest.raises(BadCollect, match="none of a, b"):
        collects(["a", "b"], body("1"), [])


def test_a_name_with_nothing_to_collect_is_an_error():
    with pytest.raises(BadCollect, match="neither assigns runs nor ends in an expression"):
        collects(["runs"], body("x = 1"), [])


@pytest.mark.parametrize(
    "name", ["argparse", "ast", "asyncio.tasks", "dataclasses", "inspect", "pdb", "tarfile", "typing"]
)
def test_assigned_names_agree_with_pythons_own_symbol_table(name):
    source = inspect.getsource(importlib.import_module(name))
    table = symtable.symtable(source, name, "exec")
    tree = ast.parse(source)
    handlers = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
    theirs = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    theirs |= {n for node in ast.walk(tree) if isinstance(node, ast.Global) for n in node.names}
    loops = [node.target for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    inlined = {n.id for target in loops for n in ast.walk(target) if isinstance(n, ast.Name)}  # since Python 3.12
    assert analyse(tree).assigned ^ theirs <= handlers | (inlined - analyse(tree).assigned)
