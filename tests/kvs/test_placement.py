"""Large values follow their readers between memory, disk and S3: nothing is lost, budgets are kept, and it is shown."""

from __future__ import annotations

import json
import math
import os
import random
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value, seal
from kvs.__main__ import main
from kvs.movement import Budget, Demote, Drop, Promote
from kvs.movement.actor import Report
from kvs.placement import BackgroundMover, Placement, described, tiers_of
from kvs.tiers.memory import MemoryPlace, MemoryTier
from tests.kvs.s3_server import Proxy
from tests.kvs.support import child, kill, received

LARGE = 100_000
HOUR_S = 3600.0


class Clock:
    """The file system's time, and what a test adds to it."""

    def __init__(self) -> None:
        self.more_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.more_s


@pytest.fixture
def cold() -> MemoryPlace:
    return MemoryPlace()


@pytest.fixture
def replica(tmp_path: Path, cold: MemoryPlace, opened: ExitStack) -> kvs.Replica:
    return opened.enter_context(kvs.open(tmp_path / "store", cold=cold).space("s").replica())


def put(replica: kvs.Replica, count: int) -> dict[bytes, bytes]:
    """Values that do not fit in a log, by their keys."""
    values = {b"%d" % n: bytes([n]) + os.urandom(LARGE - 1) for n in range(count)}
    for key, data in values.items():
        replica.put(key, data)
    return values


def read(replica: kvs.Replica, key: bytes) -> bytes:
    return replica.get(key)[0].value.payload


def files(replica: kvs.Replica) -> int:
    return sum(ref.nbytes for ref, _ in replica._blobs.files())


def placed(mover: BackgroundMover) -> Placement:
    return mover._placement


def age(mover: BackgroundMover, clock: Clock, seconds: float) -> None:
    clock.more_s += seconds
    placed(mover)._clock = clock
    mover._mover._clock = clock


def test_a_hot_value_is_promoted_and_a_cold_one_goes_to_s3_and_is_read_back(
    tmp_path: Path, bucket_name: str, s3: Proxy, opened: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    store = kvs.open(tmp_path / "store", cold=f"s3://{bucket_name}/team")
    replica = opened.enter_context(store.space("s").replica())
    values = put(replica, 6)
    mover = opened.enter_context(replica.mover(memory_bytes=2 * LARGE, disk_bytes=3 * LARGE, every_s=HOUR_S))
    for _ in range(5):
        for key in (b"4", b"5"):
            assert read(replica, key) == values[key]
    report = mover.step()
    assert not report.failed
    assert {type(move) for move in report.done} == {Promote, Demote}
    assert {move.to for move in report.done if isinstance(move, Promote)} == {"memory"}
    assert files(replica) <= 3 * LARGE and placed(mover).used("memory") <= 2 * LARGE
    assert len([path for method, path, _ in s3.seen if method == "PUT" and "/blobs/" in path]) >= 3
    assert {k: read(replica, k) for k in values} == values  # those that left are fetched from S3
    assert files(replica) > 3 * LARGE
    report = mover.step()
    assert not report.failed and files(replica) <= 3 * LARGE and any(isinstance(move, Drop) for move in report.done)
    assert {k: read(replica, k) for k in values} == values
    s3.plan = lambda method, path: "503"
    assert read(replica, b"4") == values[b"4"] and read(replica, b"5") == values[b"5"]
    s3.plan = lambda method, path: "pass"
    capsys.readouterr()
    assert main(["stats", str(tmp_path / "store")]) == 0
    shown = capsys.readouterr().out
    assert "blob bytes by tier: memory " in shown
    assert f" of {2 * LARGE}, node " in shown and "moves" in shown
    with store.space("s").reader() as reader:
        assert list(reader.check()) == []


def test_what_is_not_read_leaves_memory_and_the_disk_keeps_it(replica: kvs.Replica, opened: ExitStack) -> None:
    values, clock = put(replica, 3), Clock()
    mover = opened.enter_context(replica.mover(memory_bytes=1e9, disk_bytes=1e9, every_s=HOUR_S))
    for _ in range(3):
        assert {key: read(replica, key) for key in values} == values
    mover.step()
    assert placed(mover).used("memory") == 3 * LARGE
    age(mover, clock, 30 * 24 * HOUR_S)
    mover.step()
    assert placed(mover).used("memory") == 0 and files(replica) == 3 * LARGE
    assert {key: read(replica, key) for key in values} == values


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_no_step_leaves_more_than_the_budgets(replica: kvs.Replica, opened: ExitStack, limit: int) -> None:
    values, rng = put(replica, 8), random.Random(limit)
    budget = Budget(nbytes=(limit + 1) * LARGE)
    mover = opened.enter_context(
        replica.mover(memory_bytes=limit * LARGE, disk_bytes=limit * LARGE, every_s=HOUR_S, budget=budget)
    )
    for _ in range(6):
        for _ in range(20):
            key = b"%d" % min(7, int(rng.paretovariate(1)) - 1)
            assert read(replica, key) == values[key]
        assert not mover.step().failed
        memory, disk = placed(mover).used("memory"), files(replica)
        assert memory <= limit * LARGE and disk <= limit * LARGE and memory + disk <= (limit + 1) * LARGE
    assert {key: read(replica, key) for key in values} == values


class _Away(MemoryTier):
    """A tier that can be cut off, or that takes what it is given and does not keep it."""

    is_cut = forgets = False

    def put_blob(self, ref: kvs.BlobRef, data: memoryview) -> None:
        if self.is_cut:
            raise kvs.TierUnreachable(self.name, 0.1, "the network is cut")
        if not self.forgets:
            super().put_blob(ref, data)


@pytest.mark.parametrize("trouble", ["is_cut", "forgets"])
def test_what_cannot_be_copied_stays(replica: kvs.Replica, cold: MemoryPlace, opened: ExitStack, trouble: str) -> None:
    tier = _Away()
    replica._cold = tier
    values, clock = put(replica, 3), Clock()
    mover = opened.enter_context(replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S))
    setattr(tier, trouble, True)
    report = mover.step()
    assert len(report.failed) == 3 and files(replica) == 3 * LARGE and not report.done
    assert "3 failed" in described(replica._directory)
    setattr(tier, trouble, False)
    age(mover, clock, 2 * HOUR_S)
    assert len(mover.step().done) == 3 and files(replica) == 0 and len(tier.blobs()) == 3
    assert {key: read(replica, key) for key in values} == values


def test_a_value_that_the_cold_tier_lost_is_not_dropped_here(
    replica: kvs.Replica, cold: MemoryPlace, opened: ExitStack
) -> None:
    tier = cold.space(seal.name_hash("s"))
    values = put(replica, 2)
    replica.sync("object")
    mover = opened.enter_context(replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S))
    lost = tier.blobs()[0]
    tier.delete_blob(lost)
    report = mover.step()
    assert len(report.failed) == 1 and files(replica) == LARGE
    assert {key: read(replica, key) for key in values} == values


def test_a_mapping_of_what_is_moved_away_stays_good(replica: kvs.Replica, opened: ExitStack) -> None:
    ref = replica.put_blob(b"x" * LARGE)
    replica.publish({b"a": Value(b"", (ref,))})
    replica.sync()
    view = replica.open_blob(ref)
    mover = opened.enter_context(replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S))
    mover.step()
    assert files(replica) == 0 and bytes(view) == b"x" * LARGE
    view.release()
    assert bytes(replica.open_blob(ref)) == b"x" * LARGE


def test_what_is_about_to_be_published_is_not_moved(replica: kvs.Replica, opened: ExitStack) -> None:
    mover = opened.enter_context(replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S))
    ref = replica.put_blob(b"x" * LARGE)
    assert len(mover.step().failed) == 1 and files(replica) == LARGE
    replica.publish({b"a": Value(b"", (ref,))})
    replica.sync()
    age(mover, Clock(), HOUR_S)
    assert not mover.step().failed and files(replica) == 0


def move_for_ever(connection: Connection, path: Path, url: str, keys: int) -> None:
    with (
        kvs.open(path, cold=url).space("s").replica() as replica,
        replica.mover(memory_bytes=LARGE, disk_bytes=LARGE, every_s=HOUR_S) as mover,
    ):
        while True:
            for n in range(keys):
                read(replica, b"%d" % n)
            mover.step()
            connection.send("stepped")


@pytest.mark.timeout(120)
def test_a_mover_that_is_killed_anywhere_loses_nothing(tmp_path: Path, bucket_name: str, s3: Proxy) -> None:
    path, url, rng = tmp_path / "store", f"s3://{bucket_name}", random.Random(5)
    with kvs.open(path, cold=url).space("s").replica() as replica:
        values = put(replica, 5)
    for _ in range(8):
        with child(move_for_ever, path, url, 5) as (process, connection):
            received(connection)
            time.sleep(rng.uniform(0, 0.1))  # the instant of the kill
            kill(process)
        with kvs.open(path, cold=url).space("s").reader() as reader:
            assert {key: read(reader, key) for key in values} == values
            assert list(reader.check()) == []


def test_it_steps_by_itself_and_ends_when_it_is_closed(replica: kvs.Replica) -> None:
    values = put(replica, 3)
    with replica.mover(memory_bytes=0, disk_bytes=0, every_s=0.02):
        end_s = time.monotonic() + 20
        while files(replica) and time.monotonic() < end_s:
            time.sleep(0.02)
        assert files(replica) == 0
    assert json.loads(Path(replica._directory, "placement").read_bytes())["moved"] == 3
    assert {key: read(replica, key) for key in values} == values and files(replica) == 3 * LARGE


def test_a_step_that_cannot_be_done_is_told_of_and_tried_again(replica: kvs.Replica) -> None:
    """A mover ended for good at its first full disk, and said so only when it was closed."""
    values, space, troubles = put(replica, 3), replica._directory, [kvs.StoreFull(replica._directory)] * 2
    with replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S) as idle:
        placement = placed(idle)

        def flush() -> None:
            seen.append(described(space))
            if troubles:
                raise troubles.pop()
            replica.sync()

        seen: list[str] = []
        with BackgroundMover(placement, space, tiers_of(0, 0), Budget(), every_s=0.02, before=flush) as mover:
            end_s = time.monotonic() + 20
            while (files(replica) or mover.failure) and time.monotonic() < end_s:
                time.sleep(0.02)
            assert files(replica) == 0 and mover.failure is None
    assert not troubles and "its last step could not be done: " in seen[1]
    assert "could not be done" not in described(space)
    assert {key: read(replica, key) for key in values} == values


def test_a_value_that_comes_up_by_way_of_the_cold_tier_moved_once(replica: kvs.Replica) -> None:
    key, other = b"k" * 40, b"o" * 40
    done = (Demote(key, "node", "object"), Promote(key, "object", "memory"), Drop(other, "node"))
    with replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S) as mover:
        mover._report(Report(done))
    assert "; 2 moves, " in described(replica._directory)


def test_a_mover_whose_last_step_could_not_be_done_says_so_when_it_is_closed(replica: kvs.Replica) -> None:
    def flush() -> None:
        raise kvs.StoreFull(replica._directory)

    with replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S) as idle:
        mover = BackgroundMover(
            placed(idle), replica._directory, tiers_of(0, 0), Budget(), every_s=0.02, before=flush
        )  # fmt: skip
        end_s = time.monotonic() + 20
        while mover.failure is None and time.monotonic() < end_s:
            time.sleep(0.02)
        with pytest.raises(kvs.StoreFull):
            mover.close()


def test_bad_limits_and_a_store_without_a_cold_tier_are_refused(replica: kvs.Replica, space: kvs.Space) -> None:
    for limit in (-1, math.nan):
        with pytest.raises(ValueError, match=r"Tier\.nbytes"):
            replica.mover(memory_bytes=limit, disk_bytes=1)
        with pytest.raises(ValueError, match=r"Tier\.nbytes"):
            tiers_of(1, limit)
    with space.replica() as plain, pytest.raises(kvs.StoreUnusable, match='with cold="s3'):
        plain.mover(memory_bytes=1, disk_bytes=1)


def test_the_commands_know_the_cold_tier_and_a_repair_without_it_is_refused(
    tmp_path: Path, bucket_name: str, s3: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """What had left the disk was named as missing by `check`, and `repair --forget` deleted it."""
    path, url = tmp_path / "store", f"s3://{bucket_name}"
    with kvs.open(path, cold=url).space("s").replica() as replica:
        values = put(replica, 3)
        with replica.mover(memory_bytes=0, disk_bytes=0, every_s=HOUR_S) as mover:
            mover.step()
        assert files(replica) == 0
    with pytest.raises(kvs.StoreUnusable, match=f'Open the store with cold="{url}'):
        kvs.open(path).space("s").repair(forget=True)
    for command in (["check"], ["repair", "--forget"], ["check"]):
        assert main([*command[:1], str(path), *command[1:]]) == 0
    capsys.readouterr()
    with kvs.open(path).space("s").reader() as reader:  # the repair has fetched them
        assert {key: read(reader, key) for key in values} == values
