"""Garbage in the object tier goes by sealed epochs, and nothing that any machine needs goes with it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value, seal
from kvs.cold.collector import ColdCollected, ColdCollector
from kvs.cold.membership import read_mark
from kvs.commands.tidy import gc
from kvs.mirror import Mirror
from kvs.tiers.node import LaneLog
from kvs.tiers.object import ObjectPlace, ObjectTier
from kvs.tiers.retry import Retry
from kvs.tiers.s3 import Bucket
from tests.kvs.s3_server import Proxy
from tests.kvs.support import child, kill, received, values

LARGE = 70_000
LATER_S = 1000.0
KEEP_NOTHING = kvs.Settings(retain_bytes=0)
Machine = Callable[[str], kvs.Space]


@pytest.fixture
def machine(tmp_path: Path, place: ObjectPlace) -> Machine:
    """The space of a machine: a store of its own directory, and the key of the first."""

    def space(name: str, settings: kvs.Settings = KEEP_NOTHING) -> kvs.Space:
        path, keys = tmp_path / name / "store", sorted(tmp_path.glob("*/store.key"))
        path.parent.mkdir(exist_ok=True)
        if keys and not Path(f"{path}.key").exists():
            shutil.copy(keys[0], f"{path}.key")
        return kvs.open(path, settings, cold=place).space("s")

    return space


@pytest.fixture
def tier(place: ObjectPlace) -> ObjectTier:
    return place.space(seal.name_hash("s"))


class Days:
    """A clock that the tests turn: each look is later than every grace before it, and within the lease."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def later(self, wait_s: float = LATER_S) -> float:
        self.now_s += wait_s
        return self.now_s


@pytest.fixture
def days() -> Days:
    return Days()


def collected(space: kvs.Space, now_s: float) -> ColdCollected:
    """One call, within the lease of what other calls looked at."""
    done = space.collect_cold(now_s=now_s)
    assert done is not None
    return done


def rewrite(replica: kvs.Replica, times: int, key: bytes = b"a") -> bytes:
    """Put large values in each other's place, push all of them, and collect here what was superseded."""
    for _ in range(times):
        replica.put(key, data := os.urandom(LARGE))
        replica.sync("object")
    assert replica.collect(now_s=time.time() + LATER_S).versions >= times - 1
    return data


def test_what_was_superseded_is_doomed_then_deleted_and_a_fresh_machine_has_the_rest(
    machine: Machine, tier: ObjectTier, days: Days
) -> None:
    space = machine("here")
    with space.replica() as replica:
        data = rewrite(replica, 4)
        assert len(tier.blobs()) == 4
        first = collected(space, days.later())
        assert (first.blobs, first.segments, first.nbytes_doomed) == (0, 3, 3 * LARGE) and len(first.waiting) == 1
        assert len(tier.blobs()) == 4 and collected(space, days.later(1)).waiting == first.waiting
        second = collected(space, days.later())
        assert (second.nbytes_freed, second.blobs, second.waiting) == (3 * LARGE, 3, ())
        assert len(tier.blobs()) == 1
        assert collected(space, days.later()) == ColdCollected(0, 0, 0, 0, ())
        replica.put(b"b", data)  # the same blob, which is there
        replica.put(b"c", os.urandom(LARGE))  # a new one, under the epoch that was passed
        replica.sync("object")
        whole = values(replica)
        log, vector = list(replica.log()), replica.vector
    assert [found.epoch for found in tier.blob_objects() if found.epoch] == [1] and len(tier.blobs()) == 2
    with machine("there").reader() as reader:
        assert values(reader) == whole and list(reader.check()) == []
        assert (list(reader.log()), reader.vector) == (log, vector)


def test_small_values_that_were_superseded_leave_their_segments(machine: Machine, tier: ObjectTier, days: Days) -> None:
    space = machine("here")
    with space.replica() as replica:
        for n in range(3):
            replica.publish({b"a": Value(b"%d" % n * 20_000), b"k%d" % n: Value(b"%d" % n)})
            replica.sync("object")
        before = sum(item.nbytes for item in tier.segment_objects())
        replica.collect(now_s=time.time() + LATER_S)
        done = collected(space, days.later())
        assert done.segments == 2 and done.nbytes_freed > 38_000
        assert sum(item.nbytes for item in tier.segment_objects()) == before - done.nbytes_freed
        whole = values(replica)
        replica.put(b"after", b"x")
        replica.sync("object")
    with machine("there").reader() as reader:
        assert values(reader) == whole | {b"after": b"x"} and list(reader.check()) == []


def test_what_replaced_a_value_is_in_the_tier_before_the_value_goes(
    machine: Machine, tier: ObjectTier, days: Days
) -> None:
    """A machine that was lost between its collection and its next push would have taken the key with it."""
    space = machine("here")
    with space.replica() as replica:
        replica.publish({b"a": Value(old := os.urandom(LARGE)), b"b": Value(b"1" * 20_000)})
        replica.sync("object")
        replica.publish({b"a": Value(os.urandom(LARGE)), b"b": Value(b"2" * 20_000)})  # and is not pushed
        assert replica.collect(now_s=time.time() + LATER_S).versions == 2
        for _ in range(3):
            assert collected(space, days.later()) == ColdCollected(0, 0, 0, 0, ())
        with machine("there").reader() as reader:
            assert values(reader) == {b"a": old, b"b": b"1" * 20_000} and list(reader.check()) == []


def test_a_reader_in_the_middle_of_a_pull_sees_no_key_without_its_value(
    machine: Machine, days: Days, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose rows were collected was shown as damaged until what replaced them had come too."""
    here, there = machine("here"), machine("there")
    writer, beside = opened.enter_context(here.replica()), opened.enter_context(here.replica())
    reader = opened.enter_context(there.replica())
    beside.put(b"b", b"0")
    writer.refresh()
    for n in range(6):
        writer.publish({b"a": Value(b"%d" % n * 20_000), b"k%d" % (n % 2): Value(b"%d" % n)})
        writer.sync("object")
    beside.refresh()
    writer.collect(now_s=time.time() + LATER_S)
    assert collected(here, days.later()).segments == 5
    insert_all, looks = LaneLog.insert_all, []

    def looked(log: LaneLog, commits: object) -> None:
        insert_all(log, commits)  # type: ignore[arg-type]
        reader.refresh()
        looks.append({key: reader.get(key) for key in (b"a", b"b", b"k0", b"k1")})  # refuses one that is damaged

    monkeypatch.setattr(LaneLog, "insert_all", looked)
    there.pull()
    assert len(looks) == 2 and values(reader) == values(writer) and list(reader.check()) == []


def test_a_row_that_is_missing_here_by_damage_stays_in_the_tier(machine: Machine, tier: ObjectTier, days: Days) -> None:
    """Only what a later commit of the lane replaced was collected; anything else that is gone here was lost."""
    space = machine("here")
    with space.replica() as replica:
        replica.put(b"a", b"1" * 20_000)
        replica.put(b"b", b"2" * 20_000)
        replica.sync("object")
        replica._logs[replica.id].delete([(b"a", 1)])
        collected(space, days.later())
    assert [row.payload[:1] for record in tier.read(0) for row in record.rows] == [b"1", b"2"]


def test_a_blob_waits_for_every_machine_and_for_what_an_old_view_shows_there(
    machine: Machine, tier: ObjectTier, days: Days, opened: ExitStack
) -> None:
    here, there = machine("here"), machine("there")
    writer = opened.enter_context(here.replica())
    writer.put(b"a", old := os.urandom(LARGE))
    writer.sync("object")
    reader = opened.enter_context(there.reader())  # a view of another machine, which has not fetched the blob
    rewrite(writer, 3)
    collected(here, days.later())
    there.pull()
    waiting = collected(here, days.later()).waiting
    assert waiting and len(tier.blobs()) == 4
    collected(there, days.later())  # sees the list
    assert collected(there, days.later(1)).waiting == waiting  # within its grace
    collected(there, days.later())
    assert reader.get(b"a")[0].value.payload == old  # what it shows is fetched now
    assert len(tier.blobs()) == 2 and list(reader.check()) == []
    reader.refresh()
    assert values(reader) == values(writer) and list(reader.check()) == []
    for _ in range(2):
        for space in (here, there):
            for _ in range(2):
                collected(space, days.later())
    assert len(tier.blobs()) == 1 and list(reader.check()) == [] and values(reader) == values(writer)


def test_a_blob_that_is_put_again_while_it_is_doomed_is_there_afterwards(
    machine: Machine, tier: ObjectTier, days: Days, opened: ExitStack
) -> None:
    here = machine("here")
    writer = opened.enter_context(here.replica())
    writer.put(b"a", again := os.urandom(LARGE))
    rewrite(writer, 2)
    there = machine("there")  # enters while nothing is doomed; its process knows what is in the tier
    other = opened.enter_context(there.replica())
    other.put(b"x", b"1")
    other.sync("object")
    collected(here, days.later())
    collected(there, days.later())
    other.put(b"b", again)  # before that machine passes: it is kept
    collected(there, days.later())
    writer.put(b"c", again)  # after this one passes: it is put again
    collected(here, days.later())
    writer.put(b"d", again)
    writer.sync("object")
    other.sync("object")
    for space in (here, there):
        collected(space, days.later())
    fresh = opened.enter_context(machine("fresh").reader())
    assert [fresh.get(key)[0].value.payload == again for key in (b"b", b"c", b"d")] == [True] * 3
    assert list(fresh.check()) == []


def test_a_push_after_the_seal_puts_again_what_was_doomed(
    machine: Machine, tier: ObjectTier, days: Days, opened: ExitStack
) -> None:
    """The blob of a value that was written long ago is still on this disk, and its object is about to be deleted."""
    here, there = machine("here", kvs.Settings(retain_bytes=0, retain_s=60.0)), machine("there")
    writer = opened.enter_context(here.replica())
    waits = opened.enter_context(there.replica())
    waits.put(b"x", b"1")
    waits.sync("object")  # a machine that has not passed, so that nothing is deleted yet
    writer.put(b"a", again := os.urandom(LARGE))
    rewrite(writer, 2)
    collected(here, days.later()), collected(here, days.later())
    mark = read_mark(here.directory)
    assert mark is not None and mark.epoch == 1 and len(mark.doomed) == 2
    writer.put(b"b", again)
    writer.sync("object")
    assert sorted(found.epoch for found in tier.blob_objects()) == [0, 0, 0, 1]
    collected(there, days.later()), collected(there, days.later())
    assert sorted(found.epoch for found in tier.blob_objects()) == [0, 1]
    fresh = opened.enter_context(machine("fresh").reader())
    assert fresh.get(b"b")[0].value.payload == again and list(fresh.check()) == []


def test_a_deletion_that_comes_very_late_deletes_nothing_that_was_put_since(
    machine: Machine, tier: ObjectTier, days: Days
) -> None:
    """A collector that was stopped in the middle, and goes on when the next epochs are over."""
    space = machine("here")
    with space.replica() as replica:
        replica.put(b"a", again := os.urandom(LARGE))
        rewrite(replica, 2)
        collected(space, days.later())
        late = [found.name for found in tier.blob_objects()]
        collected(space, days.later())
        replica.put(b"a", again)
        replica.sync("object")
        tier.delete_objects(name for name in late if name.startswith(seal.digest(again).hex()))
    with machine("there").reader() as reader:
        assert reader.get(b"a")[0].value.payload == again and list(reader.check()) == []


def test_a_machine_that_is_gone_is_retired_after_the_lease_and_one_that_comes_back_enters_anew(
    machine: Machine, tier: ObjectTier, days: Days, opened: ExitStack
) -> None:
    here, away = machine("here"), machine("away")
    writer, gone = opened.enter_context(here.replica()), opened.enter_context(away.replica())
    gone.put(b"x", kept := os.urandom(LARGE))
    gone.sync("object")
    writer.put(b"a", again := os.urandom(LARGE))
    rewrite(writer, 2)
    collected(here, days.later())
    assert len(collected(here, days.later()).waiting) == 1
    assert len(collected(here, days.later(6 * 86400.0)).waiting) == 1 and len(tier.blobs()) == 4
    assert len(collected(here, days.later(2 * 86400.0)).waiting) == 1 and len(tier.blobs()) == 4
    done = collected(here, days.later(2 * 86400.0))
    assert (done.blobs, done.waiting) == (2, ()) and len(tier.blobs()) == 2
    gone.put(b"y", again)  # with all that its processes still believe
    Mirror(away.directory, away._key, tier, lease_s=0.0).push()
    mark = read_mark(away.directory)
    assert mark is not None and mark.incarnation == 2
    fresh = opened.enter_context(machine("fresh").reader())
    assert fresh.get(b"x")[0].value.payload == kept and fresh.get(b"y")[0].value.payload == again
    assert list(fresh.check()) == []


def test_a_machine_of_before_there_were_epochs_is_waited_for(
    machine: Machine, tier: ObjectTier, days: Days, place: ObjectPlace
) -> None:
    tier.claim(7, b"0123456789abcdef")  # all that it ever said of itself
    space = machine("here")
    with space.replica() as replica:
        rewrite(replica, 2)
        for _ in range(3):
            done = collected(space, days.later())
        assert done.waiting == ("0123456789abcdef",) and len(tier.blobs()) == 2


def test_damage_in_the_tier_frees_nothing_and_is_named(machine: Machine, tier: ObjectTier, days: Days) -> None:
    space = machine("here")
    with space.replica() as replica:
        rewrite(replica, 3)
        item = tier.segment_objects()[0]
        body = tier._bucket.get(tier._key(item.lane, item.first)) or b""
        assert tier._bucket.replace(tier._key(item.lane, item.first), body[:-9], item.etag)
        with pytest.raises(kvs.TierDamaged, match=r"\.seg"):
            space.collect_cold(now_s=days.later())
        assert len(tier.blobs()) == 3


def test_a_list_of_the_doomed_that_nobody_of_ours_wrote_is_refused(
    machine: Machine, tier: ObjectTier, days: Days
) -> None:
    space = machine("here")
    with space.replica() as replica:
        replica.put(b"a", os.urandom(LARGE))
        replica.sync("object")
        tier.epochs(bytes(32)).doom(1, [])
        with pytest.raises(kvs.TierDamaged, match="nobody who holds the key"):
            space.collect_cold(now_s=days.later())


def test_gc_collects_in_the_cold_tier_and_says_who_is_waited_for(
    machine: Machine, tier: ObjectTier, place: ObjectPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    space = machine("here")
    with space.replica() as replica:
        rewrite(replica, 3)
    at_once = KEEP_NOTHING._replace(retain_s=0.0)
    store = kvs.open(os.path.dirname(os.path.dirname(space.directory)), at_once, cold=place)
    assert gc(store) == 0
    assert f"cold tier: {0} bytes freed" not in capsys.readouterr().out and len(tier.blobs()) == 3
    assert gc(store) == 0
    assert f"{2 * LARGE} bytes freed (2 blobs deleted, 0 segments" in capsys.readouterr().out
    assert len(tier.blobs()) == 1


def test_a_mirror_collects_by_itself(machine: Machine, tier: ObjectTier) -> None:
    space = machine("here", KEEP_NOTHING._replace(retain_s=0.0))
    with space.replica() as replica, space.mirror(every_s=0.02, collect_every_s=0.0) as mirror:
        for _ in range(3):
            replica.put(b"a", os.urandom(LARGE))
            replica.sync("object")
        replica.collect(now_s=time.time() + LATER_S)
        end_s = time.monotonic() + 20
        while len(tier.blobs()) > 1 and time.monotonic() < end_s:
            time.sleep(0.05)
        assert len(tier.blobs()) == 1 and mirror.state.uncollected is None
        assert list(replica.check()) == []


# -- failures and kills at every call


def impatient(bucket: Bucket) -> Bucket:
    """As `bucket`, but a call that fails once is given up: what a kill just then would leave."""
    return Bucket(bucket._name, retry=Retry(deadline_s=1e-4), read_s=2.0)


@pytest.mark.parametrize("word", ["503", "reset after"])
def test_a_collector_that_fails_at_any_call_is_followed_by_one_that_goes_on(
    machine: Machine, tier: ObjectTier, s3: Proxy, word: str, days: Days
) -> None:
    space = machine("here")
    short = ObjectTier(impatient(tier._bucket), tier._prefix)
    with space.replica() as replica:
        data, at, deleted = rewrite(replica, 3), 0, False
        while not deleted:
            left, at = [at], at + 1

            def plan(method: str, path: str, left: list[int] = left) -> str:
                left[0] -= 1
                return word if left[0] == -1 else "pass"

            s3.plan = plan
            collector = ColdCollector(space.directory, space._key, short, grace_s=60.0, lease_s=1e9)
            try:
                while not deleted:
                    done = collector.collect(now_s=days.later())
                    deleted = done == ColdCollected(0, 0, 0, 0, ())
            except kvs.TierUnreachable:
                deleted = False
            s3.plan = lambda method, path: "pass"
            assert seal.digest(data) in {ref.digest for ref in tier.blobs()}
            if at % 4 == 0:  # there is something new to collect
                data, deleted = rewrite(replica, 2), False
            assert at < 60
        assert at > 10 and len(tier.blobs()) == 1
    with machine("there").reader() as reader:
        assert reader.get(b"a")[0].value.payload == data and list(reader.check()) == []


@pytest.mark.parametrize("word", ["409", "412", "503", "reset after"])
def test_calls_that_fail_and_pass_change_nothing(
    machine: Machine, tier: ObjectTier, s3: Proxy, word: str, days: Days
) -> None:
    """A 412 that is not true says of a list or a seal that one is there: what is there is then looked at."""
    rng, space = random.Random(word), machine("here")
    with space.replica() as replica:
        data = rewrite(replica, 3)
        s3.plan = lambda method, path: word if rng.random() < 0.3 and (word != "412" or method == "PUT") else "pass"
        for _ in range(8):
            with contextlib.suppress(kvs.TierDamaged):  # after a 412 that is not true nothing is there
                collected(space, days.later())
        s3.plan = lambda method, path: "pass"
        while collected(space, days.later()) != ColdCollected(0, 0, 0, 0, ()):
            pass
        assert {ref.digest for ref in tier.blobs()} == {seal.digest(data)}
        assert list(replica.check()) == []


def collect_for_ever(connection: Connection, path: Path, place: ObjectPlace) -> None:
    space = kvs.open(path, KEEP_NOTHING._replace(retain_s=0.0), cold=place).space("s")
    connection.send("ready")
    while True:
        with contextlib.suppress(kvs.StoreUnusable):  # the other process is at it
            space.collect_cold(now_s=time.time())


@pytest.mark.timeout(120)
def test_collectors_that_are_killed_anywhere_lose_nothing(
    machine: Machine, tier: ObjectTier, place: ObjectPlace, tmp_path: Path
) -> None:
    rng, space = random.Random(3), machine("here", KEEP_NOTHING._replace(retain_s=0.0))
    with space.replica() as replica:
        for _ in range(5):
            with child(collect_for_ever, tmp_path / "here/store", place) as (process, connection):
                received(connection)
                data = rewrite_at_once(replica)
                time.sleep(rng.uniform(0.0, 0.3))  # the instant of the kill
                kill(process)
            fresh = machine(f"fresh{rng.random()}")
            with fresh.reader() as reader:
                assert reader.get(b"a")[0].value.payload == data and list(reader.check()) == []
            fresh.delete(force=True)
            Path(fresh.directory).parent.mkdir(exist_ok=True)
        assert list(replica.check()) == []


def rewrite_at_once(replica: kvs.Replica) -> bytes:
    for _ in range(3):
        replica.put(b"a", data := os.urandom(LARGE))
        replica.sync("object")
        replica.collect(now_s=time.time() + LATER_S)
    return data


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_machines_do_in_whatever_order_nothing_that_is_needed_goes(
    machine: Machine, tier: ObjectTier, days: Days, opened: ExitStack, seed: int
) -> None:
    """Three machines write the same few values again and again, push, pull, collect, and start anew."""
    rng, names = random.Random(seed), ("one", "two", "three")
    bodies = [bytes([65 + n]) * LARGE for n in range(4)]
    spaces = {name: machine(name) for name in names}
    replicas = {name: opened.enter_context(space.replica()) for name, space in spaces.items()}
    views: list[tuple[kvs.Replica, dict[bytes, set[bytes]]]] = []
    for _ in range(45):
        name = rng.choice(names)
        space, replica = spaces[name], replicas[name]
        what = rng.choice(
            ["write", "write", "push", "pull", "local", "cold", "cold", "cold", "view", "restart", "evict"]
        )
        if what == "write":
            replica.put(b"k%d" % rng.randrange(2), rng.choice(bodies))
        elif what == "push":
            replica.sync("object")
        elif what == "pull":
            space.pull()
            replica.refresh()
        elif what == "local":
            replica.collect(now_s=time.time() + LATER_S)
        elif what == "cold":
            collected(space, days.later())
        elif what == "view" and len(views) < 3 and space.exists():
            reader = opened.enter_context(space.reader())
            views.append((reader, shown(reader)))
        elif what == "restart":
            replica.close()
            replicas[name] = opened.enter_context(space.replica())
        elif what == "evict":  # as a mover does: what the tier has need not be on this disk
            evict(space, replica)
        for reader, seen in views:
            assert shown(reader) == seen
    for name in names:
        replicas[name].sync("object")
    for _ in range(2):
        for name in names:
            while spaces[name].pull().commits:
                pass
            replicas[name].refresh()
            replicas[name].collect(now_s=time.time() + LATER_S)
            collected(spaces[name], days.later())
    for reader, seen in views:
        assert shown(reader) == seen
    fresh = opened.enter_context(machine("fresh").reader())
    assert list(fresh.check()) == []
    assert all(shown(replica) == shown(fresh) for replica in replicas.values())
    assert all(list(replica.check()) == [] for replica in replicas.values())


def shown(replica: kvs.Replica) -> dict[bytes, set[bytes]]:
    return {key: {version.value.payload for version in versions} for key, versions in replica.scan()}


def evict(space: kvs.Space, replica: kvs.Replica) -> None:
    """Delete from this disk one blob that the tier has, by the mover's own rules."""
    from kvs.placement import NODE, OBJECT, Placement

    replica.sync()
    placement = Placement(space.directory, space._cold_tier())
    for sample in list(placement.samples())[:1]:
        with contextlib.suppress(Exception):  # a refusal, as `Movable` says
            placement.demote(sample.key, NODE, OBJECT)
