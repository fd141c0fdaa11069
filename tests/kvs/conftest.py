from __future__ import annotations

import http.client
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import kvs
from kvs.tiers.object import ObjectPlace
from kvs.tiers.retry import Retry
from kvs.tiers.s3 import Bucket
from tests.kvs.s3_server import Proxy, moto_server


@pytest.fixture
def store(tmp_path: Path) -> kvs.Store:
    return kvs.open(tmp_path / "store")


@pytest.fixture
def space(store: kvs.Store) -> kvs.Space:
    return store.space("notes")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Enter replicas here: all are closed with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with moto_server() as port:
        yield port


@pytest.fixture
def s3(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server of S3 behind a proxy that can fail; boto3 is told of it by its own variables."""
    proxy = Proxy(s3_port)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture
def bucket_name(s3_port: int, s3: Proxy) -> str:
    """An empty bucket of this test's own."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    connection = http.client.HTTPConnection("127.0.0.1", s3_port, timeout=30)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    return name


@pytest.fixture
def place(bucket_name: str) -> ObjectPlace:
    """Below a prefix of that bucket, with waits that suit a test; a request is given up after two seconds."""
    retry = Retry(deadline_s=20.0, first_wait_s=0.01, longest_wait_s=0.1)
    return ObjectPlace(Bucket(bucket_name, retry=retry, read_s=2.0), "some/prefix")
