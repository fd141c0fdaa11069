"""A history gives, for every earlier moment, what was visible then; or an error, never something else."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvs
from kvs import Value
from kvs.history import VersionGone

LATER_S = 10_000.0
KEEP_NOTHING = kvs.Settings(retain_bytes=0, inline_limit_bytes=50)


def shown(view: object) -> dict[bytes, tuple[kvs.Version, ...]]:
    """Everything that a replica, or a view of the past, shows."""
    return {key: view.get(key) for key in view.keys(b"")}  # type: ignore[attr-defined]


@contextmanager
def edited(space: kvs.Space, lane: int = 0) -> Iterator[sqlite3.Connection]:
    """The log of a lane, to be written to by somebody without the key."""
    with closing(sqlite3.connect(f"{space.directory}/lanes/{lane}/log.sqlite")) as log, log:
        yield log


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_earlier_view_is_shown_as_it_was(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    space = kvs.open(tmp_path_factory.mktemp("history") / "store", kvs.Settings(inline_limit_bytes=50)).space("s")
    with ExitStack() as stack:
        replicas = [stack.enter_context(space.replica()) for _ in range(data.draw(st.integers(1, 3)))]
        seen = []
        for step in range(data.draw(st.integers(1, 14))):
            replica = data.draw(st.sampled_from(replicas))
            keys = data.draw(st.sets(st.sampled_from([b"x", b"y", b"z"]), min_size=1))
            body = b"%d" % step * data.draw(st.sampled_from([1, 90]))
            blobs = (replica.put_blob(body),) if data.draw(st.booleans()) else ()
            replica.publish({key: data.draw(st.sampled_from([Value(body, blobs), None])) for key in keys})
            if data.draw(st.booleans()):
                replica.refresh()
            seen.append((replica.vector, shown(replica), {key: replica.dots(key) for key in (b"x", b"y", b"z")}))
        for reader in [*replicas, stack.enter_context(space.reader())]:
            reader.refresh()
            history = reader.history()
            for vector, view, dots in seen:
                assert shown(history.at(vector)) == view
                assert {key: history.at(vector).dots(key) for key in dots} == dots
            assert history.now == reader.vector
            assert shown(history.at(history.now)) == shown(reader)


def test_moments_come_in_the_order_of_causes_and_tell_what_each_commit_wrote(space: kvs.Space) -> None:
    with space.replica() as a, space.replica() as b:
        for n in range(6):
            writer = (a, b)[n % 2]
            writer.refresh()
            writer.publish({b"k": Value(b"%d" % n), b"only-%d" % n: Value(b"")})
        a.refresh()
        history = a.history()
        assert [history.keys_of(moment.dot) for moment in history.moments] == [[b"k", b"only-%d" % n] for n in range(6)]
        values = [history.at(moment.vector).get(b"k") for moment in history.moments]
        assert [[version.value.payload for version in found] for found in values] == [[b"%d" % n] for n in range(6)]
        assert history.version(b"k", history.moments[2].dot) == values[2][0]


def test_before_the_first_commit_there_is_nothing(space: kvs.Space) -> None:
    with space.replica() as replica:
        assert replica.history().moments == ()
        replica.publish({b"a": Value(b"1")})
        assert replica.history().at(kvs.VersionVector()).keys() == []


def test_a_deletion_is_told_from_what_was_never_there(space: kvs.Space) -> None:
    with space.replica() as replica:
        first = replica.publish({b"a": Value(b"1")})
        gone = replica.publish({b"a": None})
        history = replica.history()
        past = history.at(history.moments[1].vector)
        assert past.keys() == [] and past.get(b"a") == () and past.dots(b"a") == (gone,)
        assert history.version(b"a", gone) is None and history.version(b"a", first) is not None


def test_a_commit_made_after_it_was_taken_is_no_part_of_a_history(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        history = replica.history()
        replica.publish({b"a": Value(b"2")})
        assert history.at(history.now).get(b"a")[0].value.payload == b"1"


# -- collected


def test_a_commit_that_the_replica_has_not_joined_is_no_damage(space: kvs.Space) -> None:
    """The newest row of a key was taken for a planted one when its commit was not joined yet."""
    with space.replica() as writer, space.reader() as reader:
        writer.publish({b"a": Value(b"1")})
        reader.refresh()
        writer.publish({b"a": Value(b"2"), b"b": Value(b"2")})
        past = reader.history().at(reader.vector)
        assert past.keys() == [b"a"] and past.get(b"a")[0].value.payload == b"1"


def test_a_collected_version_is_said_to_be_gone_and_no_older_one_is_given(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n), **({b"kept": Value(b"k")} if n == 0 else {})})
        replica.collect(now_s=time.time() + LATER_S)
        history = replica.history()
        for moment in history.moments[:2]:
            past = history.at(moment.vector)
            with pytest.raises(VersionGone, match=f"key b'a' that commit {moment.dot}.*KVS_RETAIN_BYTES") as caught:
                past.get(b"a")
            assert (caught.value.key, caught.value.dot) == (b"a", moment.dot)
            assert past.get(b"kept")[0].value.payload == b"k"
            assert past.keys() == [b"a", b"kept"]  # what `get` refuses is among them
        assert history.at(history.moments[2].vector).get(b"a")[0].value.payload == b"2"


def test_a_version_that_is_collected_after_the_history_was_taken_is_gone(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        for n in range(2):
            replica.publish({b"a": Value(b"%d" % n)})
        history = replica.history()
        replica.collect(now_s=time.time() + LATER_S)
        with pytest.raises(VersionGone):
            history.at(history.moments[0].vector).get(b"a")


def test_nothing_is_collected_while_a_replica_is_undisturbed(tmp_path: Path) -> None:
    space = kvs.open(tmp_path / "store", KEEP_NOTHING).space("s")
    with space.replica() as replica:
        ref = replica.put_blob(b"x" * 100)
        replica.publish({b"a": Value(b"old", (ref,))})
        replica.publish({b"a": Value(b"new")})
        collector = threading.Thread(target=replica.collect, kwargs={"now_s": time.time() + LATER_S})
        with replica.undisturbed():
            collector.start()
            history = replica.history()
            (version,) = history.at(history.moments[0].vector).get(b"a")
            collector.join(0.2)
            assert collector.is_alive()
            replica.publish({b"a": version.value})
        collector.join(10)
        assert bytes(replica.open_blob(ref)) == b"x" * 100
        assert replica.get(b"a")[0].value == version.value


# -- damaged


@pytest.fixture
def four(space: kvs.Space) -> kvs.Space:
    """Commits 1 to 4 of one lane, each of which writes `a`; 2 writes `b` too."""
    with space.replica() as replica:
        for n in range(1, 5):
            replica.publish({b"a": Value(b"a%d" % n), **({b"b": Value(b"b")} if n == 2 else {})}, note=b"note")
    return space


def assert_only_commit_2_is_refused(space: kvs.Space, also: bytes | None = None) -> None:
    with space.reader() as reader:
        history = reader.history()
        for n in (1, 2, 3, 4):
            past = history.at(kvs.VersionVector([(0, n)]))
            if n == 2:
                with pytest.raises(kvs.NotAuthentic, match="key b'a'"):
                    past.get(b"a")
            else:
                assert past.get(b"a")[0].value.payload == b"a%d" % n
            if also and n >= 2:
                with pytest.raises(kvs.NotAuthentic):
                    past.get(also)
            elif not also:
                assert [v.value.payload for v in past.get(b"b")] == ([b"b"] if n >= 2 else [])


def test_a_superseded_row_that_was_changed_is_refused_and_its_neighbours_are_not(four: kvs.Space) -> None:
    with edited(four) as log:
        log.execute("update entries set payload = x'00' where key = ? and n = 2", (b"a",))
    assert_only_commit_2_is_refused(four)


def test_a_row_with_the_content_of_another_commit_is_refused(four: kvs.Space) -> None:
    with edited(four) as log:
        log.execute(
            "update entries set (payload, mac) = (select payload, mac from entries where key = x'61' and n = 1)"
            " where key = x'61' and n = 2"
        )
    assert_only_commit_2_is_refused(four)


@pytest.mark.parametrize("column", ["context", "marks", "mac", "hlc"])
def test_what_a_damaged_commit_wrote_is_refused_and_what_lies_below_is_not_taken_for_it(
    column: str, four: kvs.Space
) -> None:
    with edited(four) as log:
        log.execute(f"update commits set {column} = {'hlc + 1' if column == 'hlc' else 'zeroblob(16)'} where n = 2")
    assert_only_commit_2_is_refused(four, also=b"b")


def test_a_current_row_that_is_missing_is_damage_and_was_not_collected(four: kvs.Space) -> None:
    with edited(four) as log:
        log.execute("delete from entries where key = ? and n = 4", (b"a",))
    with four.reader() as reader:
        history = reader.history()
        with pytest.raises(kvs.NotAuthentic, match="row is missing"):
            history.at(history.now).get(b"a")
        assert history.at(history.moments[2].vector).get(b"a")[0].value.payload == b"a3"


def test_a_planted_row_is_refused_now_and_earlier_moments_are_as_they_were(four: kvs.Space) -> None:
    with edited(four) as log:
        log.execute("insert into entries select key, 4, kind, payload, blobs, mac from entries where key = x'62'")
    with four.reader() as reader:
        history = reader.history()
        with pytest.raises(kvs.NotAuthentic):
            history.at(history.now).get(b"b")
        assert history.at(history.moments[2].vector).get(b"b")[0].value.payload == b"b"
