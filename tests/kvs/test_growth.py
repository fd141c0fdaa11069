"""What an operation costs does not grow with what the space holds: counted in what SQLite does, never in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import kvs
from kvs import Value
from kvs.tiers.news import LANES, News, Ringer

STEP = 20
SIZES = (300, 2000)
"""Keys and commits of the smaller and of the larger space."""


class Meter:
    """Counts the statements that a replica gives to SQLite, and every few instructions that those take."""

    def __init__(self, replica: kvs.Replica) -> None:
        self._connections: list[sqlite3.Connection] = [log._connection for log in replica._logs.values()]
        self.statements = self.instructions = 0

    def of(self, action: Callable[[], object]) -> tuple[int, int]:
        """Statements and instructions of one `action`."""
        self.statements = self.instructions = 0
        for connection in self._connections:
            connection.set_trace_callback(self._stated)
            connection.set_progress_handler(self._stepped, STEP)
        try:
            action()
        finally:
            for connection in self._connections:
                connection.set_trace_callback(None)
                connection.set_progress_handler(None, STEP)
        return self.statements, self.instructions * STEP

    def _stated(self, _: str) -> None:
        self.statements += 1

    def _stepped(self) -> int:
        self.instructions += 1
        return 0


def filled(store: kvs.Store, size: int) -> kvs.Space:
    space = store.space(f"of {size}")
    with space.replica() as replica:
        replica.publish({b"key %d" % n: Value(b"x") for n in range(size)})
        for n in range(size):
            replica.publish({b"key %d" % (n % 10): Value(b"%d" % n)})
    return space


@pytest.fixture
def spaces(store: kvs.Store) -> list[kvs.Space]:
    return [filled(store, size) for size in SIZES]


def test_a_refresh_with_nothing_new_asks_no_log(spaces: list[kvs.Space]) -> None:
    for space in spaces:
        with space.replica(), space.reader() as reader:
            reader.refresh()
            assert Meter(reader).of(reader.refresh) == (0, 0)


def test_a_read_of_an_unchanged_value_asks_no_log_and_one_of_a_changed_value_asks_once(spaces: list[kvs.Space]) -> None:
    found = []
    for space in spaces:
        with space.replica() as writer, space.reader() as reader:
            meter, other = Meter(reader), reader.get(b"key 100")
            unread = meter.of(partial(reader.get, b"key 1"))  # the lane is sealed: the row, and its commit
            reader.keys()
            found.append((unread, meter.of(partial(reader.get, b"key 2"))))
            assert meter.of(partial(reader.get, b"key 1")) == (0, 0)
            writer.publish({b"key 1": Value(b"new")})
            reader.refresh()
            assert meter.of(partial(reader.get, b"key 100")) == (0, 0)
            assert reader.get(b"key 1")[0].value.payload == b"new" and reader.get(b"key 100") == other
    assert found[0] == found[1]
    assert [statements for statements, _ in found[0]] == [2, 1]


def test_joining_one_commit_costs_the_same_whatever_there_was_before(spaces: list[kvs.Space]) -> None:
    found = []
    for space in spaces:
        with space.replica() as writer, space.reader() as reader:
            writer.publish({b"key 1": Value(b"first")})
            reader.refresh()
            writer.publish({b"key 1": Value(b"second")})
            found.append(Meter(reader).of(reader.refresh))
            assert reader.get(b"key 1")[0].value.payload == b"second"
    small, large = found
    assert small[0] == large[0] and large[1] <= small[1] + STEP


def test_publishing_one_key_costs_the_same_whatever_there_was_before(spaces: list[kvs.Space]) -> None:
    found = []
    for space in spaces:
        with space.replica() as writer:
            writer.publish({b"key 1": Value(b"first")})
            found.append(Meter(writer).of(partial(writer.publish, {b"key 1": Value(b"second")})))
    small, large = found
    assert small[0] == large[0] and large[1] <= small[1] + STEP


def test_a_log_that_an_earlier_version_made_is_given_its_index_by_the_first_writer(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
    connection = sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite", isolation_level=None)
    connection.execute("drop index entries_by_n")
    connection.close()
    with space.reader() as reader:
        assert reader.get(b"a")[0].value.payload == b"1"
        with space.replica() as replica:
            replica.publish({b"a": Value(b"2")})
            (plan,) = replica._logs[0]._all(
                "explain query plan select key, n, kind from entries where n > 1 order by n"
            )
            assert b"entries_by_n" in plan[3]
        assert reader.refresh() == {b"a"} and reader.get(b"a")[0].value.payload == b"2"


def test_an_index_that_lies_loses_the_key_and_never_shows_an_older_value(space: kvs.Space) -> None:
    """SQLite does not compare an index with its table: the marks of the commits do, and repair makes a new one."""
    with space.replica() as replica:
        replica.publish({b"a": Value(b"old"), b"b": Value(b"b")})
        replica.publish({b"a": Value(b"new")})
    connection = sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite", isolation_level=None)
    connection.execute("pragma writable_schema=on")
    (page,) = connection.execute("select rootpage from sqlite_master where name = 'entries_by_n'").fetchone()
    connection.execute("delete from sqlite_master where name = 'entries_by_n'")
    connection.close()
    connection = sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite", isolation_level=None)
    connection.execute("create index stale on entries (n, key, kind) where n < 2")
    connection.execute("pragma writable_schema=on")
    connection.execute(
        "update sqlite_master set name = 'entries_by_n', sql = 'create index entries_by_n on entries (n, key, kind)'"
        " where name = 'stale'"
    )
    connection.close()
    assert page > 0
    with space.reader() as reader:
        with pytest.raises(kvs.NotAuthentic):
            reader.get(b"a")
        assert reader.get(b"b")[0].value.payload == b"b"
    space.repair()
    with space.reader() as reader:
        assert reader.get(b"a")[0].value.payload == b"new" and list(reader.check()) == []


def test_a_writer_that_died_in_a_transaction_hides_nothing(space: kvs.Space) -> None:
    """Its number in the news stays odd, so that readers look into the lanes until the next holder has come."""
    with space.replica() as writer, space.reader() as reader:
        reader.refresh()
        ringer = writer._logs[0]._ringer
        assert ringer is not None
        ringer.end = lambda: None  # type: ignore[method-assign]
        writer.publish({b"a": Value(b"1")})
        assert reader.refresh() == {b"a"} and not reader._news.is_quiet
        assert Meter(reader).of(reader.refresh)[0] > 0
    with space.replica() as writer, space.reader() as reader:
        reader.refresh()
        assert reader._news.is_quiet
        writer.publish({b"a": Value(b"2")})
        assert not reader._news.is_quiet and reader.refresh() == {b"a"} and reader._news.is_quiet


def test_lanes_beyond_the_table_of_news_are_looked_at_each_time(space: kvs.Space) -> None:
    with space.replica():
        for lane in range(1, LANES):
            folder = Path(space.directory, "lanes", str(lane))
            folder.mkdir()
            (folder / "retired").touch()
        with space.replica() as far, space.reader() as reader:
            assert far.id == LANES
            reader.refresh()
            assert not reader._news.is_quiet
            far.publish({b"a": Value(b"1")})
            assert reader.refresh() == {b"a"}
            far.publish({b"a": Value(b"2")})
            assert reader.refresh() == {b"a"} and reader.get(b"a")[0].value.payload == b"2"


def test_what_a_replica_commits_itself_is_no_news_to_it_and_hides_nobody_elses(space: kvs.Space) -> None:
    with space.replica() as writer, space.replica() as other:
        writer.refresh()
        writer.publish({b"a": Value(b"1")})
        assert writer._news.is_quiet and writer.refresh() == frozenset()
        assert other.refresh() == {b"a"}
        other.publish({b"b": Value(b"1")})
        writer.publish({b"c": Value(b"1")})
        assert not writer._news.is_quiet and writer.refresh() == {b"b"} and writer._news.is_quiet
        assert other.refresh() == {b"c"} and other.get(b"a")[0].value.payload == b"1"


def test_a_refresh_asks_nothing_of_lanes_of_which_there_are_no_news(space: kvs.Space) -> None:
    with space.replica() as one, space.replica() as two, space.replica() as three, space.reader() as reader:
        for replica in (one, two, three):
            replica.publish({b"a": Value(b"1")})
        reader.refresh()
        asked: list[int] = []
        for lane, log in reader._logs.items():
            log._connection.set_trace_callback(lambda _, lane=lane: asked.append(lane))
        two.publish({b"b": Value(b"2")})
        assert reader.refresh() == {b"b"} and set(asked) == {two.id}
        three.publish({b"c": Value(b"3")})
        one.publish({b"c": Value(b"3")})
        assert reader.refresh() == {b"c"} and set(asked) == {0, 1, 2} and len(reader.get(b"c")) == 2


def test_a_commit_that_saw_one_of_a_lane_without_news_waits_for_that_lane(space: kvs.Space) -> None:
    """The lanes are read one after the other: what is published meanwhile is in no look, and may be needed."""
    with space.replica() as one, space.replica() as two, space.reader() as reader:
        for replica in (one, two):
            replica.publish({b"a": Value(b"1")})
        reader.refresh()
        two.publish({b"b": Value(b"1")})
        look = reader._news.look()
        reader._news.look = lambda: look  # type: ignore[method-assign]
        one.publish({b"c": Value(b"1")})
        two.refresh()
        two.publish({b"b": Value(b"2")})
        assert reader.refresh() >= {b"b", b"c"} and reader.get(b"c")[0].value.payload == b"1"


def test_writers_of_one_lane_leave_numbers_that_no_reader_has_seen(tmp_path: Path) -> None:
    """Two pulls fill a lane at once, each with a count of its own: the second left the number that the first had."""
    path = str(tmp_path / "news")
    one, two, news = Ringer(path, 0), Ringer(path, 0), News(path)
    seen: list[bytes] = []

    def ends(ringer: Ringer) -> None:
        ringer.end_among_others()
        assert news.look() not in seen
        seen.append(news.look())

    for first, last in ((one, two), (two, one)):
        one.begin_among_others()
        two.begin_among_others()
        ends(first)
        ends(last)
        assert news.look()[0] % 2 == 0
    for ringer in (one, two, one):
        ringer.begin_among_others()
        assert news.look()[0] % 2 == 1
        ends(ringer)
        assert news.look()[0] % 2 == 0
    for ringer in (one, two):
        ringer.close()
    news.close()
