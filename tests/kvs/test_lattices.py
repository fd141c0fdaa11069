"""What each lattice does beyond the laws, what a wrong value is told, and the bytes that values are kept as."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings

from kvs.lattices import (
    Average,
    BoolOr,
    Clash,
    GCounter,
    GrowSet,
    HyperLogLog,
    Last,
    LatticeMismatch,
    Map,
    Max,
    Min,
    NotReadable,
    NotSealed,
    OutsideDomain,
    Pair,
    PNCounter,
    Sealed,
    TopK,
    UnionFind,
    WriteOnce,
    declarations,
    domain,
)
from kvs.testing.values import TROUBLE, scalars
from tests.kvs.lattice_cases import CASES

few = settings(max_examples=100, deadline=None, derandomize=True)
BOTTOMS = [case.cls.bottom() for case in CASES]


# -- plain values


@few
@given(scalars(), scalars(), scalars())
def test_plain_values_are_in_one_total_order(a: Any, b: Any, c: Any) -> None:
    assert domain.at_most(a, b) or domain.at_most(b, a)
    assert domain.at_most(a, c) or not (domain.at_most(a, b) and domain.at_most(b, c))
    assert (domain.key(a) == domain.key(b)) == (
        repr(a) == repr(b) if type(a) is not int or abs(a) < 10**100 else a == b
    )
    assert domain.key(domain.original(domain.ident(a))) == domain.key(a)


def test_numbers_are_ordered_by_value_and_then_by_type() -> None:
    ordered: list[Any] = [
        None,
        float("-inf"),
        -1,
        -0.0,
        False,
        0,
        0.0,
        True,
        1,
        1.0,
        2**53,
        float(2**53),
        2**53 + 1,
        "",
        "a",
        b"",
        (),
    ]
    shuffled = ordered[::-1]
    assert [repr(v) for v in sorted(shuffled, key=domain.key)] == [repr(v) for v in ordered]


class Level(int):
    """A number with a type of its own, as enums and numpy have them."""


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


DEEP: Any = ()
for _ in range(domain.MAX_DEPTH + 1):
    DEEP = (DEEP,)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "in no order"),
        ((1, (float("nan"),)), "in no order"),
        ([1], "is a list"),
        ({1}, "is a set"),
        (1j, "is a complex"),
        (Level(1), "Level"),
        (Max(1), "Max"),
        (Nameless(), "an object without a repr"),
        (DEEP, "nested deeper"),
    ],
)
def test_what_is_no_plain_value_is_refused_where_it_is_made(value: Any, why: str) -> None:
    makers = (Max, Min, lambda v: GrowSet([v]), lambda v: Map([(v, Max(1))]), lambda v: Last(1, 1, 1, v), WriteOnce)
    for make in (*makers, lambda v: TopK(None, [(v, 1)]), lambda v: UnionFind([[v, 1]]), lambda v: GCounter([(v, 1)])):
        with pytest.raises(OutsideDomain, match=why):
            make(value)


def test_what_is_no_lattice_or_count_is_refused_where_it_is_made() -> None:
    for make in (
        lambda: Map({"a": 1}),  # type: ignore[dict-item]
        lambda: Pair(1, None),  # type: ignore[type-var]
        lambda: Sealed([("a", 1)]),  # type: ignore[list-item]
        lambda: BoolOr(1),  # type: ignore[arg-type]
        lambda: GCounter({"a": -1}),
        lambda: GCounter({"a": True}),
        lambda: GCounter().increment("a", -1),
        lambda: PNCounter().decrement("a", 1.5),  # type: ignore[arg-type]
        lambda: TopK(0),
        lambda: HyperLogLog(3),
        lambda: Last(-1, 0, 0, "x"),
        lambda: GrowSet("abc"),
        lambda: PNCounter(3),  # type: ignore[arg-type]
    ):
        with pytest.raises(OutsideDomain, match=r"\. [A-Z]"):  # what is wrong, then what to do
            make()


@pytest.mark.parametrize("one", BOTTOMS, ids=lambda value: type(value).__name__)
def test_values_of_different_lattices_do_not_join(one: Any) -> None:
    for other in BOTTOMS:
        if type(other) is not type(one):
            for act in (one.join, one.leq, one.difference, one.__or__, one.__le__, one.__ge__):
                with pytest.raises(
                    LatticeMismatch, match=f"{type(other).__name__} does not join with {type(one).__name__}"
                ):
                    act(other)
    with pytest.raises(LatticeMismatch):
        one | 3


def test_a_mismatch_within_says_where() -> None:
    with pytest.raises(LatticeMismatch, match="GrowSet does not join with Max at key 'a'"):
        Map[str, Any]({"a": Max(1)}) | Map({"a": GrowSet([1])})
    with pytest.raises(LatticeMismatch, match="at the second of a Pair"):
        Pair[Any, Any](None, Max(1)) | Pair(None, Min(1))
    with pytest.raises(LatticeMismatch, match="at a writer of a Sealed"):
        Sealed[Any]([("a", Max(1))]) | Sealed([("a", Min(1))])


# -- what each is for


def test_a_map_reads_an_absent_key_as_bottom() -> None:
    board: Map[str, Max[int]] = Map({"ada": Max(3)})
    board |= board.merge("ada", Max(7)) | board.merge("bob", Max(1))
    assert board["ada"] == Max(7) and board.get("eve", Max()) == Max() and board.at("eve") is None
    assert "eve" not in board and list(board) == ["ada", "bob"] and board.keys() == GrowSet(["ada", "bob"])
    assert Map({"a": GrowSet[int]()}) > Map[str, GrowSet[int]]()


def test_a_join_shares_what_is_equal() -> None:
    big: Map[str, Max[int]] = Map({str(n): Max(n) for n in range(100)})
    assert big | Map({"3": Max(1)}) is big and Map({"3": Max(1)}) | big is big
    raised = big | big.merge("3", Max(9))
    assert raised["4"] is big["4"] and raised["3"] == Max(9)
    for value in (GrowSet([1]), GCounter({"a": 1}), TopK(2, [("a", 1)]), UnionFind([[1, 2]]), Sealed([("a", Max(1))])):
        assert value | value is value and value | value.bottom() is value and value.bottom() | value is value  # type: ignore[operator]


def test_a_replica_counts_for_itself() -> None:
    counter = PNCounter()
    for replica, by in (("a", 5), ("b", 2), ("a", 1)):
        counter |= counter.increment(replica, by)
    late = counter.decrement("b", 4)
    assert (counter | late | late).total() == 4 and (late | counter).added() == 8
    assert repr(counter | late) == "PNCounter(4: +['a' 6, 'b' 2] -['b' 4])"


def test_an_average_weighs_numbers_and_models() -> None:
    numbers = Average()
    numbers |= numbers.add("a", 1.0, 3.0) | numbers.add("b", 5)
    assert numbers.mean() == 2.0
    numbers |= numbers.add("b", 1.0, 4.0)
    assert numbers.mean() == 12.0 / 8.0 and numbers.rounds() == 3
    models = Average().add("a", [1.0, 2.0], 1) | Average().add("b", (4.0, 8.0), 2)
    assert models.mean() == (3.0, 6.0)
    models |= models.replace("b", (1.0, 2.0), 1)
    assert models.mean() == (1.0, 2.0) and models.writers() == GrowSet(["a", "b"])


def test_a_mean_is_the_same_in_every_order() -> None:
    parts = [Average().add(n, value) for n, value in enumerate([1e16, 1.0, -1e16, 0.1, 3.0])]
    means = set()
    for turn in range(len(parts)):
        whole = Average()
        for part in (*parts[turn:], *parts[:turn]):
            whole |= part
        means.add(whole.mean())
    assert Average().add("a", -0.0) == Average().add("a", 0.0) == Average().add("a", 0)
    assert means == {math.fsum([1e16, 1.0, -1e16, 0.1, 3.0]) / 5}


def test_an_average_without_an_answer_says_so() -> None:
    with pytest.raises(NotReadable, match="nothing was contributed"):
        Average().mean()
    with pytest.raises(NotReadable, match=r"differ in shape \('a' one number, 'b' 2 numbers\)"):
        (Average().add("a", 1.0) | Average().add("b", [1.0, 2.0])).mean()
    with pytest.raises(NotReadable, match="more than a float holds"):
        (Average().add("a", 1e308) | Average().add("b", 1e308)).mean()
    for bad in (float("nan"), float("inf"), True, "1.0", 10**400, 2**53 + 1, [1.0, None], 1e308 * 10):
        with pytest.raises(OutsideDomain):
            Average().add("a", bad)  # type: ignore[arg-type]
    with pytest.raises(OutsideDomain, match="not positive"):
        Average().add("a", 1.0, 0)
    with pytest.raises(OutsideDomain, match="Contribute one shape"):
        Average().add("a", 1.0).add("a", [1.0])


def test_the_best_few_are_kept_whatever_came_first() -> None:
    scores = [("a", 3), ("b", 9), ("c", 9), ("d", 1), ("a", 8)]
    best: TopK[str] = TopK(3)
    for item, score in scores:
        best |= best.add(item, score)
    assert list(best) == [("c", 9), ("b", 9), ("a", 8)] and best.best() == ("c", 9) and best.floor() == (8,)
    assert best.add("e", 2) == TopK() and best.add("a", 7) == TopK()
    assert list(best | TopK(1)) == [("c", 9)]
    assert repr(TopK(2, [("a", 1)])) == "TopK(2, 'a': 1)"


def test_what_is_written_once_shows_its_clash() -> None:
    with pytest.raises(NotReadable, match="nothing was written"):
        _ = WriteOnce[str]().value
    assert WriteOnce(None).value is None and WriteOnce(None) != WriteOnce()
    clash = WriteOnce("b") | WriteOnce("a") | WriteOnce("c")
    assert repr(clash) == "WriteOnce(clash of 'a' and 'b')" and clash.is_clash()
    with pytest.raises(Clash, match="as 'a' and as 'b'"):
        _ = clash.value
    assert (WriteOnce[Any](1) | WriteOnce(True)).is_clash()


def test_a_seal_says_what_is_missing_and_then_the_answer() -> None:
    results: Sealed[GrowSet[int]] = Sealed()
    results |= results.contribute("a", GrowSet([1]))
    with pytest.raises(NotSealed, match="nobody has said who writes"):
        results.value(GrowSet())
    results |= results.expect("b", "a")
    results |= results.finish("a", GrowSet([2]))
    with pytest.raises(NotSealed, match="not finished yet: 'b'") as missing:
        results.value(GrowSet())
    assert missing.value.missing == ("b",) and not results.sealed()
    results |= results.finish("b", GrowSet([3]))
    assert results.sealed() and results.value(GrowSet()) == GrowSet([1, 2, 3])
    assert results.finish("b", GrowSet([3])) == Sealed()
    assert repr(results) == "Sealed(sealed; 'a' closed GrowSet([1, 2]); 'b' closed GrowSet([3]))"


def test_a_seal_takes_no_more_and_shows_who_tried() -> None:
    sealed: Sealed[GrowSet[int]] = Sealed((), [("a", GrowSet([1]))], ["a"])
    with pytest.raises(Clash, match="'a' has finished"):
        sealed.contribute("a", GrowSet([2]))
    with pytest.raises(Clash, match="'a' has finished"):
        sealed.finish("a", GrowSet([2]))
    with pytest.raises(Clash, match=r"'b' is not in the manifest, \('a',\)"):
        sealed.contribute("b", GrowSet([2]))
    late: Sealed[GrowSet[int]] = Sealed([("a", GrowSet([2]))])
    with pytest.raises(Clash, match="'a' wrote after it had finished"):
        (sealed | late).value(GrowSet())
    assert (sealed | Sealed([("a", GrowSet([1]))])).value(GrowSet()) == GrowSet([1])  # a late copy is no news
    stray: Sealed[GrowSet[int]] = Sealed([("b", GrowSet([2]))])
    with pytest.raises(Clash, match="'b' is not in the manifest"):
        (sealed | stray).value(GrowSet())
    with pytest.raises(Clash, match="written once"):
        (sealed | Sealed(manifest=["b"])).value(GrowSet())
    assert (sealed | late).sealed() and "'a' clash" in repr(sealed | late)


def test_equivalences_meet_in_the_middle() -> None:
    here, there = UnionFind([["a", "b"], ["x", "y"]]), UnionFind([["b", "c"], ["z"]])
    both = here | there
    assert both.same("a", "c") and not both.same("a", "x") and both.same("never seen", "never seen")
    assert both.classes() == (("a", "b", "c"), ("x", "y")) and both.merges() == 3
    assert not UnionFind[Any]([[1, 2]]).same(True, 2)
    assert len(list(both.atoms())) == 3


@pytest.mark.parametrize("count", [0, 1, 100, 5_000, 40_000])
def test_a_sketch_counts_within_its_error(count: int) -> None:
    sketch = HyperLogLog(12)
    sketch |= sketch.add(*range(count))
    assert abs(sketch.estimate() - count) <= 4 * 0.0163 * count  # four standard errors
    assert sketch.add(*range(min(count, 50))) == HyperLogLog.bottom()


def test_a_finer_sketch_folds_to_what_a_coarser_one_had_been() -> None:
    fine, coarse = HyperLogLog(10), HyperLogLog(6)
    fine, coarse = fine | fine.add(*range(300)), coarse | coarse.add(*range(300))
    assert fine | HyperLogLog(6) == coarse and fine <= coarse and not coarse <= fine


def test_a_text_of_a_huge_integer_stays_short() -> None:
    assert repr(Max(10**5000)).endswith("(16610 bits))") and repr(Max(-(10**5000))).startswith("Max(-0x")
    assert len(repr(GCounter({"a": 10**5000}))) < 200


# -- declared


def test_declarations_are_read_from_the_class() -> None:
    found = declarations(GrowSet)
    assert {name: d.kind for name, d in found.items()} == {
        "add": "mutator", "contains": "morphism", "restricted": "morphism", "image": "morphism", "size": "monotone",
    }  # fmt: skip
    assert declarations(PNCounter).keys().isdisjoint({"total"})  # it goes up and down
    assert declarations(Average).keys().isdisjoint({"mean"})


def test_errors_travel_between_processes() -> None:
    with pytest.raises(NotSealed) as caught:
        Sealed[Any](manifest=["a"]).value(Max())
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.missing) == (NotSealed, str(caught.value), ("a",))


def test_every_troublesome_value_is_in_some_test() -> None:
    assert len({domain.key(v) for v in TROUBLE}) == len(TROUBLE)
