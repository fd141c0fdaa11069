"""Output and replies of a worker: whole, in order, from any thread, and with no thread between."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import zmq
from jupyter_client.session import Session

from lambdakernel.executors.frames import OUTPUT, REPLY, unpack
from lambdakernel.worker.output import Output, Replies, Stream
from tests.kernels import eventually


@pytest.fixture()
def heard() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.rcvtimeo = 5000
        socket.bind("inproc://out")
        yield socket


@pytest.fixture()
def output(heard: zmq.Socket[bytes]) -> Iterator[Output]:
    socket = heard.context.socket(zmq.PUSH)
    socket.connect("inproc://out")
    output = Output(socket, Session(key=b"k"))
    output.start()
    eventually(lambda: output._event_pipe_gc_task, 5, "the thread's loop")  # a test may end before the thread has begun
    yield output
    assert output._event_pipe_gc_task is not None
    output.io_loop.add_callback(output._event_pipe_gc_task.cancel)  # or it would be left pending, and asyncio say so
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), output.io_loop.asyncio_loop).result(5)  # type: ignore[attr-defined]
    output.stop()
    output.close()
    output.close()


def stream(output: Output) -> Stream:
    return Stream(Session(key=b"k"), output, "stdout", watchfd=False)


def test_a_reply_never_overtakes_the_output_before_it(heard: zmq.Socket[bytes], output: Output) -> None:
    replies = Replies(output.outlet)
    for n in range(1000):
        output.background_socket.send_multipart([b"out", b"%d" % n])
        replies.send_multipart([b"reply", b"%d" % n], copy=False)
    for n in range(1000):
        assert unpack(heard.recv()) == (OUTPUT, [b"out", b"%d" % n])
        assert unpack(heard.recv()) == (REPLY, [b"reply", b"%d" % n])


def test_messages_of_many_threads_stay_whole(heard: zmq.Socket[bytes], output: Output) -> None:
    def talk(name: bytes) -> None:
        for n in range(500):
            output.send_multipart([name, b"%d" % n, name * n])

    threads = [threading.Thread(target=talk, args=(b"%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen: dict[bytes, int] = {}
    for _ in range(2000):
        _, (name, number, text) = unpack(heard.recv())
        assert int(number) == seen.get(name, -1) + 1 and text == name * int(number)
        seen[name] = int(number)
    for thread in threads:
        thread.join()


def test_a_flush_sends_what_was_written_before_it_returns(heard: zmq.Socket[bytes], output: Output) -> None:
    out = stream(output)
    with closing(out):
        for n in range(200):
            out.write(f"line {n}\n")
            out.flush()
            output.send_multipart([b"mark", b"%d" % n])
        texts = [unpack(heard.recv())[1] for _ in range(400)]
        assert all(f"line {n}\\n".encode() in texts[2 * n][-1] for n in range(200))
        assert all(texts[2 * n + 1] == [b"mark", b"%d" % n] for n in range(200))


def test_a_flush_of_nothing_asks_no_thread(heard: zmq.Socket[bytes], output: Output) -> None:
    out = stream(output)
    output.schedule = None  # type: ignore[method-assign, assignment]
    with closing(out):
        out.flush()


def test_who_flushes_sends_it_where_no_interrupt_can_tear_that(heard: zmq.Socket[bytes], output: Output) -> None:
    out = stream(output)
    asked: list[object] = []
    with closing(out):
        out._flush_pending = True  # no timer of a write sends anything
        out.write("ignored")
        schedule, output.schedule = output.schedule, asked.append  # type: ignore[method-assign, assignment]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            out.flush()
        finally:
            signal.signal(signal.SIGINT, before)
        assert b"ignored" in unpack(heard.recv())[1][-1] and not asked
        out._buffers[frozenset()].write("not main")  # type: ignore[index]
        thread = threading.Thread(target=out.flush)
        thread.start()
        thread.join(5)
        assert b"not main" in unpack(heard.recv())[1][-1] and not asked
        output.schedule = lambda event: (asked.append(event), schedule(event))  # type: ignore[method-assign, assignment]
        out._flush_pending = True
        out.write("may be interrupted")
        out.flush()
        assert b"may be interrupted" in unpack(heard.recv())[1][-1] and asked


def test_a_flush_waits_for_text_that_the_thread_is_sending(heard: zmq.Socket[bytes], output: Output) -> None:
    out = stream(output)
    entered, go = threading.Event(), threading.Event()

    def hold(message: dict[str, object]) -> dict[str, object]:
        entered.set()
        go.wait(5)
        return message

    with closing(out):
        output.schedule(lambda: out.register_hook(hold))
        out.write("slow")
        output.schedule(out._flush)
        assert entered.wait(5)
        flushed = threading.Thread(target=out.flush)
        flushed.start()
        flushed.join(0.1)
        assert flushed.is_alive(), "the flush returned before its text was sent"
        go.set()
        flushed.join(5)
        assert not flushed.is_alive()
        assert b"slow" in unpack(heard.recv())[1][-1]


def test_an_echo_is_flushed_too(heard: zmq.Socket[bytes], output: Output) -> None:
    class Echo(io.StringIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    echo = Echo()
    out = Stream(Session(key=b"k"), output, "stdout", watchfd=False, echo=echo)
    with closing(out):
        out.flush()
        assert echo.flushes


def test_a_forked_process_prints_through_its_parent(heard: zmq.Socket[bytes], output: Output) -> None:
    out = stream(output)
    with closing(out):
        pid = os.fork()
        if pid == 0:
            out.write("from the child")
            out.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        assert b"from the child" in unpack(heard.recv())[1][-1]


@pytest.mark.timeout(20)
def test_who_prints_while_the_pipe_is_read_does_not_wait_for_itself(
    heard: zmq.Socket[bytes], output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler does, in the middle of a flush that no interrupt can tear."""
    made, (read, write) = stream(output), os.pipe()
    monkeypatch.setattr(made, "_fid", read)
    monkeypatch.setattr(made, "_should_watch", True)
    written: list[str] = []

    def print_meanwhile(text: str) -> None:
        written.append(text)
        made.flush()

    monkeypatch.setattr(made, "write", print_meanwhile)
    os.write(write, b"from a process")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made.flush()
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(read)
        os.close(write)
    assert written == ["from a process"]
