"""Code of values is stopped in time, on any thread, and only while it may be; a value is as large as it may be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lambdakernel.state import Bounds, CannotMove, bounds
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import dump


class Hangs:
    def __reduce__(self) -> Any:
        time.sleep(1000)


class Slow:
    def __reduce__(self) -> Any:
        time.sleep(0.02)
        return Slow, ()


@pytest.fixture
def quick() -> Iterator[Bounds]:
    found = Bounds(call_s=0.3, value_nbytes=100_000)
    yield found
    found.close()


def encode(value: Any) -> Any:
    return dump(value, {}, ClassBook())[0]


def test_a_call_that_does_not_return_is_stopped_and_not_made_again(quick: Bounds) -> None:
    with quick.in_force(), pytest.raises(CannotMove, match=r"its __reduce__ did not return in 0\.3 s"):
        encode([Hangs()])
    start = time.monotonic()
    with quick.in_force(), pytest.raises(CannotMove, match="did not return"):
        encode({"x": Hangs()})
    assert time.monotonic() - start < 0.25


def test_many_calls_may_take_longer_than_one(quick: Bounds) -> None:
    with quick.in_force():
        start = time.monotonic()
        assert encode([Slow() for _ in range(40)]).nbytes
        assert time.monotonic() - start > quick.call_s


def test_a_call_on_another_thread_is_stopped_too(quick: Bounds) -> None:
    class Spins:
        def __reduce__(self) -> Any:
            while True:
                pass

    said: list[str] = []

    def work() -> None:
        with quick.in_force():
            try:
                encode(Spins())
            except CannotMove as e:
                said.append(str(e))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert said and "did not return" in said[0]


def test_an_interrupt_outside_of_such_code_waits_for_the_end_and_for_its_handler(quick: Bounds) -> None:
    heard: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with quick.in_force():
            signal.raise_signal(signal.SIGINT)
            assert encode([1, 2]).nbytes and not heard
        assert signal.getsignal(signal.SIGINT) is handler and heard == [signal.SIGINT]
        with quick.in_force():
            assert encode([1, 2]).nbytes
        assert len(heard) == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_after_a_cell_is_nobodys(quick: Bounds) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with quick.in_force():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_stopped_for_its_time_is_no_interrupt(quick: Bounds) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with quick.in_force(), pytest.raises(CannotMove, match="did not return"):
            encode(Hangs())
        assert not heard
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_stops_what_hangs_long_before_its_deadline() -> None:
    patient = Bounds(call_s=600)

    def interrupt() -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    try:
        thread = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt), patient.in_force():
            thread.start()
            with pytest.raises(CannotMove, match="its __reduce__ was interrupted"):
                encode(Hangs())
        thread.join()
        assert Hangs not in patient.stopped  # the next commit may try again
    finally:
        patient.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_the_process_is_an_error_of_the_value(quick: Bounds, error: type[BaseException]) -> None:
    class Leaves:
        def __reduce__(self) -> Any:
            raise error

    with quick.in_force(), pytest.raises(CannotMove, match=f"its own code raised {error.__name__}"):
        encode(Leaves())


def test_outside_a_commit_an_interrupt_is_the_users() -> None:
    class Interrupted:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Interrupted())


def test_a_value_over_the_limit_is_refused_in_its_stream_and_in_its_buffers(quick: Bounds) -> None:
    class Endless:
        def __reduce__(self) -> Any:
            return list, (), None, iter(int, 1)

    with quick.in_force():
        for value in (
            ["x" * 100] * 10 + list(range(100_000)),
            bytearray(200_000),
            [b"x" * 60_000 + bytes([i]) for i in (1, 2)],
        ):
            with pytest.raises(CannotMove, match=r"larger than max_value_bytes \(100,000\)"):
                encode(value)
        with pytest.raises(CannotMove, match="larger than"):
            encode(Endless())
        assert encode(bytearray(90_000)).nbytes > 90_000
    assert bounds.current() is None
