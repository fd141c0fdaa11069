"""A lane that was sealed is not read by who opens it, and shows nothing else than one that is read."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import kvs
from kvs import Value, key_index, seal, unread
from kvs.key_index import Head, KeyIndex
from tests.kvs.support import values

KEY = bytes(range(32))
START = 48 + len(b"seen") + 32  # of the pages
MANY = 700  # more than two pages, and than what is not worth sealing


def marks(count: int) -> dict[bytes, int]:
    return {seal.key_mark(b"%d" % n): n + 1 for n in range(count)}


@pytest.fixture(params=[1, 256, 257, MANY])
def newest(request: pytest.FixtureRequest) -> dict[bytes, int]:
    return marks(request.param)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys")


def opened(path: str, key: bytes = KEY, lane: int = 3) -> KeyIndex:
    index = KeyIndex.opened(path, key, lane)
    assert index is not None
    return index


def write(path: str, last: int, newest: dict[bytes, int], context: bytes = b"seen") -> None:
    key_index.write(path, KEY, Head(3, last, len(newest), 5, context), newest)


# -- the file


def test_an_index_says_what_it_was_given_and_of_other_keys_that_nobody_wrote_them(
    path: str, newest: dict[bytes, int]
) -> None:
    write(path, 900, newest)
    with closing(opened(path)) as index:
        assert index.head == Head(3, 900, len(newest), 5, b"seen")
        assert index.entries() == newest
        assert {mark: index.find(mark) for mark in newest} == newest
        others = [seal.key_mark(b"other %d" % n) for n in range(500)] + [bytes(8), b"\xff" * 8]
        assert {index.find(mark) for mark in others} == {0}
    assert os.listdir(os.path.dirname(path)) == ["keys"]


def test_a_mark_is_found_in_its_place_alone(path: str) -> None:
    """Its bytes may also be the end of one mark and the beginning of a number."""
    mark, other = bytes([7] * 8), bytes([1, 7, 7, 7, 7, 7, 7, 7])
    number = int.from_bytes(bytes([7] + 7 * [0]), "big")
    write(path, number, {other: number, mark: 5})
    with closing(opened(path)) as index:
        assert index.find(mark) == 5 and index.find(other) == number
    write(path, number, {other: number})
    with closing(opened(path)) as index:
        assert index.find(mark) == 0


def test_an_index_is_of_one_lane_and_of_who_holds_the_key(path: str) -> None:
    assert KeyIndex.opened(path, KEY, 3) is None
    write(path, 900, marks(10))
    assert KeyIndex.opened(path, KEY, 4) is None
    assert KeyIndex.opened(path, bytes(32), 3) is None
    Path(path).write_bytes(Path(path).read_bytes()[:50])
    assert KeyIndex.opened(path, KEY, 3) is None


def test_a_damaged_index_says_nothing_or_what_it_said_before(path: str) -> None:
    newest, rng = marks(MANY), random.Random(1)
    write(path, 900, newest)
    whole, asked = Path(path).read_bytes(), [*rng.sample(sorted(newest), 40), seal.key_mark(b"other")]
    silent = 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        Path(path).write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        index = KeyIndex.opened(path, KEY, 3)
        if index is None:
            continue
        with closing(index):
            found = [(index.find(mark), newest.get(mark, 0)) for mark in asked]
            assert all(said in (None, true) for said, true in found)
            silent += sum(said is None for said, _ in found)
            assert index.entries() is None
    assert silent > 100


def test_pages_of_an_older_index_are_not_taken_for_those_of_a_newer_one(path: str) -> None:
    newest = marks(MANY)
    write(path, 900, newest)
    old = Path(path).read_bytes()
    write(path, 901, dict.fromkeys(newest, 901))
    new = Path(path).read_bytes()
    assert len(old) == len(new)
    Path(path).write_bytes(new[:START] + old[START:])
    with closing(opened(path)) as index:
        assert {index.find(mark) for mark in newest} == {None}


def test_a_page_is_not_taken_for_another(path: str) -> None:
    newest = marks(3 * 256)
    write(path, 900, newest)
    data, size = Path(path).read_bytes(), 40 + 256 * 16
    pages = [data[START + at * size : START + (at + 1) * size] for at in range(3)]
    Path(path).write_bytes(data[:START] + pages[0] + pages[0] + pages[2])
    with closing(opened(path)) as index:
        assert all(index.find(mark) in (None, n) for mark, n in newest.items())
        assert None in {index.find(mark) for mark in newest}


# -- lanes that were sealed


@pytest.fixture
def sealed(space: kvs.Space) -> kvs.Space:
    """Two lanes that wrote the same keys, both sealed, and closed: lane 1 has seen lane 0 and replaced every third."""
    with space.replica() as a, space.replica() as b:
        for start in range(0, MANY, 100):
            a.publish({b"k%d" % n: Value(b"a%d" % n) for n in range(start, start + 100)})
        b.refresh()
        b.publish({b"k%d" % n: Value(b"b%d" % n) for n in range(0, MANY, 3)})
        b.publish({b"k%d" % n: None for n in range(1, MANY, 3)})
        b.publish({b"own%d" % n: Value(b"b") for n in range(300)})
    assert all(os.path.exists(f"{space.directory}/lanes/{lane}/keys") for lane in (0, 1))
    return space


def expected() -> dict[bytes, bytes]:
    shown = {b"k%d" % n: (b"b%d" if n % 3 == 0 else b"a%d") % n for n in range(MANY) if n % 3 != 1}
    return shown | {b"own%d" % n: b"b" for n in range(300)}


def get(replica: kvs.Replica, key: bytes) -> bytes | None:
    found = replica.get(key)
    assert len(found) <= 1
    return found[0].value.payload if found else None


def is_read(replica: kvs.Replica) -> bool:
    """Whether it has read the lanes whole."""
    return not replica._unread


@pytest.fixture
def log(sealed: kvs.Space) -> Iterator[sqlite3.Connection]:
    """The log of lane 0, to be written to by somebody without the key."""
    with closing(sqlite3.connect(f"{sealed.directory}/lanes/0/log.sqlite")) as connection, connection:
        yield connection


def test_keys_are_read_without_reading_the_lanes(sealed: kvs.Space) -> None:
    with sealed.reader() as reader:
        assert {key: get(reader, key) for key in expected()} == expected()
        assert get(reader, b"k1") is None
        assert [dot.replica for dot in reader.dots(b"k1")] == [1]  # the deletion
        assert reader.dots(b"nobody wrote it") == ()
        assert not is_read(reader)


def test_a_reader_of_sealed_lanes_shows_what_one_without_indexes_shows(sealed: kvs.Space) -> None:
    with sealed.reader() as reader:
        lazily = {key: reader.get(key) for key in expected()}
        vector = reader.vector
        assert values(reader) == expected()
        assert is_read(reader)
        assert {key: reader.get(key) for key in expected()} == lazily
        assert list(reader.check()) == []
    for lane in (0, 1):
        os.unlink(f"{sealed.directory}/lanes/{lane}/keys")
    with sealed.reader() as reader:
        assert is_read(reader)
        assert reader.vector == vector
        assert {key: reader.get(key) for key in expected()} == lazily


def test_a_writer_replaces_what_it_has_not_read(sealed: kvs.Space) -> None:
    with sealed.replica() as writer, sealed.reader() as reader:
        writer.put(b"k0", b"new")
        assert not is_read(writer)
        assert get(writer, b"k0") == b"new"
        assert reader.refresh() == {b"k0"}
        assert (get(reader, b"k0"), get(reader, b"k2")) == (b"new", b"a2")
        assert not is_read(reader)
        assert values(writer) == values(reader) == expected() | {b"k0": b"new"}


def test_siblings_of_a_sealed_write_are_kept(sealed: kvs.Space) -> None:
    with sealed.reader() as late, sealed.replica() as a, sealed.replica() as b:
        for writer, value in ((a, b"by a"), (b, b"by b")):
            writer.put(b"k2", value)
        assert get(late, b"k2") == b"a2"
        late.refresh()
        assert sorted(version.value.payload for version in late.get(b"k2")) == [b"by a", b"by b"]


@pytest.fixture
def forgetful(store: kvs.Store, sealed: kvs.Space) -> kvs.Space:
    """The same space for those who keep nothing that was replaced."""
    return kvs.open(store.path, kvs.Settings(retain_bytes=0, retain_s=0)).space(sealed.name)


def test_a_key_is_shown_as_it_was_when_the_reader_was_opened(sealed: kvs.Space, forgetful: kvs.Space) -> None:
    with forgetful.replica() as writer, sealed.reader() as reader:
        for n in range(0, MANY, 2):
            writer.put(b"k%d" % n, b"later")
        writer.put(b"k3", bytes(3 << 20))
        writer.sync()  # moves it all to the database, and seals it anew
        writer.collect(now_s=1e12)
        assert {key: get(reader, key) for key in expected()} == expected()
        assert values(reader) == expected()
        reader.refresh()
        assert get(reader, b"k2") == b"later"
        assert writer.collect(now_s=1e12).versions == MANY // 2 + 1


def test_what_was_replaced_and_collected_since_it_was_sealed_is_not_missed(
    sealed: kvs.Space, forgetful: kvs.Space
) -> None:
    with forgetful.replica() as writer:
        writer.put(b"k2", b"later")
        writer.put(b"large", bytes(60_000))
        assert writer.collect(now_s=1e12).versions == 1
    with sealed.reader() as reader:
        assert get(reader, b"k2") == b"later"
        assert not is_read(reader)
        assert values(reader) == expected() | {b"k2": b"later", b"large": bytes(60_000)}


def test_all_that_wants_every_key_reads_the_lanes(sealed: kvs.Space) -> None:
    with sealed.reader() as reader:
        assert reader.use().versions == MANY + 467 + 300
    with sealed.reader() as reader, reader.snapshot() as snapshot:
        assert {key: found[0].value.payload for key, found in snapshot.scan()} == expected()
    with sealed.reader() as reader:
        assert sum(len(entries) for _, _, entries in reader.records()) == MANY + 467 + 300
    with sealed.reader() as reader:
        assert dict(reader.scan(b"k2"))[b"k2"][0].value.payload == b"a2"
    with sealed.reader() as reader:
        assert reader.history().at(reader.vector).get(b"k2")[0].value.payload == b"a2"


# -- damage


def refused(replica: kvs.Replica) -> set[bytes]:
    found = set()
    for n in range(MANY):
        try:
            assert get(replica, b"k%d" % n) == expected().get(b"k%d" % n)
        except kvs.NotAuthentic as e:
            assert repr(b"k%d" % n) in str(e)
            found.add(b"k%d" % n)
    return found


def test_a_row_that_is_gone_or_changed_or_planted_is_named_by_its_key_alone(
    sealed: kvs.Space, log: sqlite3.Connection
) -> None:
    log.execute("delete from entries where key = ?", (b"k5",))
    log.execute("update entries set payload = x'00' where key = ?", (b"k8",))
    log.execute("update entries set n = 7 where key = ?", (b"k2",))
    log.execute("insert into entries values (?, 3, 1, x'00', x'', x'00')", (b"planted",))
    log.commit()
    with sealed.reader() as reader:
        assert refused(reader) == {b"k2", b"k5", b"k8"}
        with pytest.raises(kvs.NotAuthentic, match="planted"):
            reader.get(b"planted")
        assert len(list(reader.check())) >= 4


def test_a_damaged_commit_costs_its_own_keys(sealed: kvs.Space, log: sqlite3.Connection) -> None:
    log.execute("update commits set hlc = hlc + 1 where n = 2")
    log.commit()
    own = {b"k%d" % n for n in range(100, 200) if n % 3 == 2}
    with sealed.reader() as reader:
        assert refused(reader) == own


@pytest.mark.parametrize("damage", ["page", "cut off", "of another lane", "gone"])
def test_without_its_index_a_lane_is_read_whole(sealed: kvs.Space, damage: str) -> None:
    index = Path(sealed.directory, "lanes", "0", "keys")
    data = index.read_bytes()
    match damage:
        case "page":
            index.write_bytes(data[:200] + bytes(len(data) - 200))
        case "cut off":
            index.write_bytes(data[:100])
        case "of another lane":
            index.write_bytes(Path(sealed.directory, "lanes", "1", "keys").read_bytes())
        case _:
            index.unlink()
    with sealed.reader() as reader:
        assert {key: get(reader, key) for key in expected()} == expected()


def test_an_index_that_knows_more_than_the_log_is_not_used(sealed: kvs.Space, log: sqlite3.Connection) -> None:
    log.execute("delete from commits where n = 7")
    log.execute("delete from entries where n = 7")
    log.commit()
    with sealed.reader() as reader:
        assert get(reader, b"k2") == b"a2"
        assert next(iter(reader.check())).endswith("has lost its newest commits: 7 to 7, which another lane has seen.")


def test_a_lane_with_a_damaged_commit_is_not_sealed(sealed: kvs.Space, log: sqlite3.Connection) -> None:
    os.unlink(f"{sealed.directory}/lanes/0/keys")
    log.execute("update commits set hlc = hlc + 1 where n = 2")
    log.commit()
    with sealed.replica() as writer:
        assert writer.id == 0
        writer.publish({b"more%d" % n: Value(b"1") for n in range(MANY)})
    assert not os.path.exists(f"{sealed.directory}/lanes/0/keys")


# -- when it is sealed


def test_a_lane_is_sealed_again_when_enough_was_written(space: kvs.Space) -> None:
    path = f"{space.directory}/lanes/0/keys"

    def last() -> int:
        index = KeyIndex.opened(path, space._key, 0)
        if index is None:
            return 0
        with closing(index):
            return index.head.last

    with space.replica() as writer:
        writer.publish({b"%d" % n: Value(b"") for n in range(unread.SEAL_FROM - 1)})
    assert last() == 0  # as few as these are read in no time
    with space.replica() as writer:
        writer.put(b"one more", b"")
    assert last() == 2
    with space.replica() as writer:
        writer.put(b"another", b"")
        assert not is_read(writer)
    assert last() == 2
    with space.replica() as writer:
        for n in range(2 * unread.SEAL_FROM):
            writer.publish({b"k%d" % n: Value(bytes(3000))})
        writer.sync()
        assert last() == 3 + 2 * unread.SEAL_FROM
        assert get(writer, b"one more") == b""
        writer.put(b"large", bytes(60_000))
        for _ in range(20):
            writer.put(b"larger", bytes(60_000))
        writer.sync()
        assert last() == 3 + 2 * unread.SEAL_FROM  # the few that came since are not worth it
