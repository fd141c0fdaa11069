"""Live lattices in calls of an executor: what a call joins is joined into the caller's variable when the call ends.

A call begins with all that was joined before it was submitted, and hears of nothing while it runs. What it joins goes
with its answer, also if that is an error, and is there when its future is done. A call whose worker dies has joined
nothing. A function that a worker keeps has its `Live` values there; with a call of it goes what they lack.
Loaded only where a `Live` travels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kvs.lattices import Lattice
from kvs.lattices.codec import type_of
from lambdakernel import live

News = dict[str, tuple[str, bytes]]
"""By the identity of a `Live`, the tag and the bytes of what was joined into it."""


class _Joins:
    """What a worker's calls join, until the answer. Implements `live.Outlet`. From any thread."""

    attempt, is_task = 0, False

    def __init__(self) -> None:
        self.task = os.urandom(6).hex()
        self._news: dict[str, Lattice] = {}

    def wrote(self, uid: str, delta: Lattice) -> None:
        while True:  # another thread may have put or taken meanwhile
            known = self._news.pop(uid, None)
            delta = delta if known is None else known.join(delta)
            if self._news.setdefault(uid, delta) is delta:
                return

    def look(self) -> None:
        """Nothing comes from others while a call runs."""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def taken(self) -> News:
        found: News = {}
        while self._news:
            uid, delta = self._news.popitem()
            found[uid] = delta.tag, delta.encode()
        return found


def begin() -> None:
    """In a worker: from now on, what calls join goes with their answers."""
    if live.outlet() is None:
        live.attach(_Joins())


def arrived(kind: type[Lattice], data: bytes, uid: str) -> live.Live:
    """A `Live` as a worker has it."""
    begin()
    return live.restored(kind, data, uid)


def returned(kind: type[Lattice], data: bytes, uid: str) -> live.Live:
    """A `Live` in a result: the caller's own, if it has it."""
    with live.adopting():
        return live.restored(kind, data, uid)


def taken() -> News:
    """What calls of this worker joined since the last time."""
    outlet: Any = live.outlet()
    return outlet.taken() if isinstance(outlet, _Joins) else {}


def lacking(lives: Iterable[live.Live], told: Mapping[str, Lattice]) -> tuple[News, dict[str, Lattice]]:
    """What `lives` have and a worker that was `told` so much of them has not, and what it was told after that."""
    found: News = {}
    now: dict[str, Lattice] = {}
    for each in lives:
        uid, lattice = live.state(each)
        known = told[uid]
        if lattice is not known:
            delta = lattice.difference(known)
            found[uid], now[uid] = (delta.tag, delta.encode()), lattice
    return found, now


def hear(news: News) -> None:
    """In a worker: join what the caller's `Live` values have and those here lack.

    Raises:
        KvsError: it cannot be read.
    """
    for uid, (tag, data) in news.items():
        live.take(uid, type_of(tag).decode(data))


def join(news: News) -> None:
    """Join what a call of this process sent.

    Raises:
        KvsError: it is of another type than the caller's, or cannot be read.
    """
    for uid, (tag, data) in news.items():
        live.join(uid, type_of(tag).decode(data))
