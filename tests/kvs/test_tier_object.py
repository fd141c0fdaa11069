"""The object tier over a real server that fails in every way: retries are no-ops, and nothing half written is seen."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import kvs
from kvs.testing.tier import blob, record
from kvs.tiers.object import ObjectPlace, ObjectTier, place_at
from kvs.tiers.retry import Passing, Retry
from kvs.tiers.s3 import PART_BYTES, Bucket
from tests.kvs.s3_server import Proxy

RECORDS = [record(0, n) for n in range(1, 4)]
PASSING = ["409", "429", "500", "503", "reset", "reset after", "twice", "silence after"]


@pytest.fixture
def tier(place: ObjectPlace) -> ObjectTier:
    return place.space("s")


@pytest.mark.parametrize("word", PASSING)
def test_an_append_that_fails_twice_and_passes_is_there_once(tier: ObjectTier, s3: Proxy, word: str) -> None:
    s3.fail_first(1 if word.startswith("silence") else 2, word, method="PUT")
    tier.append(0, RECORDS[:2], after=0)
    tier.append(0, RECORDS[2:], after=2)
    assert [done for *_, done in s3.seen if done != "pass"] == [word] * (1 if word.startswith("silence") else 2)
    assert list(tier.read(0)) == RECORDS
    assert [item.key for item in tier._bucket.list("some/prefix/spaces/s/lanes/")] == [
        f"some/prefix/spaces/s/lanes/0/{first:020}.seg" for first in (1, 3)
    ]


@pytest.mark.parametrize("word", ["503", "reset", "reset after", "cut", "twice"])
def test_a_read_that_fails_is_tried_again_and_whole(tier: ObjectTier, s3: Proxy, word: str) -> None:
    ref, data = blob(os.urandom(100_000))
    tier.append(0, RECORDS, after=0)
    tier.put_blob(ref, data)
    s3.fail_first(2, word, method="GET", part=".seg")
    assert list(tier.read(0)) == RECORDS
    s3.fail_first(2, word, method="GET", part="/blobs/")
    assert b"".join(tier.get_blob(ref)) == bytes(data)


@pytest.mark.parametrize(
    ("word", "part"),
    [("503", "partNumber=2"), ("reset after", "partNumber=1"), ("reset after", "uploadId="), ("409", "uploadId="),
     ("503", "uploads"), ("twice", "uploadId=")],
)  # fmt: skip
def test_a_large_upload_that_fails_on_the_way_is_whole(tier: ObjectTier, s3: Proxy, word: str, part: str) -> None:
    ref, data = blob(os.urandom(PART_BYTES + 5))
    s3.fail_first(1, word, method="" if "part" in part else "POST", part=part)
    tier.put_blob(ref, data)
    assert [done for *_, done in s3.seen if done != "pass"] == [word]
    assert b"".join(tier.get_blob(ref)) == bytes(data)


def test_a_store_that_vanishes_in_an_upload_and_returns_shows_nothing_half_written(tier: ObjectTier, s3: Proxy) -> None:
    ref, data = blob(os.urandom(PART_BYTES + 5))
    s3.plan = lambda method, path: "reset" if "partNumber=2" in path or method == "DELETE" else "pass"
    with pytest.raises(kvs.TierUnreachable, match="try again"):
        tier.until(time.monotonic() + 0.5).put_blob(ref, data)
    assert tier.blobs() == [] and not tier.has_blob(ref)
    s3.plan = lambda method, path: "pass"
    tier.put_blob(ref, data)
    assert tier.blobs() == [ref] and b"".join(tier.get_blob(ref)) == bytes(data)


def test_an_append_gives_up_at_its_deadline_and_may_be_called_again(tier: ObjectTier, s3: Proxy) -> None:
    s3.plan = lambda method, path: "503"
    start_s = time.monotonic()
    with pytest.raises(kvs.TierUnreachable, match="503"):
        tier.until(start_s + 0.5).append(0, RECORDS, after=0)
    assert time.monotonic() - start_s < 10
    s3.plan = lambda method, path: "pass"
    tier.append(0, RECORDS, after=0)
    assert list(tier.read(0)) == RECORDS


def test_wrong_credentials_are_said_at_once(tier: ObjectTier, s3: Proxy) -> None:
    s3.plan = lambda method, path: "403"
    with pytest.raises(kvs.TierRefused, match=r"SignatureDoesNotMatch.*AWS_ACCESS_KEY_ID"):
        tier.append(0, RECORDS, after=0)
    assert len(s3.seen) == 1


def test_no_credentials_are_said_at_once(tier: ObjectTier, s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(kvs.TierRefused, match="redentials"):
        tier.lanes()
    assert s3.seen == []


def test_a_missing_bucket_is_said_at_once(s3: Proxy) -> None:
    with pytest.raises(kvs.TierRefused, match=r"NoSuchBucket.*Create the bucket"):
        place_at("s3://no-such-bucket-here").space("s").append(0, RECORDS, after=0)
    assert len(s3.seen) == 1


@pytest.mark.parametrize("url", ["s3:///x", "gs://b/x", "bucket"])
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(kvs.StoreUnusable, match=r"s3://bucket/prefix"):
        place_at(url)


def test_an_endpoint_that_is_no_url_is_refused(bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "no url")
    with pytest.raises(kvs.TierRefused, match="AWS_ENDPOINT_URL_S3"):
        place_at(f"s3://{bucket_name}").space("s").lanes()


def test_a_server_that_is_not_there_is_tried_until_the_deadline(monkeypatch: pytest.MonkeyPatch, s3: Proxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(kvs.TierUnreachable, match="could not be reached"):
            place_at("s3://b").space("s").until(time.monotonic() + 0.3).lanes()


def test_a_segment_that_is_missing_or_tampered_with_is_named(tier: ObjectTier) -> None:
    for n in (1, 2, 3):
        tier.append(0, RECORDS[n - 1 : n], after=n - 1)
    key = tier._key(0, 2)
    whole = tier._bucket.get(key)
    assert whole is not None
    tier._bucket.delete(key)
    with pytest.raises(kvs.TierDamaged, match="commit 2 on is missing"):
        list(tier.read(0))
    tier._bucket.put_new(key, whole[:-40])
    with pytest.raises(kvs.TierDamaged, match=r"00002\.seg"):
        list(tier.read(0))


def test_a_blob_that_is_not_what_its_name_says_is_named(tier: ObjectTier) -> None:
    ref, data = blob(b"what was stored")
    tier._bucket.put_new(tier._blob_key(ref), b"what was planted"[: data.nbytes])
    with pytest.raises(kvs.BlobDamaged, match=ref.digest.hex()):
        list(tier.get_blob(ref))


def test_a_delayed_put_that_lands_after_its_retry_changes_nothing(place: ObjectPlace, s3: Proxy) -> None:
    """A writer that died left a longer or shorter range under way: whichever lands first stays, and is continued."""
    early, late = place.space("s"), place.space("s")
    early.append(0, RECORDS[:2], after=0)
    late.append(0, RECORDS, after=0)
    early.append(0, RECORDS, after=0)
    assert list(late.read(0)) == RECORDS


def test_many_threads_store_one_blob(tier: ObjectTier) -> None:
    ref, data = blob(b"x" * 1000)
    threads = [threading.Thread(target=tier.put_blob, args=(ref, data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert tier.blobs() == [ref]


def test_waits_grow_are_spread_and_end_at_the_deadline() -> None:
    now, waits = [0.0], []

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        now[0] += wait_s

    def fail() -> None:
        raise Passing("no")

    retry = Retry(10.0, 0.1, 2.0, clock=lambda: now[0], sleep=sleep, uniform=lambda low, high: high)
    with pytest.raises(kvs.TierUnreachable, match=r"within .* no\."):
        retry.call(fail, "there")
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert now[0] < 10.0


def test_without_boto3_the_remedy_is_said(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None\n"
        "import kvs\n"
        "try:\n    kvs.open(sys.argv[1], cold='s3://b/p')\n"
        "except kvs.ExtraMissing as e:\n    print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'lambdakernel[s3]'" in done.stdout


def test_a_store_without_a_cold_tier_loads_none_of_it(tmp_path: Path) -> None:
    code = "import sys, kvs; kvs.open(sys.argv[1]).space('s').replica().close(); print('boto' in ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def put_and_get(bucket: Bucket, who: str) -> None:
    for n in range(40):
        body = f"{who} {n}".encode() * 50
        assert bucket.put_new(f"{who}/{n}", body) and bucket.get(f"{who}/{n}") == body


def test_a_fork_speaks_over_connections_of_its_own(bucket_name: str, s3: Proxy) -> None:
    """A process and its fork shared one, and got each other's answers."""
    bucket = Bucket(bucket_name)
    bucket.put_new("before", b"a connection is open")
    process = multiprocessing.get_context("fork").Process(target=put_and_get, args=(bucket, "child"))
    process.start()
    put_and_get(bucket, "parent")
    process.join(60)
    assert process.exitcode == 0
    assert sum(1 for _ in bucket.list("")) == 81


def test_each_bucket_makes_its_client_once(bucket_name: str, s3: Proxy) -> None:
    bucket = Bucket(bucket_name)
    assert bucket.put_new("a", b"1") and not bucket.until(time.monotonic() + 9).put_new("a", b"2")
    assert bucket.get("a") == b"1" and bucket.get("b") is None and bucket.size("b") is None
    assert [method for method, *_ in s3.seen] == ["PUT", "PUT", "GET", "GET", "HEAD"]
