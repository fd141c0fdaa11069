"""A space out of a colder tier, on a machine that does not have it yet.

Its lanes are made aside, authenticated record by record, flushed, and appear at once; a crash before leaves nothing
that would be taken for a space. They are read and never written here: whoever wrote them may still live, and the next
writer takes a lane of its own. Blobs stay where they are until somebody wants them.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from kvs import records, seal
from kvs.causal import Dot
from kvs.cold.membership import enter
from kvs.errors import BlobDamaged, NotAuthentic, StoreDamaged, StoreFull, StoreUnusable
from kvs.recovery import boot_id
from kvs.settings import Settings
from kvs.tiers.blobs import Blobs, refs_from_bytes
from kvs.tiers.files import write_private
from kvs.tiers.node import LaneLog, sync_folder
from kvs.tiers.protocol import Record, Tier

RETIRED, RESTORED = "retired", "restored"
"""The files in a lane's directory that say: it is written no more; another machine writes it, and we only read it."""


def restore_space(
    name: str, directory: str, key: bytes, tier: Tier, *, lease_s: float = Settings().cold_lease_s
) -> bool:
    """Make the space at `directory` from `tier`; False if it has none of it, or another process was faster.

    Raises:
        TierUnreachable, TierRefused, TierDamaged, StoreForeign: nothing was made.
        NotAuthentic: a record is not by a holder of this store's key; nothing was made.
    """
    lanes = tier.lanes()
    if not lanes:
        return False
    parent, base = os.path.split(directory)
    _drop_abandoned(parent)
    aside = f"{parent}/.restore-{os.getpid()}-{os.urandom(4).hex()}-{base}"
    try:
        for folder in (aside, f"{aside}/lanes", f"{aside}/blobs"):
            os.makedirs(folder, 0o700)
        enter(aside, key, tier, now_s=time.time(), lease_s=lease_s, end_s=time.monotonic())  # before a look at lanes
        for lane in lanes:
            _restore_lane(f"{aside}/lanes/{lane}", lane, key, tier)
        write_private(f"{aside}/name", seal.name_bytes(name))
        write_private(f"{aside}/boot", boot_id())
        for folder in (f"{aside}/lanes", f"{aside}/blobs", aside):
            sync_folder(folder)
        return _appear(aside, directory)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(parent) from e
        raise StoreUnusable(parent, e.strerror or str(e), "Give its owner write permission.") from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _appear(aside: str, directory: str) -> bool:
    try:
        os.rename(aside, directory)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync_folder(os.path.dirname(directory))
    return True


def _restore_lane(folder: str, lane: int, key: bytes, tier: Tier) -> None:
    os.mkdir(folder, 0o700)
    log = LaneLog(f"{folder}/log.sqlite", writable=True)
    try:
        for record in tier.read(lane):
            check_record(key, lane, record, tier.name)
            log.insert(record.commit, record.rows)
    finally:
        log.close()  # the last to close it, so that all of it is in the database, flushed
    for marker in (RETIRED, RESTORED):
        write_private(f"{folder}/{marker}", b"")
    sync_folder(folder)


def check_record(key: bytes, lane: int, record: Record, where: str) -> None:
    """Do nothing if it was written by who holds the key.

    Raises:
        NotAuthentic: it was not.
    """
    authentic = records.has_authentic_note(key, lane, record.commit) and all(
        records.is_authentic_entry(key, lane, record.commit, row) and row.n == record.n for row in record.rows
    )
    if not authentic:
        raise NotAuthentic(f"commit {Dot(lane, record.n)} in {where}")


def claim_lane(directory: str, lane: int, owner: bytes, tier: Tier) -> bool:
    """Whether the lane is this store's in `tier` too; asked once. A lane of another is marked as one to leave alone."""
    folder = f"{directory}/lanes/{lane}"
    mark = Path(f"{folder}/claimed")
    if mark.exists():
        return True
    if tier.claim(lane, owner) == owner:
        write_private(str(mark), b"")
        return True
    log = LaneLog(f"{folder}/log.sqlite", writable=True)  # made if there is none: else each reader would wait for it
    try:
        is_empty = log.last() == 0
    finally:
        log.close()
    for marker in (RETIRED, RESTORED) if is_empty else (RETIRED,):  # what we wrote is pushed, and found to clash
        write_private(f"{folder}/{marker}", b"")
    return False


def fetch_blobs(directory: str, lanes: Iterable[int], tier: Tier) -> None:
    """Fetch every blob that a lane names and that is not here; one that `tier` does not have whole stays missing.

    Raises:
        TierUnreachable, TierRefused: some were not fetched.
    """
    blobs = Blobs(f"{directory}/blobs", tier.get_blob)
    for path in filter(os.path.exists, (f"{directory}/lanes/{lane}/log.sqlite" for lane in lanes)):
        try:
            log = LaneLog(path, writable=False)
        except StoreDamaged:  # whoever repairs it names it
            continue
        try:
            named = {ref for data in log.blob_lists() for ref in refs_from_bytes(data)}
        except StoreDamaged:
            continue
        finally:
            log.close()
        for ref in sorted(named):
            try:
                blobs.open(ref).release()
            except BlobDamaged:
                continue


def _drop_abandoned(parent: str) -> None:
    """What restores left whose processes are gone."""
    for entry in os.scandir(parent):
        if entry.name.startswith(".restore-"):
            try:
                os.kill(int(entry.name.split("-")[1]), 0)
            except ProcessLookupError:
                shutil.rmtree(entry.path, ignore_errors=True)
            except PermissionError:  # a live process of another user
                continue
