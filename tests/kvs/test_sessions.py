"""What sessions are promised: over recorded histories of real processes that are killed, and the checker itself."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs.lattices import GrowSet
from kvs.testing import Read, Violated, Wrote, check_sessions
from kvs.testing.sessions import Event
from tests.kvs.support import DEADLINE_S, child, kill

# -- the checker: what must be caught, and the two events that show it


def wrote(name: str, *keys: str, at_s: float = 1.0, merges: bool = False, **replaced: Iterable[str]) -> Wrote:
    old = {key: frozenset(names) for key, names in replaced.items()}
    return Wrote(name, frozenset(keys), at_s, at_s, merges, old)


def read(key: str, *found: str, view: str = "", fresh: bool = False, at_s: float = 9.0) -> Read:
    return Read(key, frozenset(found), at_s, view, fresh)


BROKEN: dict[str, tuple[str, dict[str, list[Event]], tuple[str, int], tuple[str, int]]] = {
    "own write is not seen": (
        "read your writes", {"a": [wrote("1", "x"), read("x")]}, ("a", 0), ("a", 1),
    ),
    "own write is hidden by an older one of another": (
        "read your writes", {"a": [read("x", "0"), wrote("1", "x", x="0"), read("x", "0")], "b": [wrote("0", "x")]},
        ("a", 1), ("a", 2),
    ),
    "a read goes back": (
        "monotonic reads",
        {"a": [wrote("1", "x"), wrote("2", "x", x="1")], "b": [read("x", "2"), read("x", "1")]}, ("b", 0), ("b", 1),
    ),
    "a read goes back to nothing": (
        "monotonic reads", {"a": [wrote("1", "x")], "b": [read("x", "1"), read("x")]}, ("b", 0), ("b", 1),
    ),
    "a later write is seen without the earlier": (
        "monotonic writes", {"a": [wrote("1", "x"), wrote("2", "y")], "b": [read("y", "2"), read("x")]},
        ("a", 0), ("b", 1),
    ),
    "a reply is seen without what it replies to": (
        "writes follow reads",
        {"a": [wrote("1", "x")], "b": [read("x", "1"), wrote("2", "y")], "c": [read("y", "2"), read("x")]},
        ("a", 0), ("c", 1),
    ),
    "a longer chain": (
        "causal order",
        {
            "a": [wrote("1", "x")], "b": [read("x", "1"), wrote("2", "y")], "c": [read("y", "2"), wrote("3", "z")],
            "d": [read("z", "3"), read("x")],
        },
        ("a", 0), ("d", 1),
    ),
    "a sibling that was replaced comes back": (
        "causal order", {"a": [wrote("1", "x"), wrote("2", "x", x="1")], "b": [read("x", "1", "2")]},
        ("a", 1), ("b", 0),
    ),
    "a snapshot moves": (
        "repeatable read",
        {"a": [wrote("1", "x"), wrote("2", "x", x="1")], "b": [read("x", "1", view="s"), read("x", "2", view="s")]},
        ("b", 0), ("b", 1),
    ),
    "half of a commit": (
        "atomic visibility",
        {"a": [wrote("1", "x", "y")], "b": [read("y", view="s"), read("x", "1", view="s")]}, ("b", 1), ("b", 0),
    ),
    "half of a commit beside older values": (
        "atomic visibility",
        {
            "a": [wrote("1", "x", "y"), wrote("2", "x", "y", x="1", y="1")],
            "b": [read("y", "1", view="s"), read("x", "2", view="s")],
        },
        ("b", 1), ("b", 0),
    ),
    "a merge is overwritten": (
        "no lost update",
        {"a": [wrote("1", "n", merges=True)], "b": [read("n", "1"), wrote("2", "n", merges=True), read("n", "2")]},
        ("a", 0), ("b", 2),
    ),
    "an acknowledged merge never appears": (
        "no lost update",
        {"a": [wrote("1", "n", merges=True)], "b": [wrote("2", "n", merges=True), read("n", "2", fresh=True)]},
        ("a", 0), ("b", 1),
    ),
    "an acknowledged put never appears": (
        "no lost update", {"a": [wrote("1", "x")], "b": [read("x", fresh=True)]}, ("a", 0), ("b", 0),
    ),
    "out of thin air": ("no thin air", {"b": [read("x", "7")]}, ("b", 0), ("b", 0)),
    "of another key": ("no thin air", {"a": [wrote("1", "y")], "b": [read("x", "1")]}, ("b", 0), ("b", 0)),
    "before it was written": (
        "no thin air", {"a": [read("x", "1"), wrote("1", "x")]}, ("a", 1), ("a", 0),
    ),
    "each before the other": (
        "no thin air", {"a": [read("y", "2"), wrote("1", "x")], "b": [read("x", "1"), wrote("2", "y")]},
        ("b", 1), ("a", 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_each_violation_is_caught_and_its_two_events_are_named(case: str) -> None:
    guarantee, history, first, second = BROKEN[case]
    with pytest.raises(Violated) as caught:
        check_sessions(history)
    error = caught.value
    assert error.guarantee == guarantee
    assert (error.first.session, error.first.at) == first and (error.second.session, error.second.at) == second
    assert str(error.first) in str(error) and str(error.second) in str(error)


def test_what_is_allowed_is_not_caught() -> None:
    history: dict[str, list[Event]] = {
        "a": [wrote("1", "x", "y"), read("x", "1", view="a"), wrote("3", "x", x="1"), wrote("m1", "n", merges=True)],
        "b": [
            read("x"),  # not there yet
            wrote("2", "x", at_s=2.0),  # concurrent with the others
            read("x", "1", "2"), read("x", "2", "3", view="one"), read("y", "1", view="one"),
            wrote("4", "x", x=("2", "3")), read("x", "4", view="two"), read("x", "4", view="two"),
            wrote("m2", "n", merges=True), read("n", "m2"), read("n", "m1", "m2", fresh=True),
        ],
        "c": [read("x", "2"), read("x", "4"), read("y", "1"), read("n", "m1")],
        "d": [Wrote("5", frozenset("x"), 1.0, inf)],  # its process was killed: maybe it was made
    }  # fmt: skip
    assert check_sessions(history) == 13
    history["c"].append(read("x", "4", "5"))
    assert check_sessions(history) == 14


def test_two_writes_of_one_id_are_no_history() -> None:
    with pytest.raises(ValueError, match="two writes"):
        check_sessions({"a": [wrote("1", "x")], "b": [wrote("1", "y")]})


# -- the store: four processes, killed again and again

KEYS = ["x", "y", "z"]
LIVES, PROCESSES, LEAST = 6, 4, 300


class Recorder:
    """Appends what a session did to a file of its own, line by line: what was said survives a kill."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, *what: object) -> None:
        os.write(self._fd, json.dumps(what).encode() + b"\n")


def found(versions: tuple[kvs.Version, ...]) -> list[str]:
    return [version.value.payload.decode() for version in versions]


def live(connection: Connection, path: Path, record: Path, seed: int) -> None:
    """One session: a mix of publishes, merges, reads and snapshots, until somebody kills it."""
    rng, say = random.Random(seed), Recorder(record).say
    with kvs.open(path).space("s").replica() as replica:
        for n in range(100_000):
            name, view = f"{record.name}:{n}", f"{n}"
            if n == 3:
                connection.send("ready")
            invoked_s, fresh = time.monotonic(), rng.random() < 0.7
            if fresh:
                replica.refresh()
            match rng.choice(["publish", "publish", "merge", "read", "snapshot", "count"]):
                case "publish":
                    keys = rng.sample(KEYS, rng.randint(1, 3))
                    replaced = {key: found(replica.get(key.encode())) for key in keys}
                    say("write", name, keys, invoked_s, False, replaced)
                    replica.publish({key.encode(): kvs.Value(name.encode()) for key in keys})
                    say("done", name, time.monotonic())
                case "merge":
                    say("write", name, ["n"], invoked_s, True, {})
                    replica.merge(b"n", GrowSet([name]))
                    say("done", name, time.monotonic())
                case "read":
                    for key in rng.choices(KEYS, k=4):
                        say("read", key, found(replica.get(key.encode())), invoked_s, view, fresh)
                case "snapshot":
                    with replica.snapshot() as snapshot:
                        for key in rng.choices(KEYS, k=4):
                            replica.refresh()  # which it must not notice
                            say("read", key, found(snapshot.get(key.encode())), invoked_s, view, fresh)
                case "count":
                    names = sorted(replica.value(b"n", GrowSet))
                    say("read", "n", names, invoked_s, view, fresh)


def events(record: Path) -> list[Event]:
    """What a session recorded; a write that was not acknowledged has no end."""
    lines = [json.loads(line) for line in record.read_bytes().split(b"\n")[:-1]]
    done = {line[1]: line[2] for line in lines if line[0] == "done"}
    said: list[Event] = []
    for kind, *line in lines:
        if kind == "write":
            name, keys, invoked_s, merges, replaced = line
            old = {key: frozenset(names) for key, names in replaced.items()}
            said.append(Wrote(name, frozenset(keys), invoked_s, done.get(name, inf), merges, old))
        elif kind == "read":
            key, names, invoked_s, view, fresh = line
            said.append(Read(key, frozenset(names), invoked_s, view, fresh))
    return said


@pytest.mark.timeout(180)
def test_sessions_of_killed_processes_see_what_they_are_promised(tmp_path: Path) -> None:
    path, rng = tmp_path / "store", random.Random(11)
    kvs.open(path).space("s").replica().close()
    records: list[Path] = []
    for life in range(LIVES):
        with ExitStack() as stack:
            processes = []
            for n in range(PROCESSES):
                records.append(tmp_path / f"{life}.{n}")
                processes.append(stack.enter_context(child(live, path, records[-1], life * PROCESSES + n)))
            for _, connection in processes:
                assert connection.poll(DEADLINE_S)
            time.sleep(rng.uniform(0.1, 0.4))  # the instant of the kills
            for process, _ in processes:
                kill(process)
                assert process.exitcode == -signal.SIGKILL  # none failed by itself
    end = tmp_path / "end"
    say = Recorder(end).say
    with kvs.open(path).space("s").reader() as reader:
        for key in KEYS:
            say("read", key, found(reader.get(key.encode())), time.monotonic(), "end", True)
        say("read", "n", sorted(reader.value(b"n", GrowSet)), time.monotonic(), "end", True)
    history = {record.name: events(record) for record in [*records, end]}
    writes = [e for said in history.values() for e in said if isinstance(e, Wrote)]
    assert check_sessions(history) > LEAST and len(writes) > LEAST
    assert len({e.key for said in history.values() for e in said if isinstance(e, Read) and len(e.found) > 1}) > 1


def test_a_store_that_forgets_a_write_would_be_caught(tmp_path: Path) -> None:
    """The same recording, of a view that is older than what its session wrote."""
    space = kvs.open(tmp_path / "store").space("s")
    with space.replica() as replica, space.reader() as stale:
        replica.put(b"x", b"1")
        said: list[Event] = [wrote("1", "x"), read("x", *found(stale.get(b"x")))]
    with pytest.raises(Violated, match="read your writes"):
        check_sessions({"a": said})
