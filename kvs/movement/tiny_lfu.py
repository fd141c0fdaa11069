"""W-TinyLFU, size aware: a published policy to compare with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from kvs.movement.samples import Key
from kvs.movement.simulator import Setting
from kvs.movement.traces import Access


class WTinyLfu:
    """A window of 1 % (LRU) before a segmented LRU, which admits by frequency: the size-aware form.

    A candidate must be at least as frequent as all entries together that would have to leave for it ("aggregated
    victims"); the search stops as soon as that is lost, and the victims seen so far count as used. Frequencies come
    from a count-min sketch of 4-bit counters that are halved every ten times as many accesses as there are entries.
    Source: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", TOS 2017; Einziger et
    al., "Lightweight robust size aware cache management", TOS 2022, section 3.
    """

    name = "W-TinyLFU"

    def __init__(self, setting: Setting) -> None:
        limit = setting.fast.nbytes
        self._window_limit, self._main_limit = 0.01 * limit, 0.99 * limit
        self._window: OrderedDict[Key, int] = OrderedDict()
        self._probation: OrderedDict[Key, int] = OrderedDict()
        self._protected: OrderedDict[Key, int] = OrderedDict()
        self._bytes = [0, 0, 0]
        self._sketch = _Sketch()

    @property
    def used_bytes(self) -> int:
        return sum(self._bytes)

    def holds(self, key: Key) -> bool:
        return key in self._window or key in self._probation or key in self._protected

    def access(self, access: Access) -> None:
        key = access.key
        self._sketch.add(key, 10 * (len(self._window) + len(self._probation) + len(self._protected)))
        parts = (self._window, self._probation, self._protected)
        where = next((n for n, part in enumerate(parts) if key in part), None)
        if where is not None and parts[where][key] != access.nbytes:
            self._take(where, key)
            where = None
        if where == 0:
            self._window.move_to_end(key)
        elif where == 1:
            self._put(2, key, self._take(1, key))
            self._balance()
        elif where == 2:
            self._protected.move_to_end(key)
        elif access.nbytes > self._window_limit:
            self._offer(key, access.nbytes)
        else:
            self._put(0, key, access.nbytes)
            while self._bytes[0] > self._window_limit:
                self._offer(*self._oldest(0))

    def tick(self, now_s: float) -> Iterable[Key]:
        return ()

    def _offer(self, key: Key, nbytes: int) -> None:
        if nbytes > self._main_limit:
            return
        free = self._main_limit - self._bytes[1] - self._bytes[2]
        frequency, total = self._sketch.count(key), 0
        victims: list[tuple[int, Key]] = []
        for n, part in ((1, self._probation), (2, self._protected)):
            for victim, size in part.items():
                if nbytes <= free:
                    break
                victims.append((n, victim))
                free += size
                total += self._sketch.count(victim)
                if total > frequency:
                    for number, spared in victims:
                        (self._probation, self._protected)[number - 1].move_to_end(spared)
                    return
        for number, victim in victims:
            self._take(number, victim)
        self._put(1, key, nbytes)

    def _balance(self) -> None:
        while self._bytes[2] > 0.8 * self._main_limit:
            self._put(1, *self._oldest(2))

    def _put(self, number: int, key: Key, nbytes: int) -> None:
        (self._window, self._probation, self._protected)[number][key] = nbytes
        self._bytes[number] += nbytes

    def _take(self, number: int, key: Key) -> int:
        nbytes = (self._window, self._probation, self._protected)[number].pop(key)
        self._bytes[number] -= nbytes
        return nbytes

    def _oldest(self, number: int) -> tuple[Key, int]:
        key = next(iter((self._window, self._probation, self._protected)[number]))
        return key, self._take(number, key)


class _Sketch:
    """Four rows of counters up to 15; all are halved when as many accesses were added as `sample` says."""

    WIDTH = 1 << 14

    def __init__(self) -> None:
        self._rows = [bytearray(self.WIDTH) for _ in range(4)]
        self._places: dict[Key, tuple[int, ...]] = {}
        self._added = 0

    def add(self, key: Key, sample: int) -> None:
        places = self._place(key)
        low = self.count(key)
        if low < 15:
            for row, place in zip(self._rows, places, strict=True):
                if row[place] == low:
                    row[place] += 1
        self._added += 1
        if self._added >= max(1000, sample):
            self._added //= 2
            self._rows = [bytearray(value >> 1 for value in row) for row in self._rows]

    def count(self, key: Key) -> int:
        return min(row[place] for row, place in zip(self._rows, self._place(key), strict=True))

    def _place(self, key: Key) -> tuple[int, ...]:
        found = self._places.get(key)
        if found is None:
            digest = blake2b(key, digest_size=16).digest()
            found = tuple(int.from_bytes(digest[i : i + 4], "big") % self.WIDTH for i in range(0, 16, 4))
            self._places[key] = found
        return found
