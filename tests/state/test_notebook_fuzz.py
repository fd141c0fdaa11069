"""Random notebooks: each cell on a fresh namespace over one store leaves what one plain dictionary has after it.

Theory of operation
- The model executes the same cells in one dictionary, in the same process. Cells are drawn for what the model holds, so
  that most of them do something; some raise half-way, and the model keeps what they did before.
- A cell of ours runs on a new `live` dictionary, which binds what the cell reaches; then another new one loads every
  name and is shown. Nothing but the store leads from one to the next.
- What is shown numbers every mutable object, class, function and closure's cell in the order in which it is met: two
  shows are equal only if values and all relations by `is` are, between names and anywhere below them.

`LK_FUZZ_CELLS` sets how many cells (10,000 by default), `LK_FUZZ_SEED` which; a failure names the seed of its notebook
and the cells that are left when every one that does not matter is taken away.
"""

from __future__ import annotations

import collections
import itertools
import os
import random
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state import Cell, Namespace
from tests.state.cold import execute, file_name, fresh_main, in_child

CELLS = int(os.environ.get("LK_FUZZ_CELLS", "10000"))
SEED = int(os.environ.get("LK_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
LENGTH = 20
"""Cells of one notebook."""
BATCH = 50
"""Notebooks of one test."""
BATCH_S = 600.0
NAMES = tuple("abcdefgh")
KNOWN = "its definition refers to itself before it exists"
"""What is said of a class, or of what it shares, that cannot be loaded yet; a notebook ends where it is said."""
FIRST = "import collections, functools\na = []; b = [a]; c = {'k': b}; K = type('K', (), {}); C = a"


# -- what is shown


class Shown:
    """The text of a namespace: values, and which parts of them are one object."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []
        self._sets: list[frozenset[Any] | set[Any]] = []
        names = sorted(name for name in space if name in (*NAMES, "K", "C"))
        lines = [f"{name} = {self._walk(space[name])}" for name in names]
        for value in self._sets:  # grows meanwhile
            lines.append(f"#{self._numbers[id(value)]} holds {self._each(sorted(value, key=self._place))}")
        self.text = "\n".join(lines)

    def _walk(self, value: Any) -> str:
        if type(value) in (tuple, frozenset) and _joins_nothing(value):
            return f"{type(value).__name__}{self._each(sorted(value, key=repr) if type(value) is frozenset else value)}"
        if _is_constant(value):
            return repr(value)
        if isinstance(value, type) and value.__module__ == "builtins":
            return value.__name__
        if id(value) in self._numbers:
            return f"#{self._numbers[id(value)]}"
        number = self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)  # an address must not be used twice
        return f"#{number}:{type(value).__name__}{self._parts(value)}"

    def _place(self, value: Any) -> tuple[int, str]:
        """Where it comes among the members of a set: an order that no address and no hash decides."""
        met = self._numbers.get(id(value), len(self._numbers))
        return met, "" if met < len(self._numbers) else Shown({"a": value}).text

    def _parts(self, value: Any) -> str:
        match value:
            case types.FunctionType():
                parts = [value.__name__, value.__defaults__, value.__kwdefaults__, vars(value)]
                return self._each([*parts, *(value.__closure__ or ())])
            case types.CellType():
                return self._each([value.cell_contents] if _is_full(value) else [])
            case types.MethodType():
                return self._each([value.__self__, value.__func__])
            case partial():
                return self._each([value.func, value.args, value.keywords])
            case type():
                own = {k: v for k, v in vars(value).items() if not k.startswith("__")}
                return self._each([value.__name__, value.__bases__, own])
            case types.MappingProxyType():  # of a class, in which pickling leaves a mark
                return self._each([{k: v for k, v in value.items() if not k.startswith("__")}])
            case dict():
                return self._each([*itertools.chain(*value.items()), getattr(value, "default_factory", None)])
            case set() | frozenset() if not all(map(_is_constant, value)):
                self._sets.append(value)  # after all else, when most of what it holds has its number
                return ""
            case set() | frozenset():
                return repr(sorted(value, key=repr))
            case bytearray():
                return repr(bytes(value))
            case types.BuiltinFunctionType():
                return value.__qualname__
            case list() | tuple() | collections.deque():
                return self._each(value)
        return self._each([type(value), getattr(value, "__dict__", repr(value))])

    def _each(self, values: Any) -> str:
        return "(" + ", ".join(self._walk(value) for value in values) + ")"


def _is_constant(value: Any) -> bool:
    """Whether it is immutable all through: which of two equal ones it is, is not kept."""
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))
    return isinstance(value, (int, str, bytes, type(None)))


def _joins_nothing(value: Any) -> bool:
    """Whether all in it that could change are classes: which of two equal ones it is, is not kept either."""
    if type(value) in (tuple, frozenset):
        return all(map(_joins_nothing, value))
    return isinstance(value, type) or _is_constant(value)


def _is_full(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:
        return False


# -- what is drawn

STEPS: dict[str, tuple[str, ...]] = {
    "": (
        "{t} = []", "{t} = [{n}]", "{t} = {{}}", "{t} = {n}", "{t} = {{{n}}}", "{t} = bytearray(b'{n}')",
        "{t} = collections.deque([{n}])", "{t} = collections.defaultdict(list)", "class K: tag = {n}",
        "for {t} in [[1], [2]]: {t}.append({n})", "exec('{t} = [{n}]')", "globals()['{t}'] = [{n}]",
        "def {t}(v=None):\n    return [v, {n}]", "{t} = [[]] * 3", "({t} := [{n}]).append({n})",
    ),
    "any": (
        "{t} = {any}", "{t} = {any}", "{t} = [{any}, {any}]", "{t} = {{'k': {any}, {n}: {any}}}", "del {any}",
        "{t} = ({any}, [{n}])", "{any}, {t} = [{n}], {any}", "class K:\n    tag = {n}\n    items = {any}",
        "C = {any}", "{t} = lambda v=0: ({any}, v)", "{t} = functools.partial(print, {any})",
        "def {t}(v, acc={any}):\n    acc.append(v)\n    return acc", "def {t}(v=0, *, acc={any}):\n    return acc",
        "def {t}(v=0):\n    global {any}\n    {any} = [v]\n    return {any}",
        "def mk(l):\n    def get(v=0):\n        return l\n    def put(v=0):\n        nonlocal l\n"
        "        old, l = l, [l, v]\n        return old\n    return get, put\n{t}, C = mk({any})\ndel mk",
        "try:\n    {t} = [{any}]\n    1 / 0\nfinally:\n    C = {t}",
    ),
    "list": (
        "{list}.append({n})", "{list}.append({any})", "{list} += [{n}]", "{list}[:1] = [{any}, {n}]", "{list}.pop()",
        "{list}[0] = {any}", "{t} = {list}[0]", "{t} = {list}[:]", "{list}[0].append({n})", "{list}.clear()",
        "{list}.append({n})\n1 / 0\n{list}.append({n})", "{list}.insert(0, {list})", "{list}.reverse()",
        "del {list}[0]", "{list}.extend({list})", "for {t} in {list}: pass", "{t} = [v for v in {list}]",
        "def {t}(v=0):\n    {list}.append(v)\n    return {list}", "C = {list}; C.append({n}); del {list}",
    ),
    "dict": (
        "{dict}['k'] = {any}", "{dict}[{n}] = [{any}]", "{dict}.pop('k')", "{t} = {dict}['k']", "{dict}.clear()",
        "{t} = {dict}.setdefault('new', [])", "{dict}['k'].append({n})", "{dict}.update(z={any}, y={n})",
        "{dict}['me'] = {dict}", "{t} = dict({dict})", "{dict}[{n}].append({n})", "{dict}['k'] += [{n}]; raise OSError",
    ),
    "tuple": ("{tuple}[1].append({n})", "{tuple}[1] += [{n}]", "{t} = {tuple}[1]", "{t} = {tuple}[0]"),
    "set": ("{set}.add({n})", "{set}.discard({n})", "{set} |= {{{n}}}", "{t} = frozenset({set})"),
    "bytearray": ("{bytearray}.append({n})", "{bytearray}[0] = {n}", "{bytearray}.clear()"),
    "deque": ("{deque}.append({any})", "{deque}.rotate()", "{deque}.popleft()"),
    "function": (
        "{t} = {function}({n})", "{function}({n})", "{function}({n}).append({n})", "{function}.mark = {any}",
        "{function}.__defaults__ = ({any},)", "K.method = {function}", "{t} = {function}()",
    ),
    "type": (
        "{t} = {type}()", "{t} = {type}(); {t}.v = {any}", "{type}.items = {any}", "class K({type}): more = {any}",
        "{t} = {type}; {t}.tag = {n}", "class L({type}):\n    def me(self): return self\n{t} = L(); {t}.l = {t}.me",
    ),
    "object": (
        "{object}.v = {any}", "{object}.v.append({n})", "{object}.w = {object}", "{t} = {object}.v",
        "{t} = {object}.items",
        "del {object}.v", "{object}.__class__ = K", "type({object}).tag = {n}", "{object}.items.append({n})",
        "{t} = {object}.method", "{object}.__dict__['v'] = {n}", "{t} = {object}.__dict__", "{t} = type({object})",
    ),
}  # fmt: skip
_KINDS: dict[type, str] = {
    list: "list", dict: "dict", collections.defaultdict: "dict", tuple: "tuple", set: "set", bytearray: "bytearray",
    collections.deque: "deque", types.FunctionType: "function",
}  # fmt: skip


def kind_of(value: Any) -> str:
    if isinstance(value, type):
        return "type"
    if type(type(value)) is type and type(value).__module__ == "__main__":
        return "object"
    return _KINDS.get(type(value), "")


def random_cell(rng: random.Random, space: dict[str, Any]) -> str:
    """One to three steps of which the first suits what `space` holds."""
    there = [name for name in (*NAMES, "K", "C") if name in space]
    by_kind: dict[str, list[str]] = {"": [""], "any": there}
    for name in there:
        by_kind.setdefault(kind_of(space[name]), []).append(name)
    possible = [kind for kind, names in by_kind.items() if names and kind in STEPS]
    return "\n".join(_step(rng, rng.choice(possible), by_kind) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def _step(rng: random.Random, kind: str, by_kind: dict[str, list[str]]) -> str:
    chosen = {other: rng.choice(names or ["a"]) for other, names in by_kind.items() if other}
    return rng.choice(STEPS[kind]).format(**chosen, t=rng.choice(NAMES), n=rng.randint(0, 9))


# -- the two ways


def plain(cells: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The one dictionary after each cell, and the type of the cell's error."""
    space = fresh_main()
    for source in cells:
        _, error = execute(source, space)
        yield space, error


class Notebook:
    """A space of its own in a store; no value of one cell is alive when the next begins."""

    def __init__(self, space: kvs.Space) -> None:
        self._replica = space.replica()
        self._number = 0

    def run(self, source: str) -> tuple[str, str]:
        """The type of the cell's error, and what a fresh namespace shows after it."""
        self._number += 1
        namespace = self._attached()
        namespace.prepare(source)
        _, error = execute(source, namespace.live)
        status = "error" if error else "ok"
        namespace.commit(Cell(self._number, source, f"m{self._number}", status, error, "", file_name(source), 0.0, 0.0))
        namespace.close()
        reader = self._attached()
        reader.load_all()
        shown = Shown(reader.live).text
        reader.close()
        return error, shown

    def _attached(self) -> Namespace:
        live = fresh_main()
        namespace = Namespace(live, self._replica, ignore=dict(live), worker="fuzz", ambient=())
        namespace.attach()
        return namespace

    def close(self) -> None:
        self._replica.close()


def first_difference(space: kvs.Space, cells: Sequence[str]) -> str:
    """What differs after which cell; empty if nothing does."""
    notebook = Notebook(space)
    try:
        for number, (source, (model, expected)) in enumerate(zip(cells, plain(cells), strict=True)):
            text = Shown(model).text
            try:
                error, shown = notebook.run(source)
            except (LambdaKernelError, kvs.KvsError) as e:  # what was said to be lost, of what plain Python still has
                if KNOWN in str(e):
                    return ""
                error, shown = type(e).__name__, str(e)
            if (error, shown) != (expected, text):
                return f"after cell {number}\n-- plain {expected}\n{text}\n-- ours {error}\n{shown}"
    finally:
        notebook.close()
    return ""


def drawn(seed: int) -> list[str]:
    """The cells of the notebook of that seed."""
    rng = random.Random(seed)
    cells = [FIRST]
    space = fresh_main()
    execute(FIRST, space)
    for _ in range(LENGTH - 1):
        cells.append(random_cell(rng, space))
        execute(cells[-1], space)
    return cells


def smallest(cells: Sequence[str], differs: Callable[[Sequence[str]], bool]) -> list[str]:
    """Cells of which none can be taken away without the difference."""
    left = list(cells)
    for at in reversed(range(1, len(cells))):
        fewer = left[:at] + left[at + 1 :]
        if differs(fewer):
            left = fewer
    return left


def differences(store: Path, seeds: Sequence[int]) -> list[str]:
    """One text for each notebook that differs."""
    opened, numbers = kvs.open(store), itertools.count()

    def difference(cells: Sequence[str]) -> str:
        return first_difference(opened.space(f"n{next(numbers)}"), cells)

    found = []
    for seed in seeds:
        cells = drawn(seed)
        if difference(cells):
            least = smallest(cells, lambda fewer: bool(difference(fewer)))
            found.append(f"LK_FUZZ_SEED={seed}: {difference(least)}\n-- cells\n" + "\n# ---\n".join(least))
    return found


@pytest.mark.timeout(BATCH_S + 60)
@pytest.mark.parametrize("first", range(0, CELLS, BATCH * LENGTH))
def test_a_random_notebook_leaves_what_plain_python_leaves(first: int, tmp_path: Path) -> None:
    count = min(BATCH, -(-(CELLS - first) // LENGTH))
    start = SEED + first // LENGTH
    print(f"LK_FUZZ_SEED={SEED}, {CELLS} cells")
    found = in_child(lambda: differences(tmp_path, range(start, start + count)), BATCH_S)
    assert not found, "\n\n".join(found[:3])


def test_the_comparison_sees_a_lost_alias() -> None:
    one: list[int] = [1]
    assert Shown({"a": one, "b": one}).text != Shown({"a": one, "b": [1]}).text
    assert Shown({"a": (one, [one])}).text != Shown({"a": (one, [[1]])}).text


def test_no_address_decides_what_a_set_shows() -> None:
    class K:
        pass

    def shown() -> str:
        one, other = K(), K()
        members = [one, 1, None, "s", K, (other, 2), shown]
        return Shown({"a": frozenset(members), "b": frozenset([one, other]), "c": [other], "d": one}).text

    assert shown() == shown() and " at 0x" not in shown()
    one, other = K(), K()
    assert Shown({"a": frozenset([one]), "b": one}).text != Shown({"a": frozenset([other]), "b": one}).text


def test_no_value_of_one_cell_is_alive_in_the_next(tmp_path: Path) -> None:
    cells = ["a = [1]; b = a", "a.append(2)", "c = a is b"]
    assert in_child(lambda: first_difference(kvs.open(tmp_path).space("n"), cells)) == ""
    with_error = [*cells, "b.append(3); 1 / 0"]
    assert in_child(lambda: first_difference(kvs.open(tmp_path).space("m"), with_error)) == ""


def own_attributes(store: Path, cells: Sequence[str]) -> list[str]:
    """Names in the dictionary of class `K` after the cells, in order."""
    space = kvs.open(store).space("n")
    notebook = Notebook(space)
    for source in cells:
        notebook.run(source)
    reader = notebook._attached()
    reader.load_all()
    found = [name for name in vars(reader.live["K"]) if not name.startswith("__")]
    notebook.close()
    return found


def test_a_class_keeps_an_attribute_that_its_base_has_too(tmp_path: Path) -> None:
    cells = ["class J: tag = 1", "class K(J): tag = 1"]
    assert in_child(lambda: own_attributes(tmp_path, cells)) == ["tag"]


def test_a_class_keeps_the_order_of_its_attributes(tmp_path: Path) -> None:
    assert in_child(lambda: own_attributes(tmp_path, ["class K:\n    b = 1\n    a = 2"])) == ["b", "a"]
