"""Fixtures for the tests of `%%parallel`: one zygote for all, a notebook for each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from lambdakernel.executors.local import spawn_zygote, zygote_address


@pytest.fixture(scope="session")
def zygote() -> Iterator[str]:
    """The directory of a zygote that lives as long as the tests."""
    from parallel_notebook import wait_for

    directory = tempfile.mkdtemp(prefix="lk-test-")
    executor = spawn_zygote(directory)
    try:
        wait_for(lambda: os.path.exists(zygote_address(directory)), 30)
        yield directory
    finally:
        executor.close(5.0)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def notebook(tmp_path, zygote) -> Iterator[object]:
    from parallel_notebook import Notebook

    made = Notebook(str(tmp_path / "store"), zygote)
    try:
        yield made
    finally:
        made.close()
