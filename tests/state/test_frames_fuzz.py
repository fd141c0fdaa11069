"""Random programs of frames, series, indexes and arrays that share memory: a cell in a fresh process shows what it does
in one ordinary process.

`LK_FUZZ_FRAMES` sets how many programs (30 by default), `LK_FUZZ_SEED` where they start.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np  # noqa: F401 - here once, for the processes of all cells
import pandas as pd  # noqa: F401
import pytest

from tests.state.cold import cold, seen, warm

PROGRAMS = int(os.environ.get("LK_FUZZ_FRAMES", "30"))
SEED = int(os.environ.get("LK_FUZZ_SEED", "1"))
BATCH = 10
FIRST = """
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
STEPS = (
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


def program(seed: int) -> list[str]:
    """Five to nine cells of one to four steps; a step that does not fit its value says so and goes on."""
    rng = random.Random(seed)
    cells = [FIRST]
    for _ in range(rng.randint(5, 9)):
        steps = []
        for _ in range(rng.randint(1, 4)):
            x, y, (c, d) = rng.choice("abcdef"), rng.choice("abcdef"), rng.choices("pqn", k=2)
            step = rng.choice(STEPS).format(
                x=x, y=y, c=c, d=d, n=rng.randint(2, 9), i=rng.randint(0, 3), j=rng.randint(0, 2)
            )
            steps.append(f"try: {step}\nexcept Exception as error: print(type(error).__name__)")
        cells.append("\n".join([*steps, "_show()"]))
    return cells


@pytest.mark.parametrize("first", range(0, PROGRAMS, BATCH))
def test_random_frames_show_what_one_process_shows(first: int, tmp_path: Path) -> None:
    for seed in range(SEED + first, SEED + min(first + BATCH, PROGRAMS)):
        cells = program(seed)
        assert seen(cold(tmp_path / str(seed), cells)) == warm(cells), f"seed {seed}:\n" + "\n# ---\n".join(cells[1:])
