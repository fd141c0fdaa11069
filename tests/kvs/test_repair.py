"""Repair moves what is damaged aside, destroys nothing, brings no older value back, and names what is lost."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value
from kvs.pages import PAGES
from tests.kvs.support import DEADLINE_S, child, received, values

pytestmark = pytest.mark.filterwarnings("ignore::kvs.DamageWarning")
PAGE = PAGES[0]
KEYS = [b"k%02d" % n for n in range(40)]


@pytest.fixture
def written(tmp_path: Path) -> kvs.Space:
    """Lane 0 wrote every key three times; lane 1 knows all that and wrote one of its own."""
    space = kvs.open(tmp_path / "store", kvs.Settings(inline_limit_bytes=6000)).space("s")
    with space.replica() as a, space.replica() as b:
        for n in range(3):
            for key in KEYS:
                a.publish({key: Value(b"%d of %s " % (n, key) * 400)}, note=b"note %d" % n)
        b.refresh()
        b.publish({b"theirs": Value(b"x", (b.put_blob(b"blob" * 500),)), b"spilled": Value(b"y" * 10_000)})
    return space


def log_of(space: kvs.Space, lane: int = 0) -> Path:
    return Path(space.directory, f"lanes/{lane}/log.sqlite")


def state(space: kvs.Space) -> dict[bytes, bytes | str]:
    """The value of every key, or the kind of the error that it gives."""
    found: dict[bytes, bytes | str] = {}
    with space.reader() as reader:
        for key in [*KEYS, b"theirs", b"spilled"]:
            try:
                versions = reader.get(key)
                found[key] = versions[0].value.payload if versions else "absent"
            except kvs.KvsError as e:
                found[key] = type(e).__name__
    return found


def quarantined(space: kvs.Space) -> list[Path]:
    return [path for path in Path(space.directory, "quarantine").rglob("*") if path.is_file()]


def smash_header(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[:PAGE] = os.urandom(PAGE)
    log.write_bytes(data)


def smash_pages(log: Path) -> None:
    data, rng = bytearray(log.read_bytes()), random.Random(3)
    for page in rng.sample(range(4, len(data) // PAGE), 3):
        data[page * PAGE : page * PAGE + 300] = rng.randbytes(300)
    log.write_bytes(data)


def cut_off(log: Path) -> None:
    os.truncate(log, log.stat().st_size * 2 // 3 // PAGE * PAGE)


def overwrite(log: Path) -> None:
    log.write_bytes(b"not a database" * 1000)


@pytest.mark.parametrize("harm", [smash_header, smash_pages, cut_off, overwrite])
def test_a_log_that_cannot_be_read_is_moved_aside_and_what_is_left_of_it_is_kept(
    written: kvs.Space, harm: Callable[[Path], None]
) -> None:
    whole = state(written)
    harm(log_of(written))
    harmed = log_of(written).read_bytes()
    repaired = written.repair()
    assert any("lane 0" in line and "written anew" in line for line in repaired.moved)
    assert any(path.read_bytes() == harmed for path in quarantined(written)), "the damaged file is not kept"
    after = state(written)
    assert {after[b"theirs"], after[b"spilled"]} == {b"x", b"y" * 10_000}
    good = [key for key in KEYS if after[key] == whole[key]]
    for key in set(KEYS).difference(good):  # never an older one
        assert after[key] == "NotAuthentic" or (after[key] == "absent" and repaired.lost) or harm is overwrite
    if harm is smash_header:
        assert len(good) == len(KEYS), "only the first page was harmed, which is the same in every log"
    if harm in (smash_pages, cut_off):
        assert len(good) > len(KEYS) // 4
    with written.replica() as replica:
        assert replica.id == 1, "a lane whose numbers are not known is written again"
        replica.publish({key: Value(b"again") for key in KEYS})
        assert all(replica.get(key)[0].value == Value(b"again") for key in KEYS)


def test_a_damaged_row_is_moved_aside_and_its_key_stays_lost_until_it_is_written(written: kvs.Space) -> None:
    whole = state(written)
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("update entries set payload = x'00' where key = ? and n > 80", (KEYS[3],))
        log.execute("update commits set context = x'00' where n = ?", (80 + 6,))  # the last write of key 5
        log.execute("delete from commits where n = ?", (80 + 8,))  # of key 7
        log.execute("insert into entries values (x'6576696c', 90, 1, x'00', x'', x'00')")
    bad = {KEYS[3], KEYS[5], KEYS[7]}
    repaired = written.repair()
    assert {key for key in bad for line in repaired.lost if repr(key) in line} == bad
    assert any("evil" in line for line in repaired.moved) and len(quarantined(written)) >= 1
    assert state(written) == whole | dict.fromkeys(bad, "NotAuthentic")
    assert written.repair().moved == (), "a second repair finds something to do"
    with written.replica() as replica:
        assert replica.id == 0  # its numbers are known
        replica.publish({key: Value(b"again") for key in bad})
        assert list(replica.check()) == []
    assert state(written) == whole | dict.fromkeys(bad, b"again")


def test_commits_that_are_gone_without_a_trace_are_said_to_be_gone_once(written: kvs.Space) -> None:
    """Nobody knows which keys they wrote. Their numbers are taken by empty commits, so that no other gets them."""
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("delete from commits where n between 90 and 95")
        log.execute("delete from entries where n between 90 and 95")
    with written.reader() as reader:
        assert [line for line in reader.check() if "lacks commits 90 to 95" in line]
    assert any("commits 90 to 95 are gone" in line for line in written.repair().moved)
    with written.reader() as reader:
        assert list(reader.check()) == []
    assert written.repair().moved == ()


def test_what_is_lost_can_be_forgotten(written: kvs.Space) -> None:
    whole = state(written)
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("delete from entries where key = ?", (KEYS[1],))  # nothing names it any more
        log.execute("update entries set payload = x'00' where key = ? and n > 80", (KEYS[2],))
    for blob in Path(written.directory, "blobs").glob("*/*"):
        blob.write_bytes(bytes(blob.stat().st_size))
    repaired = written.repair(forget=True)
    assert len(repaired.lost) == 4
    lost = {KEYS[1], KEYS[2], b"theirs", b"spilled"}
    assert state(written) == whole | dict.fromkeys(lost, "absent")
    with written.reader() as reader:
        assert list(reader.check()) == []
    with written.replica() as replica:
        assert replica.collect(now_s=4e9).blobs == 0  # it would do nothing while something is lost
        ref = replica.put_blob(b"blob" * 500)
        assert bytes(replica.open_blob(ref)) == b"blob" * 500


def test_a_blob_that_is_not_what_its_name_says_is_moved_aside(written: kvs.Space) -> None:
    (blob,) = (p for p in Path(written.directory, "blobs").glob("*/*") if p.read_bytes() == b"blob" * 500)
    blob.write_bytes(b"evil" * 500)
    repaired = written.repair()
    assert any(str(blob) in line for line in repaired.moved) and len(repaired.lost) == 1
    assert not blob.exists() and [p.read_bytes() for p in quarantined(written)] == [b"evil" * 500]
    with written.replica() as replica:
        assert replica.get(b"theirs")[0].value.payload == b"x"
        replica.put_blob(b"blob" * 500)  # the same bytes make it whole again
        assert list(replica.check()) == []


def test_a_damaged_note_is_emptied_and_nothing_else_is_lost(written: kvs.Space) -> None:
    whole = state(written)
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("update commits set note = x'00' where n = 7")
    assert written.repair().lost == ()
    assert state(written) == whole
    with written.reader() as reader:
        assert [commit.note for commit in reader.log() if commit.dot == kvs.Dot(0, 7)] == [b""]


def test_a_space_in_use_is_not_repaired(written: kvs.Space) -> None:
    log_of(written, 1).write_bytes(b"no log")
    for opened in (written.replica, written.reader):
        with opened(), pytest.raises(kvs.SpaceHeld, match=f"process {os.getpid()}"):
            written.repair()
        assert not quarantined(written)
    assert written.repair().moved


def test_a_whole_space_is_left_as_it_is(written: kvs.Space) -> None:
    before = {p: p.read_bytes() for p in Path(written.directory).rglob("*") if p.is_file() and p.name == "log.sqlite"}
    assert written.repair() == written.repair(forget=True)
    assert {path: path.read_bytes() for path in before} == before and not quarantined(written)


def repair_in_child(connection: Connection, space: kvs.Space, at: int) -> None:
    """Repair, and die before the step with number `at`."""
    from tests.kvs.crashes import Steps, die

    steps = Steps(at, die)
    steps.watch()
    space.repair()
    connection.send(steps.count)


def test_a_repair_that_is_killed_at_any_step_can_be_done_again(written: kvs.Space, tmp_path: Path) -> None:
    whole = state(written)
    smash_header(log_of(written))
    harmed = {p: p.read_bytes() for p in log_of(written).parent.iterdir()}
    expected: dict[bytes, bytes | str] = {}
    with child(repair_in_child, written, 0) as (process, connection):
        steps = received(connection)
        process.join(DEADLINE_S)
        expected = state(written)
    assert expected == whole and steps > 50
    for at in range(1, steps, max(1, steps // 15)):
        for path in log_of(written).parent.iterdir():
            if path.is_file():
                path.unlink()
        for path, data in harmed.items():
            path.write_bytes(data)
        with child(repair_in_child, written, at) as (process, _):
            process.join(DEADLINE_S)
        written.repair()
        assert state(written) == whole, at
        left = [path.name for path in log_of(written).parent.iterdir()]
        assert not [name for name in left if name.startswith(("repaired", "salvage", "new"))]


def test_a_lane_of_a_later_format_is_refused_and_not_repaired(written: kvs.Space) -> None:
    """It is refused as a whole, and a repair does not take it for damage."""
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("pragma user_version = 7")
    before = log_of(written).read_bytes()
    for use in (written.reader, written.replica, written.repair):
        with pytest.raises(kvs.StoreForeign, match=r"format 7 is newer than 2; install .*pip install"):
            use()
    assert log_of(written).read_bytes() == before and not quarantined(written)
    with closing(sqlite3.connect(log_of(written))) as log, log:
        log.execute("pragma user_version = 2")
    with written.reader() as reader:
        assert len(values(reader)) == len(KEYS) + 2
