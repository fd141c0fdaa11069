"""A mirror that runs by itself: pushes, pulls and collects at intervals, in a thread of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvs.errors import KvsError
from kvs.mirror import Mirror, Pushed
from kvs.tiers.failures import TierUnreachable

if TYPE_CHECKING:
    from kvs.cold.collector import ColdCollected, ColdCollector
    from kvs.pull import Puller


@dataclass(frozen=True, slots=True)
class MirrorState:
    """How a background mirror is doing: turns that ended, commits that were pulled, what the last turn failed with;
    what the last collection in the cold tier did, and what it failed with."""

    pushes: int
    failure: KvsError | None
    pulled: int = 0
    collected: ColdCollected | None = None
    uncollected: KvsError | None = None


class BackgroundMirror:
    """A mirror with a thread of its own, which pushes, and pulls if it was given a `puller`, until it is closed.

    It waits `every_s` seconds between two turns. With a `collector`, the first turn after each `collect_every_s`
    collects garbage in the tier too; should that fail, `state` tells it, and it is tried again as late.

    A tier that cannot be reached is tried again at the next turn. Any other failure ends the thread, and `close` raises
    it; `state` tells it before.
    """

    def __init__(
        self,
        mirror: Mirror,
        *,
        every_s: float = 1.0,
        push_deadline_s: float = 60.0,
        puller: Puller | None = None,
        collector: ColdCollector | None = None,
        collect_every_s: float = 3600.0,
    ) -> None:
        self._mirror, self._every_s, self._push_deadline_s = mirror, every_s, push_deadline_s
        self._puller, self._collector, self._collect_every_s = puller, collector, collect_every_s
        self._collected_s = time.monotonic()
        self._closing = threading.Event()
        self._state = MirrorState(0, None)
        self._thread = threading.Thread(target=self._run, name="kvs mirror", daemon=True)
        self._thread.start()

    @property
    def state(self) -> MirrorState:
        return self._state

    def close(self, *, deadline_s: float = 60.0) -> Pushed:
        """End the thread, and push what is left.

        Raises:
            KvsError: not all is in the tier; see `Mirror.push`. The thread has ended, or ends with its request.
        """
        end_s = time.monotonic() + deadline_s
        self._closing.set()
        self._thread.join(deadline_s)
        failure = self._state.failure
        if failure is not None and not isinstance(failure, TierUnreachable):
            raise failure
        return self._mirror.push(deadline_s=max(0.0, end_s - time.monotonic()))

    def __enter__(self) -> BackgroundMirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing.wait(self._every_s):
            state = self._state
            try:
                self._mirror.push(deadline_s=self._push_deadline_s)
                pulled = self._puller.pull(deadline_s=self._push_deadline_s).commits if self._puller else 0
                self._state = replace(state, pushes=state.pushes + 1, failure=None, pulled=state.pulled + pulled)
                self._collect()
            except KvsError as e:
                self._state = replace(state, failure=e)
                if not isinstance(e, TierUnreachable):
                    return

    def _collect(self) -> None:
        if self._collector is None or time.monotonic() - self._collected_s < self._collect_every_s:
            return
        self._collected_s = time.monotonic()
        try:
            collected = self._collector.collect(now_s=time.time())
            self._state = replace(self._state, collected=collected, uncollected=None)
        except KvsError as e:
            self._state = replace(self._state, uncollected=e)
