"""Word count and all-to-all beside the usual pools, in one run, in turn.

    python benchmarks/parallel_shuffle.py [--quick] [--seed N]

Every pool is warm and has two workers. Rows run each peer in turn, the order drawn anew each round, and print median
and 99th percentile, and the median over the best peer's (below 1: faster). Peers do a shuffle as their guides show:
with a pool, a map whose results are split by key comes back to the caller, who hands the pieces to a second map; Dask
and Ray keep the pieces where they are and hand on references. A check compares all results with one loop's. Ours runs
on `lambdakernel.Executor`, and on two of the peers' pools too. What is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import operator
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from _calls import noop
from _pools import US, WORKERS, Pool, installed, tools_of_this_python
from _turns import Turns

from lambdakernel import all_to_all, shuffle

PARTS = 8


# -- the work, as a peer does it


def count_words(text: str) -> list[dict[str, int]]:
    """The counts of one text, split by key."""
    parts: list[dict[str, int]] = [{} for _ in range(PARTS)]
    for word, n in Counter(text.split()).items():
        parts[crc32(word.encode()) % PARTS][word] = n
    return parts


def add_counts(pieces: list[dict[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for piece in pieces:
        found.update(piece)
    return dict(found)


def pairs(text: str) -> Iterable[tuple[str, int]]:
    return Counter(text.split()).items()


def make(seed: int, nbytes: int) -> Any:
    return np.random.default_rng(seed).integers(0, 1 << 40, nbytes // 8)


def split(seed_and_nbytes: tuple[int, int], n: int = PARTS) -> list[Any]:
    made = make(*seed_and_nbytes)
    ends = np.linspace(0, 1 << 40, n + 1)
    return [made[(made >= low) & (made < high)] for low, high in pairwise(ends)]


def digest(pieces: list[Any]) -> tuple[int, int]:
    joined = np.concatenate(pieces)
    return joined.size, int(joined.sum())


NAMES = (US, "ProcessPoolExecutor", "loky", "joblib", "Dask", "Ray")
CARRIERS = ("ProcessPoolExecutor", "loky")


def shuffles(bench: Turns, rng: random.Random) -> None:
    vocabulary = [f"w{n}" for n in range(20_000)]
    texts = [" ".join(rng.choices(vocabulary, k=10_000 if bench.quick else 160_000)) for _ in range(PARTS)]
    expected = dict(Counter(word for text in texts for word in text.split()))
    nbytes = (1 if bench.quick else 10) << 20
    items = [(seed, nbytes) for seed in range(PARTS)]
    parts = [digest(list(pieces)) for pieces in zip(*(split(item) for item in items), strict=True)]
    with ExitStack() as owned:
        counts: dict[str, Callable[[], Any]] = {}
        exchanges: dict[str, Callable[[], Any]] = {}
        for name, kind in installed(NAMES).items():
            pool = kind()
            owned.callback(pool.close)
            pool.all(noop, times=50)
            if name in (US, *CARRIERS):
                ours, runs_on = name if name == US else f"{US} on {name}", pool.executor
                counts[ours] = partial(shuffle, texts, pairs, operator.add, executor=runs_on, workers=WORKERS)
                exchanges[ours] = partial(
                    all_to_all, items, split, digest, into=PARTS, executor=runs_on, workers=WORKERS
                )
            if name != US:
                counts[name] = partial(_merged, pool, texts)
                exchanges[name] = partial(pool.exchange, split, items, digest, PARTS)
        for found, wanted in ((counts, expected), (exchanges, parts)):
            for name, run in found.items():
                if run() != wanted:
                    raise SystemExit(f"{name} gave another result")
        words, blocks = (
            f"word count of {sum(map(len, texts)) / 1e6:.0f} MB",
            f"all-to-all of {PARTS * nbytes >> 20} MiB",
        )
        bench.turns(words, counts, 15, budget_s=20)
        bench.turns(blocks, exchanges, 15, budget_s=20)
    for title in (words, blocks):
        bench.ahead(title)
        bench.ahead(title, "loky")


def _merged(pool: Pool, texts: list[str]) -> dict[str, int]:
    return {word: n for part in pool.exchange(count_words, texts, add_counts, PARTS) for word, n in part.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, a tenth of the data")
    parser.add_argument("--seed", type=int, default=1, help="draws the words and the order of the peers (default 1)")
    given = parser.parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    shuffles(bench, random.Random(given.seed))
    bench.goals()


if __name__ == "__main__":
    main()
