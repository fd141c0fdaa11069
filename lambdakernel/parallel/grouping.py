"""Values by key, in bounded memory: what one process of a shuffle does with its part.

Theory of operation
- The map side takes (key, value) pairs into one table, and combines values of a key as they come. When the table has
  taken the memory that it may, it is written out, split by the hash of the keys, and begun anew.
- The reduce side joins what all map sides wrote for one partition, in the order of the items. A partition that is
  larger than the memory is read several times, each time for a part of its keys. So a value list of one key, or the
  combined values of a part of the keys, must fit; a whole partition need not.
- With each key goes the place of its first pair, so that the result has the order that one loop over all items gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from typing import Any, NamedTuple

from kvs.lattices import Lattice
from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.hashing import stable_hash, stable_hashes
from lambdakernel.parallel.memory import held
from lambdakernel.parallel.spool import Place, Span, Writer, get

GROWTH = 4
"""Memory that objects take, over the bytes of their pickle."""
LOOK_EVERY = 4096
"""Pairs after which the map side looks at its memory."""
MOST_PARTITIONS = 256
"""So that the partition of a key is a byte."""


class CannotShuffle(LambdaKernelError):
    """A function that was given does not do what it must; nothing was returned."""


class Combine(NamedTuple):
    """How values of one key come together. `join` may change its first argument."""

    first: Callable[[Any], Any]
    more: Callable[[Any, Any], Any]
    join: Callable[[Any, Any], Any]


class Block(NamedTuple):
    """Keys, each with the place of its first pair among all, and its values so far."""

    places: list[int]
    keys: list[Any]
    values: list[Any]


class Mapped(NamedTuple):
    """What one map side wrote: for each partition, where."""

    place: Place
    spans: tuple[tuple[Span, ...], ...]


def combiner(how: Any) -> Combine:
    """None: a list of all values. A function of two values. A lattice or its type: their join.

    Raises:
        CannotShuffle: it is none of these.
    """
    if how is None:
        return Combine(_listed, _appended, _extended)
    if isinstance(how, Lattice) or (isinstance(how, type) and issubclass(how, Lattice)):
        kind: Any = how if isinstance(how, type) else type(how)
        make = _OfType(kind)
        return Combine(make, lambda known, value: known.join(make(value)), kind.join)
    if callable(how):
        return Combine(_same, how, how)
    raise CannotShuffle(
        f"values come together by a function of two, or a lattice, and this is {how!r}. Give for example"
        " operator.add, max, or a type of kvs.lattices."
    )


_ITEMS: Any = type({}.items())
_IS = [bytes(partition) + b"\1" + bytes(255 - partition) for partition in range(MOST_PARTITIONS)]
"""For each partition, the table by which `bytes.translate` says which keys are in it."""


def _same(value: Any) -> Any:
    return value


def _listed(value: Any) -> list[Any]:
    return [value]


def _appended(known: list[Any], value: Any) -> list[Any]:
    known.append(value)
    return known


def _extended(known: list[Any], more: list[Any]) -> list[Any]:
    known.extend(more)
    return known


class _OfType:
    """Makes a value a lattice of a type; one that is stays as it is."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind

    def __call__(self, value: Any) -> Any:
        return value if isinstance(value, Lattice) else self._kind(value)


# -- the map side


class Table:
    """Values by key, in memory as long as they fit. `chunk` is the place of these items among all."""

    def __init__(self, combine: Combine, writer: Writer, chunk: int, partitions: int, memory_nbytes: int) -> None:
        self._combine, self._writer, self._partitions = combine, writer, partitions
        self._memory_nbytes = memory_nbytes
        self._before = held(os.getpid()).own
        self._values: dict[Any, Any] = {}
        self._place = chunk << 40
        """Of the first key in the table; they are in the order in which they came."""
        self._taken = self._since_look = 0
        self._spans: list[list[Span]] = [[] for _ in range(partitions)]
        self._full_at = 0
        """Pairs that filled the memory the first time. It is not given back, so later it tells nothing."""

    def take(self, pairs: Iterable[Any]) -> None:
        """Take in the pairs that one item gave.

        Raises:
            CannotShuffle: one is no pair, or its key cannot be one.
        """
        values, (first, more, _) = self._values, self._combine
        if not values and first is _same and type(pairs) is _ITEMS:  # each key once, as it comes
            values.update(pairs)
            self._look(len(values))
            return
        taken = self._since_look
        for pair in pairs:
            try:
                key, value = pair
                is_known = key in values
            except (TypeError, ValueError) as e:
                raise CannotShuffle(
                    f"an item gave {pair!r:.200}, which is no pair of a key (that a dictionary may have) and a value:"
                    f" {e}."
                ) from e
            values[key] = more(values[key], value) if is_known else first(value)
            taken += 1
            if taken == LOOK_EVERY:
                self._look(taken)
                taken = 0
        self._since_look = taken

    def _look(self, taken: int) -> None:
        self._taken += taken
        if self._full_at:
            is_full = self._taken >= self._full_at
        else:
            is_full = held(os.getpid()).own - self._before > self._memory_nbytes
        if is_full:
            self._full_at = self._full_at or self._taken
            self.write()
            self._taken = 0

    def write(self) -> None:
        """Write out what is in memory."""
        keys, count = list(self._values), self._partitions
        numbers = bytes([number % count for number in stable_hashes(keys)])
        places = range(self._place, self._place + len(keys))
        for partition, spans in enumerate(self._spans):
            chosen = numbers.translate(_IS[partition])
            if any(chosen):
                columns = (compress(column, chosen) for column in (places, keys, self._values.values()))
                spans.append(self._writer.put(tuple(map(list, columns))))
        self._place += len(keys)
        self._values.clear()

    def done(self, place: Place) -> Mapped:
        self.write()
        return Mapped(place, tuple(map(tuple, self._spans)))


# -- the reduce side


def reduced(
    mapped: Iterable[Mapped], partition: int, combine: Combine, then: Callable[[Any], Any] | None, memory_nbytes: int
) -> Iterator[Block]:
    """What is known of the keys of one partition, some keys at a time."""
    parts = [(one.place, span, len(one.spans)) for one in mapped for span in one.spans[partition]]
    rounds = max(1, -(-GROWTH * sum(span.nbytes for _, span, _ in parts) // memory_nbytes))
    for number in range(rounds):
        places: dict[Any, int] = {}
        values: dict[Any, Any] = {}
        for place, span, partitions in parts:
            block = Block(*get(place, span))
            if rounds == 1 and not values:  # each key is once in it
                places = dict(zip(block.keys, block.places, strict=True))
                values = dict(zip(block.keys, block.values, strict=True))
                continue
            rows: Iterable[Any] = zip(*block, strict=True)
            if rounds > 1:
                rows = (row for row in rows if stable_hash(row[1]) // partitions % rounds == number)
            _join(places, values, rows, combine.join)
        if values:
            kept = list(map(then, values.values())) if then else list(values.values())
            yield Block([places[key] for key in values], list(values), kept)


def _join(places: dict[Any, int], values: dict[Any, Any], rows: Iterable[Any], join: Callable[[Any, Any], Any]) -> None:
    for place, key, value in rows:
        if key in values:
            values[key] = join(values[key], value)
        else:
            places[key], values[key] = place, value
