"""Sets of counters as runs: sorted pairs (first, last) with a gap between any two. Pure functions on tuples of them.

What a replica has seen of another is nearly always one run from 1; the gaps are what is still under way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Runs = tuple[tuple[int, int], ...]


def of(pairs: Iterable[tuple[int, int]]) -> Runs:
    """The runs that cover the same counters as these pairs, which may overlap. O(n log n)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def union(a: Runs, b: Runs) -> Runs:
    return a if a == b else of((*a, *b))


def minus(a: Runs, b: Runs) -> Runs:
    """The counters of `a` that are not in `b`. O(len(a) + len(b))."""
    left: list[tuple[int, int]] = []
    at = 0
    for first, last in a:
        while at < len(b) and b[at][1] < first:
            at += 1
        next_cut = at
        while next_cut < len(b) and b[next_cut][0] <= last:
            cut_first, cut_last = b[next_cut]
            if first < cut_first:
                left.append((first, cut_first - 1))
            first = cut_last + 1
            next_cut += 1
        if first <= last:
            left.append((first, last))
    return tuple(left)


def contains(runs: Runs, counter: int) -> bool:
    """O(log n)."""
    if len(runs) == 1:
        return runs[0][0] <= counter <= runs[0][1]
    at = bisect_right(runs, counter, key=lambda run: run[0])
    return at > 0 and counter <= runs[at - 1][1]


def within(a: Runs, b: Runs) -> bool:
    """Whether `b` has all counters of `a`. Each run of `a` lies in one run of `b`, since those do not touch."""
    return all(contains(b, first) and _last_of(b, first) >= last for first, last in a)


def _last_of(runs: Runs, counter: int) -> int:
    return runs[bisect_right(runs, counter, key=lambda run: run[0]) - 1][1]
