"""A program under test, and one run of it: events to replicas by a schedule, with an eye on what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvs.lattices.base import Lattice
from kvs.testing.kit import answers_below
from kvs.testing.schedules import Deliver, Gossip, Schedule

Below = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Output:
    """Something that a program shows while it runs, and that it declares to grow only, in the order `below`."""

    read: Callable[[Any], Any]
    below: Below = answers_below


@dataclass(frozen=True)
class Program:
    """What happens to a state: `apply(state, event)`, `merge(state, state)`, and bytes if states move as bytes."""

    start: Callable[[], Any]
    apply: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    final: Callable[[Any], Any]
    outputs: Mapping[str, Output] = field(default_factory=dict)
    save: Callable[[Any], bytes] | None = None
    load: Callable[[bytes], Any] | None = None

    def moved(self, state: Any) -> Any:
        """The state after a way through bytes, if there is one."""
        return self.load(self.save(state)) if self.save and self.load else state


@dataclass(frozen=True)
class Ended:
    """A run that came to its end. `final` is what must be the same in every run."""

    final: Any


@dataclass(frozen=True)
class Shrank:
    """An output went back on what it had shown, at the step with this number."""

    step: int
    text: str


@dataclass(frozen=True)
class Failed:
    """A step raised."""

    step: int
    text: str


Run = Ended | Shrank | Failed


def run(program: Program, events: Sequence[Any], schedule: Schedule) -> Run:
    """Carry out a schedule. Outputs are read at the replica of each step, before the first too."""
    states = [program.start() for _ in range(schedule.replicas)]
    shown = [{name: output.read(state) for name, output in program.outputs.items()} for state in states]
    for number, step in enumerate(schedule.steps):
        try:
            at = _step(program, events, step, states)
            for name, output in program.outputs.items():
                before, now = shown[at][name], output.read(states[at])
                if not output.below(before, now):
                    return Shrank(number, f"output {name!r} went from {before!r} to {now!r} at replica {at}")
                shown[at][name] = now
        except Exception as e:  # the program is a stranger's: what it raises is a finding, with its place
            return Failed(number, f"step {step} raised {type(e).__name__}: {e}")
    return Ended(program.final(states[0]))


def _step(program: Program, events: Sequence[Any], step: Deliver | Gossip, states: list[Any]) -> int:
    """Change the state of one replica; which one."""
    match step:
        case Gossip(source, target):
            states[target] = program.moved(program.merge(states[target], program.moved(states[source])))
            return target
        case Deliver(replica, (event,)):
            states[replica] = program.moved(program.apply(states[replica], events[event]))
            return replica
        case Deliver(replica, batch):
            together = program.start()
            for event in batch:
                together = program.apply(together, events[event])
            states[replica] = program.moved(program.merge(states[replica], program.moved(together)))
            return replica


def same(a: Any, b: Any) -> bool:
    """Whether two final values are one: lattices by their bytes, the rest by `==` and by how they print."""
    if isinstance(a, Lattice) and isinstance(b, Lattice):
        return type(a) is type(b) and a.encode() == b.encode()
    return bool(a == b) and type(a) is type(b)
