"""The goals of the store, held against what `kvs_ops` measured."""

from __future__ import annotations

from _ops_together import PACE_S
from _plan import Plan
from _rows import Bench
from _stores import ITEMS, US, US_NUMPY, US_SHARED


def goals(bench: Bench, plan: Plan) -> None:
    """Each goal of the store, with what was measured; a ratio is of medians, or of rates: above 1 ours is faster."""
    size, figures = f"{plan.large_bytes / 1e6:g} MB", bench.figures
    commit, join = f"commit of {ITEMS} variables, process", "join, 4 writers"
    print("\ngoals")

    def faster(title: str, peers: str, least: float, ours: str = US) -> None:
        if title not in figures:
            return
        row, by_rate = figures[title], title.startswith("join")
        names = [name for name in row if name.startswith(peers) and not name.endswith("an entry")]
        if not names:
            print(f"  {title + ', ' + peers:<60}not measured: {peers.partition(',')[0]} is not there")
        elif by_rate:
            ratio = bench.rates[title, ours] / max(bench.rates[title, name] for name in names)
            said(f"{title}, joins a second, over {peers}", f"{ratio:.3g}x", f"{least:g}x", ratio >= least)
        else:
            ratio = min(row[name][0] for name in names) / row[ours][0]
            said(f"{title}, {ours}, over {peers}", f"{ratio:.3g}x", f"{least:g}x", ratio >= least)

    def below(what: str, found: float, most: float, unit: str) -> None:
        said(what, f"{found:.4g} {unit}", f"at most {most:g} {unit}", found <= most)

    def said(what: str, found: str, goal: str, met: bool) -> None:
        print(f"  {what:<60}{found:>14}   goal {goal:<18}{'met' if met else 'missed'}")

    for ours in (US, f"{US}, get alone"):
        faster("hot read, 100 B", "LMDB", 1.7, ours)
        faster("hot read, 100 B", "Redis", 50, ours)
    faster(commit, "SQLite", 3.5)
    faster(commit, "Redis", 3.5)
    faster(join, "LMDB, read", 20, US_SHARED)
    faster(join, "SQLite", 20, US_SHARED)
    faster(join, "Redis", 5, US_SHARED)
    if join in figures:
        for title in ("read beside 4 joining writers", f"read beside 4 writers, {1 / PACE_S:g} joins/s each"):
            for ours in (US_SHARED, US_NUMPY):
                if ours in figures[title]:
                    below(f"{title}, {ours.removeprefix('kvs, ')}, p99", figures[title][ours][1], 1000, "us")
    if row := figures.get(f"publish, {size}"):
        below(f"handle, {size}", figures[f"handle, {size}"][US][0], 50, "us")
        below(f"publish, {size}, of a plain file write", row[US][0] / row["plain file"][0], 1.15, "x")
    if row := figures.get(f"attach to {plan.keys} keys"):
        below(f"attach to {plan.keys} keys", row[US][0], 1000, "us")
