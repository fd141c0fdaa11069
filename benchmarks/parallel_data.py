"""Large values to tasks and back: lambdakernel beside the usual pools, in one run, in turn.

    python benchmarks/parallel_data.py [--quick] [--seed N] [--mb N]

Rows: an array of 100 MB to ten tasks (the first time, with whatever prepares it, and again), the same with a table, an
array back, and 100 tasks that read a notebook's global of 10 MB, also after one element of it changed. Rows run the
peers in turn, the order drawn anew each round, and print median and 99th percentile, and the median over the best
peer's (below 1: ours is faster); the last column says whether a task may write to what it was given. An array that is
sent for the first time was changed by one element just before, so that nobody may know it. The table has ten columns
of numbers and one of categories.

Where ours loses to Ray the first time: 100 MB are hashed, so that a change in place is seen, and their memory file is a
new one, whose pages the system makes as they are written; Ray writes into memory that it has had since its start, and
its tasks may not write at all. In the row of the global, each of 100 tasks has a turn of its own, and its process is
looked at after it; `ProcessPoolExecutor`, which is made anew in each cell, sends many calls at once.

The rows of the global run in a kernel each: every peer in ipykernel, ours in its own. `work`, which reads the global,
is defined in one cell and called by each later one. A result that is not of the global's newest value is counted as
stale: it is shown, and is in no ratio.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from _calls import array_is_writable, noop, ones, table_is_writable, total, total_of_table
from _kernels import Notebook, peers
from _pools import US, installed, tools_of_this_python
from _turns import Turns

NAMES = (US, "ProcessPoolExecutor", "loky", "joblib", "ipyparallel", "Dask", "Ray")
GLOBALS = (US, f"{US}.Executor", "ProcessPoolExecutor", "loky", "joblib", "Dask", "Ray")
TASKS = 100


def pools(bench: Turns, nbytes: int) -> None:
    size = f"{nbytes / 1e6:.0f} MB"
    array = np.ones(nbytes // 8)
    values: dict[str, tuple[Any, Callable[..., Any], Callable[..., bool], Callable[[], object]]] = {
        "array": (array, total, array_is_writable, lambda: array.__setitem__(0, array[0] + 1)),
    }
    if find_spec("pandas"):
        values["table"] = _table(nbytes)
    else:
        print("left out, not installed: pandas")
    with ExitStack() as owned:
        found = {}
        for name, kind in installed(NAMES).items():
            found[name] = kind()
            owned.callback(found[name].close)
            found[name].all(noop, times=20)
        for what, (value, read, is_writable, change) in values.items():
            writable = {name: "writable" if all(p.to_ten(is_writable, value)) else "" for name, p in found.items()}
            marks = {name: f"   {mark or 'read-only'}" for name, mark in writable.items()}
            runs = {name: partial(pool.to_ten, read, value) for name, pool in found.items()}
            title = f"{size} {what} to ten tasks"
            bench.turns(title, runs, 15, before=change)
            print("  in the task:", ", ".join(f"{name} {mark.strip()}" for name, mark in marks.items()))
            bench.turns(f"{title}, again", runs, 15)
            bench.ahead(title)
            bench.ahead(f"{title}, again")
            bench.holds(f"{title}: is it writable", writable[US] or "read-only", "writable", bool(writable[US]))
        title = f"{size} array back"
        bench.turns(title, {name: partial(pool.call, ones, nbytes // 8) for name, pool in found.items()}, 15)
        bench.ahead(title)


def _table(nbytes: int) -> Any:
    import pandas

    count = nbytes // 81
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {f"n{n}": rng.random(count) for n in range(10)}
    table = pandas.DataFrame(
        columns | {"kind": pandas.Categorical.from_codes(rng.integers(0, 9, count), list("abcdefghi"))}
    )

    def change() -> None:
        table.iloc[0, 0] += 1.0

    return table, total_of_table, table_is_writable, change


# -- a global of a notebook

SETUP = """
import numpy as np
table = np.arange({count}, dtype=float)
turn = 0
def work(n):
    return float(table[7])
"""
CHANGE = "turn += 1; table[7] = turn"


def notebook_global(bench: Turns, folder: str, nbytes: int) -> None:
    again, changed = f"{TASKS} tasks read a global of {nbytes / 1e6:.0f} MB", "again after one element changed"
    times: dict[str, dict[str, list[float]]] = {again: {}, changed: {}}
    stale: dict[str, int] = {}
    with ExitStack() as owned:
        books = {}
        for name, peer in peers(GLOBALS).items():
            books[name] = owned.enter_context(Notebook(peer, f"{folder}/{name}"))
            books[name].run(SETUP.format(count=nbytes // 8))
            books[name].fan_out("work(item)", TASKS)
        for _ in range(3 if bench.quick else 9):
            for name in bench.rng.sample(list(books), len(books)):
                book = books[name]
                for title, before in ((again, "pass"), (changed, CHANGE)):
                    book.run(before)
                    times[title].setdefault(name, []).append(book.fan_out("work(item)", TASKS) * 1e6)
                    stale[name] = stale.get(name, 0) + (not book.value("found == [float(table[7])] * len(found)"))
    for title, all_of in times.items():
        bench.show(title, {name: us for name, us in all_of.items() if not stale[name]})
        bench.ahead(title)
    for name, count in stale.items():
        if count:
            print(f"  {name}: stale {count} times of {2 * len(times[again][name])}, the change was not seen")
    bench.holds(f"{changed}: is it seen", "no" if stale[US] else "yes", "yes", not stale[US])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, 20 MB")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of the peers (default 1)")
    parser.add_argument("--mb", type=float, help="MB of array and table (default 100)")
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    pools(bench, int((given.mb or (20 if given.quick else 100)) * 1e6))
    with tempfile.TemporaryDirectory(prefix="lk-bench-") as folder:
        notebook_global(bench, folder, 10**7)
    bench.goals()


if __name__ == "__main__":
    main()
