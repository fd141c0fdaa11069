"""Single rows of a lane's database, found by SQLite's own indexes. `LaneLog` is the only one to extend this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvs.tiers.database import COMMIT_COLUMNS, ENTRY_COLUMNS
from kvs.tiers.rows import CommitRow, EntryRow


class SingleRows:
    """See the module. What is in the tail alone is not seen."""

    if TYPE_CHECKING:  # what `LaneLog` does

        def _all(self, sql: str, *arguments: object) -> list[Any]: ...

    def folded_commit(self, n: int) -> CommitRow | None:
        rows = self._all(f"select {COMMIT_COLUMNS} from commits where n = ?", n)
        return CommitRow(*rows[0]) if rows else None

    def folded_write(self, key: bytes, until: int) -> EntryRow | None:
        """The row of `key` of the newest commit up to `until` that has one; None if there is none."""
        sql = f"select {ENTRY_COLUMNS} from entries where key = ? and n <= ? order by n desc limit 1"
        rows = self._all(sql, key, until)
        return EntryRow(*rows[0]) if rows else None

    def folded_commits(self, since: int, until: int) -> list[CommitRow]:
        """Those after `since` up to `until`, oldest first."""
        sql = f"select {COMMIT_COLUMNS} from commits where n > ? and n <= ? order by n"
        return [CommitRow(*row) for row in self._all(sql, since, until)]

    def folded_until(self, n: int) -> tuple[list[CommitRow], list[tuple[bytes, int, int]]]:
        """Commits up to `n`, oldest first, and each key that they wrote, with the newest and the kind of its row."""
        rows = self._all("select key, n, kind from entries where n <= ? order by n", n)
        newest = {row[0]: row for row in rows if isinstance(row[0], bytes) and isinstance(row[1], int)}
        return self.folded_commits(0, n), list(newest.values())
