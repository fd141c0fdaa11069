"""What the store's operations cost beside LMDB, SQLite, diskcache, Redis and shared memory, in one run, in turn.

    python benchmarks/kvs_ops.py [--quick] [--only PART] [--seed N] [--large MB] [--keys N] [--repeats N] [--seconds S]

Each row runs the same operation on every store in turn, the order drawn anew each round, and prints the median and the
99th percentile of one operation, and the median over that of the best peer (above 1: slower). Reads that are shorter
than a clock's own cost are timed ten at a time, and the percentile is of those tens. Redis is a server of its own on a
unix socket. Peers that are not installed are left out, and said so: `pip install 'lambdakernel[bench]'` brings all but
the server. Stores that several processes use at once take turns, each alone for the given seconds.

A read of ours is `refresh`, then `get`: what every peer's read does, which is to see the newest value. At level
`process` what was acknowledged survives the death of every process; Redis promises that of its own server only, shared
memory promises nothing. A joined map has 1,000 entries, each the greatest number given; a peer that keeps it as one
value reads, joins and writes it in a transaction; "shared map" is `Replica.shared_map`.
After each run the map is compared with what was written.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from shutil import which

from _goals import goals
from _ops_alone import attach, commits, large, reads_and_writes
from _ops_together import joins, mixes
from _plan import Plan
from _rows import Bench
from _stores import redis_server

SECTIONS = (reads_and_writes, large, commits, joins, attach, mixes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the repeats, 20 MB and 20,000 keys")
    parser.add_argument("--seed", type=int, default=1, help="draws the order of stores, and the keys (default 1)")
    parser.add_argument("--large", type=float, help="MB of the large value (default 100)")
    parser.add_argument("--keys", type=int, help="keys to attach to (default 100000)")
    parser.add_argument("--only", choices=[section.__name__ for section in SECTIONS], help="one part of it")
    parser.add_argument("--repeats", type=int, help="of a row of one process (default 2000)")
    parser.add_argument("--seconds", type=float, help="of each row of several processes (default 2)")
    given = parser.parse_args()
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
        f" commit {found.stdout.strip() or 'unknown'}, seed {given.seed}, load {os.getloadavg()[0]:.1f}"
    )
    missing = [name for name in ("lmdb", "diskcache", "redis") if not find_spec(name)]
    if missing:
        print(f"left out, not installed: {', '.join(missing)} (pip install 'lambdakernel[bench]')")
    has_server = bool(which("redis-server") or which("valkey-server"))
    if not has_server:
        print("left out: Redis, there is no redis-server or valkey-server on the PATH")
    print("left out: the wake of a sleeping reader, the store has no bell")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sockets = ["", ""]
        if has_server and "redis" not in missing:
            always = ("--appendonly", "yes", "--appendfsync", "always")
            sockets = [
                stack.enter_context(redis_server(f"{folder}/redis")),
                stack.enter_context(redis_server(f"{folder}/redis-disk", *always)),
            ]
        plan = Plan(
            folder,
            repeats=max(10, given.repeats or (150 if given.quick else 2000)),
            large_bytes=int((given.large or (20 if given.quick else 100)) * 1e6),
            keys=given.keys or (20_000 if given.quick else 100_000),
            seconds=given.seconds or (0.3 if given.quick else 2.0),
            redis=sockets[0],
            redis_disk=sockets[1],
        )
        bench = Bench(given.seed)
        for section in SECTIONS:
            if given.only in (None, section.__name__):
                section(bench, plan)
        goals(bench, plan)


if __name__ == "__main__":
    main()
