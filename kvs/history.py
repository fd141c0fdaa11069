"""What a space held at an earlier moment: every version of every key, found by the commit that wrote it.

Theory of operation
- A log keeps superseded rows until they are collected, and each commit lists a mark of every key that it wrote. So
  what was visible at a moment are the newest writes up to it, as a replica's index has them for now.
- A row that is not there any more was collected. That is said; an older one is never given in its place.
- A damaged commit wrote the keys whose rows bear its number, and those that its own list names: their versions of
  that moment cannot be had, and what lies below them is not taken for them.
- A history is made for one question and then dropped. It reads all commits once, about 10 us each, and never advances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kvs import seal
from kvs.causal import Dot, Sibling, VersionVector
from kvs.causal.register import surviving
from kvs.errors import KvsError, NotAuthentic
from kvs.tiers.blobs import BlobRef
from kvs.tiers.node import CommitRow, LaneLog

if TYPE_CHECKING:
    from kvs.replica import Version

ReadVersion = Callable[[bytes, Dot], "Version | None"]
"""The version of a key that a commit wrote, authenticated; None if it deleted the key. LookupError: its row is gone."""


class VersionGone(KvsError):
    """A superseded version was asked for that has been collected."""

    def __init__(self, key: bytes, dot: Dot) -> None:
        super().__init__(
            f"the version of key {key!r} that commit {dot} wrote is gone: it was superseded, and then collected. Raise"
            " KVS_RETAIN_BYTES so that old versions stay longer."
        )
        self.key, self.dot = key, dot


class Moment(NamedTuple):
    """The state just after a commit: `vector` has it, and all commits before it in the order of the log."""

    dot: Dot
    vector: VersionVector


class Write(NamedTuple):
    """One commit, as the writer of some key; `whole` is False if it is damaged."""

    dot: Dot
    hlc: int
    context: VersionVector
    whole: bool


class LaneHistory(NamedTuple):
    """One lane: its whole commits oldest first, who wrote each mark (oldest first), and the keys that are known."""

    commits: list[Write]
    writes: dict[bytes, list[Write]]
    keys: dict[bytes, bytes]


def lane_history(lane: int, log: LaneLog, last: int, is_authentic: Callable[[int, CommitRow], bool]) -> LaneHistory:
    """What `log` says of the commits up to `last`."""
    with log.snapshot():
        known = log.commits()
        rows, later = [row for row in known if row.n <= last], {row.n for row in known if row.n > last}
        newest = [(key, n) for key, n, _ in log.newest_keys(0)]
        keys = {seal.key_mark(key): key for key, _ in newest}
        found = LaneHistory([], {}, keys)
        for row in rows:
            if is_authentic(lane, row):
                write = Write(Dot(lane, row.n), row.hlc, VersionVector.from_bytes(row.context), True)
                found.commits.append(write)
                marks = set(_split(row.marks))
            else:
                write = _damaged(lane, row.n)
                marks = {mark for mark, key in keys.items() if log.entry(key, row.n) is not None}
                marks |= set(_split(row.marks)) if isinstance(row.marks, bytes) else set()
            for mark in marks:
                found.writes.setdefault(mark, []).append(write)
    for key, n in newest:
        writes = found.writes.setdefault(seal.key_mark(key), [])
        is_told = n in later or any(write.dot.counter == n for write in writes)
        if not is_told:  # a row of no commit, or of one that did not write it
            writes.append(_damaged(lane, min(n, last)))
            writes.sort(key=lambda write: write.dot.counter)
    return found


def _split(marks: bytes) -> Iterator[bytes]:
    return (marks[at : at + seal.MARK_SIZE] for at in range(0, len(marks), seal.MARK_SIZE))


def _damaged(lane: int, n: int) -> Write:
    return Write(Dot(lane, n), 0, VersionVector([(lane, n - 1)]), False)


class History:
    """See the module. Reads rows only when they are asked for, so a collection in between is seen as such."""

    def __init__(
        self,
        lanes: Iterable[LaneHistory],
        read: ReadVersion,
        open_blob: Callable[[BlobRef], memoryview],
        read_blob: Callable[[BlobRef], bytes],
    ) -> None:
        lanes = list(lanes)
        self._read, self.open_blob, self.read_blob = read, open_blob, read_blob
        self._writes = [lane.writes for lane in lanes]
        self._key_of = {mark: key for lane in lanes for mark, key in lane.keys.items()}
        self._keys_by_dot: dict[Dot, list[bytes]] = {}
        for writes in self._writes:
            for mark, found in writes.items():
                for write in found if mark in self._key_of else ():
                    self._keys_by_dot.setdefault(write.dot, []).append(self._key_of[mark])
        commits = sorted((w for lane in lanes for w in lane.commits), key=lambda w: (w.hlc, *w.dot))
        self.moments = tuple(_moments(commits))
        """The state after each whole commit, oldest first, in an order that respects causality."""

    @property
    def now(self) -> VersionVector:
        """All that is known, damaged commits too."""
        newest = [found[-1].dot for writes in self._writes for found in writes.values() if found]
        last = self.moments[-1].vector if self.moments else VersionVector()
        return last.join(VersionVector(_highest(newest)))

    def at(self, vector: VersionVector) -> Past:
        """The keys and versions that were visible when exactly the commits in `vector` were known."""
        return Past(self, vector)

    def keys_of(self, dot: Dot) -> list[bytes]:
        """The keys that a commit wrote or deleted, sorted."""
        return sorted(self._keys_by_dot.get(dot, ()))

    def version(self, key: bytes, dot: Dot) -> Version | None:
        """What commit `dot` wrote to `key`; None if it deleted it.

        Raises:
            VersionGone: it was collected.
            NotAuthentic: its row was damaged or planted.
        """
        writes = [found for lane in self._writes for found in [lane.get(seal.key_mark(key), [])] if found]
        if any(not write.whole for found in writes for write in found if write.dot == dot):
            raise NotAuthentic(f"key {key!r} as commit {dot} wrote it")
        try:
            return self._read(key, dot)
        except LookupError:
            if any(found[-1].dot == dot for found in writes):  # what is current is never collected
                raise NotAuthentic(f"key {key!r} (commit {dot}, whose row is missing)") from None
            raise VersionGone(key, dot) from None

    def known_keys(self, prefix: bytes) -> list[bytes]:
        """Every key that was ever written, sorted."""
        return sorted(key for key in self._key_of.values() if key.startswith(prefix))

    def siblings(self, key: bytes, vector: VersionVector) -> tuple[Sibling[bool], ...]:
        """The writes of `key` in `vector` that no other of them has seen, the winner first."""
        newest = []
        for lane in self._writes:
            for write in reversed(lane.get(seal.key_mark(key), ())):
                if write.dot in vector:
                    newest.append(Sibling(write.dot, write.context, write.hlc, write.whole))
                    break
        return surviving(newest) if len(newest) > 1 else tuple(newest)


def _moments(commits: Iterable[Write]) -> Iterator[Moment]:
    vector = VersionVector()
    for commit in commits:
        vector = vector.advanced(commit.dot)
        yield Moment(commit.dot, vector)


def _highest(dots: Iterable[Dot]) -> Iterator[tuple[int, int]]:
    counts: dict[int, int] = {}
    for dot in dots:
        counts[dot.replica] = max(dot.counter, counts.get(dot.replica, 0))
    return iter(counts.items())


class Past:
    """A view of one moment, read as a replica is. Reading takes nothing away and holds nothing back."""

    def __init__(self, history: History, vector: VersionVector) -> None:
        self._history = history
        self._known: dict[bytes, tuple[Version, ...]] = {}
        """What `keys` has read, so that reading all of them reads each once."""
        self.vector = vector
        self.open_blob, self.read_blob = history.open_blob, history.read_blob

    def dots(self, key: bytes) -> tuple[Dot, ...]:
        """The writes of `key` that were visible, the winner first; deletions and damaged ones too."""
        return tuple(sibling.dot for sibling in self._history.siblings(key, self.vector))

    def get(self, key: bytes) -> tuple[Version, ...]:
        """The siblings of `key` then, the deterministic winner first; empty if it was absent or deleted.

        Raises:
            VersionGone: one of them was collected since.
            NotAuthentic: one was damaged or planted.
        """
        if key in self._known:
            return self._known[key]
        found = (self._history.version(key, dot) for dot in self.dots(key))
        return tuple(version for version in found if version is not None)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that were written and not deleted then, sorted; those that `get` refuses are among them."""
        return [key for key in self._history.known_keys(prefix) if self._is_there(key)]

    def _is_there(self, key: bytes) -> bool:
        try:
            self._known[key] = self.get(key)
            return bool(self._known[key])
        except KvsError:
            return True
