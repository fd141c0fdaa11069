"""Random small programs: each cell in a fresh process shows what one ordinary process shows.

`LK_FUZZ` sets how many programs (150 by default), `LK_FUZZ_SEED` where they start.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.state.cold import cold, seen, warm

PROGRAMS = int(os.environ.get("LK_FUZZ", "150"))
SEED = int(os.environ.get("LK_FUZZ_SEED", "1"))
BATCH = 50
NAMES = "abcdef"
SHOW = """
def _show():
    seen, kept = {}, []  # kept: an address must not be used twice
    def walk(o):
        if isinstance(o, (int, str, type(None))): return repr(o)
        if id(o) in seen: return f'#{seen[id(o)]}'
        seen[id(o)] = len(seen)
        kept.append(o)
        if isinstance(o, (list, tuple)): return '[' + ','.join(map(walk, o)) + ']'
        if isinstance(o, dict): return '{' + ','.join(f'{k}:{walk(v)}' for k, v in o.items()) + '}'
        if callable(o) and not isinstance(o, type): return 'f' + walk(list(o.__defaults__ or ())) + walk(
            [c.cell_contents for c in o.__closure__ or ()])
        if isinstance(o, type): return o.__name__ + walk(o.items)
        return type(o).__name__ + walk(vars(o)) + walk(type(o).items)
    return ' '.join(f'{n}={walk(globals()[n])}' for n in 'abcdefKLg' if n in globals())
"""
"""Shows every value and which of its parts are one object, so that a lost alias is a difference."""

STEPS = (
    "{x} = []", "{x} = {{}}", "{x} = [{y}]", "{x} = {y}", "{x} = {{'k': {y}, 'n': {n}}}", "{x} = ({y}, [{n}])",
    "{x}.append({n})", "{x}.append({y})", "{x}['k'] = {y}", "{x}['n'] = {n}", "{x}[0].append({n})", "{x}.clear()",
    "{x}['k'].append({n})", "{x} += [{n}]", "del {x}", "{x}, {y} = {y}, {x}", "{x} = {n}", "{x} = list({y})",
    "def g(v, acc={x}):\n    acc.append(v)\n    return acc", "g({n})", "{x} = g({n})", "g(g)",
    "def g(v):\n    {x}.append(v)\n    return {y}", "def g(v):\n    global {x}\n    {x} = [v]\n    return {x}",
    "def mk(l):\n    def g(v):\n        nonlocal l\n        l.append(v)\n        return l\n    return g\ng = mk({x})",
    "{x} = K(); {x}.v = {y}", "{x}.v.append({n})", "{x}.v = {n}", "K.items.append({n})", "K.items = {x}",
    "class K:\n    items = [{n}]", "class L(K):\n    items = [{y}]", "{x} = L()", "type({x}).items.append({n})",
    "{x}.items.append({y}); 1/0", "globals()['{x}'] = [{y}]", "exec('{x} = [{n}]')", "L.items = K.items",
)  # fmt: skip


def program(seed: int) -> list[str]:
    """Five to eight cells of one to three steps; a step that does not fit its value is an error, kept too."""
    rng = random.Random(seed)
    cells = [SHOW + "class K:\n    items = []\na = []; b = [a]; c = {'k': b}\nprint(_show())"]
    for _ in range(rng.randint(4, 7)):
        steps = [
            rng.choice(STEPS).format(x=rng.choice(NAMES), y=rng.choice(NAMES), n=rng.randint(0, 9))
            for _ in range(rng.randint(1, 3))
        ]
        cells.append("\n".join(steps) + ("\nprint(_show())" if rng.random() < 0.4 else ""))
    return [*cells, "print(_show())"]


@pytest.mark.parametrize("first", range(0, PROGRAMS, BATCH))
def test_random_programs_show_what_one_process_shows(first: int, tmp_path: Path) -> None:
    for seed in range(SEED + first, SEED + min(first + BATCH, PROGRAMS)):
        cells = program(seed)
        assert seen(cold(tmp_path / str(seed), cells)) == warm(cells), f"seed {seed}:\n" + "\n# ---\n".join(cells[1:])
