"""What SQLite or the system calls an error, as one that says what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from kvs.errors import LaneLost, StoreDamaged, StoreFull, StoreUnusable

T = TypeVar("T")
_DAMAGE = (
    "malformed",
    "unsupported file format",
    "no such table",
    "no such column",
    "has no column",
    "Could not decode",
)


def translated(path: str, action: Callable[[], T]) -> T:
    """Do `action`; what SQLite or the system calls an error becomes one that says what to do."""
    try:
        return action()
    except sqlite3.OperationalError as e:
        name = getattr(e, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and not _has_room(path)):
            raise StoreFull(path) from e
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise StoreUnusable(path, f"{e}", "Give its owner write permission, or choose another with a path.") from e
        if name.startswith("SQLITE_IOERR"):
            raise StoreUnusable(path, f"{e}", "Check the disk, then try again.") from e
        if any(sign in str(e) for sign in _DAMAGE):
            raise StoreDamaged(path, str(e)) from e
        raise StoreUnusable(path, f"{e}", "Try again; if it stays so, end the process that holds it.") from e
    except sqlite3.IntegrityError as e:
        raise LaneLost(path, f"another process has written it since ({e})") from e
    except (sqlite3.DatabaseError, UnicodeDecodeError) as e:  # a message may quote a damaged name
        raise StoreDamaged(path, str(e)) from e
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(path) from e
        raise StoreUnusable(path, e.strerror or str(e), "Give its owner write permission, or check the disk.") from e


def _has_room(path: str) -> bool:
    try:
        stat = os.statvfs(os.path.dirname(path))
    except OSError:
        return True
    return stat.f_bavail > 16
