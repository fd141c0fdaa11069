"""What other machines pushed to the cold tier, joined into a space that is here already, while all of them write.

Theory of operation
- Lanes that other machines write are copies here: read, never written, and grown by a pull, record by record. Each is
  authenticated first. Nobody waits: two pulls of one lane at once append the same, and the second finds it there.
- A record is appended only when all that its writer had seen is here. So whoever reads in the middle of a pull sees a
  state that there was. Machines push lane by lane, so some of it may not be there yet: what needs it waits for the next
  pull, and is counted as `waiting`.
- Rows that were collected are not in the tier. So records of a lane are appended together with what replaced their
  rows: nobody here sees a key whose value is gone and whose next one has not come. Where lanes wait for each other in
  the middle of that, they are taken one by one, and such a key is refused until the next one has come.
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

from kvs import records, seal
from kvs.causal import VersionVector
from kvs.cold.membership import enter
from kvs.errors import KvsError, LaneLost, NotAuthentic, StoreForeign
from kvs.restore import RESTORED, RETIRED, check_record
from kvs.settings import Settings
from kvs.tiers.failures import TierDamaged, TierUnreachable
from kvs.tiers.files import write_private
from kvs.tiers.node import LaneLog, sync_folder
from kvs.tiers.protocol import Record, Tier

_MOST = 10_000
"""Records of a group: where rows are not collected but lost, nothing would end it."""


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
                lane, length = ready
                group = heads.take(lane, length)
                count += _appended(logs[lane], group)
                have[lane] = group[-1].n
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
    """The next records of each lane, authenticated. A lane that fails has none any more; the others go on."""

    def __init__(self, found: dict[int, Iterator[Record]], key: bytes, where: str) -> None:
        self._found, self._key, self._where = found, key, where
        self._read: dict[int, list[Record]] = {}
        """Of each lane what was read and not taken: a group, or what is left of one."""
        self._met: dict[int, int] = {}
        """How many of these need nothing that is not here, as far as was looked: what is here stays."""
        self.failures: list[KvsError] = []
        for lane in found:
            self._advance(lane)

    @property
    def waiting(self) -> int:
        return len(self._read)

    def ready(self, have: Mapping[int, int], accept_gaps: bool) -> tuple[int, int] | None:
        """A lane, and how many of its next records need nothing that is not here: a group, else a part of one; with
        `accept_gaps`, else the oldest record that there is."""
        parts: list[tuple[int, int]] = []
        for lane, group in self._read.items():
            length = self._met[lane]
            while length < len(group) and _is_met(group[length], lane, have):
                length += 1
            self._met[lane] = length
            if length == len(group):
                return lane, length
            parts.append((length, lane))
        length, lane = max(parts, default=(0, 0))
        if length:
            return lane, length
        if accept_gaps and self._read:
            return min(self._read, key=lambda lane: (self._read[lane][0].commit.hlc, lane)), 1
        return None

    def take(self, lane: int, length: int) -> list[Record]:
        group = self._read.pop(lane)
        if left := group[length:]:
            self._read[lane], self._met[lane] = left, 0
        else:
            self._advance(lane)
        return group[:length]

    def _advance(self, lane: int) -> None:
        """Read the next group: up to where each row that is missing was written again; one record if none was."""
        group: list[Record] = []
        missing: set[bytes] = set()
        try:
            while (record := next(self._found[lane], None)) is not None:
                check_record(self._key, lane, record, self._where)
                group.append(record)
                there = {seal.key_mark(row.key) for row in record.rows}
                missing = (missing | set(records.split_marks(record.commit.marks))) - there
                if not missing or len(group) >= _MOST:
                    break
        except (NotAuthentic, TierDamaged, StoreForeign) as e:
            self.failures.append(e)
        if group:
            self._read[lane], self._met[lane] = group, 0


def _is_met(record: Record, lane: int, have: Mapping[int, int]) -> bool:
    context = VersionVector.from_bytes(record.commit.context)
    return all(other == lane or have.get(other, 0) >= n for other, n in context)


def _appended(log: LaneLog, group: list[Record]) -> int:
    """How many were appended; those that another pull was faster with were not."""
    try:
        log.insert_all(group)
        return len(group)
    except LaneLost:
        last = log.last()
        left = [record for record in group if record.n > last]
        return _appended(log, left) if left and len(left) < len(group) else 0


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
