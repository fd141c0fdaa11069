"""What other machines pushed to the cold tier, joined into a space that is here already, while all of them write.

Theory of operation
- Lanes that other machines write are copies here: read, never written, and grown by a pull, record by record. Each is
  authenticated first. Nobody waits: two pulls of one lane at once append the same, and the second finds it there.
- A record is appended only when all that its writer had seen is here. So whoever reads in the middle of a pull sees a
  state that there was. Machines push lane by lane, so some of it may not be there yet: what needs it waits for the next
  pull, and is counted as `waiting`.
- What was pushed by a machine that then lost the rest may wait for ever. `accept_gaps` says that this is so.
- A pull that is killed leaves a prefix; the next goes on from there. Blobs stay where they are until they are wanted.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvs.causal import VersionVector
from kvs.cold.membership import enter
from kvs.errors import KvsError, LaneLost, NotAuthentic, StoreForeign
from kvs.restore import RESTORED, RETIRED, check_record
from kvs.settings import Settings
from kvs.tiers.failures import TierDamaged, TierUnreachable
from kvs.tiers.files import write_private
from kvs.tiers.node import LaneLog, sync_folder
from kvs.tiers.protocol import Record, Tier


class Pulled(NamedTuple):
    """Commits that were joined, and lanes of which more is in the tier that needs what is not there yet."""

    commits: int
    waiting: int


class Puller:
    """See the module. `pull` may be called from any thread, one runs at a time."""

    def __init__(self, directory: str, key: bytes, tier: Tier, *, lease_s: float = Settings().cold_lease_s) -> None:
        self._directory, self._key, self._tier, self._lease_s = directory, key, tier, lease_s
        self._pulling = threading.Lock()
        self._news = b""

    def pull(self, *, deadline_s: float = 60.0, accept_gaps: bool = False) -> Pulled:
        """Join what is in the tier and not here; one request where nothing is new since the last call.

        With `accept_gaps`, what waits for something that is not in the tier is taken too, and that is counted as lost.

        Raises:
            TierUnreachable: the deadline came first; what was joined stays. TierRefused: settings are wrong.
            NotAuthentic, TierDamaged, StoreForeign: a record is not by a holder of this store's key, damaged, or of a
            later format. Nothing of its lane from there on was taken, and nothing that needs it; all else was.
        """
        end_s = time.monotonic() + deadline_s
        if not self._pulling.acquire(timeout=deadline_s):
            raise TierUnreachable(self._tier.name, deadline_s, "another pull of this space is not finished")
        try:
            tier = self._tier.until(end_s)
            enter(self._directory, self._key, tier, now_s=time.time(), lease_s=self._lease_s, end_s=end_s)
            news = tier.news()
            if news == self._news and not accept_gaps:
                return Pulled(0, 0)
            pulled = self._join(tier, end_s, accept_gaps)
            self._news = news if not pulled.waiting else b""
            return pulled
        finally:
            self._pulling.release()

    def _join(self, tier: Tier, end_s: float, accept_gaps: bool) -> Pulled:
        have, logs, count = self._ends(), dict[int, LaneLog](), 0
        try:
            for lane in tier.lanes():
                if (log := self._foreign(lane)) is not None:
                    logs[lane], have[lane] = log, log.last()
            heads = _Heads({lane: tier.read(lane, have[lane]) for lane in logs}, self._key, tier.name)
            while ready := heads.ready(have, accept_gaps):
                if time.monotonic() >= end_s:
                    raise TierUnreachable(tier.name, 0.0, "the deadline came before everything was joined")
                lane = ready[0]
                record = heads.take(lane)
                count += _appended(logs[lane], record)
                have[lane] = record.n
            if heads.failures:
                raise heads.failures[0]
            return Pulled(count, heads.waiting)
        finally:
            for log in logs.values():
                log.close()

    def _ends(self) -> dict[int, int]:
        """Where each lane that is here ends."""
        ends = {}
        for name in os.listdir(f"{self._directory}/lanes"):
            if name.isdecimal() and os.path.exists(self._path(int(name))):
                log = LaneLog(self._path(int(name)), writable=False)
                try:
                    ends[int(name)] = log.last()
                finally:
                    log.close()
        return ends

    def _foreign(self, lane: int) -> LaneLog | None:
        """The log of a lane that another machine writes, made if there is none; None for a lane of our own."""
        folder = f"{self._directory}/lanes/{lane}"
        if not os.path.exists(f"{folder}/owner") and not os.path.exists(self._path(lane)):
            _make_lane(folder)
        if not os.path.exists(f"{folder}/{RESTORED}"):
            return None
        return LaneLog(self._path(lane), writable=True)

    def _path(self, lane: int) -> str:
        return f"{self._directory}/lanes/{lane}/log.sqlite"


class _Heads:
    """The next record of each lane, authenticated. A lane that fails has none any more; the others go on."""

    def __init__(self, found: dict[int, Iterator[Record]], key: bytes, where: str) -> None:
        self._found, self._key, self._where = found, key, where
        self._heads: dict[int, tuple[Record, VersionVector]] = {}
        self.failures: list[KvsError] = []
        for lane in found:
            self._advance(lane)

    @property
    def waiting(self) -> int:
        return len(self._heads)

    def ready(self, have: Mapping[int, int], accept_gaps: bool) -> list[int]:
        """A lane whose next record needs nothing that is not here, if there is one; with `accept_gaps`, the oldest."""
        for lane, (_, context) in self._heads.items():
            if all(other == lane or have.get(other, 0) >= n for other, n in context):
                return [lane]
        return sorted(self._heads, key=lambda lane: (self._heads[lane][0].commit.hlc, lane))[:1] if accept_gaps else []

    def take(self, lane: int) -> Record:
        record, _ = self._heads.pop(lane)
        self._advance(lane)
        return record

    def _advance(self, lane: int) -> None:
        try:
            record = next(self._found[lane], None)
            if record is not None:
                check_record(self._key, lane, record, self._where)
                self._heads[lane] = record, VersionVector.from_bytes(record.commit.context)
        except (NotAuthentic, TierDamaged, StoreForeign) as e:
            self.failures.append(e)


def _appended(log: LaneLog, record: Record) -> int:
    """1 if the record was appended, 0 if another pull was faster."""
    try:
        log.insert(record.commit, record.rows)
    except LaneLost:
        return 0
    return 1


def _make_lane(folder: str) -> None:
    """An empty lane that nobody here will write; it appears whole. One that appears meanwhile is left as it is."""
    parent, name = os.path.split(folder)
    aside = f"{parent}/.pull-{os.getpid()}-{os.urandom(4).hex()}-{name}"
    os.mkdir(aside, 0o700)
    try:
        LaneLog(f"{aside}/log.sqlite", writable=True).close()
        for marker in (RETIRED, RESTORED):
            write_private(f"{aside}/{marker}", b"")
        sync_folder(aside)
        os.rename(aside, folder)
        sync_folder(parent)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
