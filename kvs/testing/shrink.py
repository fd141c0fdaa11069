"""From a program that fails under some schedule to the two events that clash.

First the events are cut down to a smallest set that still fails (delta debugging). Then: two orders of the same events
that end differently can be turned into each other by swapping neighbours, and one of those swaps makes the difference.
Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002 (ddmin).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from kvs.testing.program import Ended, Program, run, same
from kvs.testing.schedules import Deliver, Order, Schedule, in_order

ALL_ORDERS_OF = 5
"""So many events have 120 orders; of more, only those between the order given and that of the failure are tried."""


@dataclass(frozen=True)
class Failure:
    """A schedule under which the program is wrong, and why. `one` and `other` clash (the same: with itself)."""

    schedule: Schedule
    text: str
    one: int
    other: int
    after: Order = ()


def smallest(indexes: Sequence[int], fails: Callable[[Order], object]) -> Order:
    """Events of which none can be left out if it is still to fail; `indexes` themselves do. At most n**2 calls."""
    kept, parts = tuple(indexes), 2
    while len(kept) > 1:
        size = max(1, len(kept) // parts)
        chunks = [kept[i : i + size] for i in range(0, len(kept), size)]
        without = (tuple(e for e in kept if e not in chunk) for chunk in chunks)
        smaller = next((c for c in (*chunks, *without) if 0 < len(c) < len(kept) and fails(c)), None)
        if smaller is not None:
            kept, parts = smaller, 2
        elif size == 1:
            break
        else:
            parts = min(len(kept), parts * 2)
    return kept


def first_wrong(
    program: Program, events: Sequence[object], kept: Order, schedules: Iterable[Schedule]
) -> tuple[Schedule, str] | None:
    """The first schedule under which the `kept` events do not end as in their own order, or show what they take back.

    None if all are right, and if the events cannot even run in their own order: then they are no part of the program.
    """
    try:
        expected = reference(program, events, kept)
    except Exception:  # the program needs an event that was left out; what it raises with all of them is raised
        return None
    for schedule in schedules:
        match run(program, events, schedule):
            case Ended(final) if same(final, expected):
                continue
            case Ended(final):
                return schedule, f"ends with {final!r} and not with {expected!r}"
            case outcome:
                return schedule, outcome.text
    return None


def reference(program: Program, events: Sequence[Any], order: Order) -> Any:
    """How the events end in the order given, in one memory. What the program raises is raised."""
    state = program.start()
    for event in order:
        state = program.apply(state, events[event])
    return program.final(state)


def explained(program: Program, events: Sequence[object], kept: Order, schedule: Schedule, text: str) -> Failure:
    """Which two of the `kept` events clash, by the simplest schedule that shows it."""
    orders = list(permutations(kept) if len(kept) <= ALL_ORDERS_OF else between(kept, _order_of(schedule)))
    by_swap = _first_swap(program, events, orders)
    if by_swap is not None:
        return by_swap
    for order in orders:
        outcome = run(program, events, in_order(order))
        if not isinstance(outcome, Ended):
            return _jumped_over(program, events, order, outcome.step, outcome.text)
    if len(kept) == 1:
        return Failure(schedule, text, kept[0], kept[0])
    return Failure(schedule, text, kept[0], kept[1], kept[2:])


def _order_of(schedule: Schedule) -> Order:
    """The events in the order in which they came first."""
    return tuple(dict.fromkeys(e for step in schedule.steps if isinstance(step, Deliver) for e in step.events))


def between(start: Order, end: Order) -> Iterator[Order]:
    """Orders from `start` to `end`, each a swap of two neighbours from the last."""
    order = list(start)
    yield start
    for place, event in enumerate(end):
        for at in range(order.index(event), place, -1):
            order[at - 1], order[at] = order[at], order[at - 1]
            yield tuple(order)


def _first_swap(program: Program, events: Sequence[object], orders: Sequence[Order]) -> Failure | None:
    """Two orders that differ by one swap of neighbours and end differently."""
    ends = {}
    for order in orders:
        outcome = run(program, events, in_order(order))
        if isinstance(outcome, Ended):
            ends[order] = outcome.final
    for order, final in ends.items():
        for at in range(len(order) - 1):
            swapped = (*order[:at], order[at + 1], order[at], *order[at + 2 :])
            if swapped in ends and not same(final, ends[swapped]):
                text = f"ends with {ends[swapped]!r} and not with {final!r}, as it does the other way round"
                return Failure(in_order(swapped), text, order[at], order[at + 1], order[:at])
    return None


def _jumped_over(program: Program, events: Sequence[object], order: Order, step: int, text: str) -> Failure:
    """The event whose delivery is wrong, and the nearest earlier one that it must not follow."""
    event, earlier = order[step], order[:step]
    for at in range(step - 1, -1, -1):
        moved = (*order[:at], event, *order[at:step])
        if isinstance(run(program, events, in_order(moved)), Ended):
            return Failure(in_order(order), text, order[at], event, earlier[:at])
    return Failure(in_order(order), text, earlier[0] if earlier else event, event, earlier[1:])
