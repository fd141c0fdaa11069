"""`Live`: a variable that holds a lattice and joins what is written into it, in one process."""

from __future__ import annotations

import copy
import os
import pickle
import socket
import threading
from typing import Any

import pytest
from hypothesis import given, settings

from kvs.causal import AddWinsSet, MultiValue
from kvs.lattices import Average, BoolOr, GCounter, GrowSet, Last, Lattice, LatticeMismatch, Map, Max, Min, TopK
from kvs.testing.values import STRATEGIES, values_of
from lambdakernel import Live, live
from lambdakernel.live import NotLive
from lambdakernel.parallel.deltas import BadJoins, packed, unpacked
from lambdakernel.parallel.joins import KEPT, Joins
from lambdakernel.parallel.line import EVERY_S, Line


def test_a_merge_joins_a_lattice_or_what_makes_one_and_says_whether_it_was_news():
    best = Live(Max(3))
    assert (best.merge(5), best.merge(Max(4)), best.merge(Live(Max(6)))) == (True, False, True)
    best |= 7
    assert best.value == 7 and best.lattice == Max(7) and repr(best) == "Live(Max(7))"


def test_methods_that_make_deltas_write_and_the_others_read():
    words = Live(GrowSet())
    assert words.add("b", "a") is True and words.add("a") is False
    assert (list(words), len(words), "a" in words, words.size()) == (["a", "b"], 2, True, 2)
    scores = Live(Map())
    scores.merge("ada", Max(3))
    scores.merge({"bob": Max(4)})
    assert scores["ada"] == Max(3) and sorted(scores) == ["ada", "bob"]


def test_who_writes_and_when_is_filled_in():
    n, mean, last, items, value = (
        Live(GCounter()),
        Live(Average()),
        Live(Last()),
        Live(AddWinsSet()),
        Live(MultiValue()),
    )
    n.increment()
    n.increment(by=2)
    n.increment(3)
    mean.add(1.0)
    mean.add(4.0, weight=2.0)
    last.write("x")
    last.write("y")
    items.add("t", "u")
    items.remove("t")
    value.write(1)
    value.write(2)
    assert (n.total(), mean.mean(), last.value, list(items), value.value) == (6, 3.0, "y", ["u"], 2)
    top = Live(TopK(1))
    top.add("a", 2.0)
    assert list(top) == [("a", 2.0)]


def test_what_does_not_join_changes_nothing():
    best = Live(Max(3))
    with pytest.raises(LatticeMismatch):
        best.merge(Min(1))
    with pytest.raises(NotLive, match=r"a Live holds a lattice, and this is a int.*Live\(Max\(\)\)"):
        Live(3)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="nonsense"):
        best.nonsense()
    assert best.value == 3


def test_a_copy_is_one_of_its_own_and_what_moves_is_the_same():
    best = Live(Max(3))
    own, deep, moved = copy.copy(best), copy.deepcopy([best])[0], pickle.loads(pickle.dumps(best))
    live.take(best._uid, Max(9))
    assert (best.value, moved.value, own.value, deep.value) == (9, 9, 3, 3)
    assert live.take("no such", Max(1)) is False


def test_joins_of_many_threads_are_all_there():
    words, n = Live(GrowSet()), Live(GCounter())

    def write(start: int) -> None:
        for number in range(start, start + 200):
            words.add(number)
            n.increment()

    threads = [threading.Thread(target=write, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(words), n.total()) == (800, 800)


def test_waiting_ends_when_it_is_so_and_in_time():
    flag = Live(BoolOr())
    timer = threading.Timer(0.05, flag.set)
    timer.start()
    assert flag.wait(bool, 20) is True
    timer.join(5)
    assert Live(BoolOr()).wait(bool, 0.01) is False


def test_messages_hold_deltas_inline_or_in_a_parcel_and_bad_ones_are_refused():
    for news in ({"a": Max(1), "b": GrowSet(["x"])}, {"a": GrowSet([os.urandom(40_000)])}):
        message, fds = packed(news)
        assert unpacked(message, fds) == news and bool(fds) == (message["deltas"] is None)
        live_fds = list(fds)
        for fd in live_fds:
            os.close(fd)
    with pytest.raises(BadJoins, match="too many open files"):
        unpacked({"deltas": None}, ())
    with pytest.raises(BadJoins, match="cannot be read"):
        unpacked({"deltas": "AAAA"}, ())


class Cell:
    """A cell with two tasks on real lines, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.joins = Joins(lambda: self.now)
        self.ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        for index, (ours, _) in enumerate(self.ends):
            ours.setblocking(False)
            self.joins.begin(index, ours)

    def says(self, index: int, news: dict[str, Any]) -> str:
        message, fds = packed(news)
        return self.joins.hear(index, {"said": "joins", **message}, fds)

    def hears(self, index: int) -> list[dict[str, Any]]:
        from lambdakernel.executors import wire

        found = []
        while (received := wire.receive(self.ends[index][1])) is not None:
            found.append(unpacked(*received))
        return found

    def close(self) -> None:
        for pair in self.ends:
            for end in pair:
                end.close()


@pytest.fixture
def cell():
    made = Cell()
    yield made
    made.close()


def test_a_cell_tells_the_others_once_what_is_new(cell: Cell):
    best = Live(Max(0))
    assert cell.says(0, {best._uid: Max(5)}) == ""
    assert cell.says(0, {best._uid: Max(4)}) == ""
    cell.joins.relay()
    assert best.value == 5 and cell.hears(0) == [] and cell.hears(1) == [{best._uid: Max(5)}]
    assert cell.joins.next_due() == float("inf")


def test_a_task_that_does_not_read_is_sent_one_message_and_then_the_join_of_the_rest(cell: Cell):
    for n in range(1, 200):
        cell.says(0, {"u": GrowSet([n])})
        cell.now += 1.0
        cell.joins.relay()
    assert cell.hears(1) == [{"u": GrowSet([1])}] and cell.joins.next_due() == float("inf")
    cell.joins.hear(1, {"said": "caught up"}, ())
    cell.joins.relay()
    assert cell.hears(1) == [{"u": GrowSet(range(2, 200))}]


def test_what_is_kept_for_a_task_that_never_reads_is_bounded(cell: Cell):
    cell.says(0, {"u": Max(1)})
    cell.joins.relay()
    for n in range(2, 3 * KEPT):
        cell.says(0, {"u": Max(n)})
        cell.now += 1.0
        cell.joins.relay()
        assert len(cell.joins._log) <= KEPT
    cell.joins.hear(1, {"said": "caught up"}, ())
    cell.joins.relay()
    assert cell.hears(1) == [{"u": Max(1)}, {"u": Max(3 * KEPT - 1)}]


def test_messages_to_one_task_are_some_time_apart(cell: Cell):
    cell.says(0, {"u": Max(1)})
    cell.joins.relay()
    cell.joins.hear(1, {"said": "caught up"}, ())
    cell.says(0, {"u": Max(2)})
    cell.joins.relay()
    assert len(cell.hears(1)) == 1 and cell.joins.next_due() == EVERY_S
    cell.now = EVERY_S
    cell.joins.relay()
    assert cell.hears(1) == [{"u": Max(2)}]


def test_an_attempt_that_begins_later_is_told_everything(cell: Cell):
    cell.says(0, {"u": Max(1), "v": GrowSet(["x"])})
    cell.joins.end(1)
    cell.joins.begin(1, cell.ends[1][0])
    cell.joins.relay()
    assert cell.hears(1) == [{"u": Max(1), "v": GrowSet(["x"])}]


def test_joins_that_do_not_fit_the_variable_are_told_and_the_rest_goes_on(cell: Cell):
    best = Live(Max(0))
    assert "does not join" in cell.says(0, {best._uid: Min(3)})
    assert "cannot be read" in cell.joins.hear(1, {"said": "joins", "deltas": "!"}, ())
    assert best.value == 0


def test_what_is_joined_into_a_variable_that_is_not_loaded_comes_when_it_is(cell: Cell):
    best = Live(Max(0))
    moved, uid = pickle.dumps(best), best._uid
    del best
    cell.says(0, {uid: Max(4)})
    loaded: list[Live] = []

    class Namespace:
        touched = False

        def load_all(self) -> None:
            loaded.append(pickle.loads(moved))

        def touch_all(self) -> None:
            self.touched = True

    namespace = Namespace()
    cell.joins.settle(namespace)
    assert loaded[0].value == 4 and namespace.touched


def test_a_line_sends_at_most_so_often_and_the_rest_when_it_is_time():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    from lambdakernel.executors import wire

    line = Line(theirs, "fan/0", 1)
    try:
        for n in range(1000):
            line.wrote("u", Max(n))
        ours.settimeout(20)
        found: list[Any] = []
        while not found or found[-1] != {"u": Max(999)}:
            received = wire.receive(ours, wait=True)
            assert received is not None
            found.append(unpacked(*received))
        assert len(found) < 500
        ours.settimeout(None)
        line.flush()
        assert wire.receive(ours) is None
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
def test_every_lattice_arrives_as_it_was_sent(kind: type[Lattice]):
    @settings(max_examples=30, deadline=None)
    @given(value=values_of(kind))
    def arrives(value: Lattice) -> None:
        message, fds = packed({"u": value})
        found = unpacked(message, fds)["u"]
        for fd in fds:
            os.close(fd)
        assert found == value and found.encode() == value.encode() and found.join(value) == value

    arrives()


def test_numbers_of_numpy_are_joined_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    best, mean = Live(Max()), Live(Average())
    assert best.merge(numpy.float64(0.5))
    assert mean.add(numpy.mean([1.0, 2.0]))
    assert (best.value, type(best.value), mean.mean()) == (0.5, float, 1.5)
