"""A writer that can be killed or stopped before any of its steps, and what must be true of the store it leaves.

The steps are real: the calls of the operating system that kvs makes, the statements it gives to SQLite, and every
few hundred instructions that SQLite does inside them. The hook lives in the child alone.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import kvs
from kvs import Value

KEYS = [b"key %d" % n for n in range(6)]
CALLS = "open write pwrite rename link unlink mkdir fsync fdatasync ftruncate utime close".split()
SQLITE_STEP = 40
SETTINGS = kvs.Settings(inline_limit_bytes=300, retain_bytes=0, retain_s=0.0)


def written(n: int) -> dict[bytes, bytes]:
    """What commit `n` writes: some values are kept inline, some as blobs, and each says whose it is."""
    return {key: (b"%d/%d/" % (n, i)) * (5 + 60 * (i % 3)) for i, key in enumerate(KEYS)}


class Steps:
    """Counts the steps of this process, and does `act` before the one with number `at`."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.count, self._at, self._act = 0, at, act

    def step(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._act()

    def watch(self) -> None:
        """Have every step of this process counted from now on."""
        for name in CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        connect, steps = sqlite3.connect, self

        class Watched(sqlite3.Connection):
            def execute(self, *a: Any) -> sqlite3.Cursor:
                steps.step()
                return super().execute(*a)

            def executemany(self, *a: Any) -> sqlite3.Cursor:
                steps.step()
                return super().executemany(*a)

            def commit(self) -> None:
                steps.step()
                super().commit()
                steps.step()

            def __exit__(self, *a: Any) -> Any:
                steps.step()
                done = super().__exit__(*a)
                steps.step()
                return done

        def watched(*a: Any, **k: Any) -> sqlite3.Connection:
            connection = connect(*a, factory=Watched, **k)
            connection.set_progress_handler(self.step, SQLITE_STEP)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*a: Any, **k: Any) -> Any:
            self.step()
            return call(*a, **k)

        return counted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def write(connection: Connection, path: Path, at: int, act: Callable[[], None], settings: kvs.Settings) -> None:
    """A life: open, two commits, a checkpoint, a flush and a collection. Acknowledges each commit with its number."""
    acknowledge = os.write  # as it was before the hook
    steps = Steps(at, act)
    steps.watch()
    with kvs.open(path, settings).space("s").replica(owner={"what": "writer"}) as replica:
        n = newest(replica)
        for last in (False, True):
            n += 1
            publish(replica, n)
            acknowledge(connection.fileno(), b"%d\n" % n)
            if last:
                replica._logs[replica.id].checkpoint()  # a small store would not come to one
                replica.sync()
                replica.collect(now_s=4e9)  # far in the future: everything is old
    acknowledge(connection.fileno(), b"end %d\n" % steps.count)


def publish(replica: kvs.Replica, n: int) -> None:
    extra = replica.put_blob(b"extra %d" % n * 50)
    head, *rest = written(n).items()
    replica.publish({head[0]: Value(head[1], (extra,)), **{key: Value(value) for key, value in rest}}, note=b"%d" % n)


def newest(replica: kvs.Replica) -> int:
    return max((int(v.value.payload.split(b"/")[0]) for v in replica.get(KEYS[0])), default=0)


def assert_whole(path: Path, acknowledged: int, settings: kvs.Settings = SETTINGS) -> int:
    """The store opens, nothing is damaged, and it shows one commit, whole: the last acknowledged, or the one after."""
    if not (path / "FORMAT").exists() or not kvs.open(path, settings).space("s").exists():
        assert acknowledged == 0
        return 0
    store = kvs.open(path, settings)
    assert [info.damage for info in store.spaces()] == [""]
    with store.space("s").reader() as reader:
        n = newest(reader)
        shown = {key: reader.get(key)[0].value.payload for key in reader.keys(b"")}
        assert shown == (written(n) if n else {})
        if n:
            assert bytes(reader.open_blob(reader.get(KEYS[0])[0].value.blobs[0])) == b"extra %d" % n * 50
        assert list(reader.check()) == []
    assert acknowledged <= n <= acknowledged + 1
    return n


def said(connection: Connection) -> tuple[int, int]:
    """The last commit that a dead writer acknowledged (0: none), and its steps if it came to its end (else 0)."""
    text = b""
    while chunk := os.read(connection.fileno(), 65536):
        text += chunk
    lines = text.split(b"\n")
    acknowledged = [int(line) for line in lines if line.isdigit()]
    ended = [int(line.split()[1]) for line in lines if line.startswith(b"end")]
    return (acknowledged or [0])[-1], (ended or [0])[0]
