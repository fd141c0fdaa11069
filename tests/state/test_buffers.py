"""Large buffers: every write is found, only written pages are stored, and a cold worker maps what a warm one made."""

from __future__ import annotations

import mmap
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdakernel import pages
from lambdakernel.errors import ValueDamaged
from lambdakernel.pages import PAGE, Pages, merged
from lambdakernel.state import buffers
from lambdakernel.state.buffers import Buffers, apply_patch
from tests.state.cold import Worker, in_child, with_worker

MIB = 1 << 20
needs_tracking = pytest.mark.skipif(not Pages().works, reason="this kernel cannot tell which pages were written")


@pytest.fixture(params=["tracked", "hashed"])
def tracking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With page tracking, and as on a system that has none."""
    if request.param == "hashed":
        monkeypatch.setattr(pages, "_open", lambda: (-1, -1))
    elif not Pages().works:
        pytest.skip("this kernel cannot tell which pages were written")
    return str(request.param)


def stored(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("blobs/*/*") if path.is_file())


# -- what is written


@needs_tracking
def test_one_element_of_a_large_array_writes_one_page(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.ones(4_000_000); kept = [1]")
        first = stored(tmp_path / "s")
        done = [worker.run(f"big[{at}] = {at}").committed for at in (5, 3_999_999, 2_000_000)]
        return first, [(c.written, c.nbytes) for c in done if c], stored(tmp_path / "s")

    first, done, after = with_worker(tmp_path / "s", work)
    assert first == 32_000_000
    assert all(written == ("big",) and nbytes < 2 * PAGE + 1024 for written, nbytes in done)
    assert after - first < 6 * PAGE + 1024
    assert with_worker(tmp_path / "s", lambda w: w.run("print(big.sum(), big[5], big[-1])").shown) == (
        f"{4_000_000 - 3 + 5 + 3_999_999 + 2_000_000:.1f} 5.0 3999999.0\n"
    )


def test_reading_writes_nothing(tmp_path: Path, tracking: str) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.arange(1_000_000.); view = big[::2]; frozen = bytes(3_000_000)")
        reads = [
            "big.sum()",
            "big[3]; view.mean()",
            "big + 1; big.astype('i4'); frozen[7]",
            "np.sort(big); len(frozen)",
        ]
        return [(c.written, c.nbytes) for read in reads if (c := worker.run(read).committed)]

    assert with_worker(tmp_path / "s", work) == [((), 0)] * 4
    assert with_worker(tmp_path / "s", work_again) == [((), 0)] * 2


def work_again(worker: Worker) -> Any:
    return [(c.written, c.nbytes) for _ in range(2) if (c := worker.run("big.sum(); view[0]; frozen[1]").committed)]


def test_many_patches_become_one_and_half_of_a_buffer_is_written_whole(tmp_path: Path, tracking: str) -> None:
    count = 3 * buffers.MAX_LAYERS

    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.zeros(1_000_000)")
        for n in range(count):
            worker.run(f"big[{n} * 9_000 % 1_000_000] += {n} + 1")
        worker.run("big[:600_000] += 1")
        worker.run("big[7] = -1")
        return worker.live["big"].tobytes(), worker.namespace._loader.layers

    content, layers = with_worker(tmp_path / "s", work)
    assert with_worker(tmp_path / "s", lambda w: (w.run("big"), w.live["big"].tobytes())[1]) == content
    if tracking == "tracked":
        assert [len(refs) for of_unit in layers.values() for refs in of_unit] == [2]


@needs_tracking
def test_patches_on_patches_survive_a_move_each(tmp_path: Path) -> None:
    expected = np.zeros(500_000)
    with_worker(tmp_path / "s", lambda w: w.run("import numpy as np\nbig = np.zeros(500_000)").error)
    for n in range(2 * buffers.MAX_LAYERS + 3):
        at = n * 7919 % 500_000
        expected[at] += n + 1
        with_worker(tmp_path / "s", lambda w, at=at, n=n: w.run(f"big[{at}] += {n} + 1").error)  # type: ignore[misc]
    got = with_worker(tmp_path / "s", lambda w: (w.run("big"), w.live["big"].tobytes())[1])
    assert got == expected.tobytes()
    assert stored(tmp_path / "s") < 4_000_000 + 60 * buffers.MAX_LAYERS * PAGE


# -- nothing is missed

WRITES: dict[str, str] = {
    "element": "a[{i}] += 1",
    "slice": "a[{i}:{i}+1000] = {i}",
    "out": "np.add(a, 1, out=a)",
    "view": "v[{i} // 2] += 1",
    "reversed view": "a[::-1][{i}] += 1",
    "memoryview": "memoryview(a).cast('B').cast('d')[{i}] = {i}",
    "thread": "t = threading.Thread(target=lambda: a.__setitem__({i}, {i})); t.start(); t.join(); del t",
    "readinto": "f = open('/dev/zero', 'rb', buffering=0); f.readinto(memoryview(a).cast('B')[{i}:]); f.close(); del f",
    "copyto": "np.copyto(a[{i}:{i}+5], 3)",
    "sort": "a.sort()",
    "shuffle": "np.random.default_rng({i}).shuffle(a)",
    "bytearray": "b[{i}] = {i} % 256",
    "resize": "b.extend(bytes({i} % 5000)); del b[:{i} % 5000]",
    "frame": "df.iloc[{i} % len(df), 0] = {i}",
    "new": "a = np.full(a.size, {i}.0); v = a[::2]",
    "smaller": "c = a[: a.size // 2].copy(); c[{i} % c.size] = 1; del c",
    "swap": "a, v = np.array(a), v; v = a[::2]",
    "fill": "a.fill({i})",
    "nothing": "a[{i}] = a[{i}]",
}


@pytest.mark.parametrize("seed", range(6))
def test_no_write_to_a_buffer_is_ever_missed(tmp_path: Path, tracking: str, seed: int) -> None:
    """Random writes by every road, in one worker and over moves; after each the store holds what the worker holds."""
    rng = random.Random(seed)
    setup = (
        "import numpy as np, pandas as pd, threading\na = np.arange(300_000.); v = a[::2]\nb = bytearray(2_000_000)\n"
    )
    setup += "df = pd.DataFrame({'x': np.arange(200_000.), 'y': 1.0, 'z': 2})"

    def some_cells(worker: Worker) -> Any:
        for _ in range(8):
            kind = rng.choice(sorted(WRITES))
            ran = worker.run(WRITES[kind].format(i=rng.randrange(200_000)))
            assert not ran.error, (kind, ran.error)
        return rng.getstate(), content(worker)

    with_worker(tmp_path / "s", lambda worker: worker.run(setup).error)
    for _ in range(4):
        state, expected = with_worker(tmp_path / "s", some_cells)
        rng.setstate(state)
        assert with_worker(tmp_path / "s", content) == expected


def content(worker: Worker) -> Any:
    worker.run("a, v, b, df")
    live = worker.live
    digests = [hash(bytes(x)) for x in (live["a"].tobytes(), live["v"].tobytes(), live["b"], live["df"].to_numpy())]
    return digests, np.shares_memory(live["a"], live["v"])


@needs_tracking
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_marks_are_equal_only_for_equal_bytes(data: st.DataObject) -> None:
    """Buffers that come, go, overlap and lie at one another's addresses."""
    known = Buffers()
    seen: dict[bytes, bytes] = {}
    arena = np.zeros(4 * MIB + 3 * PAGE, "u1")  # one piece of memory, so that places really are used again
    try:
        for _ in range(data.draw(st.integers(2, 12))):
            start = data.draw(st.sampled_from([0, 1, PAGE, MIB, MIB + 17]))
            size = data.draw(st.sampled_from([MIB, 2 * MIB, 2 * MIB + 5, 3 * MIB]))
            piece = arena[start : start + size]
            for _ in range(data.draw(st.integers(0, 3))):
                arena[data.draw(st.integers(0, arena.size - 1))] = data.draw(st.integers(0, 255))
            mark = known.mark(memoryview(piece))
            assert seen.setdefault(mark, piece.tobytes()) == piece.tobytes()
            assert known.mark(memoryview(piece)) == mark
            if data.draw(st.booleans()):
                known.committed(memoryview(piece), mark, ())
    finally:
        known.close()


def test_memory_shared_with_another_process_is_looked_at_byte_by_byte() -> None:
    shared = mmap.mmap(-1, 2 * MIB)  # the child's too
    known = Buffers()
    array = np.frombuffer(shared, "u1")
    before = known.mark(memoryview(array))
    in_child(lambda: array.__setitem__(5, 9))
    assert array[5] == 9
    assert known.mark(memoryview(array)) != before
    known.close()


@needs_tracking
def test_a_thread_that_writes_between_look_and_commit_is_found_by_the_next(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.zeros(1_000_000)")
        big = worker.live["big"]
        real = worker.namespace._replica.put_blob

        def put_blob(data: Any) -> Any:
            ref = real(data)
            thread = threading.Thread(target=lambda: big.__setitem__(700_000, 5.0))
            thread.start()
            thread.join()
            return ref

        worker.namespace._replica.put_blob = put_blob
        worker.run("big[3] = 1")
        worker.namespace._replica.put_blob = real
        worker.run("big")

    with_worker(tmp_path / "s", work)
    assert with_worker(tmp_path / "s", lambda w: w.run("print(big[3], big[700_000])").shown) == "1.0 5.0\n"


@needs_tracking
def test_a_cell_that_closes_our_descriptors_costs_speed_alone(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.zeros(1_000_000)")
        tracking = worker.namespace._buffers._pages
        os.close(tracking._uffd)
        os.close(tracking._pagemap)
        other = os.open("/dev/null", os.O_RDWR)  # a number is used again
        worker.run("big[3] = 1")
        tracking._uffd = tracking._pagemap = -1
        os.close(other)

    with_worker(tmp_path / "s", work)
    assert with_worker(tmp_path / "s", lambda w: w.run("print(big[3], big.sum())").shown) == "1.0 1.0\n"


@needs_tracking
def test_a_commit_that_failed_writes_the_pages_with_the_next(tmp_path: Path) -> None:
    def work(worker: Worker) -> Any:
        worker.run("import numpy as np\nbig = np.zeros(1_000_000)")
        real = worker.namespace._replica.publish

        def publish(*_: Any) -> Any:
            raise OSError("the disk is full")

        worker.namespace._replica.publish = publish
        with pytest.raises(OSError, match="full"):
            worker.run("big[3] = 1")
        worker.namespace._replica.publish = real
        worker.run("big[900_000] = 2")

    with_worker(tmp_path / "s", work)
    assert with_worker(tmp_path / "s", lambda w: w.run("print(big[3], big[900_000])").shown) == "1.0 2.0\n"


# -- two names, two units, one buffer


@needs_tracking
def test_a_buffer_of_two_units_is_committed_for_both(tmp_path: Path) -> None:
    """A frame made of an array shares its memory, but not its unit: a write to the array is a change of both."""

    def work(worker: Worker) -> Any:
        worker.run("import numpy as np, pandas as pd\na = np.zeros((200_000, 2))\ndf = pd.DataFrame(a, copy=False)")
        worker.run("a[7, 1] = 5")
        worker.run("df.sum()")
        worker.run("a[9, 0] = 6; df.shape")
        worker.run("a; df")
        return worker.live["a"].tobytes(), worker.live["df"].to_numpy().tobytes()

    warm = with_worker(tmp_path / "s", work)
    read = lambda w: (w.run("a; df"), w.live["a"].tobytes(), w.live["df"].to_numpy().tobytes())[1:]  # noqa: E731
    assert with_worker(tmp_path / "s", read) == warm


# -- what is damaged, what is shared


@needs_tracking
def test_a_damaged_patch_is_named_and_hurts_no_other_name(tmp_path: Path) -> None:
    with_worker(tmp_path / "s", lambda w: w.run("import numpy as np\nbig = np.zeros(1_000_000); small = [1]").error)
    with_worker(tmp_path / "s", lambda w: w.run("big[3] = 1").error)
    patch = min((p for p in (tmp_path / "s").rglob("blobs/*/*") if p.is_file()), key=lambda p: p.stat().st_size)
    patch.chmod(0o600)
    patch.write_bytes(bytes(patch.stat().st_size))
    with pytest.raises(ValueDamaged, match="big"):
        with_worker(tmp_path / "s", lambda w: w.run("big[3]"))
    assert with_worker(tmp_path / "s", lambda w: w.run("print(small)").shown) == "[1]\n"


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_what_is_no_patch_is_refused(cut: int) -> None:
    patch = buffers._patch(memoryview(bytes(range(100))), [(3, 9), (50, 60)])
    target = bytearray(100)
    assert apply_patch(memoryview(target), patch) == [(3, 9), (50, 60)]
    assert target[3:9] == bytes(range(3, 9)) and sum(target[:3]) == 0
    with pytest.raises(ValueError, match="patch"):
        apply_patch(memoryview(bytearray(100)), patch[:-cut])


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="memory of processes cannot be told here")
def test_two_workers_that_read_one_array_hold_it_once(tmp_path: Path) -> None:
    nbytes = 64 * MIB
    with_worker(tmp_path / "s", lambda w: w.run(f"import numpy as np\nbig = np.ones({nbytes // 8})").error)

    def private_growth(worker: Worker) -> int:
        before = psutil.Process().memory_full_info().uss
        worker.run("big.sum()")
        mine: int = psutil.Process().memory_full_info().uss - before
        second = in_child(lambda: with_worker(tmp_path / "s", read_beside))
        return max(mine if second is None else 0, int(second))

    def read_beside(worker: Worker) -> int:
        before = psutil.Process().memory_full_info().uss
        worker.run("big.sum()")
        return int(psutil.Process().memory_full_info().uss - before)

    assert with_worker(tmp_path / "s", private_growth) < nbytes / 8


def test_runs_are_merged() -> None:
    assert merged([(5, 9), (0, 2), (2, 3), (8, 12), (20, 20)]) == [(0, 3), (5, 12)]


def test_the_tracker_of_a_parent_says_nothing_in_a_child() -> None:
    tracking = Pages()
    if not tracking.works:
        pytest.skip("this kernel cannot tell which pages were written")
    array = np.frombuffer(mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # with pages of its own
    place: Callable[[], tuple[int, int]] = lambda: (array.__array_interface__["data"][0], array.nbytes)  # noqa: E731
    assert tracking.arm(*place()) and tracking.written(*place()) == []
    assert in_child(lambda: (tracking.works, tracking.arm(*place()), tracking.written(*place()))) == (
        False,
        False,
        None,
    )
    tracking.close()
    assert tracking.written(*place()) is None


@needs_tracking
@pytest.mark.parametrize("at", [0, 100, 3000])
def test_a_write_on_a_page_that_two_buffers_share_is_told_to_both(at: int) -> None:
    """Frames lie side by side on the heap. To ask about one of them told the system's news of the page where the next
    begins, and kept only its own part of it: a change of the first rows of the next was never stored."""
    with mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        whole = memoryview(memory)
        end = 16 + 3 * MIB
        first, second = whole[16:end], whole[end + 16 : end + 16 + 3 * MIB]
        watching = Buffers()
        before = watching.mark(first), watching.mark(second)
        assert (watching.mark(first), watching.mark(second)) == before
        second[at] = 1
        assert watching.mark(first) == before[0]
        changed = watching.mark(second)
        assert changed != before[1]
        first[-1 - at] = 1
        assert watching.mark(second) == changed
        assert watching.mark(first) != before[0]
        watching.close()
        for view in (first, second, whole):
            view.release()


@needs_tracking
def test_looks_of_one_commit_agree_and_a_write_between_them_is_seen() -> None:
    with mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        whole = memoryview(memory)
        watching = Buffers()
        marks = [watching.mark(whole)]
        for n in (5, 5_000_000, 5, 5_000_001):
            whole[n] += 1
            marks += [watching.mark(whole), watching.mark(whole)]
        assert marks[1::2] == marks[2::2]
        assert len(set(marks)) == 5
        watching.close()
        whole.release()
