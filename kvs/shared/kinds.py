"""What a shared map can hold, and how a number of it lies in a slot: 8 bytes that only ever grow.

Theory of operation
- A slot is an unsigned number of 64 bits that its writer raises, in one store. So whatever a reader finds there was
  true, whenever the writer is stopped or killed, and a slot of zeros says nothing yet.
- `Max` and `Min`: the bits of a number, turned so that their order is that of the lattice. What the writers hold joins
  to the largest.
- Counters: what this writer has counted, in one slot that only grows or, up and down, in two. Of all writers it is the
  sum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add
from typing import Any, NamedTuple, TypeAlias

from kvs.lattices import GCounter, Lattice, Map, Max, Min, OutsideDomain, PNCounter
from kvs.lattices.domain import brief, ident, original
from kvs.shared.rows import Row, greatest, totals

Number = int | float
Key: TypeAlias = "str | bytes | int | tuple[Key, ...] | None"
Halves = Sequence[Sequence[Row]]
"""For each slot of an entry, the rows of all writers."""
Parts = dict[int, dict[Any, tuple[int, ...]]]
"""By writer, and by key (as `domain.ident` has it), the slots."""
TOP = (1 << 64) - 1
_HALF = 1 << 63
_KEYS = (str, int, bytes, type(None))
_NumbersOf = Callable[[list[int]], list[Number | None]]
_FLOAT, _BITS = struct.Struct("<d"), struct.Struct("<Q")


class Kind(NamedTuple):
    """One kind of map. Everything here is pure."""

    name: str
    """As files have it, up to 16 bytes of ASCII."""
    lattice: type[Lattice]
    width: int
    """Slots of an entry."""
    is_count: bool
    slot_of: Callable[[Any], int]
    """Of a number that is joined, or added. Raises OutsideDomain."""
    numbers: Callable[[Halves], list[Number | None]]
    """What they join to, by entry; None where nobody wrote."""
    value: Callable[[Parts], Map[Any, Any]]
    """The lattice value of it all."""
    parts: Callable[[Map[Any, Any]], Parts]
    """The slots that say the same as a lattice value; of no writer that lives."""


def kind_of(lattice: type[Lattice], number: type[Number]) -> Kind:
    """The kind of a map whose values are of `lattice`, over numbers of that type.

    Raises:
        OutsideDomain: there is no such map.
    """
    found = _KINDS.get((lattice, number))
    if found is None:
        raise OutsideDomain(
            f"{lattice.__name__} of {number.__name__}",
            "cannot lie in shared memory",
            "Use Max or Min of int or float, GCounter or PNCounter of int; or `merge`, which takes every lattice.",
        )
    return found


def kind_named(name: str) -> Kind | None:
    """The kind that files call so."""
    return next((kind for kind in _KINDS.values() if kind.name == name), None)


def ident_of(key: Any) -> Any:
    """What `domain.ident` says of a key, which is text, bytes, an integer, None, or a tuple of these.

    Raises:
        OutsideDomain: it is something else. `1.0` and `True` would be one entry with `1` in the dicts that are read.
    """
    if type(key) not in _KEYS and not (type(key) is tuple and all(map(_is_key, key))):
        raise OutsideDomain(
            f"{brief(key)} as a key of a shared map",
            f"is a {type(key).__name__}",
            "Use text, bytes, integers, None, or tuples of these.",
        )
    return ident(key)


def _is_key(part: Any) -> bool:
    return type(part) in _KEYS or (type(part) is tuple and all(map(_is_key, part)))


# -- numbers in slots


def _int_to_slot(value: Any) -> int:
    if type(value) is not int or not -_HALF < value < _HALF:
        raise OutsideDomain(f"{value!r:.60}", "is no integer of 64 bits", "Use int(...), or a map of floats.")
    return value + _HALF


def _float_to_slot(value: Any) -> int:
    if type(value) is int:
        value = float(value)
    if type(value) is not float or value != value:
        raise OutsideDomain(f"{value!r:.60}", "is no number in an order", "Use float(...), and leave nan out.")
    bits: int = _BITS.unpack(_FLOAT.pack(value))[0]
    return TOP - bits if bits >= _HALF else bits + _HALF


def _ints(slots: list[int]) -> list[Number | None]:
    return [slot - _HALF if slot else None for slot in slots]


def _int_to_turned(value: Any) -> int:
    """For `Min`: the smaller the number, the larger its slot."""
    return _HALF - (_int_to_slot(value) - _HALF)


def _turned_ints(slots: list[int]) -> list[Number | None]:
    return [_HALF - slot if slot else None for slot in slots]


def _floats(slots: list[int]) -> list[Number | None]:
    bits = [slot - _HALF if slot >= _HALF else TOP - slot for slot in slots]
    numbers = struct.unpack(f"<{len(bits)}d", struct.pack(f"<{len(bits)}Q", *bits))
    return [number if slot else None for number, slot in zip(numbers, slots, strict=True)]


def _float_to_turned(value: Any) -> int:
    return TOP - _float_to_slot(value)


def _turned_floats(slots: list[int]) -> list[Number | None]:
    return _floats([TOP - slot if slot else 0 for slot in slots])


def _count_to_slot(value: Any) -> int:
    if type(value) is not int or abs(value) >= _HALF:
        raise OutsideDomain(f"{value!r:.60}", "is no integer of 64 bits", "Count in whole numbers.")
    return value


# -- extremes


def _extreme(
    name: str,
    lattice: type[Lattice],
    to_slot: Callable[[Any], int],
    numbers_of: Callable[[list[int]], list[Number | None]],
) -> Kind:
    def numbers(halves: Halves) -> list[Number | None]:
        return numbers_of(greatest(halves[0]))

    def value(parts: Parts) -> Map[Any, Any]:
        found: dict[Any, int] = {}
        for entries in parts.values():
            for key, (slot,) in entries.items():
                found[key] = max(slot, found.get(key, 0))
        numbers = zip(found, numbers_of(list(found.values())), strict=True)
        return _map((key, lattice.from_body(number)) for key, number in numbers if number is not None)

    def parts(known: Map[Any, Any]) -> Parts:
        said = ((key, each.body()) for key, each in _entries(known, lattice))
        return {0: {key: (to_slot(number),) for key, number in said if number is not None}}

    return Kind(name, lattice, 1, False, to_slot, numbers, value, parts)


# -- counters


def _ups(halves: Halves) -> list[Number | None]:
    return [total or None for total in totals(halves[0])]


def _ups_and_downs(halves: Halves) -> list[Number | None]:
    pairs = zip(*map(totals, halves), strict=True)
    return [up - down if up or down else None for up, down in pairs]


def _counted(parts: Parts) -> Map[Any, Any]:
    return _map(
        (key, GCounter([(writer, slots[0])]))
        for writer, entries in parts.items()
        for key, slots in entries.items()
        if slots[0]
    )


def _counted_both_ways(parts: Parts) -> Map[Any, Any]:
    return _map(
        (key, PNCounter(*(GCounter([(writer, slot)] if slot else []) for slot in slots)))
        for writer, entries in parts.items()
        for key, slots in entries.items()
        if any(slots)
    )


def _count_parts(known: Map[Any, Any]) -> Parts:
    found: Parts = {}
    for key, counter in _entries(known, GCounter):
        for writer, count in counter:
            found.setdefault(_writer(writer), {})[key] = (count,)
    return found


def _both_parts(known: Map[Any, Any]) -> Parts:
    found: Parts = {}
    for key, counter in _entries(known, PNCounter):
        for at, half in enumerate((counter.increments, counter.decrements)):
            for writer, count in half:
                entries = found.setdefault(_writer(writer), {})
                entries[key] = tuple(map(add, entries.get(key, (0, 0)), (count, 0) if at == 0 else (0, count)))
    return found


def _writer(name: Any) -> int:
    if type(name) is not int:
        raise OutsideDomain(f"{name!r} as a writer", "is none of a shared map", "Use a key of its own for the map.")
    return name


def _entries(known: Map[Any, Any], lattice: type[Lattice]) -> Iterable[tuple[Any, Any]]:
    for name, value in known.items():
        if type(value) is not lattice:
            raise OutsideDomain(
                f"a {type(value).__name__}", f"is no {lattice.__name__}", "Use a key of its own for each type."
            )
        yield ident_of(name), value


def _map(pairs: Iterable[tuple[Any, Lattice]]) -> Map[Any, Any]:
    return Map((original(key), value) for key, value in pairs)


_KINDS: Mapping[tuple[type[Lattice], type[Number]], Kind] = {
    (Max, int): _extreme("max int", Max, _int_to_slot, _ints),
    (Max, float): _extreme("max float", Max, _float_to_slot, _floats),
    (Min, int): _extreme("min int", Min, _int_to_turned, _turned_ints),
    (Min, float): _extreme("min float", Min, _float_to_turned, _turned_floats),
    (GCounter, int): Kind("g_counter", GCounter, 1, True, _count_to_slot, _ups, _counted, _count_parts),
    (PNCounter, int): Kind(
        "pn_counter", PNCounter, 2, True, _count_to_slot, _ups_and_downs, _counted_both_ways, _both_parts
    ),
}
