"""The rows of `kvs_ops` that one process makes: small and large values, commits, and a new process's first value."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree

import msgspec
from _plan import Plan, opened
from _rows import Bench, Make, Op, tenfold
from _stores import ITEM_BYTES, ITEMS, US, Lmdb, Ours, Redis, Shared, Sqlite
from blake3 import blake3

import kvs

FLOOR = f"{US}, floor: codes, pack, sum, write"
"""What is left of a commit of ours if all but what its format needs is left out."""


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
            if level == "process":
                file = os.open(f"{folder}/floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                ops[FLOOR] = Op(partial(_floor, file, items))
            if level == "disk":
                file = os.open(f"{folder}/plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                data = b"".join(items.values())
                ops["append and fdatasync"] = Op(partial(_append, file, data))
            bench.row(f"commit of {ITEMS} variables, {level}", ops, plan.repeats // 2)
            os.close(file)


def _floor(file: int, items: Mapping[bytes, bytes]) -> None:
    """A code for each value, all packed, a sum of that, and one call that writes it."""
    begun = blake3(key=bytes(32))
    rows = []
    for key, value in items.items():
        hasher = begun.copy()
        hasher.update(value)
        rows.append((key, 1, 1, value, b"", hasher.digest()))
    body = msgspec.msgpack.encode(rows)
    os.write(file, body + blake3(body).digest())


def _append(file: int, data: bytes) -> None:
    os.write(file, data)
    os.fdatasync(file)


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
