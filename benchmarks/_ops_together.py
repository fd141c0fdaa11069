"""The rows of `kvs_ops` that several processes make at once: joins of one map, and reads among writes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from typing import Any

from _plan import Plan
from _rows import Bench, Op, timed, together
from _stores import ENTRIES, US, US_NUMPY, US_SHARED, Lmdb, OurMap

PACE_S = 0.004
"""Between two joins of a writer that does something else too."""


def joins(bench: Bench, plan: Plan) -> None:
    """Writers that join one entry a step, or a hundred, and a reader of the whole map every few milliseconds."""
    for writers in (1, 2, 4):
        _join(bench, plan, f"join, {writers} writers", f"read beside {writers} joining writers", writers)
    _join(bench, plan, "join 100 at once, 4 writers", "read beside 4 writers of 100", 4, most=100)
    title = f"read beside 4 writers, {1 / PACE_S:g} joins/s each"
    _join(bench, plan, f"join, 4 writers, {1 / PACE_S:g} a second each", title, 4, every_s=PACE_S)


def _join(
    bench: Bench, plan: Plan, title: str, reading: str, writers: int, *, most: int = 1, every_s: float = 0.0
) -> None:
    """Each writer joins `most` entries at once, as fast as it can or every `every_s` seconds."""
    found = plan.peers(title.replace(" ", "-"))
    makes = {name: make for name, make in found.items() if name != "diskcache"}
    makes[US_SHARED] = partial(OurMap, f"{plan.folder}/{title.replace(' ', '-')}")
    if find_spec("numpy"):
        makes[US_NUMPY] = partial(OurMap, f"{plan.folder}/{title.replace(' ', '-')}/numpy", numpy=True)
    if "LMDB" in makes:
        makes["LMDB, a row an entry"] = partial(Lmdb, f"{plan.folder}/{title.replace(' ', '-')}/rows", entries=True)
    names = {"Redis": "Redis, Lua", "LMDB": "LMDB, read-modify-write", "SQLite": "SQLite, read-modify-write"}
    writes, reads, rates = {}, {}, {}
    for name in bench.rng.sample(list(makes), len(makes)):
        makes[name]().close()  # made by one process: SQLite does not let several make a database at once
        works: list[Callable[..., Any]] = [partial(_joining, writer, most, every_s) for writer in range(writers)]
        *given, read = together([*works, _reading], [makes[name]] * (writers + 1), plan.seconds)
        expected: dict[int, int] = {}
        for writer, (us, _) in enumerate(given):
            for step in range(len(us)):
                for entry, value in _entries(writer, step, most).items():
                    expected[entry] = max(value, expected.get(entry, 0))
        with closing(makes[name]()) as store:
            if store.joined() != expected:
                raise SystemExit(f"{name} lost writes: {writers} writers' map is not what they joined")
        shown = names.get(name, name)
        writes[shown], reads[shown] = list(itertools.chain(*(us for us, _ in given))), read
        rate = bench.rates[title, shown] = sum(most * len(us) / seconds for us, seconds in given)
        rates[shown] = f"{rate:>12.0f} joins/s"
    order = sorted(writes, key=lambda name: (name != US, not name.startswith(US)))
    bench.show(title, {name: writes[name] for name in order}, rates)
    bench.show(reading, {name: reads[name] for name in order})


def _entries(writer: int, step: int, most: int) -> dict[int, int]:
    return {((step * most + n) * 7919 + writer) % ENTRIES: step + 1 for n in range(most)}


def _joining(
    writer: int, most: int, every_s: float, go_on: Callable[[], bool], store: Any
) -> tuple[list[float], float]:
    us: list[float] = []
    start = time.monotonic()
    while go_on():
        step = len(us)
        if most == 1:
            us.append(timed(Op(partial(store.join, (step * 7919 + writer) % ENTRIES, step + 1))))
        else:
            us.append(timed(Op(partial(store.join_many, _entries(writer, step, most)))))
        if every_s:
            time.sleep(max(0.0, start + len(us) * every_s - time.monotonic()))
    return us, time.monotonic() - start


def _reading(go_on: Callable[[], bool], store: Any) -> list[float]:
    us = [timed(Op(store.joined))]
    while go_on():
        time.sleep(0.002)
        us.append(timed(Op(store.joined)))
    return us[1:] or us  # the first is that of a new reader


def mixes(bench: Bench, plan: Plan) -> None:
    """Nine reads to a write, over 1,000 keys of 100 B that are drawn by Zipf's law."""
    keys = [b"%d" % n for n in range(1000)]
    for exponent, processes in itertools.product((0.5, 4.0), (1, 2, 4)):
        makes = plan.peers(f"mix-{exponent}-{processes}")
        weights = list(itertools.accumulate(1 / rank**exponent for rank in range(1, len(keys) + 1)))
        drawn = bench.rng.choices(keys, cum_weights=weights, k=20_000)
        reads, rates = {}, {}
        for name in bench.rng.sample(list(makes), len(makes)):
            with closing(makes[name]()) as store:
                store.commit(dict.fromkeys(keys, bytes(100)))
            works = [partial(_mixing, drawn[at * 4999 :]) for at in range(processes)]
            found = together(works, [makes[name]] * processes, plan.seconds / 2)
            reads[name] = list(itertools.chain(*(us for us, _ in found)))
            rates[name] = f"{sum(len(us) / 0.9 / seconds for us, seconds in found):>12.0f} ops/s"
        order = sorted(reads, key=lambda name: name != US)
        title = f"read, Zipf {exponent:g}, {processes} processes"
        bench.show(title, {name: reads[name] for name in order}, rates)


def _mixing(keys: Sequence[bytes], go_on: Callable[[], bool], store: Any) -> tuple[list[float], float]:
    us: list[float] = []
    start = time.monotonic()
    for number, key in enumerate(itertools.cycle(keys)):
        if number % 10 == 9:
            store.put(key, bytes(100))
        else:
            us.append(timed(Op(partial(store.get, key))))
        if not go_on():
            break
    return us, time.monotonic() - start
