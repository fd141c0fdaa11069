"""Large buffers that go to many calls: one file for each, none is read again while nobody writes to it, and all writes
are seen."""

from __future__ import annotations

import gc
import mmap
import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import xxhash

from lambdakernel.futures import buffers
from lambdakernel.futures.buffers import SharedBuffers
from lambdakernel.futures.line import Descriptor
from lambdakernel.pages import Pages
from lambdakernel.parallel.parcels import unpack

COUNT = 1 << 18  # 2 MiB
ALONE = 5 << 20
"""40 MiB have memory of their own: no neighbour writes to their pages, and the system may tell of 2 MiB at a time."""
watches = pytest.mark.skipif(not Pages().works, reason="this system does not say which pages were written")


@pytest.fixture
def shared(monkeypatch) -> Iterator[SharedBuffers]:
    """As in a process without a notebook's state."""
    monkeypatch.setattr(buffers, "_OTHER_WATCHER", "no module")
    found = SharedBuffers()
    yield found
    found.close()


@pytest.fixture
def hashed(monkeypatch) -> list[int]:
    """Lengths of what was hashed."""
    found: list[int] = []
    digest = xxhash.xxh3_128_digest

    def counted(view):
        found.append(len(view))
        return digest(view)

    monkeypatch.setattr(xxhash, "xxh3_128_digest", counted)
    return found


def sent(shared: SharedBuffers, array: np.ndarray) -> np.ndarray:
    """What a call would get."""
    descriptor = shared.share(memoryview(array).cast("B"))
    assert descriptor is not None
    return np.frombuffer(bytes(unpack(descriptor.fd).head), array.dtype)


def watched(shared: SharedBuffers, array: np.ndarray) -> None:
    for _ in range(3):
        assert (sent(shared, array) == array.ravel()).all()


@watches
def test_what_nobody_writes_to_is_not_read_again(shared, hashed):
    array = np.arange(ALONE, dtype=float)
    first = shared.share(memoryview(array).cast("B"))
    for _ in range(8):
        assert shared.share(memoryview(array).cast("B")) is first
    assert len(hashed) == 2


def by_element(array: np.ndarray) -> None:
    array[COUNT // 2] = -1


def by_slice(array: np.ndarray) -> None:
    array[10:20] = 7


def by_last(array: np.ndarray) -> None:
    array[-1] = -5


def by_operation(array: np.ndarray) -> None:
    np.add(array, 1, out=array)


def by_view(array: np.ndarray) -> None:
    memoryview(array).cast("B")[5] = 99


def by_system(array: np.ndarray) -> None:
    with open("/dev/urandom", "rb") as file:
        os.readv(file.fileno(), [memoryview(array).cast("B")[80_000:90_000]])


def by_thread(array: np.ndarray) -> None:
    thread = threading.Thread(target=by_element, args=(array,))
    thread.start()
    thread.join()


WRITES = [by_element, by_slice, by_last, by_operation, by_view, by_system, by_thread]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_every_write_is_seen(shared, write: Callable[[np.ndarray], None]):
    array = np.arange(COUNT, dtype=float)
    watched(shared, array)
    for _ in range(3):
        write(array)
        assert sent(shared, array).tobytes() == array.tobytes()  # they may be no numbers
        assert sent(shared, array).tobytes() == array.tobytes()


@watches
def test_after_a_small_change_it_is_watched_on_and_after_a_large_one_not(shared, hashed):
    array = np.arange(ALONE, dtype=float)
    watched(shared, array)
    for change, again in ((by_element, 0), (by_operation, 1)):
        change(array)
        sent(shared, array)
        hashed.clear()
        sent(shared, array)
        assert len(hashed) == again


def test_other_memory_at_the_same_place_is_another_value(shared):
    for n in range(20):
        array = np.full(COUNT, float(n))
        watched(shared, array)
        del array
        gc.collect()


def test_memory_that_another_process_may_write_is_hashed_each_time(shared, hashed):
    with mmap.mmap(-1, COUNT * 8) as memory:  # shared
        array = np.frombuffer(memory, dtype=float)
        watched(shared, array)
        assert len(hashed) == 3
        pid = os.fork()
        if pid == 0:
            array[3] = 11.0
            os._exit(0)
        os.waitpid(pid, 0)
        assert sent(shared, array)[3] == 11.0
        del array


def test_beside_the_state_of_a_notebook_nothing_is_watched(hashed, monkeypatch):
    monkeypatch.setattr(buffers, "_OTHER_WATCHER", "os")
    shared, array = SharedBuffers(), np.arange(COUNT, dtype=float)
    watched(shared, array)
    assert len(hashed) == 3
    shared.close()


def test_in_a_fork_it_is_hashed(shared):
    array = np.arange(COUNT, dtype=float)
    watched(shared, array)
    pid = os.fork()
    if pid == 0:
        try:
            array[5] = -3
            os._exit(0 if sent(shared, array)[5] == -3 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert sent(shared, array)[5] == 5


@watches
def test_what_another_thread_wrote_and_sent_meanwhile_is_not_forgotten(shared, monkeypatch):
    array, meanwhile = np.zeros(ALONE), threading.Event()
    watched(shared, array)

    def copied(fd: int) -> Descriptor:
        """The first sender has copied the array, and has not said yet what it knows of it."""
        if not meanwhile.is_set():
            meanwhile.set()
            array[100] = 7.0
            thread = threading.Thread(target=sent, args=(shared, array))
            thread.start()
            thread.join(30)
        return Descriptor(fd)

    monkeypatch.setattr(buffers, "Descriptor", copied)
    array[0] = 1.0
    sent(shared, array)
    assert meanwhile.is_set()
    assert sent(shared, array)[100] == 7.0


@watches
@pytest.mark.parametrize("part", [slice(10, None), slice(ALONE // 2, None), slice(0, ALONE // 4)])
def test_arrays_that_share_memory_do_not_use_up_what_is_known_of_each_other(shared, part):
    array = np.zeros(ALONE)
    view = array[part]
    for n in range(1, 4):
        watched(shared, array)
        array[ALONE // 2 + 5] = array[20] = n
        watched(shared, view)
        assert sent(shared, array).tobytes() == array.tobytes()
        watched(shared, array)
        view[3] = -n
        assert sent(shared, array).tobytes() == array.tobytes()
        assert sent(shared, view).tobytes() == view.tobytes()


def _find(shared: SharedBuffers, array: np.ndarray, found: list[float]) -> None:
    found.append(float(sent(shared, array)[100]))


def test_threads_that_send_it_at_once_send_what_was_written_before(shared):
    array = np.zeros(COUNT)
    watched(shared, array)
    for n in range(1, 30):
        array[100] = n
        found: list[float] = []
        threads = [threading.Thread(target=_find, args=(shared, array, found)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [float(n)] * 4
