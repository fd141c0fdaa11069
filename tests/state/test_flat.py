"""A pickle that is written from a snapshot loads as the same graph; what has its own ways is left to the encoder."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import codec, flat, graph
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump

pytestmark = pytest.mark.skipif(not graph.FAST, reason="the C extension is not built, or not used")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "WORTH_OBJECTS", 0)


class P:
    """An instance with a dictionary."""


@dataclasses.dataclass(slots=True, eq=False)
class Narrow:
    """An instance with slots."""

    a: Any
    b: Any = None


class Colour(enum.Enum):
    """A member is an atom that the encoder writes."""

    RED = 1


def written(book: ClassBook | None = None, **names: Any) -> Dump | None:
    look = graph.take(list(names.values()), {})
    assert look is not None
    found = flat.dump(look, list(names), names, book or ClassBook())
    return found[0] if found is not None else None


def loaded(found: Dump | None) -> dict[str, Any]:
    assert found is not None, "not written"
    value = codec.load("it", found.head, [], {}, ClassBook(), lambda uid: P, str)
    assert value["classes"] == {}
    names: dict[str, Any] = value["names"]
    return names


def moved(value: Any) -> Any:
    return loaded(written(value=value))["value"]


def shape(root: Any) -> list[Any]:
    """What a graph is: its objects in the order of a walk, each with what it holds, by their numbers."""
    numbers: dict[int, int] = {}
    queue: list[Any] = []

    def number(obj: Any) -> Any:
        if type(obj) is str:
            return ("str", obj, numbers.setdefault(id(obj), len(numbers)))
        if not isinstance(obj, list | dict | tuple | set | frozenset | P | Narrow):
            return (type(obj).__name__, repr(obj))
        if id(obj) not in numbers:
            numbers[id(obj)] = len(numbers)
            queue.append(obj)
        return numbers[id(obj)]

    number(root)
    found = []
    for obj in queue:
        if isinstance(obj, P | Narrow):  # a load interns names of attributes
            attributes = vars(obj) if isinstance(obj, P) else {"a": obj.a, "b": obj.b}
            found.append((type(obj).__name__, [(name, number(value)) for name, value in attributes.items()]))
            continue
        items = [part for pair in obj.items() for part in pair] if isinstance(obj, dict) else list(obj)
        if isinstance(obj, set | frozenset):
            items.sort(key=repr)
        found.append((type(obj).__name__, [number(item) for item in items]))
    return found


VALUES: dict[str, Any] = {
    "integers": [0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**63, -(2**63),
                 2**2100, -(2**5000)],
    "numbers": [0.0, -0.0, 1.5, math.inf, -math.inf, math.pi, True, False, None, 2j],
    "texts": ["", "a", "x" * 255, "x" * 256, "x" * 70_000, "\N{GREEK SMALL LETTER ALPHA}", "\ud800", "\0", b"",
              b"a" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((((1,),),), ())],
    "sets": [{1, 2}, set(), frozenset(), frozenset({1, "a", (2, frozenset({3}))}), {(1, 2)}],
    "dictionaries": [{}, {"a": 1}, {1: {2: {}}, (1, 2): [], None: "n", frozenset({5}): 6}],
    "other atoms": [
        decimal.Decimal("1.50"), fractions.Fraction(1, 3), datetime.date(2020, 1, 2), datetime.timedelta(3), Colour.RED,
        Colour, P, len, math, range(4), ..., NotImplemented, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", VALUES)
def test_a_value_comes_back_as_it_is(what: str) -> None:
    found = moved(VALUES[what])
    assert shape(found) == shape(VALUES[what])
    assert what == "sets" or str(found) == str(VALUES[what])


def test_not_a_number_comes_back() -> None:
    assert math.isnan(moved([math.nan])[0])


def test_what_is_one_object_stays_one() -> None:
    text, inner, data = "".join(["not", " interned"]), [1], bytes(range(9))
    pair = (inner, text)
    value = [inner, pair, {"a": pair, text: inner}, text, {pair[1]}, data, [data]]
    found = moved(value)
    assert shape(found) == shape(value)
    assert found[0] is found[1][0] is found[2]["a"][0]
    assert found[1] is found[2]["a"]
    assert found[1][1] is found[3]
    assert found[5] is found[6][0]


def circles() -> dict[str, Any]:
    own: list[Any] = []
    own.append(own)
    through_tuple: list[Any] = []
    through_tuple.append((1, (through_tuple,)))
    through_set = P()
    through_set.all = {through_set, (through_set,)}  # type: ignore[attr-defined]
    key = P()
    key.index = {key: 1, (key, 2): frozenset({key})}  # type: ignore[attr-defined]
    parent = P()
    parent.children = [P() for _ in range(5)]  # type: ignore[attr-defined]
    for child in parent.children:  # type: ignore[attr-defined]
        child.parent = parent
    return {"own": own, "tuple": through_tuple, "set": through_set, "key": key, "tree": parent}


@pytest.mark.parametrize("what", circles())
def test_a_circle_comes_back(what: str) -> None:
    value = circles()[what]
    assert shape(moved(value)) == shape(value)


def test_a_circle_through_keys_and_members_holds_them() -> None:
    key = moved(circles()["key"])
    assert key.index[key] == 1
    assert key.index[(key, 2)] == {key}
    one = moved(circles()["set"])
    assert one in one.all
    assert (one,) in one.all


def test_names_of_a_unit_share_what_they_share() -> None:
    inner = [1]
    found = loaded(written(a=[inner], b=(inner,), c=inner))
    assert found["a"][0] is found["b"][0] is found["c"]
    assert list(found) == ["a", "b", "c"]


def test_a_chain_of_any_length_is_written_and_loaded() -> None:
    first: Any = None
    for _ in range(100_000):
        link = P()
        link.next, link.pair = first, (first, [first])  # type: ignore[attr-defined]
        first = link
    found, n = moved(first), 0
    while found is not None:
        assert found.pair[1][0] is found.next is found.pair[0]
        found, n = found.next, n + 1
    assert n == 100_000


class Own:
    def __reduce__(self) -> Any:
        return (Own, ())


class State:
    def __getstate__(self) -> Any:
        return {"a": 1}


class Fill:
    def __setstate__(self, state: Any) -> None: ...


class Made:
    def __new__(cls, *_: Any) -> Any:
        return super().__new__(cls)


class Hashed:
    def __eq__(self, other: object) -> bool:
        return type(other) is Hashed

    def __hash__(self) -> int:
        return vars(self).get("a", 0)  # type: ignore[no-any-return]


class Slotted:
    __slots__ = ("_Slotted__own", "a", "b")


class More(Slotted):
    __slots__ = ("__dict__", "c")


class Private(Slotted):
    __slots__ = ("__own",)

    def __init__(self) -> None:
        self.__own = 5


class Items(list[Any]):
    pass


@dataclasses.dataclass
class Data:
    a: int = 1


NAMED = collections.namedtuple("NAMED", "a")
NOT_WRITTEN: dict[str, Any] = {
    "its own __reduce__": Own(), "its own __getstate__": State(), "its own __setstate__": Fill(),
    "its own __new__": Made(),
    "a hash of what it holds": Hashed(), "a subclass of list": Items(), "a named tuple": NAMED(1),
    "a bytearray": bytearray(1), "a function of the notebook": lambda: 1, "a deque": collections.deque(),
    "a method": [].append, "a subclass of int with a dictionary": type("I", (int,), {})(5),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_WRITTEN)
def test_what_has_its_own_ways_is_left_to_the_encoder(what: str) -> None:
    look = graph.take([[NOT_WRITTEN[what]]], {}, leaf=lambda obj: 1)
    assert look is not None
    assert flat.dump(look, ["x"], {"x": [NOT_WRITTEN[what]]}, ClassBook()) is None


def test_slots_are_written() -> None:
    both, empty, private = More(), Slotted(), Private()
    both.a, both.c, both.more = [1], both, 3  # type: ignore[attr-defined]
    narrow = Narrow(both.a, (empty,))
    one, other, none, own = moved([both, narrow, empty, private])
    assert (one.a, one.more, one.c is one, hasattr(one, "b")) == ([1], 3, True, False)
    assert type(other) is Narrow
    assert other.a is one.a
    assert other.b == (none,)
    assert not any(hasattr(none, name) for name in ("a", "b", "_Slotted__own"))
    assert own._Private__own == 5


def test_instances_of_a_dataclass_are_written() -> None:
    assert moved([Data(3), Data(4)]) == [Data(3), Data(4)]


def test_a_dictionary_that_something_else_holds_is_left_to_the_encoder() -> None:
    one = P()
    one.a = 1  # type: ignore[attr-defined]
    assert written(x=[one, vars(one)]) is None


def test_what_changed_since_the_look_is_not_written() -> None:
    value = [[1], [2]]
    look = graph.take([value], {})
    assert look is not None
    value[1].append(3)
    assert flat.dump(look, ["x"], {"x": value}, ClassBook()) is None


def test_places_are_those_of_the_memo_of_a_load() -> None:
    value = circles()["tree"]
    look = graph.take([value], {})
    assert look is not None
    found = flat.dump(look, ["x"], {"x": value}, ClassBook())
    assert found is not None
    decoder: Any = codec.Decoder(found[0].head, [], {}, ClassBook(), lambda uid: P, str)
    there, memo = decoder.load()["names"]["x"], decoder.memo.copy()
    assert len(memo) == found[0].numbers
    assert memo[look.place(id(value))] is there
    assert memo[look.place(id(value.children))] is there.children
    assert [memo[look.place(id(child))] for child in value.children] == there.children
    decoder.memo.clear()


def random_graph(rng: random.Random) -> Any:
    pool: list[Any] = [rng.choice([7, 10**12, 0.5, None, True, "s", b"b"]) for _ in range(6)]
    mutable: list[Any] = []
    for n in range(rng.randrange(1, 60)):
        some = [rng.choice(pool) for _ in range(rng.randrange(6))]
        hashable = [each for each in some if not isinstance(each, list | dict | set) and not _holds_mutable(each)]
        atoms = [each for each in some if not isinstance(each, list | dict | set | frozenset | tuple | P | Narrow)]
        pairs = dict(zip(hashable, some, strict=False))
        narrow = Narrow(some[0], some[-1]) if some else Narrow(n)
        kinds = [list(some), tuple(some), P(), narrow, pairs, set(atoms), frozenset(atoms), f"text {n}"]
        made: Any = rng.choice(kinds)
        if isinstance(made, P):
            vars(made).update((f"a{at}", each) for at, each in enumerate(some))
        pool.append(made)
        mutable += [made] if isinstance(made, list | P | Narrow) else []
    for _ in range(10 if mutable else 0):  # circles
        one, other = rng.choice(mutable), rng.choice(pool)
        name = f"b{rng.randrange(3)}" if isinstance(one, P) else "b"
        one.append(other) if isinstance(one, list) else setattr(one, name, other)
    return [pool[-1], rng.choice(pool), *mutable[:2]]


def _holds_mutable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return True
    return False


def fuzz(first: int, count: int) -> None:
    for seed in range(first, first + count):
        value = random_graph(random.Random(seed))
        found, again = written(value=value), written(value=value)
        assert found is not None and again is not None, seed
        assert found.head == again.head, f"{seed}: other bytes for the same"
        assert shape(loaded(found)["value"]) == shape(value), seed


def test_fuzz_a_graph_comes_back_as_it_is() -> None:
    fuzz(0, 400)


FUZZ = """
from lambdakernel.state import flat
from tests.state.test_flat import fuzz
flat.WORTH_OBJECTS = 0
fuzz(1000, 60)
"""


def test_fuzz_under_a_debugging_allocator() -> None:
    env = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FUZZ], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
