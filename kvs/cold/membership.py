"""That this machine uses a space of the object tier, and which epoch it has passed there: told there, remembered here.

Theory of operation
- A machine enters before it takes anything from the tier or counts anything as there. What is doomed at that moment it
  never counts as there, so it is as if it had passed that epoch already.
- `epoch` in the space's directory says which epoch the machine has passed and which objects are doomed by it. It is
  flushed before the machine's seal is put. All processes of the machine read it each time before they decide what need
  not be put; who writes it holds `epoch-lock`.
- A machine that does not pass an epoch for half a lease may be dismissed by others, and when half a lease has gone
  since, retired. So one that has not looked for nearly as long (`_LOOK`) looks whether it was dismissed, and then
  enters anew. A lease is a length of time on each machine's own clock: clocks need not agree, only run at one speed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from kvs import seal
from kvs.errors import StoreUnusable
from kvs.tiers.epochs import Epochs, Member, machine_name
from kvs.tiers.files import read, sync_folder, write_private
from kvs.tiers.node import translated
from kvs.tiers.object import ObjectTier
from kvs.tiers.protocol import Tier

FILE, LOCK, CHECKED = "epoch", "epoch-lock", "epoch-checked"
_WAIT_S = 0.02
_LOOK = 0.4
"""Of a lease; what is left of its half is for clocks that run slow, and for a push that began before."""


class Mark(NamedTuple):
    """What the file says: this life of the machine, the epoch that it has passed and what is not counted as there; the
    open epoch that it saw last, and since when (seconds of this machine's clock); since when which machines have been
    dismissed, as far as it knows."""

    incarnation: int
    epoch: int
    doomed: tuple[str, ...]
    seen: int
    seen_s: float
    dismissed_s: dict[str, float] = {}  # noqa: RUF012  # never changed


def as_passed(tier: Tier, mark: Mark | None) -> Tier:
    """The tier as a machine sees it that has passed what `mark` says; a tier where no garbage is collected as it is."""
    return tier.passed(mark.epoch, mark.doomed) if mark is not None and isinstance(tier, ObjectTier) else tier


def is_doomed(directory: str, digest: bytes) -> bool:
    """Whether an object of that blob does not count as there."""
    mark = read_mark(directory)
    return mark is not None and any(name.startswith(digest.hex()) for name in mark.doomed)


def enter(directory: str, key: bytes, tier: Tier, *, now_s: float, lease_s: float, end_s: float) -> None:
    """Have this machine known in the tier, if that is one where garbage is collected; usually without a request.

    Raises:
        TierUnreachable, TierRefused: it could not be said. StoreUnusable: another process does it, and does not finish.
    """
    while isinstance(tier, ObjectTier) and not _is_checked(directory, now_s, lease_s):
        with locked(directory) as is_locked:
            if is_locked:
                renew(directory, tier.epochs(key), now_s)
                return
        if time.monotonic() >= end_s:
            raise busy(directory)
        time.sleep(_WAIT_S)  # a collector does it as the first thing


def renew(directory: str, epochs: Epochs, now_s: float) -> Mark:
    """Enter, unless we have and were not retired; for who holds the lock."""
    mark, name = read_mark(directory), machine_of(directory)
    if mark is not None:
        newest, is_retired = epochs.newest_of(name)
        if is_retired or newest.incarnation != mark.incarnation:
            mark = None
    if mark is None:
        member = epochs.enter(name)
        epoch = epochs.newest()
        names = () if epoch.is_done else tuple(one.name for one in epochs.doomed(epoch.number))
        mark = Mark(member.incarnation, epoch.number, names, epoch.number, now_s)
        write_mark(directory, mark)
    _write(f"{directory}/{CHECKED}", b"%f" % now_s)
    return mark


def member_of(directory: str, mark: Mark) -> Member:
    return Member(machine_of(directory), mark.incarnation)


def machine_of(directory: str) -> str:
    """The id of the store that has its space there, as `store` gives it to the lanes."""
    said = json.loads(read(f"{os.path.dirname(os.path.dirname(directory))}/FORMAT"))
    return machine_name(str(said["id"]).encode())


def _is_checked(directory: str, now_s: float, lease_s: float) -> bool:
    try:
        checked_s = float(read(f"{directory}/{CHECKED}"))
    except (FileNotFoundError, ValueError):
        return False
    return 0.0 <= now_s - checked_s < _LOOK * lease_s and read_mark(directory) is not None


def read_mark(directory: str) -> Mark | None:
    """None if there is none, or none that can be read: the machine then enters anew."""
    try:
        data = read(f"{directory}/{FILE}")
        if not seal.same(data[: seal.DIGEST_SIZE], seal.digest(data[seal.DIGEST_SIZE :])):
            return None
        return msgspec.msgpack.decode(data[seal.DIGEST_SIZE :], type=Mark)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_mark(directory: str, mark: Mark) -> None:
    """On the disk when this returns."""
    data = msgspec.msgpack.encode(mark)
    _write(f"{directory}/{FILE}", seal.digest(data) + data)


def _write(path: str, data: bytes) -> None:
    temporary = f"{path}-{os.getpid()}-{os.urandom(4).hex()}"

    def act() -> None:
        try:
            write_private(temporary, data)
            os.rename(temporary, path)
            sync_folder(os.path.dirname(path))
        finally:
            Path(temporary).unlink(missing_ok=True)

    translated(path, act)


@contextmanager
def locked(directory: str) -> Iterator[bool]:
    """Whether no other process of this machine writes the mark until the end of the block; waits for nobody."""
    path = f"{directory}/{LOCK}"
    fd = translated(path, lambda: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def busy(directory: str) -> StoreUnusable:
    return StoreUnusable(directory, "another process is busy with its cold tier", "Try again when that is done.")
