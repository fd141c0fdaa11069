"""Who saw what: runs of counters, contexts, dot stores, and the types on them."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.causal import AddWinsSet, CausalContext, Dot, MultiValue, Sibling, Text, VersionVector, runs
from kvs.causal.register import surviving, with_write
from kvs.lattices import BadEncoding, MissingExtra, NotReadable, OutsideDomain, decode, wire

few = settings(max_examples=150, deadline=None, derandomize=True)
counts = st.dictionaries(st.integers(0, 2), st.integers(0, 2), max_size=3)
counters = st.sets(st.integers(1, 12))


# -- runs, vectors, contexts


def as_runs(numbers: set[int]) -> runs.Runs:
    return runs.of((n, n) for n in numbers)


def as_set(found: runs.Runs) -> set[int]:
    return {n for first, last in found for n in range(first, last + 1)}


@few
@given(counters, counters)
def test_runs_are_sets(a: set[int], b: set[int]) -> None:
    one, other = as_runs(a), as_runs(b)
    assert as_set(one) == a and as_set(runs.union(one, other)) == a | b and as_set(runs.minus(one, other)) == a - b
    assert runs.within(one, other) == (a <= b)
    assert all(runs.contains(one, n) == (n in a) for n in range(14))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(one))


@few
@given(counts)
def test_equal_knowledge_is_equal_bytes(items: dict[int, int]) -> None:
    forwards, backwards = VersionVector(items.items()), VersionVector(reversed(items.items()))
    assert forwards.to_bytes() == backwards.to_bytes() and forwards.encode() == backwards.encode()
    assert VersionVector.from_bytes(forwards.to_bytes()) == forwards


@few
@given(counts, st.integers(0, 2), st.integers(1, 3))
def test_a_vector_contains_exactly_the_dots_up_to_its_counts(items: dict[int, int], replica: int, counter: int) -> None:
    assert (Dot(replica, counter) in VersionVector(items.items())) == (items.get(replica, 0) >= counter)


def test_a_gap_keeps_later_dots_in_the_cloud_until_it_closes() -> None:
    context = CausalContext([(1, 1), (1, 2), (1, 4), (2, 2)])
    assert context.vector == VersionVector([(1, 2)]) and list(context.cloud()) == [Dot(1, 4), Dot(2, 2)]
    assert repr(context) == "CausalContext(1:1-2+4, 2:2)"
    assert context.next_dot(1) == Dot(1, 5)  # above the gap: a name is given once
    closed = context | context.add(Dot(1, 3))
    assert closed.vector == VersionVector([(1, 4)]) and list(closed.cloud()) == [Dot(2, 2)]
    assert closed.next_dot(1) == Dot(1, 5) and closed.next_dot(2) == Dot(2, 3) and closed.next_dot(9) == Dot(9, 1)
    assert CausalContext.of_vector(VersionVector([(1, 4)])) == CausalContext([(1, n) for n in (4, 2, 1, 3)])


def test_a_context_of_a_million_writes_is_small() -> None:
    mine, theirs = (CausalContext.of_vector(VersionVector([(1, n)])) for n in (1_000_000, 999_000))
    assert len(mine.encode()) < 40 and len(mine.difference(theirs).encode()) < 40
    assert mine.difference(theirs).size() == 1000 and theirs | mine.difference(theirs) == mine


@pytest.mark.parametrize("dot", [(-1, 1), (0, 0), (True, 1), ("a", 1), (1, 1.0)])
def test_what_is_no_dot_is_refused(dot: Any) -> None:
    for make in (lambda: CausalContext([dot]), lambda: AddWinsSet([("x", [dot])]), lambda: MultiValue({dot: (1, "x")})):
        with pytest.raises(OutsideDomain, match="is no dot"):
            make()


def test_what_is_held_must_have_been_seen() -> None:
    with pytest.raises(OutsideDomain, match=r"write 1\.1 is held and was not seen"):
        AddWinsSet([("x", [(1, 1)])])
    with pytest.raises(OutsideDomain, match="under another's write"):
        AddWinsSet([("x", [(1, 1)]), ("y", [(1, 1)])], CausalContext([(1, 1)]))
    with pytest.raises(OutsideDomain, match="was not seen"):
        MultiValue({(1, 1): (5, "x")}, CausalContext([(1, 2)]))


# -- a set with add and remove


def test_an_add_wins_over_a_removal_that_had_not_seen_it() -> None:
    base: AddWinsSet[str] = AddWinsSet()
    base |= base.add(1, "x", "y")
    removed, added_again = base | base.remove("x"), base | base.add(2, "x")
    assert "x" in (removed | added_again) and "x" not in removed
    assert list(removed | added_again) == ["x", "y"]
    seen_both = removed | added_again
    assert list((seen_both | seen_both.remove("x")) | added_again | base) == ["y"]  # late copies change nothing


def test_a_removal_keeps_no_tombstone() -> None:
    items: AddWinsSet[int] = AddWinsSet()
    for n in range(200):
        items |= items.add(1, n)
        items |= items.remove(n)
    assert len(items) == 0 and len(items.encode()) < 60


def test_a_delta_is_as_small_as_the_write() -> None:
    items: AddWinsSet[int] = AddWinsSet()
    items |= items.add(1, *range(500))
    delta = items.add(2, 7)
    assert len(delta.encode()) < 60 and list(items | delta) == list(range(500))
    after = items | delta | (items | delta).remove(9)
    assert list(items | after.difference(items)) == list(after) and len(after.difference(items).encode()) < 60


def test_removing_what_is_not_there_is_nothing() -> None:
    assert AddWinsSet[str]().remove("x") == AddWinsSet() == AddWinsSet[str]().clear() == AddWinsSet[str]().add(1)


Op = tuple[str, int, str]


class Naive:
    """An observed-remove set by its definition: adds by name, and removals as tombstones."""

    def __init__(self) -> None:
        self.adds: set[tuple[str, Dot]] = set()
        self.dead: set[tuple[str, Dot]] = set()

    def elements(self) -> set[str]:
        return {e for e, _ in self.adds - self.dead}


@few
@given(
    st.lists(st.tuples(st.sampled_from(["add", "remove", "hear"]), st.integers(0, 2), st.integers(0, 2)), max_size=12)
)
def test_the_set_is_the_naive_one_with_tombstones(history: list[tuple[str, int, int]]) -> None:
    sets: list[AddWinsSet[str]] = [AddWinsSet() for _ in range(3)]
    naive = [Naive() for _ in range(3)]
    for act, replica, which in history:
        element = "xyz"[which]
        match act:
            case "add":
                dot = sets[replica].context.next_dot(replica)
                sets[replica] |= sets[replica].add(replica, element)
                naive[replica].dead |= {a for a in naive[replica].adds if a[0] == element}
                naive[replica].adds.add((element, dot))
            case "remove":
                sets[replica] |= sets[replica].remove(element)
                naive[replica].dead |= {a for a in naive[replica].adds if a[0] == element}
            case _:
                sets[replica] |= sets[which]
                naive[replica].adds |= naive[which].adds
                naive[replica].dead |= naive[which].dead
    assert [set(s) for s in sets] == [n.elements() for n in naive]


# -- registers


def test_concurrent_writes_stay_and_a_write_that_saw_both_replaces_both() -> None:
    here, there = MultiValue().write(0, 5, "here"), MultiValue().write(1, 5, "there")
    both = here | there
    assert list(both) == ["there", "here"] and both.value == "there"  # equal clocks: the larger replica
    settled = both | both.write(0, 1, "settled")  # an older clock, and yet it saw both
    assert list(settled) == list(settled | here | there) == ["settled"]
    assert repr(both) == "MultiValue('there' by 1.1 at 5; 'here' by 0.1 at 5; seen CausalContext(0:1, 1:1))"


def test_a_value_that_was_taken_back_stays_away() -> None:
    written = MultiValue().write(0, 1, "x")
    cleared = written | written.clear()
    assert len(cleared | written) == 0
    with pytest.raises(NotReadable, match="was taken back"):
        _ = cleared.value


@few
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=7), st.data())
def test_a_store_with_rows_and_the_register_agree(history: list[tuple[int, bool]], data: st.DataObject) -> None:
    """`surviving` over rows with closed contexts is the register's join, in whatever parts the rows come."""
    rows: list[Sibling[int]] = []
    vectors = [VersionVector() for _ in range(3)]
    for n, (replica, sees_all) in enumerate(history):
        if sees_all:
            for other in vectors:
                vectors[replica] = vectors[replica].join(other)
        dot = Dot(replica, vectors[replica][replica] + 1)
        rows.append(Sibling(dot, vectors[replica], 7, n))
        vectors[replica] = vectors[replica].advanced(dot)
    split = [data.draw(st.booleans()) for _ in rows]
    parts = [[row for row, here in zip(rows, split, strict=True) if here is side] for side in (True, False)]
    joined = MultiValue.of_siblings(parts[0]) | MultiValue.of_siblings(parts[1])
    whole = MultiValue.of_siblings(rows)
    assert joined == whole and [w.dot for w in whole.writes] == [s.dot for s in surviving(rows)]
    one_by_one: tuple[Sibling[int], ...] = ()
    for row in data.draw(st.permutations(rows + rows[:2])):
        one_by_one = with_write(one_by_one, row)
    assert one_by_one == surviving(rows)


# -- text


@pytest.fixture
def without_pycrdt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "pycrdt":
            raise ImportError("No module named 'pycrdt'")
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "pycrdt", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    yield


def test_a_text_counts_characters_and_keeps_both_edits() -> None:
    text = Text()
    text |= text.append(1, "naïve 😀 text")
    here = text | text.insert(1, 7, "!")
    there = text | text.delete(2, 0, 6)
    assert str(here) == "naïve 😀! text" and str(there) == "😀 text"
    assert str(here | there) == str(there | here) == "😀! text" and len(here | there) == 7
    assert repr(text) == "Text('naïve 😀 text', 1 edits)" and repr(Text()) == "Text('')"


def test_a_text_goes_to_a_document_of_another_program() -> None:
    import pycrdt

    text = Text()
    text |= text.insert(1, 0, "shared")
    document: Any = pycrdt.Doc()
    document["text"] = pycrdt.Text()
    document.apply_update(text.update())
    assert str(document["text"]) == "shared"


def test_an_edit_outside_of_the_text_is_refused() -> None:
    text = Text().append(1, "abc")
    for act in (lambda: text.insert(1, 4, "x"), lambda: text.delete(1, 2, 9), lambda: text.insert(1, -1, "x")):
        with pytest.raises(OutsideDomain, match="outside of a text of 3"):
            act()
    with pytest.raises(OutsideDomain, match="surrogate"):
        text.append(1, "\ud800")
    with pytest.raises(OutsideDomain, match="is no dot"):
        text.append(-1, "x")
    assert text.delete(1, 2, 1) == Text() == text.append(1, "")


def test_one_number_for_two_replicas_does_not_make_them_differ() -> None:
    base = Text().append(1, "abc")
    one, other = base.append(1, "X"), base.append(1, "Y")
    assert str(base | one | other) == str(base | other | one)


HI = b"\x01\x01\x01\x00\x04\x01\x04text\x02hi\x00"


@pytest.mark.parametrize(
    ("update", "why"),
    [
        (b"nonsense", "beyond 1"),
        (b"", "cut off"),
        (HI[:-1], "cut off"),
        (HI + b"\x00", "goes on after its end"),
        (HI.replace(b"\x01\x01\x01\x00", b"\x01\x01\x02\x00"), "another replica's"),
        (HI.replace(b"text", b"test"), "of another text"),
        (HI.replace(b"\x04\x01\x04", b"\x05\x01\x04"), "content of kind 5"),
        (HI.replace(b"\x02hi", b"\x02\xff\xff"), "can't decode"),
        (b"\x00\x01\x07\x01\x00\x00", "a deletion of nothing"),
        (b"\xff" * 30, "does not end"),
    ],
)
def test_an_edit_that_is_none_is_refused_where_it_comes_in(update: bytes, why: str) -> None:
    with pytest.raises(OutsideDomain, match=why):
        Text([(1, 1, update)])
    plain = ("text", ((1, 1, update),))
    with pytest.raises(BadEncoding, match=why):
        decode(b"kvl\x01" + wire.packed(plain))
    assert str(Text([(1, 1, HI)])) == "hi"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from([0, 1, 2]), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4))
def test_damaged_edits_are_refused_or_read(which: int, damage: list[tuple[int, int]]) -> None:
    """What passes the check goes to native code: whatever it is, the process lives and says what it made of it."""
    text = Text().append(7, "hello")
    text |= text.insert(7, 2, "X😀")
    text |= text.delete(7, 0, 2)
    edits = text.edits()
    replica, counter, update = edits[which]
    data = bytearray(update)
    for place, byte in damage:
        data[place % len(data)] = byte
    edits[which] = (replica, counter, bytes(data))
    try:
        made = Text(edits)
    except OutsideDomain:
        return
    assert repr(made)


def test_an_edit_is_no_larger_for_what_was_deleted_before() -> None:
    text = Text()
    for n in range(30):
        text |= text.append(1, "ab")
        text |= text.delete(1, n, n + 1)
    assert max(len(update) for _, _, update in text.edits()) < 25


def test_a_text_moves_without_pycrdt_and_says_what_reading_needs(without_pycrdt: None) -> None:
    text = Text([(1, 1, HI)]) | Text()
    assert decode(text.encode()) == text and str(Text()) == ""
    for act in (lambda: str(text), lambda: text.append(2, "!"), text.update):
        with pytest.raises(MissingExtra, match=r"pip install 'lambdakernel\[text\]'"):
            act()


def test_importing_kvs_does_not_import_pycrdt() -> None:
    code = "import kvs, sys; print([m for m in ('pycrdt', 'hypothesis', 'IPython', 'zmq') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
