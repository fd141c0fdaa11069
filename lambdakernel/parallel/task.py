"""A worker that runs a task of a fan-out, and further ones while it is as it was born (`further`).

Called in a process that was just forked for it, by the zygote or by a fork server of its own fan-out. It attaches to
the session as a reader, so that it sees the notebook's variables and can publish none, and loads what the body reaches,
unless it was born with that; binds the item; runs the body; and sends back what is collected, or how it failed, in one
datagram with one parcel. In the end it leaves without exit handlers, which are the zygote's.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import importlib
import io
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import kvs
from lambdakernel import live as lives
from lambdakernel.errors import LambdaKernelError
from lambdakernel.executors import wire
from lambdakernel.parallel import traces
from lambdakernel.parallel.body import assigned, bind, collected, run_body
from lambdakernel.parallel.displays import Displays
from lambdakernel.parallel.further import Stay, Turn, next_turn, said_of_free
from lambdakernel.parallel.guard import guarded
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.line import Line
from lambdakernel.parallel.memory import limited, size
from lambdakernel.parallel.parcels import pack, unpack
from lambdakernel.parallel.stays import NEVER, Stays, stays
from lambdakernel.parallel.values import TaskSession, rehearse

GiveUp = Callable[[str], NoReturn]
_libc = ctypes.CDLL(None)


class StaleTask(LambdaKernelError):
    """The session was restarted between the cell and its task."""


class LostUpdate(LambdaKernelError):
    """The task changed a value of the notebook in place; that change would be lost with the task."""

    def __init__(self, names: Sequence[str], remedy: str) -> None:
        listed = " and ".join(repr(name) for name in names)
        super().__init__(
            f"the body changed {listed} in place. A task works on its own copy, so the notebook would never see the"
            f" change. {remedy} to collect each task's value, or make the change in the next cell, from the results."
        )
        self.names = tuple(names)


class Loaded(NamedTuple):
    """The session as the tasks of a job see it, with what their body reaches."""

    job: Job
    tree: ast.Module
    live: dict[str, Any]
    session: TaskSession
    stays: Stays = NEVER


def get_ready(params: Mapping[str, str]) -> None:
    """Before there is a job: what loading one does a first time in a process. `params`: the store and the session."""
    with suppress(kvs.KvsError, OSError):  # loading meets it again, and says so
        rehearse(params["store"], params["session"])


def load(job: int) -> Loaded:
    """For the tasks of the job in that descriptor, before this process is forked for them.

    Raises:
        NotToBeForked: a thread came with what was loaded.
        BaseException: what each of them would raise.
    """
    told = Job.from_bytes(unpack(job).head)
    if "numpy" in told.seeds:  # its threads end at a fork by themselves
        importlib.import_module("numpy.random")
    threads = _threads()
    loaded = _loaded(told, {})
    if _threads() > threads:
        raise NotToBeForked
    loaded.session.settle()
    if told.most_items > 1 and told.memory_nbytes is None and not loaded.session.has_ambient_code:
        return loaded._replace(stays=stays(loaded.tree, told.target, told.bound, loaded.live))
    return loaded


class NotToBeForked(LambdaKernelError):
    """A fork would have the locks of threads, Python's or a library's, and not the threads."""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def run(params: dict[str, Any], fds: tuple[int, ...], loaded: Loaded | None = None) -> NoReturn:
    """Be the task `params["index"]`, and further ones, and leave the process. `fds`: line to the parent, job, item,
    stdout, stderr."""
    line, job, item, out, err = fds
    _become_task(out, err)
    end = wire.adopt(line)
    try:
        told = loaded.job if loaded else Job.from_bytes(unpack(job).head)
        cells = {told.filename: told.label}
        stay = Stay(loaded.stays, loaded.live, told.most_items) if loaded else Stay(NEVER, {}, 1)
        turn = Turn.of(params, item)
        while _take(told, loaded, cells, stay, turn, end):
            turn = next_turn(end)
        code = 0
    except wire.PeerGone:  # the cell was interrupted, or has no further item; nobody wants a result
        code = 0
    except BaseException as e:
        # ours, or no memory even to report: stderr is the task's, so the user sees it
        os.write(2, f"the task cannot report: {type(e).__name__}: {e}\n".encode())
        code = 70
    os._exit(code)


def _take(job: Job, loaded: Loaded | None, cells: dict[str, str], stay: Stay, turn: Turn, end: socket.socket) -> bool:
    """Run one item and say how it went; whether this process is free for another."""
    line = Line(end, f"{job.fan}/{turn.index}", turn.attempt)
    give_up = partial(_give_up, line) if turn.is_guarded else None
    lives.attach(line)
    said, parcel = _attempt(job, loaded, cells, stay, turn, line, give_up)
    _flush()
    line.flush()
    is_free = said == "returned" and stay.is_free(turn, parcel)
    cpu_s = time.process_time() + sum(os.times()[2:4])
    line.say(said, (parcel,), cpu_s=cpu_s, **said_of_free(is_free))
    wire.close_fds((parcel, turn.item))
    return is_free


# -- the process


def _become_task(out: int, err: int) -> None:
    """Give this process the descriptors and the manners of a task."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((nowhere, 0), (out, 1), (err, 2)):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)


def _stream(fd: int) -> io.TextIOWrapper:
    """A text stream that loses no whole line, however the process ends."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _flush() -> None:
    """Let out what Python and C hold back."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the body closed or replaced it
            continue
    _libc.fflush(None)


def _give_up(line: Line, what: str) -> NoReturn:
    """Leave before doing what a second attempt must not do."""
    line.say("gives up", what=what[:200])
    os._exit(75)


# -- the work


def _attempt(
    job: Job,
    loaded: Loaded | None,
    cells: dict[str, str],
    stay: Stay,
    turn: Turn,
    line: Line,
    give_up: GiveUp | None,
) -> tuple[str, int]:
    """What to say, and the parcel to send with it. `cells` learns which files are cells."""
    try:
        if stay.is_first:
            traces.add_source(job.filename, job.cell)
        if loaded is not None and stay.is_first:
            loaded.session.after_fork()
            _add_sources(loaded.session, cells)
        loaded = loaded or _loaded(job, cells)
        stay.begins(turn)
        return "returned", _work(loaded, stay, turn, line, give_up)
    except BaseException as e:  # SystemExit and KeyboardInterrupt of the body are its errors too
        return "raised", pack(json.dumps(_report(e, cells, job)).encode())


def _loaded(job: Job, cells: dict[str, str]) -> Loaded:
    """Attached and loaded in this process; `cells` learns which files are cells."""
    tree = ast.parse(job.body, job.filename)
    live = _main_module().__dict__
    sys.path[:] = job.import_path
    session = TaskSession(job.store, job.session, live, job.moment)
    if session.epoch != job.epoch:
        raise StaleTask("the notebook was restarted while this task began. Run the cell again.")
    _add_sources(session, cells)
    session.prepare(tree)
    return Loaded(job, tree, live, session)


def _add_sources(session: TaskSession, cells: dict[str, str]) -> None:
    for filename, number, source in session.cells:
        cells.setdefault(filename, f"Cell In[{number}]")
        traces.add_source(filename, source)


def _work(loaded: Loaded, stay: Stay, turn: Turn, line: Line, give_up: GiveUp | None) -> int:
    job, tree, live, session, _ = loaded
    _seed(job.seeds, turn.index, is_further=not stay.is_first)
    thing = session.decode(unpack(turn.item)) if job.target else None
    before = session.prepare_item(thing)
    if job.target:
        bind(live, job.target, thing)
    displays = Displays(line.ask, live)
    displays.install()
    if stay.is_first:
        line.say("begins")
    with limited(job.memory_nbytes), guarded(give_up):
        last = run_body(tree, job.filename, live)
        if job.shows_value:
            displays.value(last)
        displays.close()
    if job.memory_nbytes is not None:
        line.say("ends")  # what carries the result does not count
    line.flush()
    with lives.as_begun():
        _refuse_lost_updates(session, job)
        collects_item = not set(job.bound).isdisjoint(job.finals)
        if job.target and not collects_item and session.item_changed(before, thing, unpack(turn.item)):
            raise LostUpdate(job.bound, f"Name {job.bound[0]} after `->`")
    if job.is_whole:
        return session.encode((assigned(job.finals, live),))
    return session.encode(collected(job.collects(), live, last))


def _refuse_lost_updates(session: TaskSession, job: Job) -> None:
    names = session.mutated({*job.finals, *job.bound})
    if names:
        first = names[0]
        copied = f"Assign {first} in the body (`{first} = copy.copy({first})`)"
        raise LostUpdate(names, copied if job.is_whole else f"{copied} and name it after `->`")


def _main_module() -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module


def _seed(seeds: dict[str, int], index: int, *, is_further: bool) -> None:
    """Random numbers that differ between tasks, and are the same again if the notebook's generators were seeded."""
    random.seed(f"{seeds['random']}/{index}")
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in seeds:
        numpy.random.seed([seeds["numpy"], index])
    elif is_further and "numpy.random" in sys.modules:  # as each fork does
        sys.modules["numpy.random"].seed()


def _report(error: BaseException, cells: dict[str, str], job: Job) -> dict[str, str]:
    try:
        evalue = str(error)
    except Exception as e:
        evalue = f"<its message cannot be had: {type(e).__name__}>"
    if isinstance(error, MemoryError) and job.memory_nbytes is not None:
        evalue = f"{evalue} (the task may take {size(job.memory_nbytes)}: --memory)".lstrip()
    return {
        "ename": type(error).__name__,
        "evalue": evalue,
        "traceback": traces.render(error, cells, job.filename),
    }
