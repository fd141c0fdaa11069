"""A session: one notebook's names and their history, found by name in the store and held by one worker at a time.

Opening one fences what a dead kernel left. A worker that outlived its front for a moment could still commit a cell
that its user was told is lost. So a lane whose holder belongs to a dead front is taken over first: its holder is
killed (it is ours, and nobody can hear it), and the lane is free when the system has released its lock.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path

import msgspec

import kvs
from lambdakernel.errors import BadSetting
from lambdakernel.settings import Settings, default_store, session_name

FRESH = "fresh-"
"""Prefix of sessions that nobody named: they end with their kernel."""
TAKEOVER_DEADLINE_S = 3.0
FRESH_KEPT_S = 24 * 3600.0
"""Seconds that an unnamed session outlives a kernel that was killed, so that Jupyter can restart it."""


class Opened(msgspec.Struct, frozen=True):
    """A session that this process holds: its place in the store, and the replica that writes it."""

    name: str
    space: kvs.Space
    replica: kvs.Replica
    fresh: bool

    def close(self, *, forget: bool = False) -> None:
        """Release the lane; with `forget`, delete a session that nobody named."""
        self.replica.close()
        if forget and self.fresh:
            self.space.delete()


class Identity(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int
    """Clock ticks from the machine's start to the process's."""

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The process `pid` as it is now; `started` is 0 if there is none."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return cls(pid, 0)
        fields = stat.rpartition(")")[2].split()
        return cls(pid, 0 if fields[0] in "ZX" else int(fields[19]))

    def is_alive(self) -> bool:
        return self.started != 0 and Identity.of(self.pid) == self


def name_of(settings: Settings, environ: Mapping[str, str], connection_key: str) -> str:
    """The session's name; a fresh one is the same after Jupyter restarts a kernel that died, and no other kernel's."""
    return session_name(settings, environ, FRESH + blake2s(connection_key.encode(), digest_size=12).hexdigest())


def space_of(settings: Settings, environ: Mapping[str, str], name: str) -> kvs.Space:
    """The session's place in the store.

    Raises:
        kvs.KvsError: the store cannot be used; says what to do.
    """
    return _store(settings, environ).space(name)


def _store(settings: Settings, environ: Mapping[str, str]) -> kvs.Store:
    """The store, with what `KVS_*` says of it; what is acknowledged when is our setting to make."""
    try:
        chosen = kvs.settings_from_env(environ)._replace(durability=settings.durability)
        return kvs.open(settings.store or default_store(environ), settings=chosen)
    except ValueError as e:
        raise BadSetting("store", settings.store or "its default", f"a store that can be opened: {e}") from e


def hold(space: kvs.Space, name: str, front_pid: int) -> Opened:
    """Hold the session as a worker of the front `front_pid`.

    Raises:
        kvs.KvsError: the store cannot be used, or a lane cannot be taken over; says what to do.
    """
    take_over(space)
    us, front = Identity.of(os.getpid()), Identity.of(front_pid)
    owner = {"pid": us.pid, "started": us.started, "front": front.pid, "front_started": front.started}
    return Opened(name, space, space.replica(owner=owner), name.startswith(FRESH))


def sweep(settings: Settings, environ: Mapping[str, str], now_s: float) -> list[str]:
    """Delete sessions that nobody named and whose kernel was killed long ago; the names of those deleted.

    A named session is never touched, nor one that a live process holds.
    """
    store = _store(settings, environ)
    stale = [s for s in store.spaces() if s.name.startswith(FRESH) and now_s - s.modified_s > FRESH_KEPT_S]
    deleted = []
    for info in stale:
        try:
            store.space(info.name).delete()
        except kvs.SpaceHeld:
            continue
        deleted.append(info.name)
    return deleted


def take_over(space: kvs.Space) -> None:
    """Free every lane whose holder's front is dead; one whose front lives is left alone."""
    end = time.monotonic() + TAKEOVER_DEADLINE_S
    for lane in space.lanes():
        holder, front = holder_and_front(lane.owner)
        if lane.held and not front.is_alive():
            _kill(holder)
            _wait_until_free(space, lane.id, end)


def holder_and_front(owner: Mapping[str, str | int]) -> tuple[Identity, Identity]:
    def number(key: str) -> int:
        return int(owner.get(key, 0))

    return Identity(number("pid"), number("started")), Identity(number("front"), number("front_started"))


def _kill(process: Identity) -> None:
    if process.is_alive():
        try:
            os.kill(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _wait_until_free(space: kvs.Space, lane: int, end: float) -> None:
    """Until the system has released a killed holder's lock: a matter of its last system call."""
    pause = 0.002
    while time.monotonic() < end:
        if not any(info.held for info in space.lanes() if info.id == lane):
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
