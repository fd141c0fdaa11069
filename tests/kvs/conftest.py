from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import kvs


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
