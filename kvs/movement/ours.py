"""The policy as a cache that the simulator can replay: the same observer, bids and `decide` as the actor's."""

from __future__ import annotations

from collections.abc import Iterable

from kvs.movement.bids import PERSON, Bidder, Terms
from kvs.movement.observer import Observer
from kvs.movement.policy import decide, displaced
from kvs.movement.samples import Budget, Key, Sample
from kvs.movement.simulator import Setting
from kvs.movement.traces import Access

DECIDE_S = 60.0


class Ours:
    """Decides on every tick, and at once for a key that was just touched and would get in."""

    def __init__(self, setting: Setting, terms: Terms = PERSON, name: str = "kvs, person") -> None:
        self.name = name
        self._tiers = (setting.fast, setting.home)
        self._terms = terms
        self._observer = Observer(setting.home.name)
        self._home = frozenset({setting.home.name})
        self._both = frozenset({setting.fast.name, setting.home.name})
        self._held: dict[Key, int] = {}
        self._standings: tuple[tuple[float, Key], ...] = ()
        self._decided_s = 0.0
        self.used_bytes = 0

    def holds(self, key: Key) -> bool:
        return key in self._held

    def access(self, access: Access) -> None:
        held = self._held.get(access.key)
        sample = self._observer.accessed(access.key, access.nbytes, access.at_s, write=access.write)
        if held is None:
            self._consider(sample, access.at_s)
        elif held != access.nbytes:
            self._held[access.key] = access.nbytes
            self.used_bytes += access.nbytes - held
            if self.used_bytes > self._tiers[0].nbytes:
                self._decide(access.at_s)

    def tick(self, now_s: float) -> Iterable[Key]:
        self._observer.refresh(now_s)
        if now_s - self._decided_s >= DECIDE_S:
            self._decide(now_s)
        return ()

    def _consider(self, sample: Sample, now_s: float) -> None:
        """A newcomer comes in if it outbids the rent, and as many of the lowest as have to leave for it."""
        bid = Bidder(self._tiers, self._terms, self._observer.model, now_s).bid(sample, 0)
        if bid < self._tiers[0].rent or not bid:
            return
        needed = self.used_bytes + sample.nbytes - self._tiers[0].nbytes
        victims = displaced(self._standings, needed, bid, self._frees)
        if victims is None:
            return
        for victim in victims:
            self._leave(victim, now_s)
        self._held[sample.key] = sample.nbytes
        self.used_bytes += sample.nbytes
        self._observer.moved(sample.key, self._both, now_s)

    def _frees(self, key: Key) -> int:
        sample = self._observer.sample(key)
        return self._held.get(key, 0) if sample is not None and sample.touched_s <= self._decided_s else 0

    def _decide(self, now_s: float) -> None:
        self._decided_s = now_s
        self._standings = ()
        if not self._held:
            return
        held = [sample for key in self._held if (sample := self._observer.sample(key)) is not None]
        plan = decide(held, self._tiers, Budget(), now_s=now_s, terms=self._terms, model=self._observer.model)
        self._standings = plan.standings[self._tiers[0].name]
        for move in plan.moves:
            self._leave(move.key, now_s)

    def _leave(self, key: Key, now_s: float) -> None:
        self.used_bytes -= self._held.pop(key)
        self._observer.moved(key, self._home, now_s)
