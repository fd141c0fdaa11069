"""The contract of a lattice, as one call over generated values.

    check_lattice(BoolOr, st.booleans().map(BoolOr))

Draw from a *small* range, so that ties, equal keys and equal clocks are common: that is where lattices are wrong;
`kvs.testing.scalars` has the values that trip them. Needs hypothesis.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from itertools import islice
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from kvs.errors import KvsError
from kvs.lattices import codec, domain
from kvs.lattices.base import Lattice
from kvs.lattices.declared import Declaration, declarations
from kvs.lattices.errors import BadEncoding, LatticeMismatch, NewerEncoding
from kvs.testing import laws
from kvs.testing.laws import Law, LawBroken

Arguments = Mapping[str, st.SearchStrategy[tuple[Any, ...]]]
Meanings = Mapping[str, Callable[..., Any]]


def check_lattice(
    cls: type[Any],
    values: st.SearchStrategy[Any],
    *,
    arguments: Arguments | None = None,
    meanings: Meanings | None = None,
    order: Callable[[Any, Any], bool] | None = None,
    examples: int = 60,
) -> None:
    """Return if `cls` keeps the contract on `examples` triples of `values`; the same ones on each call.

    `arguments` has, for each declared method that takes any, a strategy of tuples of them. `meanings` may have, for a
    mutator, a function (value, *arguments) to the value after the write, by another way than joining; `order` another
    definition of `<=`. Of a type that is no `Lattice` but has `join`, `leq` and `bottom`, joining alone is checked.

    Raises:
        LawBroken: something does not hold; the smallest values that hypothesis found are in the text.
        ValueError: a declared method takes arguments and has none here.
    """
    methods = declarations(cls)
    for name in methods:
        if name not in (arguments or {}) and _takes_arguments(cls, name):
            raise ValueError(f"{cls.__name__}.{name} is declared and takes arguments. Give a strategy of them.")
    kit = _Kit(cls, methods, arguments or {}, meanings or {}, order)

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),  # not `explain`, which runs a failing example a thousand times more
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        kit.check(data.draw(values), data.draw(values), data.draw(values), data)

    try:
        run()
    except Flaky as e:
        raise LawBroken(
            f"{cls.__name__}: values that were made alike differ in what they do: something is shared"
        ) from e
    refused = sorted(name for name, d in methods.items() if d.kind == "mutator" and name not in kit.accepted)
    if refused:
        raise LawBroken(f"{cls.__name__}: {', '.join(refused)} refused every write. Draw other arguments.")


class _Kit:
    """One run over one type; `accepted` collects the mutators that wrote at least once."""

    def __init__(
        self,
        cls: type[Any],
        methods: Mapping[str, Declaration],
        arguments: Arguments,
        meanings: Meanings,
        order: Callable[[Any, Any], bool] | None,
    ) -> None:
        self.cls, self.methods, self.arguments, self.meanings, self.order = cls, methods, arguments, meanings, order
        self.accepted: set[str] = set()

    def check(self, a: Any, b: Any, c: Any, data: st.DataObject) -> None:
        ours = isinstance(a, Lattice)
        bottom = self.cls.bottom()
        laws.check_laws(a, b, c, bottom=bottom, same=laws.encoded_alike if ours else None)
        said = f" a = {a!r}\n b = {b!r}\n c = {c!r}"
        if self.order is not None:
            laws.require(self._ordered(a, b, bottom), self.cls.__name__, said)
        if not ours:
            return
        before = [v.encode() for v in (a, b, bottom)]
        laws.require(self._lattice(a, b, bottom, data), self.cls.__name__, said)
        if [v.encode() for v in (a, b, bottom)] != before:
            raise LawBroken(f"{self.cls.__name__}: a method changed its value\n{said}\n were {before!r}")

    def _ordered(self, a: Any, b: Any, bottom: Any) -> Iterator[Law]:
        assert self.order is not None
        for x, y in ((a, b), (a, a.join(b)), (b, bottom)):
            yield f"leq is not the order it should be at {x!r}, {y!r}", x.leq(y) == self.order(x, y)

    def _lattice(self, a: Lattice, b: Lattice, bottom: Lattice, data: st.DataObject) -> Iterator[Law]:
        joined = a.join(b)
        same = laws.encoded_alike
        yield from laws.operators(a, b)
        for x, known in ((a, b), (joined, a), (a, bottom), (bottom, a)):
            yield from laws.deltas(x, known, same)
        for x in (a, joined, bottom):
            yield from laws.splitting(x, same)
            yield from _byte_form(x)
        yield from _hostile_bytes(a, data.draw(st.integers(0, 255)), data.draw(st.integers(0, 10_000)))
        yield from _refusals(a)
        for name, declaration in self.methods.items():
            drawn = data.draw(self.arguments[name]) if name in self.arguments else ()
            match declaration.kind:
                case "mutator":
                    yield from self._mutator(name, a, drawn)
                    yield from self._mutator(name, bottom, drawn)
                case "monotone":
                    yield from self._monotone(name, declaration, a, joined, drawn)
                    yield from self._monotone(name, declaration, bottom, a, drawn)
                case "morphism":
                    yield from self._morphism(name, a, b, bottom, drawn)

    def _monotone(self, name: str, law: Declaration, low: Any, high: Any, drawn: tuple[Any, ...]) -> Iterator[Law]:
        below = law.order or answers_below
        one, other = called(low, name, drawn), called(high, name, drawn)
        yield (
            f"{name}{drawn!r} is declared monotone and goes from {one!r} at {low!r} to {other!r} at {high!r}",
            below(one, other),
        )

    def _morphism(self, name: str, a: Any, b: Any, bottom: Any, drawn: tuple[Any, ...]) -> Iterator[Law]:
        parts = joined_answers(called(a, name, drawn), called(b, name, drawn))
        whole = called(a.join(b), name, drawn)
        yield f"{name}{drawn!r} is no morphism at {a!r}, {b!r}: {parts!r} and {whole!r}", answers_same(parts, whole)
        nothing = called(bottom, name, drawn)
        yield f"{name}{drawn!r} of bottom is {nothing!r}", is_bottom(nothing)

    def _mutator(self, name: str, x: Any, drawn: tuple[Any, ...]) -> Iterator[Law]:
        try:
            delta = called(x, name, drawn)
        except KvsError:
            return  # a write that is refused has no delta; one that always is fails in the end
        self.accepted.add(name)
        at = f"at {x!r} with {drawn!r}: {delta!r}"
        yield f"{name} gives no {self.cls.__name__} {at}", type(delta) is self.cls
        yield f"{name} sends what is known {at}", laws.encoded_alike(delta.difference(x), delta)
        yield f"{name} sends what is known {at}", not any(atom.leq(x) for atom in islice(delta.atoms(), 50))
        if name in self.meanings:
            after = self.meanings[name](x, *drawn)
            yield f"{name} does not write {after!r} {at}", laws.encoded_alike(x.join(delta), after)


def _takes_arguments(cls: type[Any], name: str) -> bool:
    attribute = getattr(cls, name)
    return callable(attribute) and len(signature(attribute).parameters) > 1


def called(value: Any, name: str, drawn: tuple[Any, ...]) -> Any:
    """What a declared method or property answers."""
    attribute = getattr(value, name)
    return attribute(*drawn) if callable(attribute) and not isinstance(attribute, Lattice) else attribute


def answers_below(a: Any, b: Any) -> bool:
    """The order of what monotone functions answer: lattices and sets by their own, the rest by `domain.key`."""
    if a is None or b is None:
        return a is None
    if isinstance(a, Lattice):
        return a.leq(b)
    return a <= b if isinstance(a, frozenset) else domain.at_most(a, b)


def joined_answers(a: Any, b: Any) -> Any:
    """The join of what a morphism answers for two parts."""
    if a is None or b is None:
        return b if a is None else a
    if not isinstance(a, Lattice | bool | frozenset):
        raise LawBroken(f"a morphism gives a bool, a frozenset, a lattice or None, and not {a!r}")
    return a | b


def answers_same(a: Any, b: Any) -> bool:
    return laws.encoded_alike(a, b) if isinstance(a, Lattice) and isinstance(b, Lattice) else bool(a == b)


def is_bottom(answer: Any) -> bool:
    return answer == answer.bottom() if isinstance(answer, Lattice) else not answer


def _byte_form(x: Lattice) -> Iterator[Law]:
    data = x.encode()
    yield f"{x!r} does not come back from its bytes", laws.encoded_alike(type(x).decode(data), x)
    yield f"{x!r} does not come back from pickle", laws.encoded_alike(pickle.loads(pickle.dumps(x)), x)
    yield f"{x!r} is not its copy", laws.encoded_alike(copy.deepcopy(x), x) and laws.encoded_alike(copy.copy(x), x)


def _hostile_bytes(x: Lattice, byte: int, place: int) -> Iterator[Law]:
    """Damaged bytes are refused, or are the canonical bytes of the value that they give."""
    data = x.encode()
    at = place % len(data)
    newer = data[:3] + bytes([codec.VERSION + 1]) + data[4:]
    yield "a newer version is not refused", _refused(lambda: codec.decode(newer), NewerEncoding)
    yield "bytes that are cut off are not refused", _refused(lambda: codec.decode(data[:at]), BadEncoding)
    yield "bytes that go on are not refused", _refused(lambda: codec.decode(data + bytes([byte])), BadEncoding)
    damaged = data[:at] + bytes([byte]) + data[at + 1 :]
    try:
        value = codec.decode(damaged)
    except BadEncoding:
        return
    yield f"{damaged!r} is read as {value!r}, whose bytes are others", value.encode() == damaged


def _refusals(x: Lattice) -> Iterator[Law]:
    stranger = _Stranger()
    yield f"{x!r} joins with another lattice", _refused(lambda: x.join(stranger), LatticeMismatch)
    yield f"{x!r} compares with another lattice", _refused(lambda: x.leq(stranger), LatticeMismatch)
    yield f"{x!r} differs from another lattice", _refused(lambda: x.difference(stranger), LatticeMismatch)
    yield f"{x!r} equals another lattice", x != stranger
    yield "bytes of another lattice are read", _refused(lambda: type(x).decode(stranger.encode()), LatticeMismatch)
    yield f"{x!r} can be changed", _refused(lambda: setattr(x, "value", None), AttributeError)


def _refused(act: Callable[[], object], error: type[Exception]) -> bool:
    try:
        act()
    except error:
        return True
    return False


@codec.lattice_type("kvs.testing.stranger")
class _Stranger(Lattice):
    """A lattice of one value, which no other type may join with."""

    __slots__ = ()

    def _join(self, other: _Stranger) -> _Stranger:
        return self

    def body(self) -> Any:
        return None

    @classmethod
    def from_body(cls, body: Any) -> _Stranger:
        return cls()

    def __repr__(self) -> str:
        return "Stranger()"
