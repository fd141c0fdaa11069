"""The commits of an epoch as moments that one can go back to, and what each changed. Reads only.

Theory of operation
- Every commit is an *event*: a cell, a change outside cells, or a *move* (an undo, a redo, a checkout), which publishes
  an earlier state anew. The store only ever grows, so every event's state can be asked for until it is collected.
- Where an undo goes is found by walking back. A cell that changed something is a *step*. An undo is no step: from it
  the walk goes on at the state that it brought back, so that two undos in a row go back twice. A checkout is one.
- A redo takes back the newest undo that no other change followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state.ambient import PREFIX, is_held
from lambdakernel.state.aside import Aside
from lambdakernel.state.bindings import is_output
from lambdakernel.state.cells import Cell, Note
from lambdakernel.state.units import Keys, Unit, unit_of

Kind = Literal["undo", "redo", "checkout"]
_INCIDENTAL = frozenset({b"warnings", b"logging", b"matplotlib.rcParams", b"matplotlib.backend"})
"""Ambient state that an import or a plot changes: it goes back with the rest, but makes no step of its own."""
_INCIDENTAL_HELD = (f"{PREFIX}warnings ", f"{PREFIX}logger ")
_KEPT = frozenset({"_", "_exit_code"})
_TICK_S = 0.001
"""What the time of a commit may lie before the moment at which it was made."""


class Move(msgspec.Struct, frozen=True):
    """A commit that published an earlier state: asked for by cell `by`; an undo or a redo names the event that its
    target is the state before, a checkout the one that it is the state after."""

    kind: Kind
    by: int
    goal: kvs.Dot

    def to_note(self, note: Note) -> bytes:
        """What `note` says and this: whoever does not know moves reads it as a commit that is no cell."""
        said = {"kind": self.kind, "by": self.by, "goal": [*self.goal]}
        return json.dumps({**json.loads(note.to_bytes()), "moved": said}, separators=(",", ":")).encode()

    @classmethod
    def of_note(cls, data: bytes) -> Move | None:
        said: dict[str, Any] | None = json.loads(data).get("moved") if b'"moved"' in data else None
        return None if said is None else cls(said["kind"], int(said["by"]), kvs.Dot(*map(int, said["goal"])))


class Event(msgspec.Struct, frozen=True):
    """One commit: what it says of itself (None where that is damaged), and the state on both sides of it."""

    dot: kvs.Dot
    before: kvs.VersionVector
    after: kvs.VersionVector
    wall_s: float
    note: Note | None
    move: Move | None
    keys: tuple[bytes, ...]
    """Keys of this epoch that it wrote or deleted."""

    @property
    def cell(self) -> Cell | None:
        return self.note.cell if self.note is not None else None

    @property
    def number(self) -> int:
        """n of `In[n]`; 0 for a commit that is no cell's."""
        return self.cell.number if self.cell is not None else self.move.by if self.move is not None else 0

    def is_in(self, cell: Event) -> bool:
        """Whether this move was made while that cell was under way. After a worker died in a cell that had moved, the
        next cell has its number again."""
        assert cell.cell is not None
        return self.number == cell.number and self.wall_s + _TICK_S >= cell.cell.started_s


class LogRow(msgspec.Struct, frozen=True):
    """One line of the log. Names are those of variables, or `a class` where only its definition changed; None where
    the versions that would tell were collected."""

    number: int
    status: str
    """`ok`, the type of the cell's error, `undo`, `redo`, `checkout`, `restore`, `outside cells` or `damaged`."""
    seconds: float
    written: tuple[str, ...] | None
    deleted: tuple[str, ...] | None
    source: str
    """The cell's first line."""


class Timeline:
    """See the module. A view of what the replica had joined when it was made."""

    def __init__(self, replica: kvs.Replica, epoch: int) -> None:
        self.history = replica.history()
        self.keys = Keys(epoch)
        self._epoch = epoch
        self._prefixes = (self.keys.units, self.keys.head(""), self.keys.ambients)
        notes = {commit.dot: commit for commit in replica.log(newest_first=False, damaged=_left_out)}
        self.events = tuple(self._events(notes))

    def _events(self, commits: Mapping[kvs.Dot, kvs.Commit]) -> Iterator[Event]:
        before = kvs.VersionVector()
        for moment in self.history.moments:
            keys = tuple(k for k in self.history.keys_of(moment.dot) if k.startswith(self._prefixes))
            commit = commits.get(moment.dot)
            note = None if commit is None else Note.from_bytes(commit.note)
            if keys or (note is not None and note.epoch == self._epoch):
                move = None if commit is None else Move.of_note(commit.note)
                wall_s = 0.0 if commit is None else commit.wall_time_s
                yield Event(moment.dot, before, moment.vector, wall_s, note, move, keys)
            before = moment.vector

    # -- which moment

    def cell(self, number: int) -> Event:
        """The newest commit of cell `number`.

        Raises:
            LambdaKernelError: no such cell was committed in this epoch; says which were.
        """
        numbers = [e.number for e in self.events if e.cell is not None and e.number > 0]
        if number not in numbers:
            there = f"There is In [{min(numbers)}] to In [{max(numbers)}]" if numbers else "None has run yet"
            raise LambdaKernelError(f"no cell In [{number}] in this epoch. {there}; `%log` shows them.")
        return next(e for e in reversed(self.events) if e.cell is not None and e.number == number)

    def undone_by(self, count: int) -> list[Event]:
        """The last `count` steps, newest first.

        Raises:
            LambdaKernelError: there are fewer; says how many.
        """
        found: list[Event] = []
        for event in self._steps():
            found.append(event)
            if len(found) == count:
                return found
        if not found:
            raise LambdaKernelError("nothing to undo: no cell of this epoch has changed anything that is left.")
        listed = ", ".join(f"In [{event.number}]" if event.number else "a `%restore`" for event in reversed(found))
        raise LambdaKernelError(f"{count} cells cannot be undone, only {len(found)} that changed something: {listed}.")

    def _steps(self) -> Iterator[Event]:
        place = {event.dot: at for at, event in enumerate(self.events)}
        at = len(self.events) - 1
        while at >= 0:
            event = self.events[at]
            if event.move is not None and event.move.kind != "checkout":
                at = place.get(event.move.goal, at)  # the state before that event is what the move brought back
            elif self.is_step(event):
                yield event
            at -= 1

    def is_step(self, event: Event) -> bool:
        """Whether a cell changed something that its user would miss: more than what it showed."""
        if event.move is not None or (event.note is not None and event.note.restored):
            return bool(event.keys)
        if event.cell is None:
            return False
        ambient = {key.removeprefix(self.keys.ambients) for key in event.keys if key.startswith(self.keys.ambients)}
        return bool(ambient - _INCIDENTAL) or self._changed_variables(event) or self._changed_held(event)

    def _changed_held(self, event: Event) -> bool:
        """Whether it changed ambient state that is kept as units: a magic that it registered, a handler of a signal."""
        try:
            before, after = self._units(event)
        except (kvs.KvsError, msgspec.MsgspecError):
            return True
        names = {name for unit in (*before, *after) for name in unit.names if is_held(name)}
        return not all(name.startswith(_INCIDENTAL_HELD) for name in names)

    def redone(self) -> Event:
        """The undo that a redo takes back.

        Raises:
            LambdaKernelError: there is none, or something was changed since.
        """
        redone = 0
        for event in reversed(self.events):
            if event.move is not None and event.move.kind == "redo":
                redone += 1
            elif event.move is not None and event.move.kind == "undo":
                if not redone:
                    return event
                redone -= 1
            elif self.is_step(event) or self._changed_variables(event):
                break
        raise LambdaKernelError(
            "nothing to redo: no `%undo` is left that no other change followed. `%log` shows every cell, and"
            " `%checkout CELL` brings the state after one back."
        )

    # -- what an event changed

    def _changed_variables(self, event: Event) -> bool:
        try:
            written, deleted, has_class = self._changes(event)
        except (kvs.KvsError, msgspec.MsgspecError):
            return True
        return bool(written or deleted or has_class)

    def _changes(self, event: Event) -> tuple[set[str], set[str], bool]:
        """Variables written and deleted, and whether a class was defined or changed.

        Raises:
            kvs.KvsError, msgspec.MsgspecError: what it replaced or wrote was collected or damaged.
        """
        before, after = self._units(event)
        now = {name for unit in after for name in unit.names}
        gone = {name for unit in before for name in unit.names} - now
        for unit in after:
            if self._only_showed(event, unit, before):
                now -= set(unit.names)
        return variables(now), variables(gone), any(unit.classes for unit in after)

    def _only_showed(self, event: Event, unit: Unit, before: list[Unit]) -> bool:
        """Whether a unit was written because an output shows it now, or no more, and its variables are as before."""
        names = variables(unit.names)
        old = [other for other in before if not names.isdisjoint(other.names)]
        if len(old) != 1 or variables(old[0].names) != names or set(old[0].names) == set(unit.names):
            return False
        try:
            sides = [Aside(self.history.at(vector), self.keys) for vector in (event.before, event.after)]
            return sides[0].look(sorted(names)) == sides[1].look(sorted(names))
        except Exception:  # it cannot be loaded or encoded: written anew is all that is known of it
            return False

    def _units(self, event: Event) -> tuple[list[Unit], list[Unit]]:
        """The units that an event replaced or deleted, and those that it wrote."""
        past = self.history.at(event.before)
        keys = [key for key in event.keys if key.startswith(self.keys.units)]
        before = [unit_of(version.value.payload) for key in keys for version in past.get(key)[:1]]
        found = [self.history.version(key, event.dot) for key in keys]
        return before, [unit_of(version.value.payload) for version in found if version is not None]

    def rows(self, limit: int | None = None) -> list[LogRow]:
        """The last `limit` lines of the log, newest last. A move is told with the cell that asked for it."""
        found: list[LogRow] = []
        groups = list(self._groups())
        for events in groups if limit is None else groups[-limit:]:
            found.append(self._row(events))
        return found

    def _groups(self) -> Iterator[list[Event]]:
        moves: list[Event] = []
        for event in self.events:
            if event.move is not None:
                moves.append(event)
            elif event.cell is not None:
                yield from ([move] for move in moves if not move.is_in(event))
                yield [*(move for move in moves if move.is_in(event)), event]
                moves = []
            elif event.keys:
                yield [event]
        yield from ([move] for move in moves)

    def _row(self, events: list[Event]) -> LogRow:
        last = events[-1]
        written, deleted = self._names(events)
        if last.cell is None:
            return LogRow(last.number, _kind(last), 0.0, written, deleted, "")
        status = last.cell.status if last.cell.status != "error" else last.cell.ename or "error"
        line = next((line for line in last.cell.source.splitlines() if line.strip()), "")
        return LogRow(last.number, status, last.cell.seconds, written, deleted, line)

    def _names(self, events: list[Event]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        written: set[str] = set()
        deleted: set[str] = set()
        has_class = False
        for event in events:
            try:
                now, gone, defines = self._changes(event)
            except (kvs.KvsError, msgspec.MsgspecError):
                return None, None
            written, deleted = written - gone | now, deleted - now | gone
            has_class |= defines
        return tuple(sorted(written)) or (("a class",) if has_class else ()), tuple(sorted(deleted))

    def shown(self, vector: kvs.VersionVector) -> tuple[str, str, str]:
        """What `_`, `__` and `___` stood for then."""
        notes = (e.note for e in reversed(self.events) if e.dot in vector and e.note is not None)
        return next((note.shown for note in notes if any(note.shown)), ("", "", ""))

    def names_ever(self, key: bytes) -> list[str]:
        """Names in any version of a unit's record that can still be read, the newest that can."""
        for moment in reversed(self.history.moments):
            try:
                found = self.history.at(moment.vector).get(key)
            except kvs.KvsError:
                continue
            if found:
                return sorted(unit_of(found[0].value.payload).names)
        return []


def _kind(event: Event) -> str:
    if event.note is None:
        return "damaged"
    return event.move.kind if event.move is not None else "restore" if event.note.restored else "outside cells"


def _left_out(_: kvs.KvsError) -> None:
    """Its event has no note, and the log says so."""


def variables(names: Iterable[str]) -> set[str]:
    """Those of `names` that are the user's: no outputs, and nothing that Python or the shell keep for themselves."""
    return {name for name in names if not (is_output(name) or name in _KEPT or name.startswith("__"))}
