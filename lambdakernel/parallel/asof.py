"""A reader of a session that stays at one moment: what a task of a background job sees, whenever it starts.

The job's worker holds a snapshot of that moment, so nothing of it is collected while the job runs.
"""

from __future__ import annotations

from typing import Any

import kvs
from kvs.causal import VersionVector


class AsOf:
    """`replica`, a reader, as it was when exactly the commits of `vector` were known. What it holds no more is missing
    from its keys. Made in the time of one look at every commit."""

    def __init__(self, replica: kvs.Replica, vector: VersionVector) -> None:
        self._replica = replica
        past = replica.history().at(vector)
        self.get, self.keys = past.get, past.keys
        self.open_blob, self.read_blob = past.open_blob, past.read_blob

    def refresh(self) -> frozenset[bytes]:
        """Nothing changes here."""
        return frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)


def reader(store: str, session: str, moment: str = "") -> Any:
    """A reader of `session`; with a `moment` (a version vector as hexadecimal text), one that stays there."""
    replica = kvs.open(store).space(session).reader()
    if not moment:
        return replica
    vector = VersionVector.from_bytes(bytes.fromhex(moment))
    replica.refresh()
    return replica if replica.vector == vector else AsOf(replica, vector)
