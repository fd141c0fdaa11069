"""A value of more than two gigabytes, beyond what one call of the system writes and what 32 bits count."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import pytest

import kvs

NBYTES = (1 << 31) + 4097


@pytest.mark.timeout(300)
def test_a_value_of_two_gigabytes_is_stored_mapped_and_whole(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 4 * NBYTES:
        pytest.skip("there is no room for it here")
    space = kvs.open(tmp_path / "store").space("s")
    with mmap.mmap(-1, NBYTES) as data, space.replica() as replica:
        marks = {0: b"first", 1 << 30: b"middle", NBYTES - 4: b"last"}
        for at, mark in marks.items():
            data[at : at + len(mark)] = mark
        ref = replica.put_blob(memoryview(data))
        replica.publish({b"huge": kvs.Value(b"what it is", (ref,))})
        with space.reader() as reader:
            (found,) = reader.get(b"huge")[0].value.blobs
            assert found == ref and ref.nbytes == NBYTES
            view = reader.open_blob(found)
            assert {at: bytes(view[at : at + len(mark)]) for at, mark in marks.items()} == marks
            assert bytes(view[-4:]) == b"last" and len(view) == NBYTES
            view.release()
            assert list(reader.check()) == []
        os.truncate(replica._blobs.path(ref), NBYTES - 1)
        with pytest.raises(kvs.BlobDamaged, match=f"{NBYTES - 1} bytes instead of {NBYTES}"):
            replica.open_blob(ref)
    shutil.rmtree(tmp_path / "store")
