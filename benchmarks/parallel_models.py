"""What notebooks fan out: tables, models and objects of their own, beside what a notebook's user has, in real kernels.

    python benchmarks/parallel_models.py [--quick] [--seed N] [--only NAME,NAME]

Each part is a notebook: a cell that imports and makes something, then a cell that fans out at once, and that cell again
and again. Rows: the first fan-out, right after the import, in fresh kernels; and all later ones. Ours is a kernel of
lambdakernel, every peer is in an ipykernel and is used as its own guide shows; two workers each. Times are from the
request to its reply and idle. What is not installed is left out, and said so.

The processes of `%%parallel` stay for these bodies, since they are known to leave no trace, and are born with the
libraries that the body uses. Where nobody has imported these before, the first fan-out waits for that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from _kernels import PEERS, Notebook, Peer, excused, peers
from _pools import US, tools_of_this_python
from _turns import Turns, parser_of, seconds

SLOW = ("ipyparallel", "Dask", "Ray")


class Part(NamedTuple):
    """One notebook."""

    name: str
    needs: str
    setup: str
    body: str
    items: int


PARTS = (
    Part(
        "8 parts of a table of 200,000 rows",
        "pandas",
        "import numpy as np, pandas as pd\ndf = pd.DataFrame({'a': np.arange(200_000.0), 'k': np.arange(200_000) % 8})",
        "part = df[df.k == item]\nfloat(part.a.rolling(50).mean().max())",
        8,
    ),
    Part(
        "4 forests, each validated 3 times",
        "sklearn",
        "from sklearn.datasets import load_digits\nfrom sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.model_selection import cross_val_score\nX, y = load_digits(return_X_y=True)",
        "forest = RandomForestClassifier(10, max_depth=3 + item, random_state=0)\n"
        "float(cross_val_score(forest, X, y, cv=3).mean())",
        4,
    ),
    Part(
        "8 walks of a class of the notebook",
        "",
        "import random\nclass Walk:\n    def __init__(self, seed):\n"
        "        self.random, self.x = random.Random(seed), 0\n"
        "    def step(self):\n        self.x += self.random.choice((-1, 1))",
        "walk = Walk(item)\nfor _ in range(2_000): walk.step()\nwalk.x",
        8,
    ),
)


def first(bench: Turns, part: Part, chosen: Mapping[str, Peer], folder: str) -> None:
    title, times, failed = f"{part.name}: first, with the import", dict[str, list[float]](), set[str]()
    for turn in range(2 if bench.quick else 5):
        for name in bench.rng.sample(list(chosen), len(chosen)):
            if name in failed or (turn and name in SLOW and bench.quick):
                continue
            with Notebook(chosen[name], f"{folder}/first-{name}-{turn}") as book, excused(name, failed):
                book.run("pass")
                took = seconds(partial(_imported_and_fanned_out, book, part))
                times.setdefault(name, []).append(took * 1e6)
    bench.show(title, times)
    bench.ahead(title)


def _imported_and_fanned_out(book: Notebook, part: Part) -> None:
    book.run(part.setup)
    book.fan_out(part.body, part.items)


def later(bench: Turns, part: Part, chosen: Mapping[str, Peer], folder: str) -> None:
    books, failed = dict[str, Notebook](), set[str]()
    try:
        for name, peer in chosen.items():
            books[name] = Notebook(peer, f"{folder}/later-{name}")
            with excused(name, failed):
                _imported_and_fanned_out(books[name], part)
        runs = {
            name: partial(book.fan_out, part.body, part.items) for name, book in books.items() if name not in failed
        }
        bench.turns(part.name, runs, 40)
        bench.ahead(part.name)
    finally:
        for book in books.values():
            book.__exit__()


def main() -> None:
    parser = parser_of(__doc__)
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    chosen = peers(name for name in (given.only.split(",") if given.only else PEERS))
    if US not in chosen:
        parser.error(f"--only must name {US}")
    for part in PARTS:
        if part.needs and not find_spec(part.needs):
            print(f"left out: {part.name} ({part.needs} is not installed)")
            continue
        with tempfile.TemporaryDirectory(prefix="lk-bench-", ignore_cleanup_errors=True) as folder:
            first(bench, part, chosen, folder)
            later(bench, part, chosen, folder)
    bench.goals()


if __name__ == "__main__":
    main()
