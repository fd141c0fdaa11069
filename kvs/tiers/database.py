"""The database of a lane's log: its tables and formats, how it is opened, and how one is made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence

from kvs.errors import StoreDamaged, StoreForeign
from kvs.tiers.frames import Frame

FORMAT = 2
"""Of a lane, said by its database. From 2 on, a lane may have a tail (`kvs.tiers.tail`)."""
_OLDEST = 1
_NO_VERSION = 10_000
"""Formats from this number on are flipped bits."""
_BUSY_S = 2.0
_PAGE_NBYTES = 1 << 14
"""Of a new database. With SQLite's usual 4 KiB a value of 3 KB goes to pages of its own, which take more room, and
are dearer to fold and to read."""
SAY_FORMAT = f"pragma user_version={FORMAT}"
COMMIT_COLUMNS = "n, hlc, context, note, marks, mac"
ENTRY_COLUMNS = "key, n, kind, payload, blobs, mac"
INSERT_COMMIT = "insert into commits values (?,?,?,?,?,?)"
INSERT_ENTRY = "insert into entries values (?,?,?,?,?,?)"
_SCHEMA = """
create table commits (n integer primary key, hlc integer not null, context blob not null,
  note blob not null, marks blob not null, mac blob not null);
create table entries (key blob not null, n integer not null, kind integer not null,
  payload blob not null, blobs blob not null, mac blob not null, primary key (key, n)) without rowid;
"""
_INDEX = "create index if not exists entries_by_n on entries (n, key, kind)"


def opened(path: str, *, writable: bool, disk: bool) -> sqlite3.Connection:
    """The log at `path`, which a writer makes if there is none.

    Raises:
        StoreForeign: it has a later format. StoreDamaged: it is no log of ours.
    """
    if writable and not os.path.exists(path):
        _create(path)
    connection = connected(path, "rw" if writable else "ro")
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        if FORMAT < version < _NO_VERSION:
            raise StoreForeign.newer(path, version, FORMAT)
        if not _OLDEST <= version <= FORMAT:
            raise StoreDamaged(path, "it is empty, or of another format")
        if writable:
            connection.execute(f"pragma synchronous={'full' if disk else 'normal'}")
            connection.execute("pragma wal_autocheckpoint=0")
            connection.execute(_INDEX)
    except BaseException:
        connection.close()
        raise
    return connection


def connected(path: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=32,
        timeout=_BUSY_S,
    )
    connection.text_factory = bytes  # a damaged row may say that its bytes are text; the code over it then differs
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
    connection = connected(temporary, "rw")
    try:
        connection.execute(f"pragma page_size={_PAGE_NBYTES}")
        connection.execute("pragma journal_mode=wal")
        connection.executescript(_SCHEMA)
        connection.execute(_INDEX)
        connection.execute(SAY_FORMAT)
    finally:
        connection.close()
    os.rename(temporary, path)


def in_transaction(connection: sqlite3.Connection, write: Callable[[], object]) -> None:
    """Do all that `write` says or nothing of it."""
    connection.execute("begin immediate")
    try:
        write()
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # some failures have ended it
            connection.execute("rollback")
        raise


def insert(connection: sqlite3.Connection, frames: Sequence[Frame]) -> None:
    """Those that are not there yet: a fold may have been ended before it could take the tail away."""
    there = {n for (n,) in connection.execute("select n from commits where n >= ?", (frames[0].n,))}
    new = [frame for frame in frames if frame.n not in there]
    connection.executemany(INSERT_COMMIT, [frame.commit for frame in new])
    connection.executemany(INSERT_ENTRY, [row for frame in new for row in frame.rows.values()])


def checkpoint(path: str) -> None:
    """Move the write-ahead log to the database, flushed, as far as no reader needs it; on a connection of its own."""
    connection = connected(path, "rw")
    try:
        connection.execute("pragma wal_checkpoint(passive)").fetchall()
    finally:
        connection.close()


def flush(path: str) -> int | None:
    """Flush the write-ahead log; its inode, None if there is none.

    Not the database: what a checkpoint moved there was flushed by it, and closing a descriptor of it would drop the
    locks that this process holds on it.
    """
    try:
        fd = os.open(path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        os.fdatasync(fd)
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
