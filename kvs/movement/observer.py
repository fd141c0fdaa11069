"""From accesses to samples: remembers keys for two hours, learns how soon they are read again, forgets the rest."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from kvs.movement.reuse import EDGES_S, PRIOR, Counts, ReuseModel, class_of
from kvs.movement.samples import Key, Sample

REFRESH_S = 180.0
WINDOW_S = 60.0


class Observer:
    """Holds the newest sample of each key that was touched lately; use from one thread at a time.

    At most `max_keys` are remembered (about 500 bytes each) after a refresh; those that were touched longest ago go
    first, unless a tier above the home still holds them: the policy must know what it pays for.
    """

    def __init__(self, home: str, *, max_keys: int = 100_000) -> None:
        self._home = frozenset({home})
        self._max_keys = max_keys
        self._samples: OrderedDict[Key, Sample] = OrderedDict()
        self._counted_s: dict[Key, float] = {}
        self._counts = Counts()
        self._refreshed_s = -math.inf
        self._model: ReuseModel | None = PRIOR

    @property
    def model(self) -> ReuseModel:
        """What was learned up to the last refresh; made when it is asked for."""
        if self._model is None:
            self._model = self._counts.model()
        return self._model

    def sample(self, key: Key) -> Sample | None:
        return self._samples.get(key)

    def samples(self) -> Iterable[Sample]:
        return self._samples.values()

    def accessed(self, key: Key, nbytes: int, now_s: float, *, write: bool = False) -> Sample:
        """The key's new sample. A key that was not known is in the home tier."""
        old = self._samples.pop(key, None)
        if old is None:
            new = Sample(key, nbytes, self._home, now_s, float(not write), float(write), WINDOW_S)
        else:
            gap_s = self._count(old, now_s, read=not write)
            fade = math.exp(-gap_s / WINDOW_S)
            new = replace(
                old,
                nbytes=nbytes,
                touched_s=now_s,
                reads=old.reads * fade + (not write),
                writes=old.writes * fade + write,
                seen=old.seen + 1,
                gap_s=math.sqrt(old.gap_s * gap_s) if old.gap_s else gap_s,
            )
        self._counted_s[key] = now_s
        self._samples[key] = new
        return new

    def moved(self, key: Key, tiers: frozenset[str], now_s: float) -> None:
        """The key is now in these tiers, and in no others."""
        old = self._samples.get(key)
        if old is not None:
            self._samples[key] = replace(old, tiers=tiers, moved_s=now_s)

    def placed(self, key: Key, tiers: frozenset[str]) -> None:
        """The access that was noted last put the key into these tiers; that is no move."""
        self._samples[key] = replace(self._samples[key], tiers=tiers)

    def forget(self, key: Key) -> None:
        """The key was deleted."""
        self._samples.pop(key, None)
        self._counted_s.pop(key, None)

    def refresh(self, now_s: float) -> None:
        """Count the time that passed without reads, learn from it, and forget what is old; every three minutes does."""
        if 0 <= now_s - self._refreshed_s < REFRESH_S:
            return
        if math.isfinite(self._refreshed_s):
            self._counts.decay(now_s - self._refreshed_s)
        self._refreshed_s = now_s
        surplus = len(self._samples) - self._max_keys
        old = []
        for n, (key, sample) in enumerate(self._samples.items()):
            if now_s - self._counted_s[key] > 0.25 * (now_s - sample.touched_s):  # what is old ages slowly
                self._count(sample, now_s, read=False)
            if (n < surplus or now_s - sample.touched_s > EDGES_S[-1]) and sample.tiers <= self._home:
                old.append(key)
        for key in old:
            self.forget(key)
        self._model = None

    def _count(self, sample: Sample, now_s: float, *, read: bool) -> float:
        """Record the ages that were passed since it was counted last; returns the age, a little above 0 at least."""
        row, age_s = class_of(sample), max(1e-3, now_s - sample.touched_s)
        self._counts.exposed(row, self._counted_s[sample.key] - sample.touched_s, age_s)
        self._counted_s[sample.key] = now_s
        if read:
            self._counts.read(row, age_s)
        return age_s
