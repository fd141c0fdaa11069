"""Whether a program ends the same, whatever the network does to its events.

    check_confluent(GrowSet, [GrowSet([1]), GrowSet([2])], outputs={"size": GrowSet.size})

Consistency without coordination means: the same answer for every order, batching and repetition of the same input, and
no answer on the way that is taken back. Monotone programs have it (the CALM theorem); this finds those that do not,
and names two events that clash.
Source: Hellerstein and Alvaro, "Keeping CALM: When Distributed Consistency Is Easy", 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any

from kvs.lattices import codec
from kvs.lattices.base import Lattice
from kvs.testing import shrink
from kvs.testing.program import Output, Program
from kvs.testing.schedules import (
    Order,
    Schedule,
    at_random,
    every_batching,
    every_order,
    every_repetition,
    orders_at_random,
)


@dataclass(frozen=True)
class At:
    """An operation: `act(state)` at a replica gives a delta, made of what that replica has seen by then."""

    replica: int
    act: Callable[[Any], Any]


class NotConfluent(AssertionError):
    """Two schedules of the same events differ, or something shown was taken back.

    `one` and `other` are the numbers of two events that clash; `seed` finds it again.
    """

    def __init__(self, failure: shrink.Failure, events: Sequence[Any], seed: int) -> None:
        one, other = failure.one, failure.other
        clash = f"event {one}, {events[one]!r}, and event {other}, {events[other]!r}, clash"
        if one == other:
            clash = f"event {one}, {events[one]!r}, clashes with itself"
        context = f"\n after {', '.join(f'{e} {events[e]!r}' for e in failure.after)}" if failure.after else ""
        super().__init__(
            f"{clash}{context}\n the schedule ({failure.schedule}) {failure.text}\n"
            f" seed {seed} finds it again: check_confluent(..., seed={seed})"
        )
        self.one, self.other, self.seed, self.schedule = one, other, seed, failure.schedule


def check_confluent(
    start: Callable[[], Any],
    events: Iterable[Any],
    *,
    apply: Callable[[Any, Any], Any] | None = None,
    merge: Callable[[Any, Any], Any] | None = None,
    outputs: Mapping[str, Output | Callable[[Any], Any]] | None = None,
    final: Callable[[Any], Any] | None = None,
    save: Callable[[Any], bytes] | None = None,
    load: Callable[[bytes], Any] | None = None,
    replicas: int = 5,
    examples: int = 200,
    exhaustive: int = 5,
    histories: int = 5,
    seed: int | None = 0,
) -> None:
    """Return if every schedule that was tried ends the same and shows nothing that it takes back.

    `start` makes a state; an event is a delta that is joined into it, or whatever `apply(state, event)` takes. Events
    may instead be operations (`At`): then `histories` histories are recorded, in each of which the operations run in
    order at their replicas with random gossip between, and what they give are the events. States of a lattice type
    join, and pass through bytes at every step; others need `apply` and `merge`, and may have `save` and `load`.
    `outputs` are what the program shows while it runs, and may only grow: by their own order, or by that of an
    `Output`. `final` is what must be equal in the end, by default the whole state.

    Tried are, for up to `exhaustive` events, all orders with all batchings and each event repeated late; and `examples`
    schedules at random over 1 to `replicas` replicas, with batches, duplicates, late repetition and random merge trees.
    The `seed` decides which; None picks one, which the error names.

    Raises:
        NotConfluent: two events clash.
        ValueError: there are no events, or the state is no lattice and `apply` or `merge` is missing.
    """
    given = list(events)
    if not given:
        raise ValueError("there are no events. Give at least one; two are needed to clash.")
    seed = SystemRandom().randrange(1 << 32) if seed is None else seed
    program = _program(start, apply, merge, outputs or {}, final, save, load)
    recorded = [given] if not any(isinstance(e, At) for e in given) else _recorded(program, given, histories, seed)
    for history in recorded:
        _check(program, history, replicas, examples, exhaustive, seed)


def _program(
    start: Callable[[], Any],
    apply: Callable[[Any, Any], Any] | None,
    merge: Callable[[Any, Any], Any] | None,
    outputs: Mapping[str, Output | Callable[[Any], Any]],
    final: Callable[[Any], Any] | None,
    save: Callable[[Any], bytes] | None,
    load: Callable[[bytes], Any] | None,
) -> Program:
    if isinstance(start(), Lattice):
        apply, merge = apply or _join_moved, merge or _join
        save, load = save or codec.encode, load or codec.decode
    if apply is None or merge is None:
        raise ValueError("the state is no lattice. Give `apply` and `merge`, or start with a lattice.")
    shown = {name: read if isinstance(read, Output) else Output(read) for name, read in outputs.items()}
    return Program(start, apply, merge, final or _whole, shown, save, load)


def _join(state: Any, other: Any) -> Any:
    return state.join(other)


def _join_moved(state: Any, event: Any) -> Any:
    """Join a delta that came as bytes."""
    return state.join(codec.decode(codec.encode(event)))


def _whole(state: Any) -> Any:
    return state


def _recorded(program: Program, operations: Sequence[Any], histories: int, seed: int) -> Iterator[list[Any]]:
    """What operations gave, by several histories in which replicas hear of each other at different times."""
    for history in range(histories):
        random = Random(f"{seed}.{history}")
        states: dict[int, Any] = {}
        deltas = []
        for operation in operations:
            if not isinstance(operation, At):
                raise ValueError(f"{operation!r} is among operations and is none. Give all events as At(replica, act).")
            state = states.get(operation.replica, program.start())
            for other in sorted(states.keys() - {operation.replica}):
                if random.random() < 0.4:
                    state = program.merge(state, states[other])
            delta = operation.act(state)
            deltas.append(delta)
            states[operation.replica] = program.apply(state, delta)
        yield deltas


def _check(program: Program, events: Sequence[Any], replicas: int, examples: int, exhaustive: int, seed: int) -> None:
    """Orders first, then batches, then repetitions, then everything at once: the first kind that fails is shrunk."""
    everything = tuple(range(len(events)))
    shrink.reference(program, events, everything)  # a program that fails in the order given is told so by its error
    for kind in range(len(_kinds(everything, replicas, examples, exhaustive, seed))):

        def first_wrong(kept: Order, kind: int = kind) -> tuple[Schedule, str] | None:
            schedules = _kinds(kept, replicas, examples, exhaustive, seed)[kind]
            return shrink.first_wrong(program, events, kept, schedules)

        if first_wrong(everything) is not None:
            kept = shrink.smallest(everything, first_wrong)
            found = first_wrong(kept)
            assert found is not None
            raise NotConfluent(shrink.explained(program, events, kept, *found), events, seed)


def _kinds(kept: Order, replicas: int, examples: int, exhaustive: int, seed: int) -> list[Iterable[Schedule]]:
    """Schedules of these events, by kind; the same for the same seed."""
    count, random = len(kept), Random(seed)
    small = count <= exhaustive
    kinds: list[Iterable[Schedule]] = [
        every_order(count) if small else orders_at_random(count, examples, random),
        every_batching(count) if small else (),
        every_repetition(count) if small else (),
        (at_random(count, replicas, Random(f"{seed}.{n}")) for n in range(examples)),
    ]
    return [(schedule.renamed(kept) for schedule in kind) for kind in kinds]
