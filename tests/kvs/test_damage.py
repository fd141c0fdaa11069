"""Whatever happens to its files, a store gives the right value or an error that names the damage; no other value."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import kvs
from kvs import Value
from tests.kvs.support import values

FLIP_TRIALS = 150


@contextmanager
def edited(space: kvs.Space, lane: int = 0) -> Iterator[sqlite3.Connection]:
    """The log of a lane that nobody has open, to be written to by somebody without the key."""
    with closing(sqlite3.connect(f"{space.directory}/lanes/{lane}/log.sqlite")) as log, log:
        yield log


@pytest.fixture
def written(space: kvs.Space) -> kvs.Space:
    """Two lanes that overwrite each other's keys, all closed."""
    with space.replica() as a, space.replica() as b:
        for n in range(40):
            writer = (a, b)[n % 2]
            writer.refresh()
            writer.publish({b"k%d" % k: Value(b"%d.%d" % (n, k) * 4) for k in range(n % 5, 20, 5)}, note=b"%d" % n)
    return space


def blob_path(space: kvs.Space, ref: kvs.BlobRef) -> Path:
    name = ref.digest.hex()
    return Path(space.directory, "blobs", name[:2], name[2:])


# -- somebody writes to the log without the key


def test_a_planted_value_is_never_returned(written: kvs.Space) -> None:
    with written.reader() as reader:
        whole = values(reader)
        victims = [key for key in whole if reader.dots(key)[0].replica == 0][:2]
    assert len(victims) == 2 < len(whole)
    with edited(written) as log:
        for key in victims:
            log.execute("update entries set payload = x'00' where key = ?", (key,))
    with written.reader() as reader:
        for key in victims:
            with pytest.raises(kvs.NotAuthentic, match=f"key {key!r} of space 'notes'"):
                reader.get(key)
        rest = {key: value for key, value in whole.items() if key not in victims}
        assert {key: reader.get(key)[0].value.payload for key in rest} == rest
        assert all(any(repr(key) in line for line in reader.check()) for key in victims)


def test_a_value_signed_for_another_space_is_refused(store: kvs.Store) -> None:
    for name in ("mine", "theirs"):
        with store.space(name).replica() as replica:
            replica.publish({b"a": Value(name.encode())})
    theirs, mine = (Path(store.space(name).directory, "lanes/0/log.sqlite") for name in ("theirs", "mine"))
    shutil.copy(theirs, mine)
    with store.space("mine").reader() as reader, pytest.raises(kvs.NotAuthentic):
        reader.get(b"a")
        raise AssertionError(f"returned {values(reader)}")


def test_a_value_moved_to_another_key_or_commit_is_refused(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"of a"), b"b": Value(b"of b")})
        replica.publish({b"a": Value(b"new a")})
    with edited(space) as log:
        payload, mac = log.execute("select payload, mac from entries where key = ? and n = 1", (b"a",)).fetchone()
        log.execute("update entries set payload = ?, mac = ? where key = ?", (payload, mac, b"b"))
        log.execute("update entries set payload = ?, mac = ? where key = ? and n = 2", (payload, mac, b"a"))
    with space.reader() as reader:
        for key in (b"a", b"b"):
            with pytest.raises(kvs.NotAuthentic):
                reader.get(key)


def test_a_newest_row_that_is_gone_does_not_bring_the_older_value_back(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"old"), b"b": Value(b"b")})
        replica.publish({b"a": Value(b"new"), b"only": Value(b"here")})
    with edited(space) as log:
        log.execute("delete from entries where n = 2")
    with space.replica() as replica:
        for key in (b"a", b"only"):
            with pytest.raises(kvs.NotAuthentic, match=f"key {key!r}"):
                replica.get(key)
        assert replica.get(b"b")[0].value.payload == b"b"
        assert len(list(replica.check())) == 2
        replica.publish({b"a": Value(b"written again"), b"only": None})
        assert values(replica) == {b"a": b"written again", b"b": b"b"} and list(replica.check()) == []


def test_a_damaged_commit_costs_its_own_keys_and_no_others(space: kvs.Space) -> None:
    with space.replica() as replica:
        for n, key in enumerate((b"a", b"b", b"c")):
            replica.publish({key: Value(b"%d" % n)})
    with edited(space) as log:
        log.execute("update commits set hlc = hlc + 1, context = x'00' where n = 2")
    with space.replica() as replica:
        assert replica.get(b"a")[0].value.payload == b"0" and replica.get(b"c")[0].value.payload == b"2"
        with pytest.raises(kvs.NotAuthentic):
            replica.get(b"b")
        with pytest.raises(kvs.NotAuthentic):
            list(replica.log())
        assert replica.publish({b"b": Value(b"again")}) == kvs.Dot(0, 4)
        assert values(replica) == {b"a": b"0", b"b": b"again", b"c": b"2"}


def test_a_damaged_note_costs_its_entry_of_the_log_and_no_key(space: kvs.Space) -> None:
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"%d" % n: Value(b"x")}, note=b"note %d" % n)
    with edited(space) as log:
        log.execute("update commits set note = x'00' where n = 2")
    with space.reader() as reader:
        assert values(reader) == {b"0": b"x", b"1": b"x", b"2": b"x"}
        shown = []
        with pytest.raises(kvs.NotAuthentic, match=r"commit 0\.2 "):
            for commit in reader.log():
                shown.append(commit.note)
        assert shown == [b"note 2", b"note 0"] and len(list(reader.check())) == 1


def test_a_damaged_time_does_not_reach_the_clock(space: kvs.Space) -> None:
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        last = next(replica.log()).hlc
    with edited(space) as log:
        log.execute("update commits set hlc = ?", ((1 << 63) - 1,))
    with space.replica() as replica:
        replica.publish({b"b": Value(b"2")})
        assert replica.get(b"b")[0].hlc < last + (3600_000 << 16)


def test_a_lane_that_lost_its_tail_gives_no_number_twice(space: kvs.Space) -> None:
    """As after a power loss: another lane has seen commits that are in no log any more."""
    with space.replica() as a, space.replica() as b:
        for n in range(3):
            a.publish({b"a": Value(b"%d" % n)})
        b.refresh()
        b.publish({b"b": Value(b"saw all")})
    with edited(space) as log:
        log.execute("delete from commits where n > 1")
        log.execute("delete from entries where n > 1")
    with space.replica() as a, space.replica() as b:
        assert a.id == 0 and any("lost its newest commits" in line for line in a.check())
        assert a.publish({b"a": Value(b"after")}) == kvs.Dot(0, 4)
        b.refresh()
        assert values(b) == {b"a": b"after", b"b": b"saw all"}


# -- bits flip, files are cut off


@pytest.mark.filterwarnings("ignore::kvs.DamageWarning")
@pytest.mark.parametrize("name", ["log.sqlite", "log.sqlite-wal", "log.sqlite-tail"])
def test_flipped_bits_never_give_a_wrong_value(written: kvs.Space, name: str) -> None:
    """A value may be refused by name; one that is older than it should be must at least be reported by `check`."""
    log = Path(written.directory, "lanes/0", name)
    with written.reader() as reader:
        truth = values(reader)
    if name != "log.sqlite":
        with written.replica() as holder:  # keeps the write-ahead log and the tail in being
            holder.publish({b"k1": Value(b"in the log"), b"k2": Value(b"in the log")})
            if name.endswith("-wal"):
                holder._logs[holder.id].fold()
            else:
                holder.publish({b"k1": Value(b"in the log"), b"k3": Value(b"3.3" * 4)}, note=b"another")
                truth |= {b"k3": b"3.3" * 4}
            truth |= {b"k1": b"in the log", b"k2": b"in the log"}
            kept = {path.name: path.read_bytes() for path in log.parent.iterdir() if "-shm" not in path.name}
        for path in log.parent.iterdir():
            path.unlink()
        for kept_name, data in kept.items():
            log.with_name(kept_name).write_bytes(data)
    good, rng, refused = log.read_bytes(), random.Random(5), 0
    ever = {b"%d.%d" % (n, k) * 4 for n in range(40) for k in range(20)} | {b"in the log"}
    for _ in range(FLIP_TRIALS):
        bad = bytearray(good)
        for _ in range(3):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        log.write_bytes(bad)
        if name == "log.sqlite":
            log.with_name("log.sqlite-wal").unlink(missing_ok=True)
        log.with_name("log.sqlite-shm").unlink(missing_ok=True)
        refused += refusals(written, truth, ever, tail_may_go=name.endswith("-wal"))
    assert refused > 0 or name.endswith("-wal"), "no flip hit anything: this test shows nothing"


def refusals(space: kvs.Space, truth: dict[bytes, bytes], ever: set[bytes], *, tail_may_go: bool) -> int:
    try:
        with space.reader() as reader:
            refused = older = 0
            for key, value in truth.items():
                try:
                    found = [version.value.payload for version in reader.get(key)]
                except kvs.KvsError:
                    refused += 1
                    continue
                assert set(found) <= ever
                older += found != [value]
            assert not older or tail_may_go or list(reader.check())
            return refused
    except kvs.KvsError:
        return 1


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, -1])
def test_a_log_that_is_cut_off_is_named_and_the_other_lane_is_read(written: kvs.Space, keep: int) -> None:
    """One lane that could not be opened made the whole space unusable."""
    with written.reader() as reader:
        theirs = {key: reader.get(key)[0].value for key in reader.keys(b"") if reader.dots(key)[0].replica == 1}
        ours = [key for key in reader.keys(b"") if reader.dots(key)[0].replica == 0]
    log = Path(written.directory, "lanes/0/log.sqlite")
    os.truncate(log, keep if keep >= 0 else log.stat().st_size // 2)
    with pytest.warns(kvs.DamageWarning, match="without lane 0"), written.reader() as reader:
        assert [error.path for error in reader.unreadable] == [str(log)]
        assert any(str(log) in line for line in reader.check())
        assert {key: reader.get(key)[0].value for key in theirs} == theirs
        for key in [*ours, b"never written"]:
            if not reader.dots(key):
                with pytest.raises(kvs.StoreDamaged, match=str(log)):
                    reader.get(key)
    with pytest.warns(kvs.DamageWarning, match="without lane 0"), written.replica() as writer:
        assert writer.id == 1  # a lane that cannot be read is not written
        writer.publish({b"new": Value(b"1")})
        assert writer.get(b"new")[0].value == Value(b"1")


# -- blobs


def test_a_blob_that_is_missing_short_or_swapped_is_named(space: kvs.Space) -> None:
    with space.replica() as replica:
        refs = [replica.put_blob(bytes([n]) * 10_000) for n in range(4)]
        replica.publish({b"%d" % n: Value(b"head", (ref,)) for n, ref in enumerate(refs)})
        missing, short, swapped, good = (blob_path(space, ref) for ref in refs)
        missing.unlink()
        os.truncate(short, 9_999)
        swapped.write_bytes(good.read_bytes())
        with pytest.raises(kvs.BlobDamaged, match="is missing"):
            replica.open_blob(refs[0])
        with pytest.raises(kvs.BlobDamaged, match="has 9999 bytes instead of 10000"):
            replica.open_blob(refs[1])
        assert bytes(replica.open_blob(refs[3])) == bytes([3]) * 10_000
        complaints = list(replica.check())
        assert [any(str(path) in line for line in complaints) for path in (missing, short, swapped, good)] == [
            True, True, True, False,
        ]  # fmt: skip


@pytest.mark.parametrize("harm", ["swap", "cut", "remove"])
def test_a_large_payload_is_checked_before_it_is_handed_out(tmp_path: Path, harm: str) -> None:
    space = kvs.open(tmp_path / "store", kvs.Settings(inline_limit_bytes=10)).space("s")
    with space.replica() as replica:
        replica.publish({b"a": Value(b"A" * 1000), b"b": Value(b"B" * 1000)})
        a, b = sorted(
            (p for p in Path(space.directory, "blobs").rglob("*") if p.is_file()), key=lambda p: p.read_bytes()
        )
        match harm:
            case "swap":
                shutil.copy(b, a)
            case "cut":
                os.truncate(a, 5)
            case "remove":
                a.unlink()
        with pytest.raises(kvs.BlobDamaged, match=a.name):
            replica.get(b"a")
        assert replica.get(b"b")[0].value.payload == b"B" * 1000


# -- the store as a whole


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"kvs": "two"}', '{"kvs": null}', '{"kvs": 99}'])
def test_a_store_of_another_format_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    kvs.open(tmp_path / "store")
    (tmp_path / "store/FORMAT").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kvs.StoreForeign, match="not a store that this version can use"):
        kvs.open(tmp_path / "store")
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "store/FORMAT").read_text() == text


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir(mode=0o755)
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    with pytest.raises(kvs.StoreForeign, match="choose an empty or a new directory"):
        kvs.open(tmp_path / "photos")
    assert [p.name for p in tmp_path.rglob("*")] == ["photos", "cat.jpg"]
    assert (tmp_path / "photos").stat().st_mode & 0o777 == 0o755


def test_a_store_whose_key_is_gone_or_another_is_refused(written: kvs.Space, tmp_path: Path) -> None:
    key = tmp_path / "store.key"
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(kvs.StoreUnusable, match="Restore the key file"):
        kvs.open(tmp_path / "store")
    assert not key.exists()
    key.write_bytes(kept[:-1])
    with pytest.raises(kvs.StoreUnusable, match="is damaged"):
        kvs.open(tmp_path / "store")
    key.write_bytes(bytes(32))
    with kvs.open(tmp_path / "store").space("notes").reader() as reader:
        for key_of in (b"k0", b"k1"):
            with pytest.raises(kvs.NotAuthentic):
                reader.get(key_of)


def test_a_listing_names_a_damaged_space_and_shows_the_others(store: kvs.Store) -> None:
    for name in ("good", "bad"):
        with store.space(name).replica() as replica:
            replica.publish({b"a": Value(b"1")})
    Path(store.space("bad").directory, "name").unlink()
    infos = {info.name: info for info in store.spaces()}
    assert infos["good"].damage == "" and infos["good"].nbytes > 0 and len(infos) == 2
    (bad,) = (info for info in infos.values() if info.damage)
    assert bad.directory == store.space("bad").directory


@pytest.mark.parametrize(
    "error",
    [
        kvs.StoreDamaged("/x", "why"), kvs.StoreForeign("/x", "why"), kvs.StoreUnusable("/x", "why", "Do."),
        kvs.BlobDamaged("/x", "is missing"), kvs.NotAuthentic("key"), kvs.SpaceHeld("s", 1), kvs.StoreFull("/x"),
    ],
)  # fmt: skip
def test_an_error_travels_between_processes(error: kvs.KvsError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)


def test_the_format_file_says_what_it_is(store: kvs.Store) -> None:
    said = json.loads(Path(store.path, "FORMAT").read_bytes())
    assert said["kvs"] == kvs.store.FORMAT and len(said["id"]) == 16
