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
value reads, joins and writes it in a transaction. After each run the map is compared with what was written.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree, which
from typing import Any

from _rows import Bench, Make, Op, tenfold, timed, together
from _stores import ENTRIES, ITEM_BYTES, ITEMS, US, Diskcache, Lmdb, Ours, Redis, Shared, Sqlite, redis_server

import kvs

PACE_S = 0.004
"""Between two joins of a writer that does something else too."""

# -- rows


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the run, the folder that it may fill, and the sockets of the servers (empty: there is none)."""

    folder: str
    repeats: int
    large_bytes: int
    keys: int
    seconds: float
    redis: str
    redis_disk: str

    def peers(self, section: str) -> dict[str, Make]:
        """Ours and the peers that are installed, each empty in a folder of the section."""
        folder = f"{self.folder}/{section}"
        os.makedirs(folder)
        makes: dict[str, Make] = {US: partial(Ours, folder)}
        if find_spec("lmdb"):
            makes["LMDB"] = partial(Lmdb, folder)
        makes["SQLite"] = partial(Sqlite, folder)
        if find_spec("diskcache"):
            makes["diskcache"] = partial(Diskcache, folder)
        if self.redis:
            with closing(Redis(self.redis)) as store:
                store.client.flushall()
            makes["Redis"] = partial(Redis, self.redis)
        return makes


@contextmanager
def opened(makes: Mapping[str, Make]) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(closing(make())) for name, make in makes.items()}


def reads_and_writes(bench: Bench, plan: Plan) -> None:
    makes = plan.peers("small") | {"shared memory": Shared}
    with opened(makes) as stores:
        for title, nbytes, repeats in (("100 B", 100, 1), ("10 KB", 10_000, 1), ("1 MB", 1_000_000, 0)):
            keys, count = [b"%d/%d" % (nbytes, n) for n in range(64)], plan.repeats if repeats else plan.repeats // 10
            for store in stores.values():
                for key in keys:
                    store.put(key, os.urandom(nbytes))
            if nbytes < 1_000_000:
                ops = {name: tenfold(partial(store.get, keys[0])) for name, store in stores.items()}
                ops[f"{US}, get alone"] = tenfold(partial(stores[US].replica.get, keys[0]))
                bench.row(f"hot read, {title}", ops, count)
            values = itertools.cycle([os.urandom(nbytes) for _ in range(7)])
            near = {name: _cycled(store.get, keys) for name, store in stores.items()}
            far = {name: _cycled_put(store.put, keys, values) for name, store in stores.items()}
            if "Redis" in stores and nbytes < 1_000_000:
                near["Redis, 10 a trip"] = Op(partial(stores["Redis"].get_many, keys[:10]), 10)
                with closing(Redis(plan.redis, "pipelined")) as piped:
                    far["Redis, 10 a trip"] = Op(partial(piped.commit, dict.fromkeys(keys[:10], next(values))), 10)
                    bench.row(f"put, {title}", far, count)
            else:
                bench.row(f"put, {title}", far, count)
            bench.row(f"get, {title}", near, count)


def _cycled(get: Callable[[bytes], bytes], keys: Sequence[bytes]) -> Op:
    turn = itertools.cycle(keys)
    return Op(lambda: get(next(turn)))


def _cycled_put(put: Callable[[bytes, bytes], None], keys: Sequence[bytes], values: Iterator[bytes]) -> Op:
    """Each value is a new one, so that nothing is saved by content."""
    turn, number = itertools.cycle(keys), itertools.count()

    def new() -> None:
        pending[:] = [b"%08d" % next(number) + next(values)[8:]]

    pending: list[bytes] = []
    return Op(lambda: put(next(turn), pending[0]), before=new)


def large(bench: Bench, plan: Plan) -> None:
    """Publish, and a handle: opened and mapped, or what comes nearest to that, without reading it."""
    size, folder, few = plan.large_bytes, plan.folder, 3 if plan.repeats < 500 else 7
    data, number = bytearray(os.urandom(size)), itertools.count()
    makes = plan.peers("large")
    room = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    if room is not None and room.f_bavail * room.f_frsize > 3 * size:
        makes["shared memory"] = Shared
    else:
        print(f"left out of the {size / 1e6:g} MB rows: shared memory (/dev/shm is too small)")

    def settle() -> None:
        """What another store wrote is on the disk: nobody waits for room that a neighbour has taken."""
        os.sync()
        data[:8] = b"%08d" % next(number)

    def write() -> None:
        with open(f"{folder}/large/plain-{next(number)}", "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view[: 1 << 20]) :]

    def mapped() -> None:
        with open(f"{folder}/large/plain", "rb") as file:
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()

    with opened(makes) as stores:
        ours = stores[US].replica

        def publish() -> None:
            ours.publish({b"large": kvs.Value(b"", (ours.put_blob(data),))})

        def handle() -> None:
            ours.open_blob(ours.get(b"large")[0].value.blobs[0]).release()

        puts = {US: Op(publish, before=settle), "plain file": Op(write, before=settle)}
        handles = {US: Op(handle), "plain file": Op(mapped)}
        Path(folder, "large/plain").write_bytes(data)
        for name, store in stores.items():
            if name != US:
                put = partial(store.put, b"large", data if name in ("LMDB", "shared memory") else bytes(data))
                puts[name] = Op(put, before=settle)
                is_handle = hasattr(store, "handle")
                handles[name] = Op(
                    partial(store.handle if is_handle else store.get, b"large"), most=1 << 30 if is_handle else few
                )
        bench.row(f"publish, {size / 1e6:g} MB", puts, few, nbytes=size)
        bench.row(f"handle, {size / 1e6:g} MB", handles, plan.repeats // 10)
    rmtree(f"{folder}/large")


def commits(bench: Bench, plan: Plan) -> None:
    makes = plan.peers("commit")
    folder = f"{plan.folder}/commit"
    if plan.redis:
        makes |= {f"Redis, {way}": partial(Redis, plan.redis, way) for way in ("pipelined", "lua")}
    disk: dict[str, Make] = {US: partial(Ours, folder, "disk"), "SQLite, full": partial(Sqlite, folder, "full")}
    if find_spec("lmdb"):
        disk["LMDB, sync"] = partial(Lmdb, folder, disk=True)
    if plan.redis_disk:
        disk["Redis, pipelined, AOF always"] = partial(Redis, plan.redis_disk, "pipelined")
    items = {b"variable %d" % n: os.urandom(ITEM_BYTES) for n in range(ITEMS)}
    for level, these in (("process", makes), ("disk", disk)):
        with opened(these) as stores:
            ops = {name: Op(partial(store.commit, items)) for name, store in stores.items()}
            if level == "disk":
                file = os.open(f"{folder}/plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                data = b"".join(items.values())
                ops["append and fdatasync"] = Op(partial(_append, file, data))
            bench.row(f"commit of {ITEMS} variables, {level}", ops, plan.repeats // 2)
            if level == "disk":
                os.close(file)


def _append(file: int, data: bytes) -> None:
    os.write(file, data)
    os.fdatasync(file)


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
    order = sorted(writes, key=lambda name: name != US)
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


def attach(bench: Bench, plan: Plan) -> None:
    """From nothing but the path to the first value, in a process that has the library loaded."""
    makes = plan.peers("attach")
    value = os.urandom(200)
    keys = [b"key %d" % n for n in range(plan.keys)]
    with opened(makes) as stores:
        for store in stores.values():
            for at in range(0, len(keys), 5000):
                store.commit(dict.fromkeys(keys[at : at + 5000], value))
    space = f"{plan.folder}/attach/kvs-process"

    def ours() -> None:
        with kvs.open(space).space("benchmark").reader() as reader:
            reader.get(keys[7])

    def theirs(make: Make) -> None:
        with closing(make()) as store:
            store.get(keys[7])

    ops = {name: Op(ours if name == US else partial(theirs, make)) for name, make in makes.items()}
    bench.row(f"attach to {plan.keys} keys", ops, 5)


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


SECTIONS = (reads_and_writes, large, commits, joins, attach, mixes)

# -- goals


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
    faster(join, "LMDB, read", 20)
    faster(join, "SQLite", 20)
    faster(join, "Redis", 5)
    if join in figures:
        for title in ("read beside 4 joining writers", f"read beside 4 writers, {1 / PACE_S:g} joins/s each"):
            below(f"{title}, p99", figures[title][US][1], 1000, "us")
    if row := figures.get(f"publish, {size}"):
        below(f"handle, {size}", figures[f"handle, {size}"][US][0], 50, "us")
        below(f"publish, {size}, of a plain file write", row[US][0] / row["plain file"][0], 1.15, "x")
    if row := figures.get(f"attach to {plan.keys} keys"):
        below(f"attach to {plan.keys} keys", row[US][0], 1000, "us")


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
