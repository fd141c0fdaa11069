"""Checks what several processes recorded of a store: did each see what it was promised?

A history is one list of events a session, in the order in which the session did them. Every write bears an id of its
own, and whoever reads says which ids it found; nothing else is believed. From this follows what came before what: the
order in each session, and each read after the writes that it found. A write that came before a read must be found by
it, or another write of the key that came after that one.

- *read your writes*, *monotonic reads*, *monotonic writes*, *writes follow reads*: the four ways in which a write comes
  before a read; longer chains are *causal order*.
- *repeatable read*, *atomic visibility*: of reads that bear one `view`, between which nothing may change.
- *no lost update*: a merge is found by every read that comes after it, whatever was merged later; a read that began
  after a write was acknowledged, and that looked for news first (`fresh`), finds it.
- *no thin air*: what is found was written, to that key, and not later than it was found.

Costs O(sessions) a read of a put and O(writes of the key) a read of merges. This is polynomial because ids are unique.
Source: Terry et al., "Session Guarantees for Weakly Consistent Replicated Data", 1994; Bouajjani, Enea, Guerraoui and
Hamza, "On Verifying Causal Consistency", POPL 2017.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

WriteId = str
Session = str
Key = str


@dataclass(frozen=True, slots=True)
class Wrote:
    """One commit of `keys`, all at once.

    `replaced`: for each key, the writes that the writer's view showed when it wrote; where this one is shown, they are
    not. `merges`: it joins, and replaces nothing. `returned_s` is `inf` if nobody knows whether it was made: its
    process was killed first. Times are of one clock for all sessions, such as CLOCK_MONOTONIC on one machine.
    A deletion leaves nothing that a read could find, so there is none in a history.
    """

    id: WriteId
    keys: frozenset[Key]
    invoked_s: float
    returned_s: float = inf
    merges: bool = False
    replaced: Mapping[Key, frozenset[WriteId]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """The writes of `key` that were found: the siblings, or all that were joined where writes merge.

    `view`: reads of one session with one non-empty name were promised to be of one state. `fresh`: it looked for news
    after `invoked_s`.
    """

    key: Key
    found: frozenset[WriteId]
    invoked_s: float
    view: str = ""
    fresh: bool = False


Event = Wrote | Read
History = Mapping[Session, Sequence[Event]]


@dataclass(frozen=True, slots=True)
class At:
    """One event, by its session and its place there."""

    session: Session
    at: int
    event: Event

    def __str__(self) -> str:
        match self.event:
            case Wrote(id=name, keys=keys):
                what = f"wrote {name} to {', '.join(sorted(keys))}"
            case Read(key=key, found=found):
                what = f"read {key} and found {', '.join(sorted(found)) or 'nothing'}"
        return f"{self.session}[{self.at}] {what}"


class Violated(AssertionError):
    """A guarantee does not hold; `first` and `second` are the events that show it."""

    def __init__(self, guarantee: str, first: At, second: At, why: str) -> None:
        super().__init__(f"{guarantee}: {first}; then {second}; {why}")
        self.guarantee, self.first, self.second = guarantee, first, second


def check_sessions(history: History) -> int:
    """The number of reads that were checked, if every guarantee of the module holds.

    Raises:
        Violated: one does not; the first that is found. ValueError: the history is no history, two writes have one id.
    """
    return _Checker(history).check()


Clock = dict[Session, int]
"""Of each session, how many of its events came before."""


class _Checker:
    def __init__(self, history: History) -> None:
        self._history = history
        self._writes: dict[WriteId, At] = {}
        self._of_key: dict[Key, dict[Session, list[int]]] = {}
        for session, events in history.items():
            for at, event in enumerate(events):
                if isinstance(event, Wrote):
                    if event.id in self._writes:
                        raise ValueError(f"two writes have the id {event.id!r}. Give each an id of its own.")
                    self._writes[event.id] = At(session, at, event)
                    for key in event.keys:
                        self._of_key.setdefault(key, {}).setdefault(session, []).append(at)
        self._clocks: dict[tuple[Session, int], Clock] = {}

    def check(self) -> int:
        self._order()
        reads = 0
        for found in self._events():
            if isinstance(found.event, Read):
                reads += 1
                self._check_read(found, found.event)
        for session in self._history:
            self._check_views(session)
        return reads

    def _events(self) -> Iterator[At]:
        for session, events in self._history.items():
            yield from (At(session, at, event) for at, event in enumerate(events))

    # -- what came before what

    def _sources(self, found: At) -> Iterator[At]:
        """The writes that an event has seen directly."""
        match found.event:
            case Read(key=key, found=ids):
                seen = {key: ids}
            case Wrote(replaced=replaced):
                seen = dict(replaced)
        for key, ids in seen.items():
            for name in sorted(ids):
                source = self._writes.get(name)
                if source is None or not isinstance(source.event, Wrote) or key not in source.event.keys:
                    raise Violated("no thin air", found, found, f"nobody wrote {name} to {key}")
                yield source

    def _order(self) -> None:
        """Give each event its clock; an event whose sources have none yet waits for them."""
        done = dict.fromkeys(self._history, 0)
        moved = True
        while moved:
            moved = False
            for session, events in self._history.items():
                while done[session] < len(events):
                    at = At(session, done[session], events[done[session]])
                    sources = list(self._sources(at))
                    if any(done[s.session] <= s.at for s in sources):
                        break
                    self._clocks[session, at.at] = self._clock(at, sources)
                    done[session] += 1
                    moved = True
        for session, events in self._history.items():
            if done[session] < len(events):
                stuck = At(session, done[session], events[done[session]])
                source = next(s for s in self._sources(stuck) if done[s.session] <= s.at)
                raise Violated("no thin air", source, stuck, "the first came before itself")

    def _clock(self, at: At, sources: Sequence[At]) -> Clock:
        clock = dict(self._clocks[at.session, at.at - 1]) if at.at else {}
        for source in sources:
            for session, count in (*self._clocks[source.session, source.at].items(), (source.session, source.at + 1)):
                clock[session] = max(count, clock.get(session, 0))
        clock[at.session] = at.at + 1
        return clock

    def _is_before(self, one: At, other: At) -> bool:
        """Whether `one` came before `other`, or is it."""
        return self._clocks[other.session, other.at].get(one.session, 0) > one.at

    # -- reads

    def _check_read(self, found: At, read: Read) -> None:
        for write in self._known_writes(found, read):
            if not self._covers(read, write):
                raise self._named(write, found, read)
        for one in sorted(read.found):
            for other in sorted(read.found):
                event = self._writes[other].event
                if one != other and isinstance(event, Wrote) and one in event.replaced.get(read.key, ()):
                    raise Violated("causal order", self._writes[other], found, f"it found {one}, which that replaced")

    def _known_writes(self, found: At, read: Read) -> Iterator[At]:
        """The writes of the key that came before; of puts, the newest of each session stands for its older ones."""
        clock = self._clocks[found.session, found.at]
        for session, places in self._of_key.get(read.key, {}).items():
            known = [At(session, at, self._history[session][at]) for at in places]
            yield from _to_find(known[: bisect_right(places, clock.get(session, 0) - 1)])
            if read.fresh:
                yield from _to_find([w for w in known if _is_acknowledged(w, read.invoked_s)])

    def _covers(self, read: Read, write: At) -> bool:
        assert isinstance(write.event, Wrote)
        if write.event.id in read.found:
            return True
        return not write.event.merges and any(self._is_before(write, self._writes[name]) for name in read.found)

    def _named(self, write: At, found: At, read: Read) -> Violated:
        """Which guarantee it is that a read breaks by not finding a write."""
        assert isinstance(write.event, Wrote)
        why = f"it lacks {write.event.id}"
        if not self._is_before(write, found):
            return Violated("no lost update", write, found, f"{why}, which was acknowledged before it began")
        if write.event.merges:
            return Violated("no lost update", write, found, why)
        if write.session == found.session:
            return Violated("read your writes", write, found, why)
        reads = [At(found.session, at, e) for at, e in enumerate(self._history[found.session][: found.at + 1])]
        for earlier in reads[:-1]:
            event = earlier.event
            if isinstance(event, Read) and event.key == read.key and write.event.id in event.found:
                return Violated("monotonic reads", earlier, found, why)
        seen = [source for earlier in reads for source in self._sources(earlier)]
        if any(source.session == write.session and source.at >= write.at for source in seen):
            return Violated("monotonic writes", write, found, f"{why}, though a later write of its session was seen")
        for source in seen:
            for at, event in enumerate(self._history[source.session][: source.at + 1]):
                if write in self._sources(At(source.session, at, event)):
                    return Violated("writes follow reads", write, found, f"{why}, which {source} had read first")
        return Violated("causal order", write, found, why)

    # -- views

    def _check_views(self, session: Session) -> None:
        views: dict[str, dict[Key, At]] = {}
        for at, event in enumerate(self._history[session]):
            if not isinstance(event, Read) or not event.view:
                continue
            found, view = At(session, at, event), views.setdefault(event.view, {})
            before = view.setdefault(event.key, found)
            if isinstance(before.event, Read) and before.event.found != event.found:
                raise Violated("repeatable read", before, found, f"both are of {event.view}")
        for view in views.values():
            self._check_atomic(view)

    def _check_atomic(self, view: Mapping[Key, At]) -> None:
        """What one key of a view shows of a commit, every other key shows too."""
        for shown in view.values():
            assert isinstance(shown.event, Read)
            for name in sorted(shown.event.found):
                write = self._writes[name]
                assert isinstance(write.event, Wrote)
                for key in sorted(write.event.keys & view.keys()):
                    other = view[key]
                    assert isinstance(other.event, Read)
                    if not self._covers(other.event, write):
                        raise Violated(
                            "atomic visibility", shown, other, f"the second lacks {name}, of which it is part"
                        )


def _to_find(writes: Sequence[At]) -> Iterator[At]:
    """Of one session's writes of a key, those that a read must find: all merges, and the newest put for all puts."""
    puts = [write for write in writes if isinstance(write.event, Wrote) and not write.event.merges]
    yield from puts[-1:]
    yield from (write for write in writes if isinstance(write.event, Wrote) and write.event.merges)


def _is_acknowledged(write: At, before_s: float) -> bool:
    return isinstance(write.event, Wrote) and write.event.returned_s <= before_s
