"""`python -m kvs check|stats|gc PATH`: look after a store from the command line.

Exit code 0: done, and nothing is damaged. 1: something is damaged, and was named. 2: the store cannot be used.
Settings come from `KVS_*`, so that `KVS_RETAIN_BYTES=0 python -m kvs gc PATH` keeps no old version that may go.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import kvs
from kvs.settings import from_env

WHOLE, DAMAGED, UNUSABLE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kvs", description="Look after a store.")
    parser.add_argument("command", choices=_COMMANDS, help="; ".join(f"{n}: {f.__doc__}" for n, f in _COMMANDS.items()))
    parser.add_argument("path", metavar="PATH", help="the directory of the store")
    options = parser.parse_args(arguments)
    try:
        return int(_COMMANDS[options.command](_opened(options.path)))
    except (kvs.KvsError, ValueError) as e:  # ValueError: a KVS_* variable is no number
        print(_printable(str(e)), file=sys.stderr)
        return UNUSABLE


def _opened(path: str) -> kvs.Store:
    """The store at `path`, which must be one: looking never creates."""
    if not os.path.exists(f"{path}/FORMAT"):
        raise kvs.StoreForeign(path, "it holds no FORMAT file; give the directory of a store")
    return kvs.open(path, from_env())


def check(store: kvs.Store) -> int:
    """authenticate every record, read every blob, and name what is damaged"""
    damaged = sum(_print_damage(info.name, _damage(store, info)) for info in store.spaces())
    print(f"{len(store.spaces())} spaces, {damaged} damaged records")
    return DAMAGED if damaged else WHOLE


def stats(store: kvs.Store) -> int:
    """show the size, age, keys and writers of each space"""
    damaged = 0
    for info in sorted(store.spaces(), key=lambda info: info.name):
        if info.damage:
            damaged += _print_damage(info.name, [info.damage])
            continue
        space = store.space(info.name)
        try:
            with space.reader() as reader:
                keys = len(reader.keys())
        except kvs.KvsError as e:
            damaged += _print_damage(info.name, [str(e)])
            continue
        lanes = space.lanes()
        held = sum(lane.held for lane in lanes)
        age = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.modified_s))
        print(f"{_printable(info.name)}: {info.nbytes} bytes, {keys} keys, {len(lanes)} lanes ({held} held), {age}")
    return DAMAGED if damaged else WHOLE


def gc(store: kvs.Store) -> int:
    """drop old versions and unneeded blobs beyond what the settings retain"""
    damaged = freed = versions = 0
    for info in store.spaces():
        try:
            if info.damage:
                raise kvs.StoreDamaged(info.directory, info.damage)
            for collected in _collected(store.space(info.name)):
                freed += collected.nbytes_freed
                versions += collected.versions
        except kvs.KvsError as e:
            damaged += _print_damage(info.name, [str(e)])
    print(f"{versions} old versions dropped, {freed} bytes of blobs freed")
    return DAMAGED if damaged else WHOLE


def _collected(space: kvs.Space) -> Iterator[kvs.Collected]:
    """Collect every lane that nobody holds; a holder collects its own."""
    free = sum(not lane.held for lane in space.lanes())
    with ExitStack() as claims:  # kept to the end, so that each claim takes the next lane
        for _ in range(free):
            replica = claims.enter_context(space.replica(owner={"what": "python -m kvs gc"}))
            yield replica.collect(now_s=time.time())


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


def _print_damage(name: str, lines: Iterable[str]) -> int:
    """How many lines there were."""
    shown = [print(_printable(f"{name}: {line}")) for line in lines]
    return len(shown)


def _printable(text: str) -> str:
    """Names are any text: no escape sequence of one reaches the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


_COMMANDS = {"check": check, "stats": stats, "gc": gc}

if __name__ == "__main__":
    sys.exit(main())
