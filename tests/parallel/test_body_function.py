"""A body that runs as a function does what it does as a module: values, names that it leaves, errors, their lines."""

from __future__ import annotations

import ast
import random
import traceback

import pytest

from lambdakernel.parallel.body import run_body
from lambdakernel.parallel.function import as_function
from lambdakernel.parallel.stays import stays

FILE = "<body>"


class Refused(Exception):
    """The body is not known to leave no trace."""


def namespace() -> dict[str, object]:
    """What the notebook has, and the item."""
    live: dict[str, object] = {"x": 5, "data": [1, 2, 3], "i": 4}
    exec("def reads_y(): return y\ndef reads_x(n): return x + n", live)
    return live


def seen(run, live) -> tuple[object, ...]:
    try:
        value: object = run()
        error = ""
    except Exception as e:
        value, error = None, "".join(traceback.format_exception_only(e))
        frames = [(f.name, f.lineno) for f in traceback.extract_tb(e.__traceback__) if f.filename == FILE]
        return error, frames
    left = {n: repr(v) for n, v in live.items() if not n.startswith("__") and not callable(v)}
    return repr(value), left, error


def both(source: str) -> tuple[tuple[object, ...], tuple[object, ...], tuple[str, ...] | None]:
    """What is seen of it as a module, and as a function; and its locals, None if it does not become one."""
    tree = ast.parse(source, FILE)
    as_module, live = namespace(), namespace()
    expected = seen(lambda: run_body(tree, FILE, as_module), as_module)
    found = stays(tree, "i", ("i",), live)
    if found.why:
        raise Refused(found.why)
    function = as_function(tree, FILE, live.keys(), found.shared)
    if function is None:
        return expected, expected, None
    return expected, seen(lambda: function.run(live), live), (*function.code.co_varnames, *function.code.co_cellvars)


LOCAL = {
    "a loop": "total = 0\nfor n in range(10): total += n * i\ntotal",
    "a name of the notebook": "x = x + 1\nx",
    "a name of the notebook that grows": "x += i\nx",
    "the item": "i += 1\ni * 2",
    "a name on some ways": "if i > 100: y2 = 1\ni",
    "a name on both ways": "if i > 100: v = 1\nelse: v = 2\nv",
    "names that are bound together": "a, (b, *c) = i, [1, 2, 3]\na, b, c",
    "a loop that does not turn": "for n in []: pass\nn = 3\nn",
    "a while": "n = 0\nwhile n < 5: n += 1\nn",
    "an error that is caught": "v = 0\ntry:\n    v = 1 // (i - 4)\nexcept ZeroDivisionError:\n    v = -1\nv",
    "an import": "import math\nv = math.floor(i / 3)\nv",
    "a comprehension": "v = [k * i for k in range(3)]\nv, {k: v for k in v}",
    "nothing to show": "v = 1",
    "an error": "v = 1\nw = [1][i]\nw",
    "an error in a loop": "for n in range(3):\n    w = 1 // (2 - n)\nw",
    "no last value": "for n in range(3): v = n",
    "a context": "import contextlib\nwith contextlib.nullcontext(i) as f:\n    v = f + 1\nv, f",
    "what a comprehension is given": "rows = [i, i + 1]\nsum(r for r in rows)",
}


@pytest.mark.parametrize("source", LOCAL.values(), ids=LOCAL.keys())
def test_it_is_the_same_with_locals(source):
    expected, found, names = both(source)
    assert found == expected
    assert names is not None and len(names) > 1


NOT_LOCAL = {
    "a loop with an else": "for n in range(3):\n    if n > 5: break\nelse:\n    n = 'none'\nn",
    "a name that a function of the notebook reads": "y = 7\nreads_y()",
    "a name of the notebook that a function reads": "x = 7\nreads_x(1)",
    "a name that may not be bound": "if i > 100: v = 1\nv",
    "a name after a loop that does not turn": "for n in []: pass\nn",
    "a name that is deleted": "v = 1\ndel v\nv",
    "a name of the notebook that is deleted": "y = x\ndel x\ny + i",
    "a list of the notebook that is deleted": "n = len(data)\ndel data\nn",
    "a name that is bound in a comprehension alone": "v = i\nw = [(x := n) for n in range(3)]\nx, v",
    "a name of a function of the body": "n = 0\ndef f():\n    global n\n    n += 1\n    return n\nf(), f(), n",
    "a name that a function of the body reads": "n = i\ndef f(): return n\nn = 10\nf()",
    "a name that a lambda reads": "n = i\ng = lambda: n\nn = 3\ng()",
    "an error by its name": "try:\n    1 // 0\nexcept ZeroDivisionError as e:\n    v = str(e)\n'e' in [v] or v",
    "a name that is bound in an expression": "w = [(k := n) for n in range(3)]\nk",
    "a built-in that is hidden later": "v = len(data)\nlen = 3\nv",
}


@pytest.mark.parametrize("source", NOT_LOCAL.values(), ids=NOT_LOCAL.keys())
def test_a_name_that_others_may_see_stays_in_the_namespace(source):
    expected, found, _ = both(source)
    assert found == expected


@pytest.mark.parametrize("source", ["match i:\n    case 4: v = 1\n    case _: v = 2\nv", "i * 2"])
def test_what_does_not_gain_or_is_odd_is_left_as_it_is(source):
    expected, found, names = both(source)
    assert found == expected and names is None


def test_a_future_import_is_left_at_the_top():
    expected, found, names = both("from __future__ import annotations\nv = i\nv")
    assert found == expected and names is None


def test_a_function_that_is_collected_has_the_names_of_the_notebook():
    tree = ast.parse("n = 3\ndef f(): return n\n", FILE)
    live = namespace()
    function = as_function(tree, FILE, live.keys(), ())
    if function is None:
        run_body(tree, FILE, live)
    else:
        function.run(live)
    assert live["f"].__closure__ is None and live["f"].__globals__ is live


def _statement(rng: random.Random, depth: int) -> list[str]:
    names = ["x", "a", "b", "c", "i"]
    name, other, third = rng.choice(names), rng.choice(names), rng.choice(names)
    if rng.random() < 0.05:
        return [f"del {name}"]
    simple = [f"{name} = {other} + 1", f"{name} += {other}", f"{name}, {other} = {third}, 2", f"{name} = [{other}][0]"]
    if depth == 0 or rng.random() < 0.5:
        return [rng.choice(simple)]
    inner = [f"    {line}" for _ in range(rng.randint(1, 2)) for line in _statement(rng, depth - 1)]
    kind = rng.choice(["if", "else", "for", "while", "try"])
    if kind == "if":
        return [f"if {other} % 2:", *inner]
    if kind == "else":
        return [f"if {other} % 2:", *inner, "else:", f"    {rng.choice(simple)}"]
    if kind == "for":
        return [f"for {name} in range({rng.randint(0, 3)}):", *inner]
    if kind == "while":
        return [f"while {other} < {rng.randint(-5, 5)}:", *inner, "    break"]
    return ["try:", *inner, "except (NameError, TypeError):", f"    {rng.choice(simple)}"]


def test_random_bodies_are_the_same():
    rng, local = random.Random(7), 0
    for _ in range(1500):
        lines = [line for _ in range(rng.randint(1, 6)) for line in _statement(rng, 2)]
        source = "\n".join([*lines, rng.choice(["x", "a", "(x, a, b)", "i"])])
        try:
            expected, found, names = both(source)
        except Refused:  # a name that nobody binds
            continue
        assert found == expected, source
        local += names is not None
    assert local > 500
