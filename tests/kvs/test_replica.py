"""What a replica publishes, others join: whole commits, siblings kept, one winner, one causal cut."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvs
from kvs import HybridClock, Value
from kvs.tiers.node import LaneLog
from tests.kvs.support import values


def test_what_is_published_is_read_back(space: kvs.Space) -> None:
    with space.replica() as replica:
        dot = replica.publish({b"a": Value(b"1"), b"b": Value(b"")}, note=b"first")
        assert dot == kvs.Dot(replica.id, 1) and dot in replica.vector
        (version,) = replica.get(b"a")
        assert version.value == Value(b"1") and version.dot == dot and replica.get(b"b")[0].value == Value(b"")
        assert replica.get(b"c") == () and replica.keys() == [b"a", b"b"] and replica.keys(b"b") == [b"b"]
    with space.reader() as reader:
        assert values(reader) == {b"a": b"1", b"b": b""}
        assert [commit.note for commit in reader.log()] == [b"first"]


def test_a_deletion_deletes_and_a_later_write_brings_the_key_back(space: kvs.Space) -> None:
    with space.replica() as replica, space.reader() as reader:
        replica.publish({b"a": Value(b"1")})
        replica.publish({b"a": None})
        assert replica.get(b"a") == () and replica.keys() == []
        assert reader.refresh() == {b"a"} and reader.keys() == []
        replica.publish({b"a": Value(b"2")})
        assert values(replica) == {b"a": b"2"}


def test_refresh_says_which_keys_changed_and_nothing_twice(space: kvs.Space) -> None:
    with space.replica() as here, space.replica() as there:
        assert here.refresh() == frozenset()
        there.publish({b"a": Value(b"1"), b"b": Value(b"2")})
        assert here.get(b"a") == ()  # the view moves in refresh alone
        assert here.refresh() == {b"a", b"b"} and here.refresh() == frozenset()
        assert values(here) == {b"a": b"1", b"b": b"2"}


def test_what_is_read_again_and_again_does_not_push_out_what_else_was_read(
    space: kvs.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read of a changed key was counted with all its versions anew, until nothing that was shown was left."""
    monkeypatch.setattr("kvs.replica._SHOWN_NBYTES", 20_000)
    with space.replica() as writer, space.reader() as reader:
        writer.publish({b"a": Value(b"1"), b"b": Value(b"b" * 100)})
        reader.refresh()
        shown = reader.get(b"b")
        for n in range(100):
            writer.publish({b"a": Value(b"%d" % n)})
            reader.refresh()
            assert reader.get(b"a")[0].value.payload == b"%d" % n and reader.get(b"b") is shown
        writer.publish({b"c": Value(b"c" * 19_000)})
        reader.refresh()
        assert reader.get(b"c") and reader.get(b"b") is not shown and reader.get(b"b") == shown


def test_concurrent_writes_are_both_kept_and_all_replicas_show_one_winner(space: kvs.Space) -> None:
    with space.replica() as a, space.replica() as b, space.reader() as reader:
        a.publish({b"x": Value(b"from a")})
        b.publish({b"x": Value(b"from b")})
        for replica in (a, b, reader):
            replica.refresh()
        siblings = [[version.value.payload for version in replica.get(b"x")] for replica in (a, b, reader)]
        assert siblings[0] == siblings[1] == siblings[2] and sorted(siblings[0]) == [b"from a", b"from b"]
        a.publish({b"x": Value(b"settled")})
        b.refresh()
        assert [version.value.payload for version in b.get(b"x")] == [b"settled"]


def test_equal_clocks_are_broken_by_the_replica(space: kvs.Space) -> None:
    with space.replica(clock=HybridClock(lambda: 5)) as a, space.replica(clock=HybridClock(lambda: 5)) as b:
        assert a.publish({b"x": Value(b"a")}).counter == b.publish({b"x": Value(b"b")}).counter == 1
        a.refresh()
        assert [version.dot.replica for version in a.get(b"x")] == [1, 0]


def test_a_causally_later_write_wins_whatever_the_clocks_say(space: kvs.Space) -> None:
    with (
        space.replica(clock=HybridClock(lambda: 10**9)) as ahead,
        space.replica(clock=HybridClock(lambda: 5)) as behind,
    ):
        ahead.publish({b"x": Value(b"earlier")})
        behind.refresh()
        behind.publish({b"x": Value(b"later")})
        ahead.refresh()
        assert values(ahead) == {b"x": b"later"} == values(behind)
        assert [commit.dot.replica for commit in ahead.log()] == [1, 0]
        assert [commit.dot.replica for commit in ahead.log(1, newest_first=False)] == [0]


def test_a_clock_that_goes_back_does_not_take_commits_back(space: kvs.Space) -> None:
    wall = iter([10**9, 5, 4, 10**9])
    with space.replica(clock=HybridClock(lambda: next(wall))) as replica:
        for n in range(4):
            replica.publish({b"n": Value(b"%d" % n)})
        times = [commit.hlc for commit in replica.log()]
        assert times == sorted(times, reverse=True) and len(set(times)) == 4 and values(replica) == {b"n": b"3"}


def test_the_next_holder_of_a_lane_goes_on_where_the_last_one_stopped(space: kvs.Space) -> None:
    for n in range(1, 4):
        with space.replica(owner={"cell": n}) as replica:
            assert replica.publish({b"n": Value(b"%d" % n)}) == kvs.Dot(0, n)
            assert [(lane.id, lane.held, lane.owner["cell"]) for lane in space.lanes()] == [(0, True, n)]
    assert [(lane.id, lane.held) for lane in space.lanes()] == [(0, False)]


def test_two_replicas_of_one_process_get_two_lanes_and_the_lowest_free_one_is_taken(space: kvs.Space) -> None:
    with space.replica() as a, space.replica() as b:
        assert (a.id, b.id) == (0, 1)
        a.close()
        with space.replica() as c:
            assert c.id == 0


def test_a_reader_cannot_write(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
    with space.reader() as reader, pytest.raises(kvs.ReadOnlyReplica, match=r"Use Space\.replica"):
        reader.publish({b"a": Value(b"2")})
    assert len(space.lanes()) == 1


@pytest.mark.parametrize("nbytes", [0, 1, 99, 100, 101, 5_000_000])
def test_a_payload_of_any_size_comes_back_whole(tmp_path: Path, nbytes: int) -> None:
    space = kvs.open(tmp_path / "store", kvs.Settings(inline_limit_bytes=100)).space("s")
    payload = bytes(range(256)) * (nbytes // 256 + 1)
    with space.replica() as replica, space.reader() as reader:
        ref = replica.put_blob(b"named")
        replica.publish({b"a": Value(payload[:nbytes], (ref,))})
        reader.refresh()
        assert reader.get(b"a")[0].value == Value(payload[:nbytes], (ref,))


def test_a_blob_is_mapped_copy_on_write_and_stored_once(space: kvs.Space) -> None:
    with space.replica() as replica:
        ref = replica.put_blob(bytearray(b"0123456789"))
        assert replica.put_blob(memoryview(b"0123456789")) == ref
        mapped, again = replica.open_blob(ref), replica.open_blob(ref)
        mapped[0:1] = b"X"
        assert bytes(mapped) == b"X123456789" and bytes(again) == b"0123456789"
        assert bytes(replica.open_blob(replica.put_blob(b""))) == b""
        files = [path for path in Path(space.directory, "blobs").rglob("*") if path.is_file()]
        assert {path.stat().st_size for path in files} <= {0, 10} and len(files) <= 2


def test_threads_publish_at_once_and_every_commit_is_there(space: kvs.Space) -> None:
    failures: list[BaseException] = []

    def work(replica: kvs.Replica, thread: int) -> None:
        try:
            for n in range(50):
                replica.publish({b"%d" % thread: Value(b"%d" % n), b"all": Value(b"%d" % thread)})
        except BaseException as e:
            failures.append(e)

    with space.replica() as replica, space.reader() as reader:
        threads = [threading.Thread(target=work, args=(replica, thread)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert failures == [] and not any(thread.is_alive() for thread in threads)
        reader.refresh()
        assert [commit.dot.counter for commit in reader.log()] == list(range(200, 0, -1))
        assert all(reader.get(b"%d" % thread)[0].value.payload == b"49" for thread in range(4))
        assert len(reader.get(b"all")) == 1


def meddled(log: LaneLog, act: Callable[[], object]) -> None:
    """Have `act` done before each look into the tail or the database of a log."""

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: object) -> Any:
            act()
            return call(*arguments)

        return done

    log._one, log._all = before(log._one), before(log._all)  # type: ignore[method-assign]
    log._tail.load = before(log._tail.load)  # type: ignore[method-assign]


@pytest.mark.parametrize(("look", "is_folded"), [*((n, False) for n in range(2)), *((n, True) for n in range(6))])
@pytest.mark.parametrize("folds", [False, True], ids=["added", "folded"])
def test_a_view_never_shows_half_of_a_commit_that_lands_while_it_is_joined(
    space: kvs.Space, look: int, is_folded: bool, folds: bool
) -> None:
    """A commit between the two reads of a join replaced rows of commits that the first read had counted as joined."""
    looks = iter(range(1000))
    with space.replica() as writer, space.reader() as reader:
        writer.publish({b"n": Value(b"1")})
        reader.refresh()
        writer.publish({b"n": Value(b"2")})
        if is_folded:
            writer._logs[0].fold()

        def meddle() -> None:
            if next(looks) == look:
                writer.publish({b"n": Value(b"3")})
                if folds:
                    writer._logs[0].fold()
                    writer.publish({b"n": Value(b"4")})

        meddled(reader._logs[0], meddle)
        reader.refresh()
        assert writer.vector[0] >= 3, "the other commit did not land inside the join"
        assert reader.vector[0] >= 2
        assert reader.get(b"n")[0].value.payload == b"%d" % reader.vector[0]


def test_a_view_that_shows_a_write_shows_what_its_writer_had_seen(space: kvs.Space) -> None:
    """Lanes are read one after the other: an early one may move on, and a late one may already depend on that."""
    with space.replica() as a, space.replica() as b, space.reader() as reader:
        a.publish({b"cause": Value(b"old")})
        b.publish({b"other": Value(b"1")})
        reader.refresh()
        b.publish({b"other": Value(b"2")})
        landed: list[kvs.Dot] = []

        def meddle() -> None:
            if not landed:
                landed.append(a.publish({b"cause": Value(b"new")}))
                b.refresh()
                b.publish({b"effect": Value(b"seen")})

        meddled(reader._logs[1], meddle)
        reader.refresh()
        assert landed, "the other commits did not land inside the refresh"
        effect = reader.get(b"effect")
        assert not effect or effect[0].context.leq(reader.vector)
        assert not effect or values(reader)[b"cause"] == b"new"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_replicas_that_have_seen_the_same_show_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Against a model: the writes of a key that no other write of it has seen, in any order of reading."""
    space = kvs.open(tmp_path_factory.mktemp("model") / "store").space("s")
    with ExitStack() as stack:
        replicas = [stack.enter_context(space.replica(clock=HybridClock(lambda: 7))) for _ in range(3)]
        model: dict[bytes, list[tuple[kvs.Dot, kvs.VersionVector, bytes | None]]] = {}
        for n in range(data.draw(st.integers(1, 12))):
            replica = replicas[data.draw(st.integers(0, 2))]
            if data.draw(st.booleans()):
                replica.refresh()
            key = data.draw(st.sampled_from([b"x", b"y"]))
            payload = data.draw(st.sampled_from([None, b"%d" % n]))
            context = replica.vector
            dot = replica.publish({key: None if payload is None else Value(payload)})
            alive = [write for write in model.get(key, []) if write[0] not in context]
            model[key] = [*alive, (dot, context, payload)]
        replicas.append(stack.enter_context(space.reader()))
        for replica in replicas:
            replica.refresh()
        for key in model:
            shown = [[(v.dot, v.value.payload) for v in replica.get(key)] for replica in replicas]
            assert all(one == shown[0] for one in shown)
            assert sorted(shown[0]) == sorted((dot, payload) for dot, _, payload in model[key] if payload is not None)
