"""What a run of `kvs_ops` may use, and which stores take part in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from _rows import Make
from _stores import US, Diskcache, Lmdb, Ours, Redis, Sqlite


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the run, the folder that it may fill, and the sockets of the servers (empty: there is none)."""

    folder: str
    repeats: int
    large_bytes: int
    keys: int
    seconds: float
    redis: str
    redis_disk: str

    def peers(self, section: str) -> dict[str, Make]:
        """Ours and the peers that are installed, each empty in a folder of the section."""
        folder = f"{self.folder}/{section}"
        os.makedirs(folder)
        makes: dict[str, Make] = {US: partial(Ours, folder)}
        if find_spec("lmdb"):
            makes["LMDB"] = partial(Lmdb, folder)
        makes["SQLite"] = partial(Sqlite, folder)
        if find_spec("diskcache"):
            makes["diskcache"] = partial(Diskcache, folder)
        if self.redis:
            with closing(Redis(self.redis)) as store:
                store.client.flushall()
            makes["Redis"] = partial(Redis, self.redis)
        return makes


@contextmanager
def opened(makes: Mapping[str, Make]) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(closing(make())) for name, make in makes.items()}
