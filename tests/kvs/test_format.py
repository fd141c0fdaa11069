"""Formats: every store that was ever written opens; one of a later version is refused, with the remedy, untouched."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

import kvs
from kvs import Value, seal
from kvs.causal import Dot
from kvs.records import RECORD_FORMAT, entry_mac, record_version
from kvs.tiers.node import EntryRow
from tests.kvs.golden.make import SETTINGS, contents, make
from tests.kvs.support import values

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.tar.gz"))


def assert_golden(path: Path) -> None:
    store = kvs.open(path, SETTINGS)
    assert sorted(info.name for info in store.spaces()) == ["one", "zwei ☃"]
    for name in ("one", "zwei ☃"):
        with store.space(name).reader() as reader:
            assert values(reader) == contents(name) and list(reader.check()) == []
            (version,) = reader.get(b"new")
            assert reader.read_blob(version.value.blobs[0]) == b"blob of " + name.encode()
            assert [commit.note for commit in reader.log()] == [b"last", b"", b"", b"first"]
            history = reader.history()
            assert [history.at(m.vector).get(b"new")[0].value.payload for m in history.moments] == [
                b"1",
                b"1",
                b"2",
                b"3",
            ]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_a_store_of_every_format_that_there_was_opens_and_goes_on(tmp_path: Path, golden: Path) -> None:
    with tarfile.open(golden) as archive:
        archive.extractall(tmp_path, filter="data")
    assert_golden(tmp_path / "store")
    with kvs.open(tmp_path / "store", SETTINGS).space("one").replica() as replica:
        assert replica.publish({b"more": Value(b"1")}) == Dot(0, 3)
        assert values(replica) == contents("one") | {b"more": b"1"}
        replica.collect(now_s=4e9)


def test_there_is_a_golden_store_of_the_current_format_and_it_is_small() -> None:
    assert f"format-{kvs.store.FORMAT}.tar.gz" in [path.name for path in GOLDEN]
    assert all(path.stat().st_size < 50_000 for path in GOLDEN)


def test_what_is_written_now_is_what_the_golden_store_holds(tmp_path: Path) -> None:
    make(tmp_path / "store")
    assert_golden(tmp_path / "store")


# -- later versions


def snapshot(path: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_store_of_a_later_version_is_refused_with_what_it_needs_and_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "store")
    (tmp_path / "store/FORMAT").write_text(json.dumps({"kvs": 3, "id": "x", "needs": "lambdakernel 0.7.0"}))
    before = snapshot(tmp_path)
    with pytest.raises(
        kvs.StoreForeign, match=r"format 3 is newer than 2; install lambdakernel 0\.7\.0 or later \(pip"
    ):
        kvs.open(tmp_path / "store")
    assert snapshot(tmp_path) == before


def test_a_new_store_says_which_release_reads_it(store: kvs.Store) -> None:
    said = json.loads(Path(store.path, "FORMAT").read_bytes())
    assert said["kvs"] == kvs.store.FORMAT and said["needs"] == "lambdakernel 0.1.0"


@pytest.mark.parametrize("kind", [3, 16, 17, 1 << 20])
def test_a_record_of_a_later_version_is_refused_by_name_and_is_no_damage(store: kvs.Store, kind: int) -> None:
    """An authentic entry of an unknown kind was read as one whose payload is a blob."""
    space = store.space("s")
    with space.replica() as replica:
        replica.publish({b"new": Value(b"1"), b"old": Value(b"2")})
        ((_, commit, entries),) = replica.records()
    (row,) = (row for row in entries if row.key == b"new")
    later = EntryRow(*row)._replace(kind=kind)
    code = entry_mac(store.space_key("s"), Dot(0, 1), commit.hlc, commit.context, later)
    with closing(sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite")) as log, log:
        log.execute("update entries set kind = ?, mac = ? where key = ?", (kind, code, b"new"))
    with space.reader() as reader:
        assert reader.get(b"old")[0].value == Value(b"2") and reader.keys() == [b"new", b"old"]
        with pytest.raises(kvs.StoreForeign, match=rf"key b'new'.*format {record_version(kind)}\..*pip"):
            reader.get(b"new")
    repaired = space.repair(forget=True)
    assert repaired.moved == () and "newer" in repaired.lost[0]
    with space.reader() as reader:
        assert reader.keys() == [b"new", b"old"], "a record that a later version can read was thrown away"


def test_every_record_bears_the_current_version(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1"), b"b": Value(b"2" * 100_000), b"c": None})
        kinds = {row.kind for _, _, entries in replica.records() for row in entries}
    assert len(kinds) == 3 and {record_version(kind) for kind in kinds} == {RECORD_FORMAT}
    with closing(sqlite3.connect(f"{space.directory}/lanes/0/log.sqlite")) as log:
        assert log.execute("pragma user_version").fetchone() == (kvs.store.FORMAT,)
    assert len(seal.archive_key(bytes(32))) == 32
