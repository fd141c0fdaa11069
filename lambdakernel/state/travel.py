"""Back to an earlier state of the namespace, as one more commit.

Theory of operation
- A move publishes what held at a moment: for each key that holds something else now, the version of then (its record
  and the names of its blobs; nothing is encoded anew), or a deletion. History only grows, so a move can be undone.
- All is checked before anything is published: a version that was collected or damaged refuses the whole move. What
  was *resident* cannot come back with any commit; its name comes back as one that says so.
- Then the live names of what changed are forgotten and loaded as they were. A class keeps its identity, since its
  instances elsewhere are as before: it is filled anew, and loses what it had not got then.
- Changes that were not committed yet, of the cell that asks too, are committed before: nothing is ever lost by a move.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable

import msgspec

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.state import epochs
from lambdakernel.state.ambient import PREFIX, is_held
from lambdakernel.state.beginning import Beginning
from lambdakernel.state.cells import Note
from lambdakernel.state.differences import Difference, differences
from lambdakernel.state.moving import Mover, Parts, Plan
from lambdakernel.state.replay import Replay, State, replay
from lambdakernel.state.residents import is_lost as is_lost_value
from lambdakernel.state.timeline import Event, Kind, LogRow, Move, Timeline, variables


class Moved(msgspec.Struct, frozen=True):
    """What a move did. Names are those of variables."""

    kind: Kind
    cells: tuple[int, ...]
    """Those undone, oldest first; or the one whose state this is."""
    back: tuple[str, ...]
    """Bound now to what they were then."""
    classes: tuple[str, ...]
    """Of these, the definition is what it was then."""
    removed: tuple[str, ...]
    """Not bound then."""
    lost: tuple[str, ...]
    """Bound then to what cannot be brought back, with the reason."""
    dropped: tuple[str, ...]
    """Bound before to what no undo can bring back, with the reason."""
    ambient: tuple[str, ...]
    """Ambient state that changed."""
    unrestored: tuple[str, ...] = ()
    """Ambient state that could not be brought back, with the reason."""


Goal = tuple[Move, kvs.VersionVector, list[Event]]
"""What to note of a move, where it goes, and the events that it is told by."""


class Traveller:
    """The past of one epoch, as it was committed: to be looked at, and to be gone back to."""

    def __init__(self, parts: Parts, epoch: int, start: Beginning) -> None:
        self._parts, self._epoch = parts, epoch
        self._mover = Mover(parts, start)

    def _timeline(self) -> Timeline:
        return Timeline(self._parts.replica, self._epoch)

    # -- looking

    def log(self, limit: int | None = None) -> list[LogRow]:
        """The last `limit` cells, newest last."""
        return self._timeline().rows(limit)

    def differences(self, first: int, second: int | None = None) -> list[Difference]:
        """What differs between the states after two cells; without `second`, up to the last commit.

        Raises:
            LambdaKernelError: no such cell was committed in this epoch.
        """
        timeline = self._timeline()
        after = timeline.cell(second).after if second is not None else timeline.history.now
        return differences(timeline, timeline.cell(first).after, after)

    def replay(self, name: str, parse: Callable[[str], str]) -> Replay:
        """The cells to run so that `name` has its value back; `parse` makes Python of a cell with magics.

        Raises:
            LambdaKernelError: there are none.
        """
        parts = self._parts
        live, catalogue = parts.live, parts.catalogue
        log = parts.replica.log(newest_first=False, damaged=lambda _: None)
        cells, _ = epochs.history([Note.from_bytes(commit.note) for commit in log], self._epoch)

        def made_by(name: str) -> int:
            unit = catalogue.of_name(name)
            return unit.cell if unit is not None and unit.resident is not None else 0

        def is_lost(name: str) -> bool:
            unit = catalogue.of_name(name)
            here = name in live and not is_lost_value(live[name])
            return unit is not None and unit.resident is not None and not here

        def is_absent(name: str) -> bool:
            return name not in live and name not in catalogue and not hasattr(builtins, name)

        state = State(made_by, is_lost, is_absent, lambda names: catalogue.reached(names)[0])
        return replay(name, [cell for cell in cells if cell.number > 0], parse, state)

    # -- going back

    def undo(self, cells: int = 1, *, by: int = 0) -> Moved:
        """The state before the last `cells` cells that changed something; asked for by cell `by`.

        Raises:
            LambdaKernelError, kvs.KvsError: it cannot be had; nothing was changed.
        """

        def choose(timeline: Timeline) -> Goal:
            steps = timeline.undone_by(cells)
            return Move("undo", by, steps[-1].dot), steps[-1].before, steps[::-1]

        return self._move(choose)

    def redo(self, *, by: int = 0) -> Moved:
        """The state before the last undo. Raises as `undo`."""

        def choose(timeline: Timeline) -> Goal:
            undo = timeline.redone()
            return Move("redo", by, undo.dot), undo.before, [undo]

        return self._move(choose)

    def checkout(self, number: int, *, by: int = 0) -> Moved:
        """The state after cell `number`. Raises as `undo`."""

        def choose(timeline: Timeline) -> Goal:
            event = timeline.cell(number)
            return Move("checkout", by, event.dot), event.after, [event]

        return self._move(choose)

    def _move(self, choose: Callable[[Timeline], Goal]) -> Moved:
        with self._parts.replica.undisturbed():
            timeline = self._timeline()
            move, vector, events = choose(timeline)
            shown = timeline.shown(vector)
            plan = self._mover.plan(timeline, vector)
            if plan.problems:
                listed = "\n".join(f"  {problem}" for problem in plan.problems)
                raise LambdaKernelError(f"that state cannot be brought back, and nothing was changed:\n{listed}")
            if plan.writes or move.kind != "checkout":  # an undo that ends where it began is a step of the way, too
                self._parts.replica.publish(plan.writes, move.to_note(Note(self._epoch, shown=shown)))
        if plan.writes:
            self._parts.catalogue.shown = shown
            try:
                self._mover.apply(plan, timeline.keys)
            except BaseException:  # an interrupt, say: what is live must not stay what the store holds no more
                self._mover.apply(plan, timeline.keys)
                raise
        return self._moved(move, events, plan)

    def _moved(self, move: Move, events: list[Event], plan: Plan) -> Moved:
        failed = self._parts.ambient.failed
        held = {name.removeprefix(PREFIX) for name in plan.names if is_held(name)}
        return Moved(
            move.kind,
            tuple(event.number for event in events),
            tuple(sorted(variables(plan.back))),
            tuple(sorted(plan.classes)),
            tuple(sorted(variables(plan.names - plan.back - plan.lost.keys()))),
            tuple(f"{name} ({why})" for name, why in sorted(plan.lost.items())),
            tuple(f"{name} ({why})" for name, why in sorted(plan.dropped.items())),
            tuple(sorted({*plan.ambient, *(name.partition(" ")[0] for name in held)})),
            tuple(f"{name} ({failed[name]})" for name in sorted({*plan.ambient, *held}) if name in failed),
        )
