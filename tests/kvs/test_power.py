"""Power loss: what was not flushed is dropped, cut off at any byte, or zeros; the store opens, and nothing is torn.

What was flushed is recorded where the flush is asked for. SQLite's own flushes are taken on trust (WAL mode, FULL and
NORMAL); ours are not: names of files, blobs, the tail, the log in `sync`, and the order of them all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import kvs
from kvs import Value
from kvs.folding import Folding
from kvs.tiers import node
from kvs.tiers.node import LaneLog
from tests.kvs.support import values

EVERY_BYTE = int(os.environ.get("KVS_CRASH_ROUNDS", "60")) >= 1000
PROCESS = kvs.Settings(inline_limit_bytes=300, retain_bytes=0, retain_s=0.0)
DISK = PROCESS._replace(durability="disk")
FRAME, FRAME_HEAD = (1 << 14) + 24, 24


class Disk:
    """What is on the disk of a store in use, as far as it was asked for."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store, self._synced = store, dict[str, bytes | set[str]]()
        fsync, fdatasync, rename, unlink = os.fsync, os.fdatasync, os.rename, os.unlink

        def record(fd: int, flush: Callable[[int], None]) -> None:
            flush(fd)
            path = os.readlink(f"/proc/self/fd/{fd}")
            self._synced[path] = set(os.listdir(path)) if os.path.isdir(path) else Path(path).read_bytes()

        def renamed(old: str, new: str) -> None:
            rename(old, new)
            self._synced.pop(new, None)
            if old in self._synced:
                self._synced[new] = self._synced.pop(old)

        def unlinked(path: str) -> None:
            unlink(path)
            self._synced.pop(path, None)

        monkeypatch.setattr(os, "rename", renamed)
        monkeypatch.setattr(os, "unlink", unlinked)
        monkeypatch.setattr(os, "fsync", lambda fd: record(fd, fsync))
        monkeypatch.setattr(os, "fdatasync", lambda fd: record(fd, fdatasync))

    def image(
        self, target: Path, *, unsynced: bytes | None = None, sqlite_flushes: bool = False, with_tails: bool = False
    ) -> Path:
        """The store after the power was lost now. A file that was not flushed holds `unsynced`, or is not there.

        `with_tails`: tails had reached the disk by themselves.
        """
        self._copy(self._store, target, unsynced, sqlite_flushes)
        for tail in self._store.rglob("log.sqlite-tail") if with_tails else ():
            shutil.copy(tail, target / tail.relative_to(self._store))
        shutil.copy(f"{self._store}.key", f"{target}.key")
        for space in (target / "spaces").iterdir():
            (space / "boot").write_bytes(b"another run of the machine")
        return target

    def _copy(self, source: Path, target: Path, unsynced: bytes | None, sqlite_flushes: bool) -> None:
        target.mkdir()
        kept = self._synced.get(str(source), set())
        for path in source.iterdir():
            by_sqlite = path.name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm")
            if path.name not in kept and not (by_sqlite and path.name != "log.sqlite"):
                continue
            if path.is_dir():
                self._copy(path, target / path.name, unsynced, sqlite_flushes)
            elif path.name == "log.sqlite" or (by_sqlite and sqlite_flushes):
                shutil.copy(path, target / path.name)
            elif path.name.endswith("-shm"):
                continue
            elif (data := self._synced.get(str(path), unsynced)) is not None:
                assert isinstance(data, bytes)
                (target / path.name).write_bytes(data)


def publish(replica: kvs.Replica, n: int) -> None:
    """One commit: a value inline, one as a blob of its own, and one that names a blob."""
    ref = replica.put_blob(b"blob %d" % n * 100)
    replica.publish({b"a": Value(b"%d" % n), b"b": Value(b"%d " % n * 500), b"c": Value(b"%d" % n, (ref,))})


def shown(path: Path, settings: kvs.Settings = PROCESS) -> int:
    """Which commit the store shows, whole."""
    with kvs.open(path, settings).space("s").reader() as reader:
        assert list(reader.check()) == []
        found = values(reader)
        n = int(found.get(b"a", b"0"))
        assert found == ({b"a": b"%d" % n, b"b": b"%d " % n * 500, b"c": b"%d" % n} if n else {})
        if n:
            assert bytes(reader.open_blob(reader.get(b"c")[0].value.blobs[0])) == b"blob %d" % n * 100
        return n


def test_disk_level_keeps_every_acknowledged_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "store", monkeypatch)
    with kvs.open(tmp_path / "store", DISK).space("s").replica() as replica:
        for n in range(1, 5):
            publish(replica, n)
            assert shown(disk.image(tmp_path / f"after{n}", sqlite_flushes=True), DISK) == n


def test_disk_level_flushes_a_blob_that_another_writer_left_unflushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that was there already was not flushed, although the commit that names it was acknowledged as on disk."""
    disk = Disk(tmp_path / "store", monkeypatch)
    with (
        kvs.open(tmp_path / "store", PROCESS).space("s").replica() as quick,
        kvs.open(tmp_path / "store", DISK).space("s").replica() as sure,
    ):
        quick.put_blob(b"blob 1" * 100)
        publish(sure, 1)
        assert shown(disk.image(tmp_path / "after", sqlite_flushes=True), DISK) == 1


def test_process_level_keeps_what_was_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "store", monkeypatch)
    with kvs.open(tmp_path / "store", PROCESS).space("s").replica() as replica:
        for n in range(1, 4):
            publish(replica, 2 * n - 1)
            replica.sync()
            assert shown(disk.image(tmp_path / f"flushed{n}")) == 2 * n - 1
            publish(replica, 2 * n)
            assert shown(disk.image(tmp_path / f"dropped{n}")) == 2 * n - 1


@pytest.mark.parametrize("torn", [None, b"", b"blob", bytes(600), bytes(1000)], ids=["gone", "empty", "cut", "0", "0s"])
def test_a_commit_that_reached_the_disk_before_its_blob_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes | None
) -> None:
    """The row of commit 2 is on the disk, its blobs are not: its other keys showed commit 2, and one an error."""
    disk = Disk(tmp_path / "store", monkeypatch)
    with kvs.open(tmp_path / "store", PROCESS).space("s").replica() as replica:
        publish(replica, 1)
        replica.sync()
        publish(replica, 2)
        replica.publish({b"a": Value(b"3")})  # whole, but after one that is not
        path = disk.image(tmp_path / "after", unsynced=torn, sqlite_flushes=True, with_tails=True)
    assert shown(path) == 1
    with kvs.open(path, PROCESS).space("s").replica() as replica:
        assert replica.vector[0] == 3, "a number that others may have seen is given again"
        publish(replica, 2)  # the torn blobs are there under their names, and must not be taken for whole
    assert shown(path) == 2


def test_a_blob_that_rotted_long_ago_undoes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "store", monkeypatch)
    with kvs.open(tmp_path / "store", PROCESS).space("s").replica() as replica:
        publish(replica, 1)
        replica.sync()
        replica.publish({b"a": Value(b"2")})
        (rotten,) = (p for p in (tmp_path / "store").rglob("blobs/*/*") if p.read_bytes() == b"blob 1" * 100)
        path = disk.image(tmp_path / "after", sqlite_flushes=True, with_tails=True)
    (mark,) = (tmp_path / "store").rglob("synced")  # written back by the system since
    shutil.copy(mark, path / mark.relative_to(tmp_path / "store"))
    (path / rotten.relative_to(tmp_path / "store")).write_bytes(b"rot")
    with kvs.open(path, PROCESS).space("s").reader() as reader:
        assert reader.get(b"a")[0].value == Value(b"2")
        assert len(list(reader.check())) == 1


def test_a_collection_frees_nothing_that_a_power_loss_brings_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion of a row lay unflushed in the log, while the blob that it had named was deleted at once."""
    disk = Disk(tmp_path / "store", monkeypatch)
    with kvs.open(tmp_path / "store", PROCESS).space("s").replica() as replica:
        publish(replica, 1)
        replica.sync()
        publish(replica, 2)
        assert replica.collect(now_s=4e9).versions == 3
        assert shown(disk.image(tmp_path / "after")) == 2


def offsets(start: int, end: int) -> Iterator[int]:
    """Every byte in a long run; else every byte near the head of a frame, and every 61st."""
    for at in range(start, end + 1):
        near_head = (at - 32) % FRAME <= FRAME_HEAD + 2 or (at - 32) % FRAME >= FRAME - 2
        if EVERY_BYTE or at == end or near_head or at % 61 == 0:
            yield at


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rest", ["cut", "zeros", "old"])
def test_a_log_that_is_torn_at_any_byte_shows_a_prefix(tmp_path: Path, rest: str) -> None:
    """After the tear comes nothing, zeros, or what an earlier use of the file left there."""
    path = tmp_path / "store"
    with kvs.open(path, PROCESS).space("s").replica() as replica:
        space = Path(kvs.open(path).space("s").directory)
        wal = space / "lanes/0/log.sqlite-wal"
        if rest == "old":
            for n in range(1, 8):
                replica.publish({b"a": Value(b"0"), b"d": Value(b"%d" % n * 200)})
                replica._logs[0].fold()
            replica._logs[0].checkpoint()  # the next fold begins the file anew
            replica.publish({b"a": Value(b"0"), b"d": None})
        replica.publish({b"a": Value(b"1"), b"b": Value(b"1")})
        replica._logs[0].fold()
        replica.sync()
        before, synced = wal.read_bytes(), len(wal.read_bytes())
        replica.publish({b"a": Value(b"2"), b"b": Value(b"2")})
        replica._logs[0].fold()
        data = wal.read_bytes()
        changed = [at for at in range(len(data)) if at >= synced or data[at] != before[at]]
        kept = {p: p.read_bytes() for p in (wal.parent / "log.sqlite", *space.glob("lanes/0/synced"))}
    tail = {"cut": b"", "zeros": bytes(len(data)), "old": before}[rest]
    trial, seen = tmp_path / "trial", set()
    shutil.copytree(path, trial)
    shutil.copy(f"{path}.key", f"{trial}.key")
    folder = trial / wal.parent.relative_to(path)
    reader_of = kvs.open(trial, PROCESS).space("s").reader
    for at in offsets(changed[0], changed[-1] + 1):
        for source, content in kept.items():
            (folder / source.name).write_bytes(content)
        (folder / "log.sqlite-wal").write_bytes(data[:at] + tail[at:])
        with suppress(FileNotFoundError):
            (folder / "log.sqlite-shm").unlink()
        with reader_of() as reader:
            found = values(reader)
            assert found in ({b"a": b"1", b"b": b"1"}, {b"a": b"2", b"b": b"2"}), at
            assert list(reader.check()) == [], at
            seen.add(found[b"a"])
    assert seen == {b"1", b"2"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rest", ["cut", "zeros", "noise"])
def test_a_tail_that_is_torn_at_any_byte_shows_a_prefix_and_never_less_than_was_flushed(
    tmp_path: Path, rest: str
) -> None:
    """After a power loss. The next writer goes on from there, and a commit after the torn one is not shown."""
    path = tmp_path / "store"
    with kvs.open(path, PROCESS).space("s").replica() as replica:
        space = Path(kvs.open(path).space("s").directory)
        tail = space / "lanes/0/log.sqlite-tail"
        replica.publish({b"a": Value(b"1"), b"b": Value(b"1")})
        replica.sync()
        synced = tail.stat().st_size
        for n in (2, 3):
            replica.publish({b"a": Value(b"%d" % n), b"b": Value(b"%d" % n)})
        data = tail.read_bytes()
        trial = tmp_path / "trial"
        shutil.copytree(path, trial)
    shutil.copy(f"{path}.key", f"{trial}.key")
    folder = trial / tail.parent.relative_to(path)
    kept = {p: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith("-shm")}
    seen = set()
    torn = {"cut": b"", "zeros": bytes(len(data)), "noise": os.urandom(len(data))}[rest]
    second = synced + (len(data) - synced) // 2
    for at in range(synced, len(data) + 1, 1 if EVERY_BYTE else 3):
        for p in folder.iterdir():
            p.unlink()
        for source, content in kept.items():
            source.write_bytes(content)
        hole = (
            data[:at] + torn[at:second] + (data[second:] if rest != "cut" and at < second else torn[max(at, second) :])
        )
        (folder / tail.name).write_bytes(hole)
        (trial / space.relative_to(path) / "boot").write_bytes(b"another run of the machine")
        with kvs.open(trial, PROCESS).space("s").reader() as reader:
            found = values(reader)
            n = int(found[b"a"])
            assert found == {b"a": b"%d" % n, b"b": b"%d" % n} and list(reader.check()) == [], at
            assert n == (3 if at == len(data) else 2 if at >= second else 1), at
            seen.add(n)
        with kvs.open(trial, PROCESS).space("s").replica() as replica:
            assert replica.publish({b"a": Value(b"next")}) == kvs.Dot(0, n + 1)
            assert values(replica) == found | {b"a": b"next"} and list(replica.check()) == []
    assert seen == {1, 2, 3}


def test_a_checkpoint_that_is_torn_at_any_block_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with kvs.open(path, PROCESS).space("s").replica() as replica:
        for n in range(1, 150):
            publish(replica, n)
        replica._logs[0].fold()
        folder = Path(kvs.open(path).space("s").directory, "lanes/0")
        log, wal = folder / "log.sqlite", folder / "log.sqlite-wal"
        before, tail = log.read_bytes(), wal.read_bytes()
        replica._logs[0].checkpoint()
        after = log.read_bytes()
    assert len(after) > len(before)
    for at in range(0, len(after) + 1, 512):
        for old in folder.glob("log.sqlite*"):
            old.unlink()
        log.write_bytes(after[:at] + before[at:])
        wal.write_bytes(tail)
        assert shown(path) == 149


def test_rows_are_never_flushed_before_their_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite moved its log to the database by itself, flushed, while the blobs that the rows name were not."""
    disk, moments = Disk(tmp_path / "store", monkeypatch), list[int]()
    checkpoint = LaneLog.checkpoint

    def seen(log: LaneLog) -> None:
        checkpoint(log)
        path = disk.image(tmp_path / f"after{len(moments)}", sqlite_flushes=True)
        moments.append(shown(path))

    monkeypatch.setattr(LaneLog, "checkpoint", seen)
    monkeypatch.setattr(node, "DUE_NBYTES", 70_000)
    monkeypatch.setattr(node, "OVERDUE_NBYTES", 70_000)
    monkeypatch.setattr(Folding, "begin", lambda folding, *, is_urgent: folding._fold())  # in step with the publishes
    with kvs.open(tmp_path / "store", PROCESS).space("s").replica() as replica:
        for n in range(1, 400):
            publish(replica, n)
            if len(moments) == 2:
                break
        assert moments == sorted(moments) and moments[0] > 100, "no checkpoint came: this shows nothing"
        assert replica.vector[0] - 1 == moments[1]
