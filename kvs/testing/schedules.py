"""Ways in which the same events can reach some replicas: who gets what, in which order, how often, and in what batches.

A schedule is plain data, so that a failing one can be printed, replayed and cut down. Whatever it does, every event
reaches a replica at least once, and in the end replica 0 has merged all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Events reach a replica at once; a batch of several is first put together by itself, then merged."""

    replica: int
    events: Order

    def __str__(self) -> str:
        return f"{'+'.join(map(str, self.events))} to r{self.replica}"


@dataclass(frozen=True, slots=True)
class Gossip:
    """A replica merges the state of another."""

    source: int
    target: int

    def __str__(self) -> str:
        return f"r{self.source} to r{self.target}"


Step = Deliver | Gossip


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` over `replicas` replicas, one after the other."""

    replicas: int
    steps: tuple[Step, ...]

    def renamed(self, events: Order) -> Schedule:
        """With `events[n]` in place of event n."""
        steps = (
            Deliver(s.replica, tuple(events[e] for e in s.events)) if isinstance(s, Deliver) else s for s in self.steps
        )
        return Schedule(self.replicas, tuple(steps))

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps))


def in_order(order: Sequence[int]) -> Schedule:
    """One event after the other at one replica."""
    return Schedule(1, tuple(Deliver(0, (event,)) for event in order))


def every_order(count: int) -> Iterator[Schedule]:
    """One event after the other; n! of them, the order of the numbers first."""
    return map(in_order, permutations(range(count)))


def every_batching(count: int) -> Iterator[Schedule]:
    """All orders, cut into batches in every way; n! * 2**(n-1) of them."""
    for order in permutations(range(count)):
        for batches in _split_every_way(order):
            yield Schedule(1, tuple(Deliver(0, batch) for batch in batches))


def every_repetition(count: int) -> Iterator[Schedule]:
    """All orders, with each event once more at the end; n! * n of them."""
    return (in_order((*order, late)) for order in permutations(range(count)) for late in range(count))


def orders_at_random(count: int, examples: int, random: Random) -> Iterator[Schedule]:
    """One event after the other, shuffled."""
    return (in_order(random.sample(range(count), count)) for _ in range(examples))


def _split_every_way(order: Order) -> Iterator[list[Order]]:
    if not order:
        yield []
    for size in range(1, len(order) + 1):
        for rest in _split_every_way(order[size:]):
            yield [order[:size], *rest]


def at_random(count: int, replicas: int, random: Random) -> Schedule:
    """Events shuffled over 1 to `replicas` replicas, some to several, some late again, with gossip in between."""
    used = random.randint(1, replicas)
    order = random.sample(range(count), count)
    steps: list[Step] = []
    while order:
        size = min(len(order), random.choice((1, 1, 1, 2, 3)))
        batch, order = tuple(order[:size]), order[size:]
        steps.append(Deliver(random.randrange(used), batch))
        if random.random() < 0.3:  # a duplicate, now or late
            again = Deliver(
                random.randrange(used), tuple(random.sample(range(count), random.randint(1, min(2, count))))
            )
            steps.insert(random.randint(0, len(steps)), again)
        if used > 1 and random.random() < 0.4:
            steps.append(Gossip(*random.sample(range(used), 2)))
    return Schedule(used, (*steps, *_merge_tree(used, random)))


def _merge_tree(replicas: int, random: Random) -> Iterator[Gossip]:
    """Merges, in a random tree, after which replica 0 has everything."""
    alive = list(range(replicas))
    while len(alive) > 1:
        source, target = random.sample(alive, 2)
        if source == 0:
            source, target = target, source
        alive.remove(source)
        yield Gossip(source, target)
