"""`gc` and `repair`: they free what nobody needs, and move aside what is damaged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import kvs
from kvs.commands.common import DAMAGED, WHOLE, printable, say, spaces

ABANDONED_S = 3600.0
"""Age from which a half-written file has no maker any more; making one takes milliseconds."""


def gc(store: kvs.Store) -> int:
    """drop old versions and unneeded blobs beyond what the settings retain, and give their space back"""
    damaged = freed = versions = 0
    cold: list[str] = []
    before = sum(info.nbytes for info in store.spaces())
    for info in spaces(store):
        try:
            if info.damage:
                raise kvs.StoreDamaged(info.directory, info.damage)
            space = store.space(info.name)
            for collected in _collected(space):
                freed += collected.nbytes_freed
                versions += collected.versions
            cold += _cold_lines(space)
        except kvs.KvsError as e:
            damaged += say(info.name, [str(e)])
    store.delete_abandoned(before_s=time.time() - ABANDONED_S)
    after = sum(info.nbytes for info in store.spaces())
    print(f"{versions} old versions dropped, {freed} bytes of blobs freed, {max(0, before - after)} bytes on disk")
    print(*cold, sep="\n", end="\n" if cold else "")
    return DAMAGED if damaged else WHOLE


def _cold_lines(space: kvs.Space) -> list[str]:
    """What was done in the cold tier; nothing if there is none where garbage is collected."""
    if not space.has_cold:
        return []
    done = space.collect_cold(now_s=time.time())
    if done is None:
        return []
    waits = f"; to be deleted by a later gc, when seen by {', '.join(done.waiting)}" if done.waiting else ""
    return [
        f"{printable(space.name)}, cold tier: {done.nbytes_freed} bytes freed ({done.blobs} blobs deleted,"
        f" {done.segments} segments made shorter), {done.nbytes_doomed} bytes doomed{waits}"
    ]


def _collected(space: kvs.Space) -> Iterator[kvs.Collected]:
    """Collect every lane that nobody holds; a holder collects its own."""
    free = sum(not lane.held for lane in space.lanes())
    with ExitStack() as claims:  # kept to the end, so that each claim takes the next lane
        for _ in range(free):
            replica = claims.enter_context(space.replica(owner={"what": "python -m kvs gc"}))
            for error in replica.unreadable:
                raise error
            collected = replica.collect(now_s=time.time())
            if collected.versions:
                replica.compact()
            yield collected


def repair(store: kvs.Store, *, forget: bool) -> int:
    """move what is damaged to quarantine, and name what is lost"""
    left = moved = 0
    for info in spaces(store):
        try:
            if info.damage:
                raise kvs.StoreDamaged(info.directory, info.damage)
            repaired = store.space(info.name).repair(forget=forget)
        except kvs.KvsError as e:
            left += say(info.name, [f"not repaired: {e}"])
            continue
        moved += say(info.name, repaired.moved)
        lost = say(info.name, (f"lost: {line}" for line in repaired.lost))
        left += 0 if forget else lost
    print(f"{len(store.spaces())} spaces, {moved} repairs, {left} left")
    if left and not forget:
        print("What is lost is refused until it is written again; `repair --forget` deletes it.")
    return DAMAGED if left else WHOLE
