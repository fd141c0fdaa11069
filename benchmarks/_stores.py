"""The stores that `kvs_ops` compares, each with get, put, commit, join (one entry), join_many, joined (the whole
map), close."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from shutil import which
from typing import Any

import msgspec

import kvs
from kvs.lattices import Max, decode

US = "kvs"
US_SHARED, US_NUMPY = "kvs, shared map", "kvs, shared map, numpy loaded"
MAP, ENTRIES = b"map", 1000
ITEMS, ITEM_BYTES = 10, 2600
LUA_JOIN = """
for n = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[n])
  if not known or tonumber(known) < tonumber(ARGV[n + 1]) then redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
end
"""
LUA_SET = "for n = 1, #KEYS do redis.call('SET', KEYS[n], ARGV[n]) end"
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.Decoder(dict[int, int]).decode


def _joined(known: dict[int, int], values: Mapping[int, int]) -> dict[int, int]:
    return known | {entry: max(value, known.get(entry, 0)) for entry, value in values.items()}


class Ours:
    """One replica. Each lane writes its own join of what it gave; whoever reads joins the lanes."""

    def __init__(self, folder: str, durability: str = "process") -> None:
        self.space = kvs.open(f"{folder}/kvs-{durability}", kvs.Settings(durability=durability)).space("benchmark")
        self.replica = self.space.replica()
        self._own: dict[int, Max[int]] = {}
        self._map: dict[int, Max[int]] = {}
        self._numbers: dict[int, int] = {}
        self._seen = kvs.VersionVector()

    def get(self, key: bytes) -> bytes:
        self.replica.refresh()
        return self.replica.get(key)[0].value.payload

    def put(self, key: bytes, value: bytes) -> None:
        self.replica.publish({key: kvs.Value(value)})

    def commit(self, items: Mapping[bytes, bytes]) -> None:
        self.replica.publish({key: kvs.Value(value) for key, value in items.items()})

    def join(self, entry: int, value: int) -> None:
        self._own[entry] = self._own.get(entry, Max()).raise_to(value)
        self.replica.publish({b"map/%d" % entry: kvs.Value(self._own[entry].encode())})

    def join_many(self, values: Mapping[int, int]) -> None:
        for entry, value in values.items():
            self._own[entry] = self._own.get(entry, Max()).raise_to(value)
        self.replica.publish({b"map/%d" % entry: kvs.Value(self._own[entry].encode()) for entry in values})

    def joined(self) -> dict[int, int]:
        """Of what was joined before nothing is read again: a version that was seen is in the map already."""
        seen = self._seen
        for key in self.replica.refresh() if seen.size() else {*self.replica.refresh(), *self.replica.keys(b"map/")}:
            entry = int(key[4:])
            for version in self.replica.get(key):
                if version.dot not in seen:
                    joined = self._map.get(entry, Max()) | decode(version.value.payload, Max)
                    self._map[entry], self._numbers[entry] = joined, joined.value or 0
        self._seen = self.replica.vector
        return dict(self._numbers)

    def close(self) -> None:
        self.replica.close()


class OurMap(Ours):
    """The map as one that the processes of a machine share; `numpy` has the reader load that, as a notebook does."""

    def __init__(self, folder: str, *, numpy: bool = False) -> None:
        super().__init__(folder)
        if numpy:
            import_module("numpy")
        self.shared = self.replica.shared_map(MAP, Max)

    def join(self, entry: int, value: int) -> None:
        self.shared.join(entry, value)

    def join_many(self, values: Mapping[int, int]) -> None:
        for entry, value in values.items():
            self.shared.join(entry, value)

    def joined(self) -> dict[int, int]:
        return dict(self.shared.numbers())


class Lmdb:
    """`entries`: the map is one row an entry, in place of one value."""

    def __init__(self, folder: str, *, disk: bool = False, entries: bool = False) -> None:
        import lmdb

        os.makedirs(f"{folder}/lmdb-{disk}", exist_ok=True)
        self._entries = entries
        self._environment = lmdb.open(f"{folder}/lmdb-{disk}", map_size=1 << 33, sync=disk, writemap=not disk)

    def get(self, key: bytes) -> bytes:
        with self._environment.begin() as transaction:
            found: Any = transaction.get(key)
            return bytes(found)

    def put(self, key: bytes, value: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def commit(self, items: Mapping[bytes, bytes]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key, value)

    def join(self, entry: int, value: int) -> None:
        with self._environment.begin(write=True) as transaction:
            if self._entries:
                key = b"map/%06d" % entry
                transaction.put(key, b"%d" % max(value, int(transaction.get(key) or 0)))
            else:
                known = _unpack(transaction.get(MAP) or b"\x80")
                known[entry] = max(value, known.get(entry, 0))
                transaction.put(MAP, _pack(known))

    def join_many(self, values: Mapping[int, int]) -> None:
        with self._environment.begin(write=True) as transaction:
            if self._entries:
                for entry, value in values.items():
                    key = b"map/%06d" % entry
                    transaction.put(key, b"%d" % max(value, int(transaction.get(key) or 0)))
            else:
                transaction.put(MAP, _pack(_joined(_unpack(transaction.get(MAP) or b"\x80"), values)))

    def joined(self) -> dict[int, int]:
        with self._environment.begin() as transaction:
            if not self._entries:
                return _unpack(transaction.get(MAP) or b"\x80")
            return {int(key[4:]): int(value) for key, value in transaction.cursor() if key.startswith(b"map/")}

    def handle(self, key: bytes) -> None:
        with self._environment.begin(buffers=True) as transaction:
            transaction.get(key)

    def close(self) -> None:
        self._environment.close()


class Sqlite:
    def __init__(self, folder: str, synchronous: str = "normal") -> None:
        path = f"{folder}/sqlite-{synchronous}"
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute(f"pragma synchronous={synchronous}")
        self._connection.execute("create table if not exists kv (k blob primary key, v blob not null)")

    def get(self, key: bytes) -> bytes:
        return bytes(self._connection.execute("select v from kv where k = ?", (key,)).fetchone()[0])

    def put(self, key: bytes, value: bytes) -> None:
        self._connection.execute("insert or replace into kv values (?, ?)", (key, value))

    def commit(self, items: Mapping[bytes, bytes]) -> None:
        with self._connection:
            self._connection.execute("begin immediate")
            self._connection.executemany("insert or replace into kv values (?, ?)", items.items())

    def join(self, entry: int, value: int) -> None:
        with self._connection:
            self._connection.execute("begin immediate")
            known = self.joined()
            known[entry] = max(value, known.get(entry, 0))
            self.put(MAP, _pack(known))

    def join_many(self, values: Mapping[int, int]) -> None:
        with self._connection:
            self._connection.execute("begin immediate")
            self.put(MAP, _pack(_joined(self.joined(), values)))

    def joined(self) -> dict[int, int]:
        row = self._connection.execute("select v from kv where k = ?", (MAP,)).fetchone()
        return _unpack(row[0]) if row else {}

    def close(self) -> None:
        self._connection.close()


class Diskcache:
    def __init__(self, folder: str) -> None:
        import diskcache  # type: ignore[import-untyped,unused-ignore]

        self._cache = diskcache.Cache(f"{folder}/diskcache", eviction_policy="none")

    def get(self, key: bytes) -> bytes:
        return bytes(self._cache[key])

    def put(self, key: bytes, value: bytes) -> None:
        self._cache[key] = value

    def commit(self, items: Mapping[bytes, bytes]) -> None:
        with self._cache.transact():
            for key, value in items.items():
                self._cache[key] = value

    def close(self) -> None:
        self._cache.close()


class Redis:
    """A client of the server at a socket; `way` is how a commit goes: each alone, in a pipeline, or by Lua."""

    def __init__(self, socket: str, way: str = "alone") -> None:
        import redis

        self.client: Any = redis.Redis(unix_socket_path=socket)
        self._way = way
        self._set, self._join = self.client.register_script(LUA_SET), self.client.register_script(LUA_JOIN)

    def get(self, key: bytes) -> bytes:
        return bytes(self.client.get(key))

    def put(self, key: bytes, value: bytes) -> None:
        self.client.set(key, value)

    def commit(self, items: Mapping[bytes, bytes]) -> None:
        if self._way == "lua":
            self._set(keys=list(items), args=list(items.values()))
        elif self._way == "pipelined":
            pipeline = self.client.pipeline(transaction=True)
            for key, value in items.items():
                pipeline.set(key, value)
            pipeline.execute()
        else:
            for key, value in items.items():
                self.client.set(key, value)

    def get_many(self, keys: Sequence[bytes]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        pipeline.execute()

    def join(self, entry: int, value: int) -> None:
        self._join(keys=[MAP], args=[entry, value])

    def join_many(self, values: Mapping[int, int]) -> None:
        self._join(keys=[MAP], args=list(itertools.chain(*values.items())))

    def joined(self) -> dict[int, int]:
        return {int(entry): int(value) for entry, value in self.client.hgetall(MAP).items()}

    def close(self) -> None:
        self.client.close()


class Shared:
    """A block of shared memory a key, with a sequence number around each write: one writer, nothing durable."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, SharedMemory] = {}

    def get(self, key: bytes) -> bytes:
        view = self._view(key)
        while True:
            before, nbytes = struct.unpack_from("<QQ", view)
            value = bytes(view[16 : 16 + nbytes])
            if struct.unpack_from("<Q", view)[0] == before and before % 2 == 0:
                return value

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self._blocks:
            self._blocks[key] = SharedMemory(create=True, size=16 + len(value))
            struct.pack_into("<Q", self._view(key), 0, 0)
        view = self._view(key)
        (number,) = struct.unpack_from("<Q", view)
        struct.pack_into("<QQ", view, 0, number + 1, len(value))
        view[16 : 16 + len(value)] = value
        struct.pack_into("<Q", view, 0, number + 2)

    def _view(self, key: bytes) -> memoryview:
        view: Any = self._blocks[key].buf
        return memoryview(view)

    def handle(self, key: bytes) -> None:
        fd = os.open(f"/dev/shm/{self._blocks[key].name.lstrip('/')}", os.O_RDWR)
        try:
            mmap.mmap(fd, 0).close()
        finally:
            os.close(fd)

    def close(self) -> None:
        for block in self._blocks.values():
            block.close()
            block.unlink()


@contextmanager
def redis_server(folder: str, *arguments: str) -> Iterator[str]:
    """The socket of a server that ends with this block."""
    import redis

    os.makedirs(folder, exist_ok=True)
    program = which("redis-server") or which("valkey-server") or ""
    socket = f"{folder}/socket"
    given = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", *arguments]
    with open(f"{folder}/log", "wb") as log:
        server = subprocess.Popen([program, *given], stdout=log, stderr=log, preexec_fn=_end_with_parent)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                with closing(redis.Redis(unix_socket_path=socket)) as client:
                    client.ping()
                break
            except redis.exceptions.ConnectionError as e:
                if time.monotonic() > end or server.poll() is not None:
                    raise SystemExit(f"{program} does not start: {Path(folder, 'log').read_text()}") from e
                time.sleep(0.05)
        yield socket
    finally:
        server.terminate()
        server.wait(20)


def _end_with_parent() -> None:
    """So that a benchmark that is killed leaves no server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
