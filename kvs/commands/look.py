"""`check` and `stats`: they read, and change nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import kvs
from kvs.commands.common import DAMAGED, WHOLE, say, spaces
from kvs.placement import described


def check(store: kvs.Store) -> int:
    """authenticate every record, read every blob, and name what is damaged"""
    damaged = sum(say(info.name, _damage(store, info)) for info in spaces(store))
    print(f"{len(store.spaces())} spaces, {damaged} damaged records")
    if damaged:
        print(f"`python -m kvs repair {store.path}` moves what is damaged aside, and names what is lost.")
    return DAMAGED if damaged else WHOLE


def _damage(store: kvs.Store, info: kvs.SpaceInfo) -> Iterator[str]:
    """What is damaged in one space, a line each."""
    if info.damage:
        yield f"{info.directory}: {info.damage}"
        return
    try:
        with store.space(info.name).reader() as reader:
            yield from reader.check()
    except kvs.KvsError as e:
        yield str(e)


def stats(store: kvs.Store) -> int:
    """show what each space holds: keys, writers, versions, and bytes that are live or may be freed"""
    damaged = 0
    for info in spaces(store):
        if info.damage:
            damaged += say(info.name, [info.damage])
            continue
        try:
            damaged += _stats(store.space(info.name), info)
        except kvs.KvsError as e:
            damaged += say(info.name, [str(e)])
    return DAMAGED if damaged else WHOLE


def _stats(space: kvs.Space, info: kvs.SpaceInfo) -> int:
    with space.reader() as reader:
        use, keys = reader.use(), len(reader.keys())
        unreadable = say(info.name, map(str, reader.unreadable))
    lanes = space.lanes()
    held = sum(lane.held for lane in lanes)
    age = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.modified_s))
    say(
        info.name,
        [
            f"{info.nbytes} bytes, {keys} keys, {len(lanes)} lanes ({held} held), {age}",
            f"{use.versions} versions, {use.live_nbytes} bytes live, {use.dead_nbytes} bytes superseded or unnamed",
            *filter(None, [described(space.directory)]),
        ],
    )
    return unreadable
