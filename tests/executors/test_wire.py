"""Datagrams between processes: boundaries, order, descriptors, and the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from lambdakernel.executors import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    a, b = wire.pair()
    with a, b:
        yield a, b


def test_messages_keep_their_boundaries_and_their_order(ends: Pair) -> None:
    a, b = ends
    for n in range(50):
        wire.send(a, {"n": n})
    received = [wire.receive(b) for _ in range(50)]
    assert [r[0]["n"] for r in received if r] == list(range(50))
    assert wire.receive(b) is None


def test_what_was_said_before_the_end_is_still_heard(ends: Pair) -> None:
    a, b = ends
    wire.send(a, {"said": "started"})
    a.close()
    received = wire.receive(b)
    assert received is not None
    assert received[0] == {"said": "started"}
    with pytest.raises(wire.PeerGone):
        wire.receive(b)


def test_it_is_heard_also_from_one_that_left_something_unread(ends: Pair) -> None:
    """The system then reports a reset connection first; a task that ended with news unread was taken for lost."""
    a, b = ends
    wire.send(b, {"news": 1})
    wire.send(a, {"said": "returned"})
    a.close()
    received = wire.receive(b)
    assert received is not None and received[0] == {"said": "returned"}
    with pytest.raises(wire.PeerGone):
        wire.receive(b)


def test_nobody_to_read_is_peer_gone_and_no_signal(ends: Pair) -> None:
    a, b = ends
    b.close()
    with pytest.raises(wire.PeerGone):
        wire.send(a, {})


def test_descriptors_arrive_open_and_are_not_inherited(ends: Pair) -> None:
    a, b = ends
    read_end, write_end = os.pipe()
    wire.send(a, {}, (write_end, read_end))
    os.close(write_end)
    os.close(read_end)
    received = wire.receive(b)
    assert received is not None
    handed = received[1]
    assert len(handed) == 2
    os.write(handed[0], b"x")
    assert os.read(handed[1], 1) == b"x"
    assert not any(os.get_inheritable(fd) for fd in handed)
    wire.close_fds(handed)
    wire.close_fds(handed)  # already closed: no error


def test_the_largest_message_fits_and_a_larger_one_is_refused_at_the_sender(ends: Pair) -> None:
    # One above the receiver's limit, but below the system's, used to arrive cut off and broke the receiver.
    a, b = ends
    fits = {"x": "y" * (wire.LIMIT - 8)}
    wire.send(a, fits)
    received = wire.receive(b)
    assert received is not None
    assert received[0] == fits
    with pytest.raises(ValueError, match="180000"):
        wire.send(a, {"x": "y" * (wire.LIMIT - 7)})
    assert wire.receive(b) is None
