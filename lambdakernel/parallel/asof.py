"""A reader of a session that stays at one moment: what a task of a background job sees, whenever it starts.

The job's worker holds a snapshot of that moment, so nothing of it is collected while the job runs.
"""

from __future__ import annotations

import os
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


class Inherited:
    """A reader that forks of its process may use: each opens one of its own when it first asks, and sees the moment
    that `settle` found."""

    def __init__(self, store: str, session: str, moment: str = "") -> None:
        self._store, self._session, self._moment = store, session, moment
        self._pid, self._reader = os.getpid(), reader(store, session, moment)
        self._before: Any = None
        """That of the process before the fork, which is not to be touched here, nor to be closed."""

    def settle(self) -> None:
        """Forks see what is seen now."""
        self._moment = self._moment or self._reader.vector.to_bytes().hex()

    def follow(self) -> bool:
        """From now on this process sees what is committed, and with `refresh` what will be. Whether it reads by other
        means than before."""
        self._moment = ""
        if self._pid != os.getpid():
            return True  # it opens one of its own
        if isinstance(self._reader, AsOf):
            self._reader.close()
            self._reader = reader(self._store, self._session)
            return True
        return False

    def __getattr__(self, name: str) -> Any:
        if self._pid != os.getpid():
            self._before, self._reader = self._reader, reader(self._store, self._session, self._moment)
            self._pid = os.getpid()
        return getattr(self._reader, name)


def reader(store: str, session: str, moment: str = "") -> Any:
    """A reader of `session`; with a `moment` (a version vector as hexadecimal text), one that stays there."""
    replica = kvs.open(store).space(session).reader()
    if not moment:
        return replica
    vector = VersionVector.from_bytes(bytes.fromhex(moment))
    replica.refresh()
    return replica if replica.vector == vector else AsOf(replica, vector)
