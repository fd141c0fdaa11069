"""What a replica published, brought to a level: the disk, or the store's cold tier. `Replica` alone extends this."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from kvs.errors import StoreUnusable
from kvs.pins import NEVER, Pin
from kvs.recovery import SyncMark
from kvs.settings import Settings
from kvs.tiers.blobs import Blobs
from kvs.tiers.node import LaneLog, sync_folder, translated
from kvs.unread import SEAL_PART

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from kvs.mirror import Mirror
    from kvs.tiers.protocol import Tier


class Syncing:
    """See the module. `Replica` has the state, which is named here."""

    _directory: str
    _key: bytes
    _settings: Settings
    _lane: int | None
    _lock: threading.RLock
    _blobs: Blobs
    _cold: Tier | None
    _mirror: Mirror | None
    _logs: dict[int, LaneLog]
    _seen: dict[int, int]
    _mark: SyncMark
    _pin: Pin
    _is_placed: bool
    _unpublished_ns: int

    if TYPE_CHECKING:  # what `Replica` does

        def _seal_after(self, move: Callable[[], object], part: int) -> None: ...

    def sync(self, level: str = "disk", *, deadline_s: float = 60.0) -> None:
        """Bring what was published so far to a level: `disk` (a power loss takes nothing) or `object` (all that this
        machine published to the space is in the store's cold tier too, so the loss of the machine takes nothing).

        At `disk`, blobs are flushed, then the log that names them; a long log is then moved to its database, which a
        `publish` would else have to wait for one day. Only `object` has a deadline.

        Raises:
            StoreUnusable: it could not be flushed, call it again; or the store has no cold tier.
            TierUnreachable: the deadline came first. TierRefused, LaneLost: see `Mirror.push`.
            ValueError: there is no such level.
        """
        if level not in ("disk", "object"):
            raise ValueError(f"level is {level!r}. Give 'disk' or 'object'.")
        if level == "object" and self._cold is None:
            raise StoreUnusable(
                self._directory, "it has no cold tier", 'Open the store with cold="s3://bucket/prefix".'
            )
        last = self._seen.get(self._lane, 0) if self._lane is not None else 0
        self._blobs.sync()
        self._hold_no_longer()
        if self._lane is not None:
            self._sync_place()
            self._logs[self._lane].sync()
            if self._settings.durability != "disk":
                self._mark.write(last)
            if self._logs[self._lane].is_checkpoint_due:
                self._seal_after(self._logs[self._lane].checkpoint, SEAL_PART)  # it flushes rows: blobs went first
        if level == "object" and self._cold is not None:
            from kvs.mirror import Mirror  # here: only a store with a cold tier needs it

            with self._lock:
                self._mirror = self._mirror or Mirror(
                    self._directory, self._key, self._cold, lease_s=self._settings.cold_lease_s
                )
            self._mirror.push(deadline_s=deadline_s)

    def _hold_no_longer(self) -> None:
        """Let collectors have what was put, if it was published. Not in every publish, of which it would be a part."""
        with self._lock:
            if self._unpublished_ns == NEVER:
                self._pin.hold(NEVER)

    def _sync_place(self) -> None:
        """Flush the names of the directories that lead to this lane, once."""
        if not self._is_placed:
            space = self._directory
            for folder in (f"{space}/lanes/{self._lane}", f"{space}/lanes", f"{space}/blobs", space):
                translated(folder, partial(sync_folder, folder))
            translated(space, partial(sync_folder, os.path.dirname(space)))
            self._is_placed = True
