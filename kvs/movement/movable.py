"""What the actor needs of real tiers: a small protocol, and one implementation in memory that really moves bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from kvs.movement.observer import Observer
from kvs.movement.samples import Key, Load, Sample


class Movable(Protocol):
    """Tiers whose bytes can be moved, as the actor sees them.

    For the implementer:
    - Each call either has done what it says or raises; after a failure the key is where it was, or in more places than
      it was, never in fewer. Any `Exception` is reported, and tried again later.
    - Each call has a deadline of its own; the actor waits for it.
    - A demotion copies, then deletes conditionally: a write or a pin that comes meanwhile keeps the bytes in `source`,
      and the call raises. The same holds for `drop`, which checks that a colder tier still holds the bytes.
    - `copy` makes the number of copies so, up or down.
    """

    def samples(self) -> Iterable[Sample]:
        """All keys that any tier but the last holds, and those that were touched lately."""
        ...

    def loads(self) -> Iterable[Load]: ...

    def used(self, tier: str) -> int:
        """Bytes in a tier now, copies included."""
        ...

    def promote(self, key: Key, source: str, to: str) -> None: ...

    def demote(self, key: Key, source: str, to: str) -> None: ...

    def drop(self, key: Key, tier: str) -> None: ...

    def copy(self, key: Key, tier: str, copies: int) -> None: ...


class Refused(Exception):
    """A move that the state of the tiers does not allow; nothing was changed."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} was refused: {why}. The next plan takes it into account.")


class MemoryTiers:
    """Tiers that are dicts of bytes, a list of shards each; notes every access. Use from one thread at a time."""

    def __init__(
        self,
        names: Iterable[str],
        limits: Mapping[str, float] | None = None,
        *,
        shards: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`names` go from the fastest to the home of every key; `limits` are bytes, none where none is given."""
        self._shards: dict[str, list[dict[Key, bytes]]] = {name: [{} for _ in range(shards)] for name in names}
        self._limits = dict(limits or {})
        self._pins: dict[tuple[str, Key], int] = {}
        self._clock = clock
        self.observer = Observer(list(self._shards)[-1])

    def put(self, key: Key, data: bytes, tier: str) -> None:
        """Store a new value in `tier`, and delete every older one.

        Raises:
            Refused: there is no room in `tier`.
        """
        self._room(f"put of {key!r}", tier, len(data) - self._held(key, tier))
        for name in self._shards:
            self._delete(key, name)
        self._shards[tier][0][key] = bytes(data)
        now_s = self._clock()
        self.observer.accessed(key, len(data), now_s, write=True)
        self.observer.placed(key, frozenset({tier}))

    def get(self, key: Key) -> bytes:
        """The bytes from the fastest tier that holds them.

        Raises:
            KeyError: no tier does.
        """
        for shards in self._shards.values():
            for shard in shards:
                if key in shard:
                    self.observer.accessed(key, len(shard[key]), self._clock())
                    return shard[key]
        raise KeyError(key)

    def pin(self, key: Key, tier: str) -> None:
        """A reader holds the bytes in `tier` until `unpin`."""
        self._pins[tier, key] = self._pins.get((tier, key), 0) + 1

    def unpin(self, key: Key, tier: str) -> None:
        self._pins[tier, key] -= 1
        if not self._pins[tier, key]:
            del self._pins[tier, key]

    def pins(self, key: Key) -> frozenset[str]:
        return frozenset(tier for tier, pinned in self._pins if pinned == key)

    def holders(self, key: Key) -> frozenset[str]:
        return frozenset(name for name in self._shards if self._count(key, name))

    def copies(self, key: Key) -> dict[str, int]:
        return {name: count for name in self._shards if (count := self._count(key, name)) > 1}

    def samples(self) -> Iterable[Sample]:
        self.observer.refresh(self._clock())
        return [
            replace(sample, pins=self.pins(sample.key), copies=self.copies(sample.key))
            for sample in self.observer.samples()
        ]

    def loads(self) -> Iterable[Load]:
        return ()

    def used(self, tier: str) -> int:
        return sum(len(data) for shard in self._shards[tier] for data in shard.values())

    def promote(self, key: Key, source: str, to: str) -> None:
        data = self._data(key, source, "promotion")
        if not self._count(key, to):
            self._room(f"promotion of {key!r}", to, len(data))
            self._shards[to][0][key] = data
        self._moved(key)

    def demote(self, key: Key, source: str, to: str) -> None:
        self._check_pin(key, source)
        data = self._data(key, source, "demotion")
        if not self._count(key, to):
            self._room(f"demotion of {key!r}", to, len(data))
            self._shards[to][0][key] = data
        self._delete(key, source)
        self._moved(key)

    def drop(self, key: Key, tier: str) -> None:
        self._check_pin(key, tier)
        names = list(self._shards)
        if not any(self._count(key, colder) for colder in names[names.index(tier) + 1 :]):
            raise Refused(f"drop of {key!r}", f"no tier below {tier} holds it")
        self._delete(key, tier)
        self._moved(key)

    def copy(self, key: Key, tier: str, copies: int) -> None:
        data = self._data(key, tier, "copy")
        shards = self._shards[tier]
        if not 1 <= copies <= len(shards):
            raise Refused(f"copy of {key!r}", f"{copies} copies need as many shards, and {tier} has {len(shards)}")
        self._room(f"copy of {key!r}", tier, (copies - self._count(key, tier)) * len(data))
        for shard in shards:
            shard.pop(key, None)
        for shard in shards[:copies]:
            shard[key] = data

    def _moved(self, key: Key) -> None:
        self.observer.moved(key, self.holders(key), self._clock())

    def _count(self, key: Key, tier: str) -> int:
        return sum(key in shard for shard in self._shards[tier])

    def _held(self, key: Key, tier: str) -> int:
        return sum(len(shard.get(key, b"")) for shard in self._shards[tier])

    def _data(self, key: Key, tier: str, what: str) -> bytes:
        for shard in self._shards[tier]:
            if key in shard:
                return shard[key]
        raise Refused(f"{what} of {key!r}", f"{tier} does not hold it")

    def _delete(self, key: Key, tier: str) -> None:
        for shard in self._shards[tier]:
            shard.pop(key, None)

    def _check_pin(self, key: Key, tier: str) -> None:
        if (tier, key) in self._pins:
            raise Refused(f"move of {key!r}", f"a reader pins it in {tier}")

    def _room(self, what: str, tier: str, more: int) -> None:
        limit = self._limits.get(tier, float("inf"))
        if more > 0 and self.used(tier) + more > limit:
            raise Refused(what, f"{tier} has no room for {more} more bytes in {limit:.0f}")
