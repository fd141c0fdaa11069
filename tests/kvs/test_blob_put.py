"""A large value is hashed while it is written: its name is right, it is stored once, and a failure leaves nothing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from kvs import seal
from kvs.errors import StoreFull
from kvs.tiers import blobs as module
from kvs.tiers.blobs import BlobRef, Blobs

LARGE = module._AT_ONCE_FROM


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    (tmp_path / "blobs").mkdir()
    return Blobs(str(tmp_path / "blobs"))


def files(blobs: Blobs) -> list[Path]:
    return [path for path in Path(blobs._directory).rglob("*") if path.is_file()]


def digests() -> int:
    return sum(thread.name == "kvs digest" for thread in threading.enumerate())


@pytest.mark.parametrize("nbytes", [LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 7])
def test_the_name_is_the_digest_whatever_the_size(blobs: Blobs, nbytes: int) -> None:
    data = os.urandom(nbytes)
    ref = blobs.put(data)
    assert ref == BlobRef(seal.digest(data), nbytes) and blobs.read(ref) == data
    assert files(blobs) == [Path(blobs.path(ref))] and digests() == 0


def test_what_begins_alike_is_told_apart(blobs: Blobs) -> None:
    data = bytearray(LARGE)
    first = blobs.put(data)
    data[-1] = 1
    second = blobs.put(data)
    assert first != second and blobs.read(second) == data and len(files(blobs)) == 2


def test_the_same_value_is_written_once_by_one_process_and_stored_once_by_two(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, written = os.urandom(LARGE), list[int]()
    write = os.write

    def counted(fd: int, piece: memoryview) -> int:
        written.append(len(piece))
        return write(fd, piece)

    monkeypatch.setattr(os, "write", counted)
    ref = blobs.put(data)
    inode = os.stat(blobs.path(ref)).st_ino
    assert sum(written) == LARGE and blobs.put(bytearray(data)) == ref and sum(written) == LARGE
    other = Blobs(blobs._directory)
    assert other.put(data) == ref and os.stat(blobs.path(ref)).st_ino == inode
    assert files(blobs) == [Path(blobs.path(ref))]


def test_a_disk_that_fills_up_in_the_middle_leaves_no_file_and_no_thread(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = os.write, list[int]()

    def full(fd: int, piece: memoryview) -> int:
        if sum(written) >= LARGE // 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(piece))
        return write(fd, piece)

    data = os.urandom(LARGE)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreFull):
            blobs.put(data)
    assert written and files(blobs) == [] and digests() == 0
    assert blobs.read(blobs.put(data)) == data


def test_a_fork_hashes_large_values_too(blobs: Blobs) -> None:
    """BLAKE3's own threads are gone in a fork, which would wait for them for ever."""
    data = os.urandom(LARGE)
    blobs.put(os.urandom(LARGE))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if blobs.put(data) == BlobRef(seal.digest(data), LARGE) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
