"""Random programs of arrays, frames, series and indexes that share memory: a cell in a fresh process shows what it does
in one ordinary process.

`LK_FUZZ_MEMORY` sets how many programs of each kind (20 by default), `LK_FUZZ_SEED` where they start.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np  # noqa: F401 - here once, for the processes of all cells
import pandas as pd  # noqa: F401
import pytest

from tests.state.cold import cold, seen, warm

PROGRAMS = int(os.environ.get("LK_FUZZ_MEMORY", "20"))
SEED = int(os.environ.get("LK_FUZZ_SEED", "1"))
BATCH = 10
OF_FRAMES = """
import warnings; warnings.simplefilter("ignore")
import numpy as np, pandas as pd
def _show():
    for name in "abcdef":
        value = globals().get(name)
        listed = value.tolist() if hasattr(value, "tolist") else value
        print(name, type(value).__name__, getattr(getattr(value, "flags", None), "writeable", None))
        print(value.to_csv() if hasattr(value, "to_csv") else repr(listed))
a = pd.DataFrame({"p": [1.0, 2, 3, 4], "q": [5.0, 6, 7, 8], "w": list("wxyz"), "n": [1, 2, 3, 4]})
b = a["p"]; c = a[["p", "q"]]; d = c.to_numpy(); e = np.arange(4.0); f = pd.Series(e, copy=False); both = [a, b]
"""
FRAMES = (
    "{x} = {y}", "{x} = {y}['{c}']", "{x} = {y}[['{c}', '{d}']]", "{x} = {y}.copy()", "{x} = {y}.copy(deep=False)",
    "{x} = {y}.assign(z={n})", "{x} = {y}.rename(columns={{'p': 'q'}})", "{x} = {y}.iloc[1:3]", "{x} = {y}.T",
    "{x} = {y}.to_numpy()", "{x} = {y}['{c}'].to_numpy()", "{x} = pd.DataFrame({y}, copy=False)", "{x} = {y}.array",
    "{x} = pd.Series({y}, copy=False)", "{x}.iloc[{i}] = {n}", "{x}.iloc[{i}, {j}] = {n}", "{x}.loc[{i}, '{c}'] = {n}",
    "{x}[{i}] = {n}", "{x}['{c}'] = {n}", "{x}['{c}'] = {y}['{d}']", "{x}['{c}'] += {n}", "{x} += {n}", "del {x}",
    "{x} = {y}.drop(columns='{c}')", "{x} = {y}.set_index('{c}', drop=False)", "{x} = {y}.index", "{x} = both[1]",
    "{x} = pd.Series({y}.index)", "{x} = {y}.reset_index(drop=True)", "{x} = {y}.astype(float)", "{x} = {y}.squeeze()",
    "{x} = {y}[{y}['{c}'] > 2]", "{x} = {y}['w'].str.upper()", "{x}['w'] = 'k{n}'", "{x}.loc[{i}, 'w'] = 'u{n}'",
    "{x}['t'] = pd.date_range('2024', periods=len({x}))", "{x} = {y}['t']", "{x}.iloc[{i}] = pd.Timestamp('20{n}0')",
    "{x} = pd.Index({y}['{c}'])", "{x}.index = {y}.index", "both = [{x}, {y}]", "both[0].iloc[{i}] = {n}",
    "{x} = np.arange({n}.0)[1:]", "{x} = {y}[::2]", "{x} = {y}.view()", "{x} = {y}.reshape(-1)", "{x} = {y}.fillna(0)",
    "{x} = pd.array([1, None, {n}], dtype='Int64')", "{x} = pd.Categorical(['x', 'y', 'x'])", "{x} = {y}.pop('{c}')",
    "{x}.sort_values('{c}', inplace=True)", "{x} = {y}.groupby('{c}')['{d}'].sum()", "{x}.insert(0, 'i{n}', {n})",
    "{x} = pd.concat([{x}, {y}], axis=1)", "{x} = {y}.where({y} > 1)", "{x}.columns = list({y}.columns)",
)  # fmt: skip


OF_ARRAYS = """
import warnings; warnings.simplefilter("ignore")
import array, numpy as np
def _show():
    names = [name for name in "abcdef" if name in globals()]
    for name in names:
        value = globals()[name]
        if not isinstance(value, np.ndarray):
            print(name, repr(value).split(" at 0x")[0])
            continue
        steps = [step for step, length in zip(value.strides, value.shape) if length > 1 and value.size]
        print(name, type(value).__name__, value.dtype, value.shape, steps, value.flags.writeable, value.tolist())
    arrays = [name for name in names if isinstance(globals()[name], np.ndarray)]
    print([(m, n) for m in arrays for n in arrays if m < n and np.shares_memory(globals()[m], globals()[n])])
a = np.arange(6.0); b = a[1:]; c = a.reshape(2, 3); d = c.T; e = np.arange(8); f = e.view("u1"); both = [a, b]
"""
ARRAYS = (
    "{x} = {y}", "{x} = {y}[1:]", "{x} = {y}[::-1]", "{x} = {y}.T", "{x} = {y}.reshape(-1)", "{x} = {y}.reshape(2, -1)",
    "{x} = {y}[..., 0]", "{x} = {y}.copy()", "{x} = {y}.view()", "{x} = {y}.view('i8')", "{x} = {y}.view('u1')",
    "{x}[{i}] = {n}", "{x}[...] = {n}", "{x} += {n}", "{x}.flat[{i}] = {n}", "{x}.flags.writeable = False", "del {x}",
    "{x} = np.broadcast_to({y}, (2, *{y}.shape))", "{x} = np.asfortranarray({y})", "{x} = np.zeros((2, 3), order='F')",
    "{x} = np.arange(12).reshape(3, 4)", "{x} = np.array([1, 'a', [2]], dtype=object)", "{x}[2].append({n})",
    "{x} = np.zeros(3, dtype=[('p', 'i4'), ('q', 'f8', 2)])", "{x}['p'] = {n}", "{x} = {y}['q']",
    "{x} = np.ma.array({y}, mask=False)", "{x} = np.ma.masked_greater({y}, {n})", "{x}.mask[{i}] = True",
    "{x} = {y}.mask", "{x} = {y}.view(np.recarray)", "{x} = {y}.view(np.ndarray)",
    "{x} = np.rec.array([(1, 2.0), (3, 4.0)], names='p,q')", "{x} = {y}.p", "{x} = bytearray(16)", "{x} = both[0]",
    "{x} = np.frombuffer({y}, getattr({y}, 'dtype', 'u1'))", "{x} = array.array('d', [1, 2, {n}])", "{x}.sort()",
    "{x} = np.asarray({y})",
    "both = [{x}, {y}]", "both[0][{i}] = {n}", "{x} = {y}.diagonal()", "{x} = {y} + 1j", "{x} = {y}.imag",
    "{x} = {y}[None]", "{x} = {y}.swapaxes(0, 1)", "{x} = np.array_split({y}, 2)[0]", "{x} = np.empty((0, 3))",
    "{x} = np.arange('2024-01', '2024-05', dtype='M8[M]')", "{x} = np.rot90({y})", "{x} = np.atleast_3d({y})",
)  # fmt: skip
KINDS = {"arrays": (OF_ARRAYS, ARRAYS), "frames": (OF_FRAMES, FRAMES)}


def program(kind: str, seed: int) -> list[str]:
    """Five to nine cells of one to four steps; a step that does not fit its value says so and goes on."""
    rng = random.Random(seed)
    first, of_kind = KINDS[kind]
    cells = [first]
    for _ in range(rng.randint(5, 9)):
        steps = []
        for _ in range(rng.randint(1, 4)):
            x, y, (c, d) = rng.choice("abcdef"), rng.choice("abcdef"), rng.choices("pqn", k=2)
            n, i, j = rng.randint(2, 9), rng.randint(0, 3), rng.randint(0, 2)
            step = rng.choice(of_kind).format(x=x, y=y, c=c, d=d, n=n, i=i, j=j)
            steps.append(f"try: {step}\nexcept Exception as error: print(type(error).__name__)")
        cells.append("\n".join([*steps, "_show()"]))
    return cells


@pytest.mark.parametrize("first", range(0, PROGRAMS, BATCH))
@pytest.mark.parametrize("kind", KINDS)
def test_what_shares_memory_shows_what_one_process_shows(kind: str, first: int, tmp_path: Path) -> None:
    for seed in range(SEED + first, SEED + min(first + BATCH, PROGRAMS)):
        cells = program(kind, seed)
        assert seen(cold(tmp_path / str(seed), cells)) == warm(cells), f"seed {seed}:\n" + "\n# ---\n".join(cells[1:])
