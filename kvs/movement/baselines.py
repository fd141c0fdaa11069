"""Published policies to compare with, each as its paper has it, with bytes in place of slots.

All of them are given the same accesses as ours. An entry that is larger than the whole tier is never admitted. None of
them knows rent: what they hold is paid for.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from kvs.movement.samples import Key
from kvs.movement.simulator import Setting
from kvs.movement.tiny_lfu import WTinyLfu
from kvs.movement.traces import Access


class Lru:
    """Evict what was not used for longest."""

    name = "LRU"

    def __init__(self, setting: Setting) -> None:
        self._limit = setting.fast.nbytes
        self._entries: OrderedDict[Key, int] = OrderedDict()
        self.used_bytes = 0

    def holds(self, key: Key) -> bool:
        return key in self._entries

    def access(self, access: Access) -> None:
        self.used_bytes -= self._entries.pop(access.key, 0)
        if access.nbytes > self._limit:
            return
        self._entries[access.key] = access.nbytes
        self.used_bytes += access.nbytes
        while self.used_bytes > self._limit:
            self.used_bytes -= self._entries.popitem(last=False)[1]

    def tick(self, now_s: float) -> Iterable[Key]:
        return ()


class S3Fifo:
    """Three queues: a small one of a tenth, the main one, and a ghost of keys that the small one let go,
    of as many bytes as the main one may hold.

    Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1.
    """

    name = "S3-FIFO"

    def __init__(self, setting: Setting) -> None:
        self._limit = setting.fast.nbytes
        self._small: OrderedDict[Key, int] = OrderedDict()
        self._main: OrderedDict[Key, int] = OrderedDict()
        self._ghost: OrderedDict[Key, int] = OrderedDict()
        self._count: dict[Key, int] = {}
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self._small_bytes + self._main_bytes

    def holds(self, key: Key) -> bool:
        return key in self._count

    def access(self, access: Access) -> None:
        if access.key in self._count:
            if access.write and access.nbytes != self._main.get(access.key, self._small.get(access.key)):
                self._resize(access)
            else:
                self._count[access.key] = min(3, self._count[access.key] + 1)
        elif access.nbytes <= self._limit:
            self._make_room(access.nbytes)
            self._insert(access, to_main=access.key in self._ghost)

    def tick(self, now_s: float) -> Iterable[Key]:
        return ()

    def _insert(self, access: Access, *, to_main: bool) -> None:
        self._ghost_bytes -= self._ghost.pop(access.key, 0)
        self._count[access.key] = 0
        if to_main:
            self._main[access.key] = access.nbytes
            self._main_bytes += access.nbytes
        else:
            self._small[access.key] = access.nbytes
            self._small_bytes += access.nbytes

    def _resize(self, access: Access) -> None:
        was_main = access.key in self._main
        count = self._count.pop(access.key)
        self._small_bytes -= self._small.pop(access.key, 0)
        self._main_bytes -= self._main.pop(access.key, 0)
        if access.nbytes <= self._limit:
            self._make_room(access.nbytes)
            self._insert(access, to_main=was_main)
            self._count[access.key] = min(3, count + 1)

    def _make_room(self, nbytes: int) -> None:
        while self.used_bytes + nbytes > self._limit:
            if self._small and (self._small_bytes >= 0.1 * self._limit or not self._main):
                self._evict_small()
            else:
                self._evict_main()

    def _evict_small(self) -> None:
        key, nbytes = self._small.popitem(last=False)
        self._small_bytes -= nbytes
        if self._count[key] > 1:
            self._count[key] = 0
            self._main[key] = nbytes
            self._main_bytes += nbytes
            return
        del self._count[key]
        self._ghost[key] = nbytes
        self._ghost_bytes += nbytes
        while self._ghost_bytes > 0.9 * self._limit:
            self._ghost_bytes -= self._ghost.popitem(last=False)[1]

    def _evict_main(self) -> None:
        while True:
            key, nbytes = self._main.popitem(last=False)
            if self._count[key] == 0:
                self._main_bytes -= nbytes
                del self._count[key]
                return
            self._count[key] -= 1
            self._main[key] = nbytes


class Gdsf:
    """Greedy-dual with size and frequency: priority = clock + frequency x cost / size; evict the lowest.

    The cost is the dollars of a miss (the paper leaves it open).
    Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching policy", 1998.
    """

    name = "GDSF"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._limit = setting.fast.nbytes
        self._entries: dict[Key, tuple[float, int, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._clock = 0.0
        self._turn = 0
        self.used_bytes = 0

    def holds(self, key: Key) -> bool:
        return key in self._entries

    def access(self, access: Access) -> None:
        _, frequency, nbytes = self._entries.pop(access.key, (0.0, 0, 0))
        self.used_bytes -= nbytes
        if access.nbytes > self._limit:
            return
        while self.used_bytes + access.nbytes > self._limit:
            self._evict()
        priority = self._clock + (frequency + 1) * miss_usd(self._setting, access.nbytes) / max(1, access.nbytes)
        self._entries[access.key] = priority, frequency + 1, access.nbytes
        self.used_bytes += access.nbytes
        self._turn += 1
        heapq.heappush(self._heap, (priority, self._turn, access.key))

    def tick(self, now_s: float) -> Iterable[Key]:
        return ()

    def _evict(self) -> None:
        while True:
            priority, _, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is not None and entry[0] == priority:
                self._clock = priority
                self._drop(key)
                return

    def _drop(self, key: Key) -> None:
        self.used_bytes -= self._entries.pop(key)[2]


class GdsfRent(Gdsf):
    """GDSF whose entries leave when they have been paid for: after frequency x cost of a miss / rent, at most 2 h.

    Entries above 1 % of the tier are refused while the byte hit rate is below 0.7. A rule of ours, to compare with.
    """

    name = "GDSF + rent"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._expiry: list[tuple[float, int, Key]] = []
        self._until: dict[Key, float] = {}
        self._hit_bytes = self._read_bytes = 0.0

    def access(self, access: Access) -> None:
        hit = self.holds(access.key)
        if not access.write:
            self._read_bytes = 0.999 * self._read_bytes + access.nbytes
            self._hit_bytes = 0.999 * self._hit_bytes + (access.nbytes if hit else 0)
        small = self._hit_bytes < 0.7 * self._read_bytes
        if small and not hit and access.nbytes > 0.01 * self._limit:
            return
        super().access(access)
        if self.holds(access.key):
            frequency = self._entries[access.key][1]
            rent = self._setting.fast.rent * max(1, access.nbytes)
            keep_s = min(7200.0, frequency * miss_usd(self._setting, access.nbytes) / rent) if rent else 7200.0
            self._until[access.key] = access.at_s + keep_s
            heapq.heappush(self._expiry, (access.at_s + keep_s, self._turn, access.key))

    def tick(self, now_s: float) -> Iterable[Key]:
        while self._expiry and self._expiry[0][0] <= now_s:
            _, _, key = heapq.heappop(self._expiry)
            if key in self._entries and self._until[key] <= now_s:
                self._drop(key)
        return ()


class Anna:
    """Thresholds at a fixed period: promote at 2 accesses in 60 s, demote below 1, and the coldest while it is full.

    New keys start in memory (replication vector <1, k>). The monitor runs every 30 s.
    Source: Wu et al., "Autoscaling Tiered Cloud Storage in Anna", VLDB 2019, table 2 and section 4.2; the period is the
    public code's.
    """

    name = "Anna"
    PERIOD_S, WINDOW_S, PROMOTE = 30.0, 60.0, 2

    def __init__(self, setting: Setting) -> None:
        self._limit = setting.fast.nbytes
        self._entries: dict[Key, int] = {}
        self._sizes: dict[Key, int] = {}
        self._recent: deque[tuple[float, Key]] = deque()
        self._counts: dict[Key, int] = {}
        self._monitored_s = 0.0
        self.used_bytes = 0

    def holds(self, key: Key) -> bool:
        return key in self._entries

    def access(self, access: Access) -> None:
        is_new = access.key not in self._sizes
        self._sizes[access.key] = access.nbytes
        self._recent.append((access.at_s, access.key))
        self._counts[access.key] = self._counts.get(access.key, 0) + 1
        held = self._entries.pop(access.key, None)
        self.used_bytes -= held or 0
        if (held is not None or (is_new and access.write)) and self.used_bytes + access.nbytes <= self._limit:
            self._hold(access.key)

    def tick(self, now_s: float) -> Iterable[Key]:
        if now_s - self._monitored_s < self.PERIOD_S:
            return ()
        self._monitored_s = now_s
        while self._recent and self._recent[0][0] < now_s - self.WINDOW_S:
            _, key = self._recent.popleft()
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
        for key in [key for key in self._entries if key not in self._counts]:
            self.used_bytes -= self._entries.pop(key)
        hot = [key for key, count in self._counts.items() if count >= self.PROMOTE and key not in self._entries]
        return [key for key in sorted(hot, key=lambda k: (-self._counts[k], k)) if self._promoted(key)]

    def _promoted(self, key: Key) -> bool:
        """Room is made by those that are accessed less, coldest first."""
        nbytes, free = self._sizes[key], self._limit - self.used_bytes
        if nbytes > free:
            victims = []
            for other in sorted(self._entries, key=lambda k: (self._counts.get(k, 0), k)):
                if self._counts.get(other, 0) >= self._counts[key] or nbytes <= free:
                    break
                victims.append(other)
                free += self._entries[other]
            if nbytes > free:
                return False
            for victim in victims:
                self.used_bytes -= self._entries.pop(victim)
        self._hold(key)
        return True

    def _hold(self, key: Key) -> None:
        self._entries[key] = self._sizes[key]
        self.used_bytes += self._sizes[key]


def miss_usd(setting: Setting, nbytes: int) -> float:
    """Dollars that a miss costs above a hit: requests and a waiting worker."""
    home, fast = setting.home, setting.fast
    waited = (home.read_s(nbytes) - fast.read_s(nbytes)) * setting.worker_usd_per_s
    return max(0.0, home.read_usd(nbytes) - fast.read_usd(nbytes) + waited)


BASELINES: tuple[Callable[[Setting], Lru | S3Fifo | WTinyLfu | Gdsf | Anna], ...] = (
    Lru,
    S3Fifo,
    WTinyLfu,
    Gdsf,
    GdsfRent,
    Anna,
)
