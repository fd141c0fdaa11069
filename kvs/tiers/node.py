"""The node tier's log: one SQLite database a lane, written by the lane's holder alone, read by everyone.

Theory of operation
- One writer a file, in WAL mode: a reader never waits for the writer, and a stopped writer stops nobody.
- A commit is one transaction over two tables: `commits` has its time, context, note and code; `entries` has one row
  a key. A row's `n` is its commit's number. Superseded rows stay until they are collected.
- `synchronous=NORMAL` survives kill -9 (the log is in the system's cache) and, after a power loss, opens with a
  prefix of the commits; `FULL` flushes in every commit.
- SQLite moves its log to the database when it is told to (`checkpoint`), and not by itself: that flushes rows, and
  whoever owns the blobs flushes those first.
- An index by commit number answers what a commit wrote without looking at any other. It repeats what the rows say and
  is made by the first writer that finds none, so it is no part of the format; whoever mends a log does not read it.
- Each transaction is told of in the news of the space (`kvs.tiers.news`), where the log is a lane of one.
- Everything is bytes here. Whether they are authentic is decided above, by whoever reads them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kvs.errors import StoreDamaged, StoreForeign
from kvs.tiers.news import News, Ringer
from kvs.tiers.translation import translated as translated  # for those who know the files of a space

FORMAT = 1
CHECKPOINT_PAGES = 1000
"""Pages of the write-ahead log from which it is moved to the database when somebody flushes; SQLite's own number."""
OVERDUE_PAGES = 8000
"""Pages from which a commit must wait for that: 32 MB, which the first to open it after a crash reads in some 30 ms."""
_PAGE = 4096
_NO_VERSION = 10_000
"""Formats from this number on are flipped bits."""
_BUSY_MS = 2000
COMMIT_COLUMNS = "n, hlc, context, note, marks, mac"
ENTRY_COLUMNS = "key, n, kind, payload, blobs, mac"
_SCHEMA = """
create table commits (n integer primary key, hlc integer not null, context blob not null,
  note blob not null, marks blob not null, mac blob not null);
create table entries (key blob not null, n integer not null, kind integer not null,
  payload blob not null, blobs blob not null, mac blob not null, primary key (key, n)) without rowid;
"""
_LEAST = -(1 << 63)
"""Below all that a row can say, damaged ones too."""
_INDEX = "create index if not exists entries_by_n on entries (n, key, kind)"
_INSERT_COMMIT = "insert into commits values (?,?,?,?,?,?)"
_INSERT_ENTRY = "insert into entries values (?,?,?,?,?,?)"


class CommitRow(NamedTuple):
    n: int
    hlc: int
    context: bytes
    note: bytes
    marks: bytes
    mac: bytes


class EntryRow(NamedTuple):
    key: bytes
    n: int
    kind: int
    payload: bytes
    blobs: bytes
    mac: bytes


class LaneLog:
    """One lane's log, open for its holder (`writable`) or for a reader; use from one thread at a time."""

    def __init__(self, path: str, *, writable: bool, disk: bool = False) -> None:
        """Open the log at `path`; a writer creates it.

        Raises:
            StoreUnusable: it cannot be opened. StoreDamaged: it is no log of ours.
            StoreForeign: it has a later format.
        """
        self._path = path
        self._pages = 0
        self._synced_inode = -1
        self._ringer: Ringer | None = None
        self._connection = translated(path, lambda: _open(path, writable=writable, disk=disk))
        if writable:
            try:
                self._ringer = translated(path, lambda: _ringer(path))
            except BaseException:
                self._connection.close()
                raise

    def append(self, commit: CommitRow, entries: Iterable[EntryRow]) -> None:
        """Write one commit, whole or not at all.

        Raises:
            StoreFull, StoreUnusable, StoreDamaged: nothing was written.
        """

        rows = list(entries)
        self._pages += 3 + sum(1 + (len(row.key) + len(row.payload) + len(row.blobs)) // _PAGE for row in rows)

        def write() -> None:
            connection = self._connection
            connection.execute(_INSERT_COMMIT, commit)
            if len(rows) == 1:
                connection.execute(_INSERT_ENTRY, rows[0])
            elif rows:
                connection.executemany(_INSERT_ENTRY, rows)

        self._transact(write)

    def tell(self, news: News) -> None:
        """To the news of the replica that holds this lane: it knows every transaction so far."""
        if self._ringer is not None:
            self._ringer.tell(news)

    def _transact(self, write: Callable[[], None]) -> None:
        """Do all that `write` says or nothing of it, and tell of it."""
        connection, ringer = self._connection, self._ringer

        def act() -> None:
            if ringer is not None:
                ringer.begin()
            try:
                connection.execute("begin immediate")
                try:
                    write()
                    connection.execute("commit")
                except BaseException:
                    if connection.in_transaction:  # some failures have ended it
                        connection.execute("rollback")
                    raise
            finally:
                if ringer is not None:
                    ringer.end()

        translated(self._path, act)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the log."""
        self._all("begin")
        try:
            yield
        finally:
            self._all("commit")

    def last(self) -> int:
        """Number of the newest commit; 0 if there is none."""
        return int(self._one("select coalesce(max(n), 0) from commits"))

    def version(self) -> int:
        """A number that changes when another connection has committed. About 2 us."""
        return int(self._one("pragma data_version"))

    def newest_keys(self, since: int) -> list[tuple[bytes, int, int]]:
        """Each key that a commit after `since` wrote, with the newest such commit and the kind of its row."""
        rows = self._all("select key, n, kind from entries where n > ? order by n", since or _LEAST)
        newest = {row[0]: row for row in rows if isinstance(row[0], bytes) and isinstance(row[1], int)}
        return list(newest.values())

    def commits(self, since: int = 0) -> list[CommitRow]:
        """Commits after `since`, oldest first."""
        return [
            CommitRow(*row) for row in self._all(f"select {COMMIT_COLUMNS} from commits where n > ? order by n", since)
        ]

    def entry(self, key: bytes, n: int) -> EntryRow | None:
        rows = self._all(f"select {ENTRY_COLUMNS} from entries where key = ? and n = ?", key, n)
        return EntryRow(*rows[0]) if rows else None

    def entries(self, since: int | None = None, until: int | None = None) -> Iterator[EntryRow]:
        """Every row, superseded ones too, oldest first; or those of commits after `since`, up to `until`."""
        where, bounds = "not indexed", []
        if since is not None:
            where, bounds = "where n > ?", [since]
        if until is not None:
            where, bounds = f"{where} and n <= ?", [*bounds, until]
        for row in self._all(f"select {ENTRY_COLUMNS} from entries {where} order by n, key", *bounds):
            yield EntryRow(*row)

    def superseded(self) -> list[tuple[bytes, int, int, bytes, int]]:
        """(key, n, payload size, blobs, by) of rows that a later commit `by` of this lane replaced, oldest first."""
        return self._all(
            "select * from (select key, n, length(payload), blobs, (select min(later.n) from entries as later"
            " where later.key = e.key and later.n > e.n) as by from entries as e) where by is not null order by n"
        )

    def sizes(self) -> list[tuple[bytes, int, int, bytes]]:
        """(key, n, payload size, blobs) of every row whose fields are what they should be."""
        return self._all(
            "select key, n, length(payload), blobs from entries where typeof(key) = 'blob' and typeof(blobs) = 'blob'"
            " and length(blobs) % 40 = 0"
        )

    def blob_lists(self) -> list[bytes]:
        return [
            row[0]
            for row in self._all(
                "select distinct blobs from entries where length(blobs) > 0 and typeof(blobs) = 'blob'"
            )
        ]

    def delete(self, rows: Iterable[tuple[bytes, int]]) -> None:
        """Forget superseded rows; their space is reused."""

        def write() -> None:
            self._connection.executemany("delete from entries where key = ? and n = ?", rows)

        self._transact(write)

    def is_sound(self) -> bool:
        """Whether SQLite finds the structure of the file, and its index, in order. Reads all of it."""
        try:
            return self._all("pragma integrity_check") == [(b"ok",)]
        except StoreDamaged:
            return False

    def replace(self, commits: Iterable[CommitRow], entries: Iterable[EntryRow]) -> None:
        """Put these in the place of every commit that has one of their numbers, with all its entries; all or none."""
        rows = list(commits)

        def write() -> None:
            connection = self._connection
            connection.executemany("delete from entries where n = ?", [(row.n,) for row in rows])
            connection.executemany("insert or replace into commits values (?,?,?,?,?,?)", rows)
            connection.executemany(_INSERT_ENTRY, entries)

        self._transact(write)

    @property
    def is_checkpoint_due(self) -> bool:
        return self._pages >= CHECKPOINT_PAGES

    @property
    def is_checkpoint_overdue(self) -> bool:
        return self._pages >= OVERDUE_PAGES

    def checkpoint(self) -> None:
        """Move the write-ahead log to the database, flushed, as far as no reader needs it. Waits for nobody.

        On a connection of its own, so that another thread may append meanwhile.
        """
        self._pages = 0

        def move() -> None:
            connection = _connected(self._path, "rw")
            try:
                connection.execute("pragma wal_checkpoint(passive)").fetchall()
            finally:
                connection.close()

        translated(self._path, move)

    def compact(self) -> None:
        """Give the space of deleted rows back to the file system. Reads and writes the whole log; only its holder may.

        Raises:
            StoreUnusable: a reader is in its way. StoreFull: there is no room for the copy. Nothing is changed.
        """
        self._all("vacuum")
        self.empty_tail()

    def empty_tail(self) -> None:
        """Move all of the write-ahead log to the database and cut it off, as far as no reader is in the way."""
        self._all("pragma wal_checkpoint(truncate)")

    def sync(self) -> None:
        """Flush what was committed to the disk.

        Only the write-ahead log: what a checkpoint moved to the database was flushed by it, and closing a descriptor of
        the database would drop the locks that this process holds on it.
        """
        try:
            fd = os.open(self._path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(fd)
            inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        if inode != self._synced_inode:  # it was made since
            sync_folder(os.path.dirname(self._path))
            self._synced_inode = inode

    def close(self) -> None:
        self._connection.close()
        if self._ringer is not None:
            self._ringer.close()
            self._ringer = None

    def _one(self, sql: str) -> int:
        return int(translated(self._path, lambda: self._connection.execute(sql).fetchone())[0])

    def _all(self, sql: str, *arguments: object) -> list[Any]:
        return translated(self._path, lambda: self._connection.execute(sql, arguments).fetchall())


def _ringer(path: str) -> Ringer | None:
    """What tells of this log; None for one that is no lane of a space."""
    folder, lane = os.path.split(os.path.dirname(path))
    return Ringer(f"{folder}/news", int(lane)) if lane.isdecimal() else None


def _open(path: str, *, writable: bool, disk: bool) -> sqlite3.Connection:
    if writable and not os.path.exists(path):
        _create(path)
    connection = _connected(path, "rw" if writable else "ro")
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        if FORMAT < version < _NO_VERSION:
            raise StoreForeign.newer(path, version, FORMAT)
        if version != FORMAT:
            raise StoreDamaged(path, "it is empty, or of another format")
        if writable:
            connection.execute(f"pragma synchronous={'full' if disk else 'normal'}")
            connection.execute("pragma wal_autocheckpoint=0")
            connection.execute(_INDEX)
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(path: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=32,
    )
    connection.text_factory = bytes  # a damaged row may say that its bytes are text; the code over it then differs
    connection.execute(f"pragma busy_timeout={_BUSY_MS}")
    return connection


def _create(path: str) -> None:
    """An empty log, there whole or not at all: a file without tables is thus damage, never a log in the making.

    It is private (0600) whatever the umask, and SQLite gives its other files the same mode. Only the lane's holder
    comes here, so what an earlier one left is nobody's.
    """
    folder, name = os.path.split(path)
    for left in os.listdir(folder):
        if left.startswith("new-"):
            os.unlink(f"{folder}/{left}")
    temporary = f"{folder}/new-{os.getpid()}-{name}"
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = _connected(temporary, "rw")
    try:
        connection.execute("pragma journal_mode=wal")
        connection.executescript(_SCHEMA)
        connection.execute(_INDEX)
        connection.execute(f"pragma user_version={FORMAT}")
    finally:
        connection.close()
    os.rename(temporary, path)


def sync_folder(path: str) -> None:
    """Flush the names in a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
