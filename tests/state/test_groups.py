"""Co-variables and conflicts: pure functions, checked against their definitions."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from lambdakernel.state.covariables import groups
from lambdakernel.state.units import Unit, resolve

shared = st.dictionaries(st.integers(0, 12), st.frozensets(st.integers(0, 15), max_size=4), max_size=12)


@given(shared)
def test_groups_are_the_finest_partition_that_keeps_sharers_together(parts: dict[int, frozenset[int]]) -> None:
    found = groups(parts)
    assert sorted(item for group in found for item in group) == sorted(parts)
    together = {item: at for at, group in enumerate(found) for item in group}
    for a in parts:
        reached = _reachable(a, parts)
        assert {b for b in parts if together[b] == together[a]} == reached


def _reachable(start: int, parts: dict[int, frozenset[int]]) -> set[int]:
    """By search, where the implementation unites."""
    found, queue = {start}, [start]
    while queue:
        here = queue.pop()
        near = {b for b in parts if parts[b] & parts[here]} - found
        found |= near
        queue += near
    return found


@given(shared)
def test_groups_keep_the_order_of_their_items(parts: dict[int, frozenset[int]]) -> None:
    order = {item: at for at, item in enumerate(parts)}
    found = [[order[item] for item in group] for group in groups(parts)]
    assert all(group == sorted(group) for group in found)
    assert found == sorted(found)


names = st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=4)
claims = st.lists(names, max_size=5).map(
    lambda found: [((at // 2, 0, at), Unit(f"u{at}", tuple(sorted(n)))) for at, n in enumerate(found)]
)


@settings(max_examples=60)
@given(claims)
def test_which_unit_wins_does_not_depend_on_the_order_of_arrival(found: list[tuple[tuple[int, ...], Unit]]) -> None:
    first = resolve(found)
    assert all(resolve(list(order)) == first for order in permutations(found))


@given(claims)
def test_no_name_is_won_twice_and_the_latest_unit_always_wins(found: list[tuple[tuple[int, ...], Unit]]) -> None:
    won, lost = resolve(found)
    taken = [name for unit in won.values() for name in unit.names]
    assert len(taken) == len(set(taken))
    assert len(won) + len(lost) == len(found)
    if found:
        assert max(found, key=lambda claim: claim[0])[1].id in won


def test_half_an_alias_group_never_comes_from_each_side() -> None:
    both, one = Unit("u1", ("a", "b")), Unit("u2", ("b",))
    won, lost = resolve([((2,), one), ((1,), both)])
    assert list(won) == ["u2"] and lost == [both]
