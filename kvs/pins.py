"""What live replicas still look at, or are about to name, so that a collection leaves it alone.

A pin is a small file that its replica keeps locked and in which it writes what it has joined, and since when it puts
blobs that it has not published yet. So a writer that is stopped in the middle of a publish finds its blobs again,
however long it was stopped. The system drops the
lock when its holder dies, however it dies; a pin without a lock counts for nothing, and the next collection deletes
it. A pin is made before its replica joins anything, and says "nothing yet", which keeps everything. It moves on only
after a refresh is complete. A frozen replica costs space, and stalls nobody.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakSet

from kvs import seal
from kvs.causal import VersionVector
from kvs.errors import StoreFull, StoreUnusable
from kvs.tiers.node import translated

_LIMIT = 1 << 20
_ATTEMPTS = 20
NEVER = (1 << 63) - 1


class View(NamedTuple):
    """What a live replica has joined, and since when it holds blobs that no row names yet (ns; `NEVER`: none)."""

    vector: VersionVector
    holds_since_ns: int


class Pin:
    """One replica's pin, below `directory`; a forked child drops its copy."""

    def __init__(self, directory: str) -> None:
        self._said = View(VersionVector(), NEVER)
        self._fd, self._path = translated(directory, lambda: _made(directory))
        _PINS.add(self)

    @property
    def name(self) -> str:
        return os.path.basename(self._path)

    def move(self, vector: VersionVector) -> None:
        """Say that what `vector` has replaced is not looked at any more."""
        if vector is not self._said.vector:
            try:
                self._say(self._said._replace(vector=vector))
            except StoreFull:  # reading goes on; what it says now keeps more than it would
                return

    def hold(self, since_ns: int) -> None:
        """Say since when blobs are put that are not published; an earlier time stays until all are (`NEVER`).

        Raises:
            StoreFull, StoreUnusable: it could not be said.
        """
        if (since_ns == NEVER) != (self._said.holds_since_ns == NEVER):
            self._say(self._said._replace(holds_since_ns=since_ns))

    def _say(self, view: View) -> None:
        if self._fd >= 0:
            data = view.holds_since_ns.to_bytes(8, "big") + view.vector.to_bytes()
            text = seal.key_mark(data) + data  # never shorter than before: knowledge only grows
            translated(self._path, lambda: os.pwrite(self._fd, text, 0))
            self._said = view

    def drop(self) -> None:
        """Close it and delete it."""
        if self._fd >= 0:
            try:
                os.unlink(self._path)
            except FileNotFoundError:  # its space was deleted
                pass
            self.forget()

    def forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _made(directory: str) -> tuple[int, str]:
    """A new pin, locked, and its path. It gets its name only then: nobody takes it for a dead one's."""
    name = f"{os.getpid()}-{os.urandom(6).hex()}"
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(f"{directory}/.{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            os.makedirs(directory, 0o700, exist_ok=True)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(f"{directory}/.{name}", f"{directory}/{name}")
            return fd, f"{directory}/{name}"
        except (BlockingIOError, FileNotFoundError):  # a collector saw it before the lock
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
    raise StoreUnusable(directory, "its files are deleted as fast as they are made", "See who else works on it.")


_PINS: WeakSet[Pin] = WeakSet()


def _forget_pins_in_child() -> None:
    for pin in list(_PINS):
        pin.forget()


os.register_at_fork(after_in_child=_forget_pins_in_child)


def views(directory: str, *, but: str = "") -> list[View]:
    """What each live replica says, but for the one whose pin has that name. Pins of the dead are deleted."""
    return [view for name, view in _all_live(directory) if name != but]


def holders(directory: str) -> list[int]:
    """The processes that have a live replica."""
    return [int(name.partition("-")[0]) for name, _ in _all_live(directory)]


def _all_live(directory: str) -> Iterator[tuple[str, View]]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        view = _live(f"{directory}/{name}")
        if view is not None and not name.startswith("."):
            yield name, view


def _live(path: str) -> View | None:
    """What the holder of a pin says, or None if it is dead. One that cannot be read keeps everything."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return None
    except BlockingIOError:
        data = os.pread(fd, _LIMIT, 0)
        said = data[seal.MARK_SIZE :]
        if not said or not seal.same(data[: seal.MARK_SIZE], seal.key_mark(said)):
            return View(VersionVector(), 0)
        return View(VersionVector.from_bytes(said[8:]), int.from_bytes(said[:8], "big"))
    except FileNotFoundError:  # another collector was faster
        return None
    finally:
        os.close(fd)
