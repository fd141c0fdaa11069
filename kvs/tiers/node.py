"""The node tier's log: one SQLite database and one tail a lane, written by the lane's holder alone, read by everyone.

Theory of operation
- A commit is one frame at the end of the tail (`kvs.tiers.tail`), written by one call. The frames are moved to the
  database in one transaction for many (`fold`), off the path of whoever commits; then another tail takes their place.
- A reader shows both: it reads the tail first, then the database, and takes from the tail what the database has not.
  So it misses nothing that is moved in between, and a crash between the two steps of a fold changes nothing.
- The database has two tables: `commits` has a commit's time, context, note and code; `entries` has one row a key. A
  row's `n` is its commit's number. Superseded rows stay until they are collected.
- The database is in WAL mode: a reader never waits for the writer, and a stopped writer stops nobody. SQLite moves its
  log to the database when it is told to (`checkpoint`), and not by itself: that flushes rows, and whoever owns the
  blobs flushes those first. So does a fold.
- An index by commit number answers what a commit wrote without looking at any other. It repeats what the rows say and
  is made by the first writer that finds none, so it is no part of the format; whoever mends a log does not read it.
- Each commit is told of in the news of the space (`kvs.tiers.news`), where the log is a lane of one.
- Everything is bytes here. Whether they are authentic is decided above, by whoever reads them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kvs.errors import KvsError, StoreDamaged
from kvs.tiers.accounts import Accounts
from kvs.tiers.database import (
    COMMIT_COLUMNS,
    ENTRY_COLUMNS,
    INSERT_COMMIT,
    INSERT_ENTRY,
    SAY_FORMAT,
    checkpoint,
    connected,
    flush,
    in_transaction,
    insert,
    opened,
)  # fmt: skip
from kvs.tiers.database import FORMAT as FORMAT
from kvs.tiers.files import sync_folder as sync_folder
from kvs.tiers.frames import Frame
from kvs.tiers.news import News, Ringer, ringer_of
from kvs.tiers.rows import CommitRow as CommitRow
from kvs.tiers.rows import EntryRow as EntryRow
from kvs.tiers.single import SingleRows
from kvs.tiers.tail import Tail
from kvs.tiers.translation import translated as translated  # for those who know the files of a space

DUE_NBYTES = 1 << 20
"""Of the tail from which it is moved to the database when somebody flushes."""
OVERDUE_NBYTES = 8 << 20
"""From which a commit has that done; whoever opens the log then reads it in some 30 ms."""
URGENT_NBYTES = 64 << 20
"""From which a commit waits for it."""
_FOLD_CACHE_KIB = 32 << 10
"""What a fold changes stays in memory until its end: SQLite's 2 MiB would be written and read again meanwhile."""
_LEAST = -(1 << 63)
"""Below all that a row can say, damaged ones too."""
Keys = list[tuple[bytes, int, int]]


class LaneLog(Accounts, SingleRows):
    """One lane's log, open for its holder (`writable`) or for a reader; use from one thread at a time.

    `sync` and `checkpoint` may run in another thread.
    """

    def __init__(self, path: str, *, writable: bool, disk: bool = False) -> None:
        """Open the log at `path`; a writer creates it.

        Raises:
            StoreUnusable: it cannot be opened. StoreDamaged: it is no log of ours.
            StoreForeign: it has a later format.
        """
        self._path, self._disk, self._pid = path, disk, os.getpid()
        self._tail = Tail(path, self.last_folded)
        self._unfolded: list[Frame] | None = None
        self._joined = (-1, 0)
        self._synced_inode: int | None = None
        self._moving = threading.RLock()
        self._ringer: Ringer | None = None
        self._connection = translated(path, lambda: opened(path, writable=writable, disk=disk))
        if writable:
            try:
                self._ringer = translated(path, lambda: ringer_of(path))
            except BaseException:
                self._connection.close()
                raise

    # -- writing, which its holder alone does

    def append(self, commit: CommitRow, entries: Sequence[EntryRow]) -> None:
        """Write one commit, whole or not at all. Only for who holds the lane, since nobody looks for its number.

        Raises:
            StoreFull, StoreUnusable, StoreDamaged: nothing was written, unless it says that a flush failed.
            LaneLost: another process has written the log.
        """
        translated(self._path, lambda: self._append(commit, entries))

    def _append(self, commit: CommitRow, entries: Sequence[EntryRow]) -> None:
        self._hold()
        ringer = self._ringer
        if ringer is not None:
            ringer.begin()
        try:
            self._tail.append(commit, entries, disk=self._disk)
        finally:
            if ringer is not None:
                ringer.end()

    def _hold(self) -> None:
        """Have the tail, in a database that says so to an earlier version of us."""
        if not self._tail.is_mine:
            if self._one("pragma user_version") != FORMAT:
                self._all(SAY_FORMAT)
                self._sync_database()
            self._tail.hold()

    def insert(self, commit: CommitRow, entries: Iterable[EntryRow]) -> None:
        """Write one commit to the database, in a transaction: also where others may write the lane.

        Raises:
            StoreFull, StoreUnusable, StoreDamaged: nothing was written. LaneLost: another has written that commit.
        """
        self.insert_all([(commit, entries)])

    def insert_all(self, commits: Iterable[tuple[CommitRow, Iterable[EntryRow]]]) -> None:
        """The same for several at once: a reader sees all of them or none."""

        def write() -> None:
            for commit, entries in commits:
                self._connection.execute(INSERT_COMMIT, commit)
                self._connection.executemany(INSERT_ENTRY, entries)

        self._transact(write)

    def tell(self, news: News) -> None:
        """To the news of the replica that holds this lane: it knows every commit so far."""
        if self._ringer is not None:
            self._ringer.tell(news)

    def _transact(self, write: Callable[[], object]) -> None:
        """Do all that `write` says or nothing of it, and tell of it."""
        connection, ringer = self._connection, self._ringer

        def act() -> None:
            if ringer is not None:
                ringer.begin_among_others()
            try:
                in_transaction(connection, write)
            finally:
                if ringer is not None:
                    ringer.end_among_others()

        with self._moving:
            translated(self._path, act)

    def delete(self, rows: Iterable[tuple[bytes, int]]) -> None:
        """Forget superseded rows; their space is reused."""
        self.fold()
        self._transact(lambda: self._connection.executemany("delete from entries where key = ? and n = ?", rows))

    def replace(self, commits: Iterable[CommitRow], entries: Iterable[EntryRow]) -> None:
        """Put these in the place of every commit that has one of their numbers, with all its entries; all or none."""
        rows = list(commits)

        def write() -> None:
            connection = self._connection
            connection.executemany("delete from entries where n = ?", [(row.n,) for row in rows])
            connection.executemany("insert or replace into commits values (?,?,?,?,?,?)", rows)
            connection.executemany(INSERT_ENTRY, entries)

        self.fold()
        self._transact(write)

    # -- reading

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the log."""
        frames = translated(self._path, self._tail.load)
        self._all("begin")
        try:
            first = next(iter(frames), 0)
            folded = {row[0] for row in self._all("select n from commits where n >= ?", first)} if frames else ()
            self._unfolded = [frame for n, frame in frames.items() if n not in folded]
            yield
        finally:
            self._unfolded = None
            self._all("commit")

    @contextmanager
    def _steady(self) -> Iterator[list[Frame]]:
        """The frames that the database has not, in a snapshot: one of its own where there is none."""
        if self._unfolded is not None:
            yield self._unfolded
            return
        with self.snapshot():
            yield self._unfolded or []

    def last(self) -> int:
        """Number of the newest commit; 0 if there is none."""
        newest = max(translated(self._path, self._tail.load), default=0)
        return max(newest, self.last_folded())

    def last_folded(self) -> int:
        """Number of the newest commit that the database has; 0 if there is none."""
        return self._one("select coalesce(max(n), 0) from commits")

    def since(self, n: int) -> tuple[list[CommitRow], Keys]:
        """`commits` and `newest_keys` after commit `n`, of one state; without the database if that has not changed."""
        translated(self._path, self._tail.load)
        version, last = self._one("pragma data_version"), 0
        if self._joined[0] == version and n >= self._joined[1]:
            new = self._tail.after(n)
            return [frame.commit for frame in new], _newest_of(new)
        if self._tail.frames or self.last_folded() > n or self._rows_after(n):
            with self.snapshot():
                last = self.last_folded()
                found = self.commits(n) if last > n or self._unfolded else [], self.newest_keys(n)
        else:  # nothing, for less; a commit that comes in between is news
            last, found = n, ([], [])
        self._joined = version, last
        return found

    def newest_keys(self, since: int) -> Keys:
        """Each key that a commit after `since` wrote, with the newest such commit and the kind of its row."""
        with self._steady() as unfolded:
            return _newest([*self._rows_after(since), *_keys(frame for frame in unfolded if frame.n > since)])

    def _rows_after(self, since: int) -> Keys:
        """The keys, commits and kinds of the rows in the database of commits after `since`, as far as they are such."""
        rows = self._all("select key, n, kind from entries where n > ? order by n", since or _LEAST)
        return [row for row in rows if isinstance(row[0], bytes) and isinstance(row[1], int)]

    def commits(self, since: int = 0) -> list[CommitRow]:
        """Commits after `since`, oldest first."""
        with self._steady() as unfolded:
            rows = self._all(f"select {COMMIT_COLUMNS} from commits where n > ? order by n", since)
            return [CommitRow(*row) for row in rows] + [frame.commit for frame in unfolded if frame.n > since]

    def entry(self, key: bytes, n: int) -> EntryRow | None:
        frame = self._tail.frames.get(n)
        if frame is not None and key in frame.rows:
            return frame.rows[key]
        rows = self._all(f"select {ENTRY_COLUMNS} from entries where key = ? and n = ?", key, n)
        return EntryRow(*rows[0]) if rows else None

    def entries(self, since: int | None = None, until: int | None = None) -> Iterator[EntryRow]:
        """Every row, superseded ones too, oldest first; or those of commits after `since`, up to `until`."""
        where, bounds = "not indexed", []
        if since is not None:
            where, bounds = "where n > ?", [since]
        if until is not None:
            where, bounds = f"{where} and n <= ?", [*bounds, until]
        with self._steady() as unfolded:
            rows = self._all(f"select {ENTRY_COLUMNS} from entries {where} order by n, key", *bounds)
        for row in rows:
            yield EntryRow(*row)
        for frame in unfolded:
            if (since is None or frame.n > since) and (until is None or frame.n <= until):
                yield from (frame.rows[key] for key in sorted(frame.rows))

    # -- upkeep

    def is_sound(self) -> bool:
        """Whether SQLite finds the structure of the file, and its index, in order. Reads all of it."""
        try:
            return self._all("pragma integrity_check") == [(b"ok",)]
        except StoreDamaged:
            return False

    @property
    def is_checkpoint_due(self) -> bool:
        return self._tail.nbytes >= DUE_NBYTES

    @property
    def is_checkpoint_overdue(self) -> bool:
        return self._tail.nbytes >= OVERDUE_NBYTES

    @property
    def is_checkpoint_urgent(self) -> bool:
        return self._tail.nbytes >= URGENT_NBYTES

    def fold(self) -> None:
        """Move the commits of the tail to the database, flushed; for the holder of the lane.

        On a connection of its own, so that another thread may append and read meanwhile.

        Raises:
            StoreFull, StoreUnusable: what was not moved stays where it is.
        """
        with self._moving:
            translated(self._path, self._fold)

    def _fold(self) -> None:
        if not self._tail.is_mine and not self._tail.load():
            return
        self._hold()
        frames = list(self._tail.frames.values())
        if not frames:
            return
        connection = connected(self._path, "rw")
        try:
            connection.execute("pragma wal_autocheckpoint=0")
            connection.execute(f"pragma cache_size=-{_FOLD_CACHE_KIB}")
            in_transaction(connection, lambda: insert(connection, frames))
            self._sync_database()
        finally:
            connection.close()
        self._tail.drop(frames)

    def checkpoint(self) -> None:
        """Move the tail to the database, and SQLite's log too, flushed, as far as no reader needs it. Waits for nobody.

        On a connection of its own, so that another thread may append meanwhile.
        """
        with self._moving:
            self.fold()
            translated(self._path, lambda: checkpoint(self._path))

    def compact(self) -> None:
        """Give the space of deleted rows back to the file system. Reads and writes the whole log; only its holder may.

        Raises:
            StoreUnusable: a reader is in its way. StoreFull: there is no room for the copy. Nothing is changed.
        """
        self.fold()
        self._all("vacuum")
        self.empty_wal()

    def empty_wal(self) -> None:
        """Move all of the write-ahead log to the database and cut it off, as far as no reader is in the way."""
        self._all("pragma wal_checkpoint(truncate)")

    def drop_torn(self, since: int | None) -> int:
        """Cut off what a power loss tore in the tail after commit `since`; see `Tail.drop_torn`."""
        return translated(self._path, lambda: self._tail.drop_torn(since))

    def sync(self) -> None:
        """Flush what was committed to the disk: the tail and the write-ahead log."""
        with self._moving:
            translated(self._path, self._tail.sync)
            translated(self._path, self._sync_database)

    def _sync_database(self) -> None:
        inode = flush(self._path)
        if inode not in (None, self._synced_inode):  # it was made since
            sync_folder(os.path.dirname(self._path))
            self._synced_inode = inode

    def close(self) -> None:
        """Fold what its holder left in the tail, and close every file."""
        is_holder = self._tail.is_mine and self._pid == os.getpid()
        try:
            if is_holder:
                self.fold()
        except KvsError:  # nothing is lost: the tail is read as it is, and folded by the next holder
            pass
        finally:
            self._connection.close()
            self._tail.close()
            if self._ringer is not None:
                self._ringer.close()
                self._ringer = None

    def _one(self, sql: str) -> int:
        return int(translated(self._path, lambda: self._connection.execute(sql).fetchone())[0])

    def _all(self, sql: str, *arguments: object) -> list[Any]:
        return translated(self._path, lambda: self._connection.execute(sql, arguments).fetchall())


def _keys(frames: Iterable[Frame]) -> Keys:
    return [(key, frame.n, row.kind) for frame in frames for key, row in frame.rows.items()]


def _newest_of(frames: Iterable[Frame]) -> Keys:
    """The last of each key that they wrote; `_newest` of `_keys`, in less time."""
    return list({key: (key, n, row[2]) for n, _, rows, _, _, _ in frames for key, row in rows.items()}.values())


def _newest(rows: Keys) -> Keys:
    """The last of each key."""
    return list({row[0]: row for row in rows}.values())
