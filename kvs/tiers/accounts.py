"""What a lane's log holds, counted: for collection and for accounts. `LaneLog` is the only one to extend this."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvs.tiers.frames import Frame


class Accounts:
    """See the module."""

    if TYPE_CHECKING:  # what `LaneLog` does

        def fold(self) -> None: ...
        def _all(self, sql: str, *arguments: object) -> list[Any]: ...
        def _steady(self) -> AbstractContextManager[list[Frame]]: ...

    def superseded(self) -> list[tuple[bytes, int, int, bytes, int]]:
        """(key, n, payload size, blobs, by) of rows that a later commit `by` of this lane replaced, oldest first.

        For its holder: it folds the tail.
        """
        self.fold()
        return self._all(
            "select * from (select key, n, length(payload), blobs, (select min(later.n) from entries as later"
            " where later.key = e.key and later.n > e.n) as by from entries as e) where by is not null order by n"
        )

    def sizes(self) -> list[tuple[bytes, int, int, bytes]]:
        """(key, n, payload size, blobs) of every row whose fields are what they should be."""
        with self._steady() as unfolded:
            rows = self._all(
                "select key, n, length(payload), blobs from entries where typeof(key) = 'blob'"
                " and typeof(blobs) = 'blob' and length(blobs) % 40 = 0"
            )
            new = [row for frame in unfolded for row in frame.rows.values() if len(row.blobs) % 40 == 0]
            return rows + [(row.key, row.n, len(row.payload), row.blobs) for row in new]

    def blob_lists(self) -> list[bytes]:
        with self._steady() as unfolded:
            rows = self._all("select distinct blobs from entries where length(blobs) > 0 and typeof(blobs) = 'blob'")
            new = {row.blobs for frame in unfolded for row in frame.rows.values() if row.blobs}
            return [row[0] for row in rows] + sorted(new)
