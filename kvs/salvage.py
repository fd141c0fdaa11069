"""What can still be read of a lane's log that SQLite refuses, wholly or in part.

The rows are given as they are found: each bears its own code, by which the caller tells the good from the bad. First
SQLite is asked, which knows the write-ahead log; then every page is read by itself; then the tail, frame by frame.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from kvs.errors import StoreDamaged
from kvs.pages import records
from kvs.tiers.database import COMMIT_COLUMNS, ENTRY_COLUMNS
from kvs.tiers.frames import Frame, frames
from kvs.tiers.node import CommitRow, EntryRow, LaneLog
from kvs.tiers.tail import SUFFIX

PREFIX = "salvage-"


def salvaged(path: str) -> tuple[list[CommitRow], list[EntryRow]]:
    """Every row that some way of reading the log at `path` shows, newer ways of it first; the file is not touched."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=PREFIX) as folder:
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copyfile(path + suffix, f"{folder}/log{suffix}")
        commits = [CommitRow(*row) for row in _rows(f"{folder}/log", f"select {COMMIT_COLUMNS} from commits")]
        entries = [EntryRow(*row) for row in _rows(f"{folder}/log", f"select {ENTRY_COLUMNS} from entries")]
    for rowid, fields in records(Path(path).read_bytes()):
        if rowid is not None and len(fields) == len(CommitRow._fields):
            commits.append(CommitRow(rowid, *fields[1:]))  # type: ignore[arg-type]  # whether they fit is for the code to say
        elif rowid is None and len(fields) == len(EntryRow._fields):
            entries.append(EntryRow(*fields))  # type: ignore[arg-type]
    for frame in tail_frames(path):
        commits.append(frame.commit)
        entries += frame.rows.values()
    return list(dict.fromkeys(commits)), list(dict.fromkeys(entries))


def tail_frames(path: str) -> list[Frame]:
    """What the tail of the log at `path` holds, damaged frames too."""
    try:
        return list(frames(Path(path + SUFFIX).read_bytes()))
    except FileNotFoundError:
        return []


def is_sound(path: str) -> bool:
    """Whether SQLite finds its structure in order, and every row can be read.

    Raises:
        StoreForeign: it has a later format.
    """
    try:
        log = LaneLog(path, writable=False)
    except StoreDamaged:
        return False
    try:
        return log.is_sound()
    finally:
        log.close()


def _rows(path: str, query: str) -> Iterator[tuple[Any, ...]]:
    """Up to the first that cannot be read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = bytes
        try:
            yield from connection.execute(query)
        except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError):  # what lies beyond is read page by page
            return
