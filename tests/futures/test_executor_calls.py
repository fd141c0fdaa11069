"""Calls of `lambdakernel.Executor`: what can be sent, what comes back, and what a death costs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import psutil
import pytest

import lambdakernel
from lambdakernel.futures import InitializerFailed, NoWorkers, TaskLost
from lambdakernel.futures.steady import SteadyFunctions

DEADLINE_S = 60.0


@pytest.fixture
def executor() -> Iterator[lambdakernel.Executor]:
    with lambdakernel.Executor(2) as made:
        yield made


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def defined_in_main(source: str, name: str) -> Callable[..., object]:
    """A function as a script or cell has it."""
    space: dict[str, object] = {"__name__": "__main__"}
    exec(source, space)
    return space[name]  # type: ignore[return-value]


def test_lambdas_and_closures_can_be_sent(executor: lambdakernel.Executor) -> None:
    factor = 3
    assert executor.submit(lambda x: x * factor, 14).result(DEADLINE_S) == 42


def test_starmap_and_chunks_keep_the_order(executor: lambdakernel.Executor) -> None:
    assert list(executor.starmap(pow, [(2, 3), (3, 2)], timeout=DEADLINE_S)) == [8, 9]
    assert list(executor.map(lambda x: x + 1, range(100), chunksize=7)) == list(range(1, 101))


def test_map_with_a_buffer_reads_no_further_than_it(executor: lambdakernel.Executor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(100):
            read.append(n)
            yield n

    results = executor.map(abs, numbers(), buffersize=3)
    assert next(results) == 0
    assert len(read) <= 4
    assert list(results) == list(range(1, 100))


def test_a_change_of_what_a_function_reads_is_seen_by_the_next_call(executor: lambdakernel.Executor) -> None:
    function = defined_in_main("limit = 1\ndef f(): return limit", "f")
    assert executor.submit(function).result(DEADLINE_S) == 1
    function.__globals__["limit"] = 2
    assert executor.submit(function).result(DEADLINE_S) == 2
    function.__globals__["limit"] = [3]
    assert executor.submit(function).result(DEADLINE_S) == [3]
    function.__globals__["limit"].append(4)
    assert executor.submit(function).result(DEADLINE_S) == [3, 4]


def test_only_functions_that_read_nothing_changeable_are_steady() -> None:
    known = SteadyFunctions()
    plain = defined_in_main("import math\nk = 2\ndef f(x, y=1): return math.sqrt(x) * k + y", "f")
    first = known.get(plain)
    assert first is not None
    assert known.get(plain) is first
    plain.__globals__["k"] = 3
    assert known.get(plain) not in {None, first}
    for source in ("d = {}\ndef f(): return d", "def f():\n    global n\n    n = 1", "def f(x=[]): return x"):
        assert known.get(defined_in_main(source, "f")) is None


def test_a_function_that_writes_into_its_closure_starts_afresh_in_each_call(executor: lambdakernel.Executor) -> None:
    source = """
def make():
    n = 0
    def f():
        nonlocal n
        n += 1
        return n
    return f
f = make()"""
    count = defined_in_main(source, "f")
    assert [executor.submit(count).result(DEADLINE_S) for _ in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def f(n): return 1 if n < 2 else n * f(n - 1)", 24),
        ("def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n > 0 and even(n - 1)\nf = even", True),
        ("def make(a):\n    def f(n): return a if n == 0 else f(n - 1) + a\n    return f\nf = make(3)", 15),
        ("import os.path as p\ndef f(n, *, sep='-'): return p.basename('a/b') + sep * n", "b----"),
        ("k = 2\ndef f(n: int) -> int:\n    def inner(): return k * n\n    return inner()", 8),
        ("import collections\nf = lambda n: collections.Counter('aab')['a'] + n", 6),
        (
            "class C:\n    def __init__(s, n): s.n = n\n    def go(s): return s.n\ndef f(n): return C(n).go()",
            4,
        ),
    ],
)
def test_functions_of_a_script_find_what_they_read(executor: lambdakernel.Executor, source: str, value: object) -> None:
    function = defined_in_main(source, "f")
    assert [executor.submit(function, 4).result(DEADLINE_S) for _ in range(2)] == [value, value]


def test_a_class_of_the_script_stays_the_same_class_on_the_way_back(executor: lambdakernel.Executor) -> None:
    kind = defined_in_main("class Point: pass", "Point")
    assert type(executor.submit(kind).result(DEADLINE_S)) is kind


def test_plain_functions_of_a_script_need_no_cloudpickle(executor: lambdakernel.Executor) -> None:
    """It takes a fresh worker and the program milliseconds to load it."""
    script = """
import sys, lambdakernel
def f(x): return x + 1, "cloudpickle" in sys.modules
print(lambdakernel.Executor(1, preload=()).submit(f, 1).result(), "cloudpickle" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.stdout, done.stderr) == ("(2, False) False\n", "")


def test_a_large_array_arrives_writable_and_stays_the_senders(executor: lambdakernel.Executor) -> None:
    array = np.arange(500_000.0)

    def change(a: np.ndarray) -> np.ndarray:
        a[0] = 7.0
        return a

    back = executor.submit(change, array).result(DEADLINE_S)
    assert array[0] == 0.0
    assert back[0] == 7.0
    back[1] = 5.0
    array[2] = 9.0  # the same buffer again, changed in place
    assert executor.submit(lambda a: float(a[2]), array).result(DEADLINE_S) == 9.0


def test_an_array_that_goes_to_many_calls_is_copied_once(executor: lambdakernel.Executor) -> None:
    array = np.ones(500_000)

    def file_of(a: np.ndarray) -> str:
        address = a.__array_interface__["data"][0]
        with open("/proc/self/maps") as maps:
            for line in maps:
                low, high = (int(part, 16) for part in line.split()[0].split("-"))
                if low <= address < high:
                    return line.split()[4]  # the inode of the memory file
        return ""

    inodes = {f.result(DEADLINE_S) for f in [executor.submit(file_of, array) for _ in range(6)]}
    assert len(inodes) == 1
    assert inodes != {""}


_kept: list[object] = []


def _write_and_say_what_was_there(array: np.ndarray, at: int) -> tuple[float, float]:
    found = float(array.sum()), float(array[at])
    array[at] = -1.0
    return found


def _keep(array: np.ndarray) -> int:
    _kept.append(array)
    return os.getpid()


def _write_and_say_what_is_kept(array: np.ndarray) -> list[float]:
    array[:] = 7.0
    return [float(one.sum()) for one in _kept]  # type: ignore[attr-defined]


def _parcels() -> int:
    return Path("/proc/self/maps").read_text().count("lk-parcel")


def test_a_map_that_is_used_again_has_nothing_of_the_call_before() -> None:
    array = np.ones(1_000_000)
    with lambdakernel.Executor(1) as executor:
        for at in (0, 1, 2, 999_999):
            assert executor.submit(_write_and_say_what_was_there, array, at).result(DEADLINE_S) == (1e6, 1.0)
        array[5] = 3.0
        assert executor.submit(_write_and_say_what_was_there, array, 5).result(DEADLINE_S) == (1e6 + 2, 3.0)


def test_what_a_call_keeps_is_not_given_to_the_next_one() -> None:
    array = np.ones(1_000_000)
    with lambdakernel.Executor(1) as executor:
        assert executor.submit(_keep, array).result(DEADLINE_S) == executor.submit(os.getpid).result(DEADLINE_S)
        assert executor.submit(_write_and_say_what_is_kept, array).result(DEADLINE_S) == [1e6]
        assert executor.submit(_write_and_say_what_was_there, array, 3).result(DEADLINE_S) == (1e6, 1.0)


def test_a_worker_gives_up_the_maps_of_its_last_call() -> None:
    array = np.ones(1_000_000)
    with lambdakernel.Executor(1) as executor:
        pid = executor.submit(os.getpid).result(DEADLINE_S)
        maps = Path(f"/proc/{pid}/maps")
        assert executor.submit(np.sum, array).result(DEADLINE_S) == 1e6
        assert "lk-parcel" in maps.read_text(), "it is not kept at all"
        wait_until(lambda: "lk-parcel" not in maps.read_text())
        assert executor.submit(np.sum, array).result(DEADLINE_S) == 1e6
        for _ in range(2):
            left = executor.submit(_parcels).result(DEADLINE_S)
        assert left == 0, "calls that do not use it hold it"


def test_calls_that_wait_hold_few_descriptors() -> None:
    """Each large value once had a memory file of its own while it waited: a thousand calls used up what there is."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
import lambdakernel, numpy as np
shared = np.ones(200_000)
with lambdakernel.Executor(2) as executor:
    calls = [executor.submit(len, bytes(100_000)) for _ in range(300)]
    calls += [executor.submit(len, np.ones(140_000)) for _ in range(160)]
    calls += [executor.submit(len, shared) for _ in range(300)]
    print([sum(c.result() == n for c in calls) for n in (100_000, 140_000, 200_000)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.stdout, done.stderr) == ("[300, 160, 300]\n", "")


def test_many_buffers_of_all_sizes_arrive(executor: lambdakernel.Executor) -> None:
    arrays = [np.full(n, float(n)) for n in (1, 600, 9_000, *[200_000] * 9)]
    back = executor.submit(lambda *a: list(a), *arrays).result(DEADLINE_S)
    assert all(np.array_equal(a, b) and b.flags.writeable for a, b in zip(arrays, back, strict=True))


def test_an_error_shows_the_failing_line_of_the_worker(executor: lambdakernel.Executor) -> None:
    def fails() -> None:
        raise ValueError("too hot")  # the line to be seen

    with pytest.raises(ValueError, match="too hot") as caught:
        executor.submit(fails).result(DEADLINE_S)
    assert "# the line to be seen" in str(caught.value.__cause__)


def test_what_cannot_be_sent_fails_its_own_call_only(executor: lambdakernel.Executor) -> None:
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(len, threading.Lock()).result(DEADLINE_S)
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(lambda: threading.Lock()).result(DEADLINE_S)
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1


def test_a_death_costs_the_one_call_that_ran(executor: lambdakernel.Executor) -> None:
    calls = [executor.submit(abs, -n) for n in range(50)]
    victim = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    calls += [executor.submit(abs, -n) for n in range(50, 100)]
    with pytest.raises(TaskLost, match="signal 9") as caught:
        victim.result(DEADLINE_S)
    assert isinstance(caught.value, BrokenProcessPool)
    assert [c.result(DEADLINE_S) for c in calls] == list(range(100))


def test_no_call_runs_twice_and_none_is_forgotten_when_workers_die(
    executor: lambdakernel.Executor, tmp_path: Path
) -> None:
    def mark(n: int) -> int:
        with open(tmp_path / str(n), "x"):  # fails if it is there
            pass
        if n % 37 == 5:
            os._exit(3)
        return n

    calls = [executor.submit(mark, n) for n in range(200)]
    lost = [n for n, c in enumerate(calls) if isinstance(c.exception(DEADLINE_S), TaskLost)]
    assert lost == [n for n in range(200) if n % 37 == 5]
    assert all(c.result() == n for n, c in enumerate(calls) if n not in lost)
    assert len(list(tmp_path.iterdir())) == 200


def test_the_death_of_the_process_that_forks_is_survived(executor: lambdakernel.Executor, tmp_path: Path) -> None:
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1
    (worker,) = executor.worker_pids()
    mark = tmp_path / "begun"  # a call that had not begun would not be lost, but run again

    def work() -> None:
        mark.touch()
        time.sleep(100)

    running = executor.submit(work)
    wait_until(mark.exists)
    os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
    with pytest.raises(TaskLost):
        running.result(DEADLINE_S)
    assert executor.submit(abs, -2).result(DEADLINE_S) == 2


def test_a_death_is_heard_of_while_the_process_that_forks_is_busy(tmp_path: Path) -> None:
    """It imports modules ahead of need, and one of them may take for ever."""
    source = f"open({str(tmp_path / 'importing')!r}, 'w').close()\nimport time\ntime.sleep(600)"
    (tmp_path / "lk_endless.py").write_text(source)
    script = f"""
import sys, time, types, pathlib
sys.path.insert(0, {str(tmp_path)!r})
sys.modules["lk_endless"] = types.ModuleType("lk_endless")
import os, lambdakernel
mark = pathlib.Path({str(tmp_path / "importing")!r})
with lambdakernel.Executor(1, preload=["lk_endless"]) as executor:
    executor.submit(abs, 1).result()
    while not mark.exists():
        time.sleep(0.02)
    print(type(executor.submit(os._exit, 3).exception(30)).__name__, executor.submit(abs, -2).result(30))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.stdout, done.stderr) == ("TaskLost 2\n", "")


def test_short_calls_behind_a_long_one_go_to_a_free_worker(executor: lambdakernel.Executor, tmp_path: Path) -> None:
    """The long one ends only when all the others have: were one stuck behind it, this would never end."""
    for _ in executor.map(abs, range(500)):
        pass  # teaches the pool that calls are short
    gate = tmp_path / "gate"

    def wait() -> None:
        end = time.monotonic() + DEADLINE_S
        while not gate.exists() and time.monotonic() < end:
            time.sleep(0.01)

    long = executor.submit(wait)
    others = [executor.submit(abs, -n) for n in range(200)]
    assert [c.result(DEADLINE_S / 2) for c in others] == list(range(200))
    gate.touch()
    long.result(DEADLINE_S)


def test_an_executor_inside_a_task_does_not_deadlock() -> None:
    with lambdakernel.Executor(1) as outer:
        nested = outer.submit(lambda: outer.submit(lambda: outer.submit(abs, -5).result(DEADLINE_S)).result(DEADLINE_S))
        assert nested.result(DEADLINE_S) == 5


def test_workers_come_when_needed_and_go_when_idle() -> None:
    with lambdakernel.Executor(2, idle_s=0.2) as executor:
        assert executor.worker_pids() == []
        assert executor.submit(abs, -1).result(DEADLINE_S) == 1
        (worker,) = executor.worker_pids()
        nursery = psutil.Process(worker).ppid()
        wait_until(lambda: not psutil.pid_exists(nursery))
        assert not psutil.pid_exists(worker)
        assert executor.worker_pids() == []
        wait_until(lambda: "lambdakernel-executor" not in [thread.name for thread in threading.enumerate()])
        assert executor.submit(abs, -2).result(DEADLINE_S) == 2


def test_workers_are_renewed_after_their_share_of_calls() -> None:
    with lambdakernel.Executor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result(DEADLINE_S) for _ in range(6)]
    assert [pids.count(p) for p in dict.fromkeys(pids)] == [2, 2, 2]


def test_an_initializer_that_raises_breaks_the_executor() -> None:
    with lambdakernel.Executor(1, initializer=lambda: 1 / 0) as executor:
        with pytest.raises(InitializerFailed, match="ZeroDivisionError"):
            executor.submit(abs, 1).result(DEADLINE_S)
        with pytest.raises(BrokenExecutor):
            executor.submit(abs, 1)


def test_an_initializer_that_ends_the_worker_ends_in_a_clear_error() -> None:
    with (
        lambdakernel.Executor(1, initializer=os._exit, initargs=(3,)) as executor,
        pytest.raises(NoWorkers, match="exited with code 3"),
    ):
        executor.submit(abs, 1).result(DEADLINE_S)


def test_it_works_with_asyncio_and_as_completed(executor: lambdakernel.Executor) -> None:
    async def both() -> list[int]:
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(executor, abs, -1)
        return await asyncio.gather(one, asyncio.wrap_future(executor.submit(abs, -2)))

    assert asyncio.run(both()) == [1, 2]
    assert {f.result() for f in as_completed([executor.submit(abs, -n) for n in range(5)], DEADLINE_S)} == set(range(5))


def test_what_runs_can_be_stopped_and_the_executor_goes_on(executor: lambdakernel.Executor) -> None:
    running = executor.submit(time.sleep, 1000)
    wait_until(running.running)
    wait_until(lambda: len(executor.worker_pids()) == 1)
    executor.stop([running])
    with pytest.raises(TaskLost, match="was stopped"):
        running.result(DEADLINE_S)
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1


def test_a_shutdown_between_two_looks_of_the_executors_thread_is_heard_at_once() -> None:
    # It looked, told the futures, and slept until a worker had been idle for long: whoever shut it down as soon as a
    # result was there, with no call left to wake it, waited for a minute.
    executor = lambdakernel.Executor(1, idle_s=10 * DEADLINE_S)
    pid = executor.submit(os.getpid).result(DEADLINE_S)
    executor.submit(time.sleep, 0.2).add_done_callback(lambda _: executor.shutdown(wait=False))
    wait_until(lambda: not psutil.pid_exists(pid))


def test_many_threads_may_submit(executor: lambdakernel.Executor) -> None:
    found: list[list[int]] = []

    def some() -> None:
        found.append([f.result(DEADLINE_S) for f in [executor.submit(abs, -n) for n in range(200)]])

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert found == [list(range(200))] * 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": 1.5}, TypeError),
        ({"idle_s": -1}, ValueError),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        lambdakernel.Executor(**options)  # type: ignore[arg-type]


CACHES = """
import functools, os, sys
import lambdakernel

@functools.cache
def square(n):
    return n * n, os.getpid(), os.urandom(8).hex()

@functools.lru_cache(maxsize=99, typed=True)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def twice(n):
    return *square(n), *square(n), square.cache_info().maxsize

table = {}

@functools.cache
def entry(key):
    return table.get(key)

@functools.cache
def counted(n):
    return table.get("key", 0) if n > 99 else n if n < 2 else counted(n - 1) + counted(n - 2)

with lambdakernel.Executor(1, preload=()) as executor:
    found = executor.submit(twice, 3).result()
    assert found[:3] == found[3:6] and found[0] == 9 and found[1] != os.getpid() and found[6] is None
    assert executor.submit(square, 3).result()[0] == 9
    assert executor.submit(twice, 3).result() == found, "a worker keeps what it has computed"
    assert executor.submit(fib, 80).result() == 23416728348467685
    assert executor.submit(lambda: fib.cache_parameters()).result() == {"maxsize": 99, "typed": True}
    assert executor.submit(lambda: "cloudpickle" in sys.modules).result() is False
    for n in range(3):
        table["key"] = n
        assert executor.submit(entry, "key").result() == n
    assert executor.submit(functools.partial(fib, 10)).result() == 55
    assert executor.submit(counted, 30).result() == 832040  # of a dictionary, so it goes whole with each call
    old = executor.submit(square, 7).result()
    square = functools.cache(square.__wrapped__)
    assert executor.submit(square, 7).result() != old, "a new cache is empty"
print(fib.cache_info().currsize, square.cache_info().currsize)
"""


def test_functions_with_a_cache_travel_and_each_worker_keeps_its_own(tmp_path: Path) -> None:
    script = tmp_path / "caches.py"
    script.write_text(CACHES)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 0\n", "")
