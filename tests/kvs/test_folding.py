"""A long tail is moved to its database beside whoever publishes."""

from __future__ import annotations

import os
import threading
import time

import pytest

import kvs
from kvs import Value
from kvs.tiers import node
from kvs.tiers.node import LaneLog
from tests.kvs.support import DEADLINE_S

LONG = 20_000


@pytest.fixture
def long_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "DUE_NBYTES", LONG)
    monkeypatch.setattr(node, "OVERDUE_NBYTES", LONG)


def log_of(replica: kvs.Replica) -> LaneLog:
    return replica._logs[replica.id]


@pytest.mark.usefixtures("long_tails")
def test_a_publish_does_not_wait_for_the_move_of_a_long_tail(space: kvs.Space) -> None:
    """It did, for 0.2 to 1.1 s, when nobody had called sync for 8 MiB."""
    with space.replica() as replica, space.reader() as reader:
        log = log_of(replica)
        with log._moving:  # as a slow disk holds it
            for n in range(10):
                replica.put(b"%d" % n, os.urandom(LONG // 2))
            assert log.is_checkpoint_overdue and log.last_folded() == 0
            assert len(reader.refresh()) == 10
        replica._folding.end()
        assert log.last_folded() >= 3 and not log.is_checkpoint_overdue
        assert len(replica.keys()) == 10 and list(replica.check()) == []


@pytest.mark.usefixtures("long_tails")
def test_a_publish_waits_where_the_tail_got_longer_still(space: kvs.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "URGENT_NBYTES", 3 * LONG)
    with space.replica() as replica:
        log, done = log_of(replica), threading.Event()

        def publish() -> None:
            for n in range(8):
                replica.put(b"%d" % n, os.urandom(LONG))
            done.set()

        writer = threading.Thread(target=publish)
        assert log._moving.acquire(timeout=DEADLINE_S)
        try:
            writer.start()
            end_s = time.monotonic() + DEADLINE_S
            while not log.is_checkpoint_urgent and time.monotonic() < end_s:
                time.sleep(0.01)
            assert not done.wait(0.3)
        finally:
            log._moving.release()
        assert done.wait(DEADLINE_S)
        writer.join(DEADLINE_S)
        assert len(replica.keys()) == 8


@pytest.mark.usefixtures("long_tails")
def test_what_a_move_failed_with_the_next_publish_that_needs_one_says(
    space: kvs.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = kvs.StoreFull(space.directory)

    def fail(log: LaneLog) -> None:
        raise full

    with space.replica() as replica:
        with monkeypatch.context() as patch:
            patch.setattr(LaneLog, "checkpoint", fail)
            replica.put(b"a", bytes(LONG))
            replica.put(b"b", bytes(LONG))  # has it moved
            thread = replica._folding._thread
            assert thread is not None
            thread.join(DEADLINE_S)
            with pytest.raises(kvs.StoreFull):
                replica.put(b"c", bytes(LONG))
        replica.put(b"c", bytes(LONG))  # there is room again
        assert replica.keys() == [b"a", b"b", b"c"] and list(replica.check()) == []


@pytest.mark.usefixtures("long_tails")
def test_a_move_that_failed_last_is_told_by_close_which_closes_all_the_same(
    space: kvs.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = kvs.StoreFull(space.directory)

    def fail(log: LaneLog) -> None:
        raise full

    replica = space.replica()
    with monkeypatch.context() as patch:
        patch.setattr(LaneLog, "checkpoint", fail)
        for key in (b"a", b"b"):
            replica.put(key, bytes(LONG))
        with pytest.raises(kvs.StoreFull):
            replica.close()
    assert not any(lane.held for lane in space.lanes())
    with space.replica() as again:
        assert again.id == 0 and again.keys() == [b"a", b"b"] and list(again.check()) == []


@pytest.mark.usefixtures("long_tails")
def test_all_that_is_published_during_moves_is_there_once(space: kvs.Space) -> None:
    with space.replica() as replica, space.reader() as reader:
        seen: set[bytes] = set()
        for n in range(400):
            replica.publish({b"%d" % n: Value(b"%d" % n * 300), b"last": Value(b"%d" % n)})
            if n % 7 == 0:
                seen |= reader.refresh()
        replica._folding.end()
        assert log_of(replica).last_folded() > 100
        seen |= reader.refresh()
        assert len(seen) == 401 and list(reader.check()) == []
    with space.reader() as again:
        assert len(again.keys()) == 401 and again.get(b"last")[0].value.payload == b"399"
        assert [commit.dot.counter for commit in again.log(newest_first=False)] == list(range(1, 401))
