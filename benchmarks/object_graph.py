"""What "surely unchanged" costs: stage 1 of change detection beside a full dump of the same graph, in C and in Python.

    python benchmarks/object_graph.py [--quick] [--repeats N]

Per graph: a pickler's dump, the snapshot that is taken with it, the check that replaces the next dump, and dropping the
snapshot. Medians, and the check's ratio to the dump (above 1: it saves time). In C also the dump that the snapshot
writes itself where it can, and a look at a graph that has one item more. Everything runs in this process, in turn.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import pickle
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lambdakernel.state import flat, graph
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import dump


class Node:
    """An instance with a dictionary."""

    def __init__(self, i: int) -> None:
        self.id, self.weight, self.edges = i, i / 7, [i, i + 1]


class Point:
    """An instance with slots."""

    __slots__ = ("x", "y")

    def __init__(self, i: int) -> None:
        self.x, self.y = i, i / 7


def records(n: int) -> list[Any]:
    return [{"id": i, "name": f"n{i}", "tags": ["a", f"t{i}"], "at": (i, i / 7)} for i in range(n)]


def chain(n: int) -> Any:
    """A nest too deep for a pickler, so it has no dump to compare with."""
    found: list[Any] = []
    for _ in range(n):
        found = [found]
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """One graph, made at a size."""

    name: str
    make: Callable[[int], Any]
    size: int


ROWS = (
    Row("200 small values", lambda n: [{"a": [i]} for i in range(n)], 200),
    Row("50,000 instances + 50,000 lists", lambda n: [Node(i) for i in range(n)], 50_000),
    Row("100,000 instances with slots", lambda n: [Point(i) for i in range(n)], 100_000),
    Row("100,000 containers of JSON", records, 33_333),
    Row("dict of 1,000,000 ints", lambda n: {i: i + 7 for i in range(n)}, 1_000_000),
    Row("list of 1,000,000 floats", lambda n: [i / 7 for i in range(n)], 1_000_000),
    Row("nest of 100,000 lists", chain, 100_000),
)
WAYS: dict[str, graph.Take | None] = {"C": graph.native_snapshot, "Python": graph.python_snapshot}


def milliseconds(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = act()
    return (time.perf_counter() - start) * 1000, result


def dump_ms(value: Any, repeats: int) -> float | None:
    """Median of a full dump; None if the value cannot be dumped."""
    try:
        return statistics.median(milliseconds(lambda: dump(value, {}, ClassBook()))[0] for _ in range(repeats))
    except pickle.PicklingError:
        return None


def measure(take: graph.Take, value: Any, repeats: int) -> tuple[float, float, float, float]:
    """Medians in ms of taking, checking and dropping a snapshot, and its bytes a reference."""
    taking, checking, dropping = [], [], []
    nbytes = 0.0
    for _ in range(repeats):
        ms, found = milliseconds(lambda: take((value,), {}, None, graph.LIMIT, ()))
        taking.append(ms)
        for _ in range(3):
            ms, same = milliseconds(functools.partial(found.is_unchanged, (value,)))
            checking.append(ms)
            if not same:
                raise SystemExit("a graph that nobody touched was called changed")
        nbytes = found.nbytes / found.references
        last = [found]
        del found
        dropping.append(milliseconds(last.clear)[0])
    return statistics.median(taking), statistics.median(checking), statistics.median(dropping), nbytes


def amend_ms(value: Any, repeats: int) -> float | None:
    """Median of a look at a graph that has one item more; None if that takes a whole snapshot."""
    times = []
    for _ in range(repeats):
        look = graph.take((value,), {})
        value.append(0) if isinstance(value, list) else value.update(more=0)
        ms, amended = milliseconds(functools.partial(graph.amend, look, (value,), {}))  # type: ignore[arg-type]
        value.pop() if isinstance(value, list) else value.pop("more")
        if amended is None:
            return None
        times.append(ms)
    return statistics.median(times)


def flat_ms(value: Any, repeats: int) -> float | None:
    """Median of a dump that a snapshot writes itself; None if it cannot."""
    look, names = graph.take((value,), {}), {"value": value}
    if look is None or flat.dump(look, ["value"], names, ClassBook()) is None:
        return None
    return statistics.median(
        milliseconds(lambda: flat.dump(look, ["value"], names, ClassBook()))[0] for _ in range(repeats)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of each size")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, commit {_commit()},"
        f" load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{'graph':<34}{'way':<8}{'dump':>9}{'snapshot':>10}{'check':>9}{'drop':>8}{'dump/check':>12}{'B/ref':>7}"
        f"{'written':>9}{'amend':>8}   ms"
    )
    for row in ROWS:
        value = row.make(row.size // (10 if arguments.quick else 1))
        gc.collect()
        show(row, value, arguments.repeats)
        while isinstance(value, list) and row.make is chain and value:
            value = value.pop()  # a deep nest is taken apart level by level


def show(row: Row, value: Any, repeats: int) -> None:
    milliseconds(lambda: dump_ms(value, 1))  # warm-up
    full = dump_ms(value, repeats)
    for way, take in WAYS.items():
        if take is None:
            print(f"{row.name:<34}{way:<8} the extension is not built")
            continue
        taken, checked, dropped, nbytes = measure(take, value, repeats)
        ratio = "" if full is None else f"{full / checked:.1f}"
        cost = "too deep" if full is None else f"{full:.2f}"
        print(
            f"{row.name:<34}{way:<8}{cost:>9}{taken:>10.2f}{checked:>9.3f}{dropped:>8.2f}{ratio:>12}{nbytes:>7.1f}",
            end="",
        )
        more = (flat_ms(value, repeats), amend_ms(value, repeats)) if way == "C" else ()
        print(
            "".join(f"{'-' if ms is None else f'{ms:.2f}':>{width}}" for ms, width in zip(more, (9, 8), strict=False))
        )


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
