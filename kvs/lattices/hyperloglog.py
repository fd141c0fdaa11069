"""How many distinct things were seen, within a percent or two, in a few kilobytes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from hashlib import blake2b
from typing import Any

from kvs.lattices import domain, wire
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, mutator
from kvs.lattices.errors import OutsideDomain

MIN_PRECISION, MAX_PRECISION = 4, 18
_HASH_BITS = 64


@lattice_type("hyperloglog")
class HyperLogLog(Lattice):
    """2**precision registers, each the longest run of zero bits seen among the hashes that fall to it.

    Join is the larger by register. Where sides differ in precision the finer is folded to the coarser first, which
    gives what it would have been; so bottom, `HyperLogLog.bottom()`, is empty at the highest precision. The standard
    error is 1.04 / sqrt(2**precision): 1.6 % at 12, which takes 4 KB. Elements are plain values; the hash is BLAKE2b of
    their canonical bytes, the same in every process.
    Source: Flajolet et al., "HyperLogLog", 2007; Ertl, "New cardinality estimation algorithms for HyperLogLog
    sketches", 2017, for the estimate without special ranges (a corrected range falls back at its border).

    Raises:
        OutsideDomain: the precision is no integer from 4 to 18.
    """

    __slots__ = ("_registers", "precision")
    precision: int
    _registers: bytes  # empty if nothing was added

    def __init__(self, precision: int = 12) -> None:
        if type(precision) is not int or not MIN_PRECISION <= precision <= MAX_PRECISION:
            raise OutsideDomain(
                f"precision {precision!r}",
                f"is no integer from {MIN_PRECISION} to {MAX_PRECISION}",
                "Take 12, which errs by 1.6 %.",
            )
        set_field(self, "precision", precision)
        set_field(self, "_registers", b"")

    @classmethod
    def bottom(cls) -> HyperLogLog:
        return cls(MAX_PRECISION)

    def _join(self, other: HyperLogLog) -> HyperLogLog:
        precision = min(self.precision, other.precision)
        mine, theirs = (_folded(s._registers, s.precision, precision) for s in (self, other))
        registers = bytes(map(max, mine, theirs)) if mine and theirs else mine or theirs
        for side in (self, other):
            if side.precision == precision and side._registers == registers:
                return side
        return _of_registers(precision, registers)

    def _leq(self, other: HyperLogLog) -> bool:
        if self.precision < other.precision:
            return False
        mine = _folded(self._registers, self.precision, other.precision)
        return not mine or (bool(other._registers) and all(map(int.__le__, mine, other._registers)))

    def atoms(self) -> Iterator[HyperLogLog]:
        if not self._registers and self.precision < MAX_PRECISION:
            yield self
        for index, value in enumerate(self._registers):
            if value:
                yield _raised(self.precision, {index: value})

    def difference(self, known: HyperLogLog) -> HyperLogLog:
        if type(known) is not HyperLogLog:
            raise self._mismatch(known)
        precision = min(self.precision, known.precision)
        mine = _folded(self._registers, self.precision, precision)
        theirs = _folded(known._registers, known.precision, precision) or bytes(len(mine))
        lacking = {i: a for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a > b} if mine else {}
        if not lacking:
            return self.bottom() if known.precision <= self.precision else HyperLogLog(self.precision)
        return _raised(precision, lacking)

    @mutator
    def add(self, *elements: domain.Scalar) -> HyperLogLog:
        """The delta of having seen `elements`."""
        raised: dict[int, int] = {}
        for element in elements:
            index, run = _place(domain.checked(element, "an element"), self.precision)
            raised[index] = max(run, raised.get(index, 0))
        return _raised(self.precision, raised).difference(self) if raised else self.bottom()

    @monotone(order=tuple.__le__)
    def reading(self) -> tuple[int, int]:
        """(coarseness, estimate): the pair grows, and so does the estimate while the precision stays."""
        return (MAX_PRECISION - self.precision, self.estimate())

    def estimate(self) -> int:
        """How many distinct elements were added, about. A fold to a coarser precision may lower it."""
        size = 1 << self.precision
        empty = self._registers.count(0) if self._registers else size
        if empty == size:
            return 0
        harmonic = sum(1 << (_HASH_BITS - run) for run in self._registers if run)
        scale = size * size / (2.0 * _LN2)
        return round(scale / (harmonic / (1 << _HASH_BITS) + size * _sigma(empty / size)))

    def body(self) -> Any:
        """(precision, flat index and register of those above 0) or (precision, all registers), whichever is shorter."""
        sparse = tuple(entry for pair in enumerate(self._registers) if pair[1] for entry in pair)
        return (self.precision, self._registers if 2 * len(sparse) > len(self._registers) else sparse)

    @classmethod
    def from_body(cls, body: Any) -> HyperLogLog:
        precision, registers = body
        empty = cls(precision)
        size, top = 1 << precision, _HASH_BITS - precision + 1
        if type(registers) is tuple:
            dense = bytearray(size)
            for index, run in zip(registers[0::2], registers[1::2], strict=True):
                if type(index) is not int or type(run) is not int or not 0 <= index < size:
                    raise ValueError("a register outside of the sketch")
                dense[index] = run
            registers = bytes(dense)
        if len(registers) != size or max(registers) > top:
            raise ValueError("registers of another size")
        return _of_registers(precision, registers) if any(registers) else empty

    def _key(self) -> Hashable:
        return (self.precision, self._registers)

    def __repr__(self) -> str:
        return f"HyperLogLog(about {self.estimate()}, precision {self.precision})"


_LN2 = 0.6931471805599453


def _place(element: domain.Scalar, precision: int) -> tuple[int, int]:
    """The register that an element falls to, and the run it brings: 1 + zero bits before the first one."""
    hashed = int.from_bytes(blake2b(wire.packed(element), digest_size=_HASH_BITS // 8).digest(), "big")
    rest = hashed & ((1 << (_HASH_BITS - precision)) - 1)
    return hashed >> (_HASH_BITS - precision), _HASH_BITS - precision - rest.bit_length() + 1


def _folded(registers: bytes, precision: int, coarser: int) -> bytes:
    """The registers that the same elements give at a coarser precision."""
    spare = precision - coarser
    if not registers or not spare:
        return registers
    folded = bytearray(1 << coarser)
    for index, run in enumerate(registers):
        if run:
            low = index & ((1 << spare) - 1)
            coarse = spare - low.bit_length() + 1 if low else spare + run
            folded[index >> spare] = max(coarse, folded[index >> spare])
    return bytes(folded)


def _sigma(x: float) -> float:
    """x + sum over k of x**(2**k) * 2**(k-1): what the empty registers add (Ertl, algorithm 6). `x` is below 1."""
    total, power, before = x, 1.0, -1.0
    while total != before:
        x *= x
        before = total
        total += x * power
        power += power
    return total


def _raised(precision: int, raised: dict[int, int]) -> HyperLogLog:
    registers = bytearray(1 << precision)
    for index, run in raised.items():
        registers[index] = run
    return _of_registers(precision, bytes(registers))


def _of_registers(precision: int, registers: bytes) -> HyperLogLog:
    made: HyperLogLog = HyperLogLog.__new__(HyperLogLog)
    set_field(made, "precision", precision)
    set_field(made, "_registers", registers)
    return made
