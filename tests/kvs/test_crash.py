"""kill -9 before every step of a writer's life, at random instants, and SIGSTOP in the middle of a publish."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value
from tests.kvs.crashes import KEYS, SETTINGS, assert_whole, die, freeze, newest, publish, said, write, written
from tests.kvs.support import DEADLINE_S, child, kill

ROUNDS = int(os.environ.get("KVS_CRASH_ROUNDS", "60"))
DISK = SETTINGS._replace(durability="disk")
AFRESH = 50
"""Rounds in one store, whose past grows: opening it costs some microseconds for each commit."""
STALL_S = 5.0
"""Far above what the others do meanwhile (some ms), so that a loaded machine fails no test; far below for ever."""


def killed_at(path: Path, at: int, settings: kvs.Settings = SETTINGS) -> tuple[int, int]:
    """Let a writer live until its step `at`; what it said."""
    with child(write, path, at, die, settings) as (process, connection):
        process.join(DEADLINE_S)
        assert process.exitcode in (0, -signal.SIGKILL)
        return said(connection)


def strides(steps: int, rounds: int) -> range:
    """Which steps to kill at: every one of them in a long run, else about `rounds` of them."""
    assert steps > 100, "no writer came to its end: this shows nothing"
    stride = max(1, steps // rounds)
    return range(1 + random.Random(steps).randrange(stride), steps, stride)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", [SETTINGS, DISK], ids=["process", "disk"])
def test_a_kill_before_any_step_of_making_a_store_tears_nothing(tmp_path: Path, settings: kvs.Settings) -> None:
    _, steps = killed_at(tmp_path / "whole", 0, settings)
    for at in strides(steps, ROUNDS // 2):
        path = tmp_path / f"store{at}"
        acknowledged, _ = killed_at(path, at, settings)
        n = assert_whole(path, acknowledged, settings)
        _, ended = killed_at(path, 0, settings)  # the next one finds nothing in its way
        assert ended and assert_whole(path, n + 2, settings) == n + 2
        shutil.rmtree(path)


@pytest.mark.timeout(300)
def test_a_kill_before_any_step_in_a_store_with_a_past_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Publish, checkpoint, flush, deletion of rows and blobs, and the closing of files."""
    old = tmp_path / "old"
    killed_at(old, 0)
    shutil.copytree(old, tmp_path / "whole")
    shutil.copy(tmp_path / "old.key", tmp_path / "whole.key")
    _, steps = killed_at(tmp_path / "whole", 0)
    for at in strides(steps, ROUNDS):
        path = tmp_path / "store"
        shutil.copytree(old, path)
        shutil.copy(tmp_path / "old.key", tmp_path / "store.key")
        acknowledged, _ = killed_at(path, at)
        assert_whole(path, max(acknowledged, 2))
        killed_at(path, 0)
        left = [p.name for p in path.rglob("*") if p.name.startswith(("new-", "tmp-", "."))]
        assert left == [], "what a killed writer left is not cleaned up by the next collection"
        assert len(os.listdir(Path(kvs.open(path).space("s").directory, "pins"))) == 0
        shutil.rmtree(path)


@pytest.mark.timeout(600)
def test_a_kill_at_a_random_instant_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng, n = random.Random(4), 0
    for i in range(ROUNDS):
        path = tmp_path / f"store{i // AFRESH}"
        n = n if i % AFRESH else 0
        with child(write_for_ever, path) as (process, connection):
            assert connection.poll(DEADLINE_S)
            time.sleep(rng.uniform(0, 0.02))  # the instant of the kill
            kill(process)
            acknowledged, _ = said(connection)
        n = assert_whole(path, max(acknowledged, n))
    assert n > ROUNDS % AFRESH


def write_for_ever(connection: Connection, path: Path) -> None:
    with kvs.open(path, SETTINGS).space("s").replica() as replica:
        n = newest(replica)
        while True:
            n += 1
            publish(replica, n)
            os.write(connection.fileno(), b"%d\n" % n)
            if n % 20 == 0:
                replica.collect(now_s=4e9)


@pytest.mark.timeout(300)
def test_a_writer_that_is_frozen_at_any_step_stalls_nobody(tmp_path: Path) -> None:
    path = tmp_path / "store"
    _, steps = killed_at(path, 0)
    points = [1 + (steps - 2) * i // 20 for i in range(20)]
    for i, at in enumerate(points):
        with child(write, path, at, freeze, SETTINGS) as (process, connection):
            wait_until_frozen(process.pid or 0)
            start = time.monotonic()
            with kvs.open(path, SETTINGS).space("s").replica() as replica:
                replica.publish({b"mine": Value(b"%d" % i), b"large": Value(b"%d" % i * 1000)})
                replica.refresh()
                n = newest(replica)
                assert {key: replica.get(key)[0].value.payload for key in KEYS} == written(n)
                replica.collect(now_s=4e9)
                with kvs.open(path).space("s").reader() as reader:
                    assert reader.get(b"mine")[0].value.payload == b"%d" % i
                    assert list(reader.check()) == []
            assert time.monotonic() - start < STALL_S
            os.kill(process.pid or 0, signal.SIGCONT)
            process.join(DEADLINE_S)
            assert process.exitcode == 0 and said(connection)[1], "the thawed writer did not come to its end"


def wait_until_frozen(pid: int) -> None:
    """Until the system says that it is stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
