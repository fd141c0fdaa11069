"""Hearing of what others publish: an iterator that sleeps until there is something.

    for change in replica.watch(b"plots/", timeout_s=60):
        for key in change.keys:
            show(replica.get(key))

A watch is a reader like any other: it holds no lock, no writer knows of it, and one whose process dies or stops costs
nobody anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from kvs.bell import Bell
from kvs.causal import VersionVector
from kvs.errors import KvsError, StoreUnusable

if TYPE_CHECKING:
    from kvs.replica import Replica

LOOK_AGAIN_S = 5.0
"""A wait ends at least this often to look, in case that a file system does not tell what other processes write."""

SOON_S = 0.001
"""After a ring that brought nothing, it looks again this soon, then after twice that, and so on: bytes of a commit are
written before it counts."""


class Change(NamedTuple):
    """Keys that others wrote or deleted since the change before, and what the replica has joined now."""

    keys: frozenset[bytes]
    vector: VersionVector


class Watch:
    """Iterate over it: each step refreshes the replica, and sleeps until a key that is watched has changed.

    Commits that come while the caller is busy are one `Change`. Nothing is left out: what any refresh of the replica
    joins, in this thread or another, since the watch was made. What the replica publishes itself is no news.
    It ends when nothing came for `timeout_s`, and with the replica; then make a new one. Close it if you leave earlier
    (`with` does). One thread at a time iterates; `close` may come from any.
    """

    def __init__(
        self,
        replica: Replica,
        lanes: str,
        *,
        prefix: bytes,
        keys: Collection[bytes] | None,
        timeout_s: float,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        """Raises:
        ValueError: a time is no number of seconds.
        """
        for name, seconds in (("timeout_s", timeout_s), ("look_again_s", look_again_s)):
            if not 0 <= seconds < float("inf"):
                raise ValueError(f"{name} is {seconds!r}. Set it to a number of seconds, 0 or more.")
        self._replica, self._space = replica, lanes
        self._prefix, self._keys = prefix, None if keys is None else frozenset(keys)
        self._timeout_s, self._look_again_s = timeout_s, look_again_s
        self._news: set[bytes] = set()
        self._lock = threading.Lock()
        self._iterating = threading.Lock()
        self._closed = False
        self._bell = Bell(lanes, but=None if replica.is_reader else replica.id)

    @property
    def is_told(self) -> bool:
        """Whether the system wakes it; else it looks twenty times a second."""
        return self._bell.is_told

    def hear(self, keys: Collection[bytes]) -> None:
        """Take in what a refresh has found; the replica calls this."""
        news = {key for key in keys if key.startswith(self._prefix) and (self._keys is None or key in self._keys)}
        if news:
            with self._lock:
                self._news |= news
            self._bell.ring()  # it may be another thread that has refreshed

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Change:
        """Raises:
        KvsError: what `refresh` raises; the space was deleted (`StoreUnusable`); two threads iterate.
        """
        if not self._iterating.acquire(blocking=False):
            raise KvsError("another thread iterates over this watch. Make a watch for each thread.")
        try:
            change = self._next(time.monotonic() + self._timeout_s)
            if change is None:
                self.close()
                raise StopIteration
            return change
        finally:
            self._iterating.release()
            if self._closed:
                self._bell.close()

    def _next(self, end_s: float) -> Change | None:
        pause_s = self._look_again_s
        while not self._closed:
            try:
                self._bell.arm()
                self._replica.refresh()
            except FileNotFoundError as e:
                raise StoreUnusable(self._space, "the space was deleted", "Write to it, then watch it anew.") from e
            with self._lock:
                keys, self._news = frozenset(self._news), set()
            if keys:
                return Change(keys, self._replica.vector)
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return None
            rung = self._bell.wait(min(left_s, pause_s))
            pause_s = SOON_S if rung else min(2 * pause_s, self._look_again_s)
        return None

    def close(self) -> None:
        """End it; a step that waits in another thread ends at once."""
        if not self._closed:
            self._closed = True
            self._bell.ring()
        if self._iterating.acquire(blocking=False):
            try:
                self._bell.close()
            finally:
                self._iterating.release()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_bell") and not self._closed:
            self.close()
