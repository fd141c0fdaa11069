"""A node tier over a cold one: pushed, killed, restored on another machine, and never half of anything."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value, seal
from kvs.background import BackgroundMirror
from kvs.mirror import Mirror, Pushed
from kvs.tiers.blobs import refs_from_bytes
from kvs.tiers.local import NodeTier
from kvs.tiers.memory import MemoryPlace, MemoryTier
from kvs.tiers.object import ObjectPlace
from kvs.tiers.protocol import Place, Record, Tier
from kvs.tiers.s3 import PART_BYTES
from tests.kvs.s3_server import Proxy
from tests.kvs.support import child, everything, kill, received, values

LARGE = 100_000
KEEP_NOTHING = kvs.Settings(retain_bytes=0, retain_s=0.0)


def opened_at(path: Path, cold: str | Place, *, key_of: Path | None = None) -> kvs.Store:
    """A store at `path`, on a machine that was given the key file of another."""
    if key_of is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"{key_of}.key", f"{path}.key")
    return kvs.open(path, cold=cold)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here" / "store"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there" / "store"


def tier_of(cold: MemoryPlace | ObjectPlace, name: str = "s") -> MemoryTier:
    tier = cold.space(seal.name_hash(name))
    assert isinstance(tier, MemoryTier)
    return tier


def test_a_space_moves_to_a_fresh_machine_through_s3(
    here: Path, there: Path, bucket_name: str, opened: ExitStack, s3: Proxy
) -> None:
    url, large, deep = f"s3://{bucket_name}/team", os.urandom(LARGE), os.urandom(9 << 20)
    with opened_at(here, url).space("s").replica() as replica:
        ref = replica.put_blob(deep)
        replica.publish({b"a": Value(b"1"), b"b": Value(large)}, b"first")
        replica.publish({b"a": Value(b"2"), b"c": Value(b"header", (ref,)), b"gone": Value(b"x")})
        replica.publish({b"gone": None}, b"third")
        replica.sync(level="object")
        log, vector, shown = list(replica.log()), replica.vector, values(replica)
    shutil.rmtree(here)
    s3.seen.clear()
    reader = opened.enter_context(opened_at(there, url, key_of=here).space("s").reader())
    assert not any("/blobs/" in path for _, path, _ in s3.seen)
    assert (list(reader.log()), reader.vector) == (log, vector)
    assert values(reader) == shown and shown[b"b"] == large
    assert reader.read_blob(reader.get(b"c")[0].value.blobs[0]) == deep
    assert [view.get(b"a")[0].value.payload for view in map(reader.history().at, moments(reader))] == [b"1", b"2", b"2"]
    s3.seen.clear()
    assert values(reader) == shown and list(reader.check()) == []
    assert s3.seen == []


def moments(reader: kvs.Replica) -> Iterator[kvs.VersionVector]:
    return (moment.vector for moment in reader.history().moments)


def test_what_two_machines_write_meets_in_lanes_of_their_own(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as one:
        one.publish({b"a": Value(b"1")})
        one.sync(level="object")
        with opened_at(there, cold, key_of=here).space("s").replica() as other:
            assert values(other) == {b"a": b"1"} and other.id != one.id
            other.publish({b"a": Value(b"2"), b"b": Value(b"x")})
            other.sync(level="object")
        with opened_at(here, cold).space("s").replica() as second:  # not the lane that the other machine took
            assert len({one.id, other.id, second.id}) == 3
            second.publish({b"c": Value(b"y")})
            second.sync(level="object")
        one.publish({b"d": Value(b"z")})
        one.sync(level="object")
    third = there.parent / "third"
    with opened_at(third, cold, key_of=here).space("s").reader() as reader:
        assert values(reader) == {b"a": b"2", b"b": b"x", b"c": b"y", b"d": b"z"}
        assert list(reader.check()) == []


def test_a_lane_that_is_written_on_two_machines_is_told_and_overwrites_nothing(here: Path, there: Path) -> None:
    """A copy of a whole store directory, its id included, is the one way to it."""
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
    shutil.copytree(here.parent, there.parent)
    with opened_at(here, cold).space("s").replica() as one, opened_at(there, cold).space("s").replica() as two:
        assert one.id == two.id == 0
        one.publish({b"a": Value(b"mine")})
        two.publish({b"a": Value(b"theirs")})
        one.sync(level="object")
        with pytest.raises(kvs.LaneLost, match="commit 2"):
            two.sync(level="object")
        one.publish({b"b": Value(b"more")})
        one.sync(level="object")
    assert [record.n for record in tier_of(cold).read(0)] == [1, 2, 3]


def test_without_the_key_nothing_is_restored(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
    with pytest.raises(kvs.StoreUnusable, match=r"\.key, is not here\. Copy the \.key file"):
        kvs.open(there, cold=cold)
    assert not there.parent.exists()
    kvs.open(there).space("s")
    with pytest.raises(kvs.StoreUnusable, match="is another store's"):
        kvs.open(there, cold=cold)


def test_a_planted_record_is_refused_and_nothing_is_made(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
    (found,) = tier_of(cold)._lanes[0]
    planted = found._replace(rows=(found.rows[0]._replace(payload=b"2"),))
    tier_of(cold)._lanes[0] = [planted]
    space = opened_at(there, cold, key_of=here).space("s")
    with pytest.raises(kvs.NotAuthentic):
        space.reader()
    assert os.listdir(there / "spaces") == []
    tier_of(cold)._lanes[0] = [found]
    with space.reader() as reader:
        assert values(reader) == {b"a": b"1"}


def test_a_cold_blob_that_is_wrong_is_named_and_not_kept(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(os.urandom(LARGE)), b"b": Value(b"1")})
        replica.sync(level="object")
        whole = values(replica)
    tier = tier_of(cold)
    (ref,) = tier.blobs()
    good, tier._blobs[ref] = tier._blobs[ref], bytes(ref.nbytes)
    with opened_at(there, cold, key_of=here).space("s").reader() as reader:
        with pytest.raises(kvs.BlobDamaged, match="does not hold what its name says"):
            reader.get(b"a")
        assert reader.get(b"b")[0].value.payload == b"1"
        tier._blobs[ref] = good
        assert values(reader) == whole


def test_a_push_costs_one_request_a_commit_and_one_a_small_blob(here: Path, bucket_name: str, s3: Proxy) -> None:
    with opened_at(here, f"s3://{bucket_name}").space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
        s3.seen.clear()
        replica.sync(level="object")
        assert s3.seen == []
        replica.publish({b"a": Value(b"2")})
        replica.sync(level="object")
        assert [method for method, *_ in s3.seen] == ["PUT"]
        replica.publish({b"a": Value(os.urandom(LARGE))})
        replica.publish({b"b": Value(b"3")})
        replica.sync(level="object")
        assert [method for method, *_ in s3.seen] == ["PUT"] * 3
        assert "/blobs/" in s3.seen[1][1] and "/lanes/" in s3.seen[2][1]


def test_the_level_is_refused_or_reached_or_the_deadline_is_said(
    here: Path, tmp_path: Path, bucket_name: str, s3: Proxy
) -> None:
    with kvs.open(tmp_path / "plain").space("s").replica() as replica:
        with pytest.raises(kvs.StoreUnusable, match="no cold tier"):
            replica.sync(level="object")
        with pytest.raises(ValueError, match="'disk' or 'object'"):
            replica.sync(level="moon")
    with opened_at(here, f"s3://{bucket_name}").space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        s3.plan = lambda method, path: "503"
        with pytest.raises(kvs.TierUnreachable):
            replica.sync(level="object", deadline_s=0.5)
        s3.plan = lambda method, path: "pass"
        replica.sync(level="object")
    assert any("/lanes/" in path and method == "PUT" for method, path, _ in s3.seen)


def test_a_push_does_not_copy_damage(here: Path) -> None:
    cold = MemoryPlace()
    space = opened_at(here, cold).space("s")
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n)})
    log = Path(space.directory, "lanes/0/log.sqlite")
    with sqlite3.connect(log) as connection:
        connection.execute("update entries set payload = x'99' where n = 2")
    connection.close()
    mirror = Mirror(space.directory, space._key, tier_of(cold))
    with pytest.raises(kvs.NotAuthentic, match=r"commit 0\.2"):
        mirror.push()
    assert list(tier_of(cold).read(0)) == []


def test_versions_that_are_collected_between_two_pushes_do_no_harm(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with kvs.open(here, KEEP_NOTHING, cold=cold).space("s").replica() as replica:
        for n in range(5):
            replica.publish({b"a": Value(b"%d" % n + os.urandom(LARGE)), b"k%d" % n: Value(b"x")})
            if n == 1:
                replica.sync(level="object")
        replica.collect(now_s=time.time() + 100)
        replica.sync(level="object")
        whole = values(replica)
    with opened_at(there, cold, key_of=here).space("s").reader() as reader:
        assert values(reader) == whole and list(reader.check()) == []


def test_a_value_that_was_restored_and_not_fetched_can_be_published_anew(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"header", (replica.put_blob(b"x" * LARGE),))})
        replica.sync(level="object")
    with opened_at(there, cold, key_of=here).space("s").replica() as replica:
        replica.publish({b"b": replica.get(b"a")[0].value})
        replica.sync(level="object")
    with opened_at(there.parent / "third", cold, key_of=here).space("s").reader() as reader:
        assert reader.read_blob(reader.get(b"b")[0].value.blobs[0]) == b"x" * LARGE


def test_a_repair_fetches_what_is_not_here_before_it_forgets_anything(here: Path, there: Path) -> None:
    """What was still in the cold tier was taken for lost, and forgotten."""
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"x" * LARGE), b"b": Value(b"header", (replica.put_blob(b"y" * LARGE),))})
        replica.sync(level="object")
        whole = values(replica)
    space = opened_at(there, cold, key_of=here).space("s")
    space.reader().close()
    repaired = space.repair(forget=True)
    assert repaired.lost == ()
    with kvs.open(there).space("s").reader() as reader:  # without the cold tier: all is here now
        assert values(reader) == whole and list(reader.check()) == []


def test_a_lane_that_clashes_does_not_keep_the_others_from_the_tier(here: Path, there: Path) -> None:
    """It was written before its store had a cold tier, and another store with this key has one of its number there."""
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
    there.parent.mkdir(parents=True)
    shutil.copy(f"{here}.key", f"{there}.key")
    with kvs.open(there).space("s").replica() as replica:
        replica.publish({b"a": Value(b"2")})
    with opened_at(there, cold).space("s").replica() as replica:
        assert replica.id == 1
        replica.publish({b"b": Value(b"3")})
        with pytest.raises(kvs.LaneLost, match="commit 1 there is not ours"):
            replica.sync(level="object")
        assert values(replica) == {b"a": b"2", b"b": b"3"}
    assert [record.n for record in tier_of(cold).read(1)] == [1]


def test_work_goes_on_while_the_cold_tier_is_away(here: Path, bucket_name: str, s3: Proxy) -> None:
    url = f"s3://{bucket_name}"
    with opened_at(here, url).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
    s3.seen.clear()
    s3.plan = lambda method, path: "reset"
    with opened_at(here, url).space("s").replica() as replica:
        replica.publish({b"a": Value(b"2")})
        assert values(replica) == {b"a": b"2"}
    assert s3.seen == []


# -- mirrors that run by themselves, and die


def test_a_background_mirror_pushes_without_being_told_and_the_rest_when_closed(here: Path) -> None:
    cold = MemoryPlace()
    space = opened_at(here, cold).space("s")
    with space.replica() as replica, space.mirror(every_s=0.02) as mirror:
        replica.publish({b"a": Value(b"1")})
        end_s = time.monotonic() + 20
        while not tier_of(cold).lanes() and time.monotonic() < end_s:
            time.sleep(0.02)
        assert [record.n for record in tier_of(cold).read(0)] == [1]
        replica.publish({b"a": Value(b"2")})
        mirror.close()
        assert [record.n for record in tier_of(cold).read(0)] == [1, 2]


class _Away(MemoryTier):
    """A tier whose network can be cut."""

    is_cut = False

    def last(self, lane: int) -> Record | None:
        if self.is_cut:
            raise kvs.TierUnreachable(self.name, 0.1, "the network is cut")
        return super().last(lane)


def test_a_background_mirror_outlives_a_network_that_goes_and_comes(here: Path) -> None:
    cold, tier = MemoryPlace(), _Away()
    space = opened_at(here, cold).space("s")
    with space.replica() as replica:
        replica.publish({b"a": Value(b"1")})
        tier.is_cut = True
        mirror = BackgroundMirror(Mirror(space.directory, space._key, tier), every_s=0.01)
        end_s = time.monotonic() + 20
        while mirror.state.failure is None and time.monotonic() < end_s:
            time.sleep(0.01)
        assert isinstance(mirror.state.failure, kvs.TierUnreachable)
        with pytest.raises(kvs.TierUnreachable):
            mirror.close(deadline_s=1.0)
        tier.is_cut = False
        assert mirror.close() == Pushed(1, 0, tier._lanes[0][0].nbytes)


def mirror_for_ever(connection: Connection, path: Path, target: str) -> None:
    """Publish, and push after every third commit, from where a killed one left off."""
    space = kvs.open(path).space("s")
    tier = NodeTier(target)
    rng = random.Random()
    with space.replica() as replica:
        mirror = Mirror(space.directory, space._key, tier)
        n = replica.vector[0]
        while True:
            n += 1
            replica.publish({b"n": Value(b"%d" % n), b"large": Value(rng.randbytes(LARGE))})
            if n % 3 == 0:
                mirror.push(deadline_s=20)
                connection.send(n)


@pytest.mark.timeout(120)
def test_a_mirror_that_is_killed_anywhere_is_resumed_and_what_it_left_is_whole(tmp_path: Path, here: Path) -> None:
    """The target is a directory, so that what a kill leaves there is what the kill left, and no server tidies up."""
    rng, target, acknowledged = random.Random(4), tmp_path / "target", 0
    target.mkdir()
    space = kvs.open(here).space("s")
    for _ in range(25):
        with child(mirror_for_ever, here, str(target)) as (process, connection):
            acknowledged = max(acknowledged, received(connection))
            time.sleep(rng.uniform(0, 0.03))  # the instant of the kill
            kill(process)
            acknowledged = max([acknowledged, *everything(connection)])
        tier = NodeTier(str(target))
        found = list(tier.read(0))
        assert [record.n for record in found] == list(range(1, len(found) + 1)) and len(found) >= acknowledged
        last = [ref for row in found[-1].rows for ref in refs_from_bytes(row.blobs)]
        assert last and all(b"".join(tier.get_blob(ref)) for ref in last)
    Mirror(space.directory, space._key, tier).push()
    with space.reader() as reader:
        assert [record.n for record in tier.read(0)] == list(range(1, reader.vector[0] + 1))


def push_to_s3(connection: Connection, path: Path, cold: ObjectPlace) -> None:
    """Publish a value in parts and a small one, push, and so on."""
    with kvs.open(path, cold=cold).space("s").replica() as replica:
        n = replica.vector[0]
        while True:
            n += 1
            replica.publish({b"n": Value(b"%d" % n), b"large": Value(os.urandom(PART_BYTES + 100))})
            connection.send(n)
            replica.sync(level="object", deadline_s=20)
            connection.send(-n)


def settled(tier: Tier, least: int) -> list[Record]:
    """What lane 0 holds, once the emulator has dealt with the request of a client that was killed: until then a list
    may lack what was there before, which S3 promises never to do."""
    end = time.monotonic() + 10
    while len(found := list(tier.read(0))) < least and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.timeout(120)
def test_a_push_to_s3_that_is_killed_anywhere_shows_nothing_half_and_is_resumed(
    here: Path, there: Path, place: ObjectPlace
) -> None:
    rng, pushed = random.Random(6), 0
    tier = place.space(seal.name_hash("s"))
    for _ in range(6):
        with child(push_to_s3, here, place) as (process, connection):
            received(connection)
            time.sleep(rng.uniform(0, 0.4))  # the instant of the kill
            kill(process)
            pushed = max([pushed, *(-n for n in everything(connection))])
        found = settled(tier, pushed)
        assert [record.n for record in found] == list(range(1, len(found) + 1)) and len(found) >= pushed
        named = {ref for record in found for row in record.rows for ref in refs_from_bytes(row.blobs)}
        assert named <= set(tier.blobs())
    with kvs.open(here, cold=place).space("s").replica() as replica:
        replica.sync(level="object")
        whole = values(replica)
    with opened_at(there, place, key_of=here).space("s").reader() as reader:
        assert values(reader) == whole


def restore(connection: Connection, path: Path, cold: MemoryPlace) -> None:
    space = kvs.open(path, cold=cold).space("s")
    connection.send("ready")
    space.reader().close()
    connection.send("restored")
    connection.poll(20)


def test_a_restore_that_is_killed_leaves_no_half_of_a_space(here: Path, there: Path) -> None:
    rng, cold = random.Random(5), MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        for n in range(100):
            replica.publish({b"%d" % n: Value(b"x" * 100)})
        replica.sync(level="object")
        whole = values(replica)
    for at in range(10):
        path = there.parent / f"store{at}"
        opened_at(path, cold, key_of=here)
        with child(restore, path, cold) as (process, connection):
            assert received(connection) == "ready"
            time.sleep(rng.uniform(0, 0.04))  # the instant of the kill
            kill(process)
        space = kvs.open(path, cold=cold).space("s")
        with space.reader() as reader:
            assert values(reader) == whole
        assert [name for name in os.listdir(path / "spaces") if name.startswith(".")] == []


def test_two_that_restore_at_once_agree(here: Path, there: Path) -> None:
    cold = MemoryPlace()
    with opened_at(here, cold).space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        replica.sync(level="object")
    for at in range(5):
        path = there.parent / f"store{at}"
        opened_at(path, cold, key_of=here)
        with (
            child(restore, path, cold) as (_, one),
            child(restore, path, cold) as (_, two),
        ):
            assert [received(one), received(two)] == ["ready", "ready"]
            assert [received(one), received(two)] == ["restored", "restored"]
        with kvs.open(path, cold=cold).space("s").reader() as reader:
            assert values(reader) == {b"a": b"1"}


# -- a store that ends with its process


def test_a_store_in_memory_works_stacks_and_is_gone_with_its_process(tmp_path: Path) -> None:
    code = (
        "import kvs\n"
        "store = kvs.open('memory://')\n"
        "with store.space('s').replica() as replica:\n"
        "    replica.publish({b'a': kvs.Value(b'x' * 100_000)})\n"
        "with kvs.open(store.path).space('s').reader() as reader:\n"
        "    assert reader.get(b'a')[0].value.payload == b'x' * 100_000\n"
        "assert kvs.open('memory://').path != store.path\n"
        "print('done')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert done.stdout == "done\n" and os.listdir(tmp_path) == []
    with pytest.raises(kvs.StoreUnusable, match="memory://"):
        kvs.open("redis://x")
