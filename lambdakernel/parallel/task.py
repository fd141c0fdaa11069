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
from lambdakernel.executors.birth import name_process
from lambdakernel.parallel import traces
from lambdakernel.parallel.body import assigned, bind, collected, run_body
from lambdakernel.parallel.displays import Displays
from lambdakernel.parallel.function import Function, as_function
from lambdakernel.parallel.further import Stay, Turn, next_turn, said_of_free
from lambdakernel.parallel.guard import guarded
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.line import Line
from lambdakernel.parallel.memory import limited, size
from lambdakernel.parallel.parcels import pack, unpack
from lambdakernel.parallel.values import TaskSession, rehearse

_AT_WORK, _IDLE = b"lk-task", b"lk-idle"
"""What the system calls the process; it is born with the first."""
_NO_JOB = Job("", "", 0, "", "", "", "", "", (), (), (), {}, ())
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
    function: Function | None = None
    """The body, where it may run as one."""


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
    return loaded


class NotToBeForked(LambdaKernelError):
    """A fork would have the locks of threads, Python's or a library's, and not the threads."""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def run(params: dict[str, Any], fds: tuple[int, ...], loaded: Loaded | None = None) -> NoReturn:
    """Be the task `params["index"]`, and further ones, and leave the process. `fds`: line to the parent, job, item,
    stdout, stderr. Without job and item, it waits for those; then `params` are the store and the session."""
    line, *given, out, err = fds
    _become_task(out, err)
    end = wire.adopt(line)
    try:
        if given:
            job, item = given
            turn, is_fork = Turn.of(params, item), loaded is not None
            told = loaded.job if loaded and loaded.job.fan == params["fan"] else _job(job)
        else:
            name_process(_IDLE)
            loaded, is_fork = _attached(params["store"], params["session"]), False
            turn = _next_turn(end)
            told = _job(turn.job)
        work = Work(told, loaded, is_fork=is_fork)
        while work.take(turn, end):
            name_process(_IDLE)
            turn = _next_turn(end)
            if turn.job is not None:
                work.goes_on(_job(turn.job))
        code = 0
    except wire.PeerGone:  # the cell was interrupted, or has no further item; nobody wants a result
        code = 0
    except BaseException as e:
        # ours, or no memory even to report: stderr is the task's, so the user sees it
        os.write(2, f"the task cannot report: {type(e).__name__}: {e}\n".encode())
        code = 70
    os._exit(code)


def _next_turn(end: socket.socket) -> Turn:
    """Wait for it.

    Raises:
        wire.PeerGone: there is none.
    """
    turn = next_turn(end)
    name_process(_AT_WORK)
    return turn


def _job(parcel: int | None) -> Job:
    if parcel is None:
        raise ValueError("a first task came without its job")
    return Job.from_bytes(unpack(parcel).head)


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


class Work:
    """What a process works at, and how long it stays. `loaded`: what it has, for this job, another, or none yet;
    `is_fork`: it was loaded before this process was forked."""

    def __init__(self, job: Job, loaded: Loaded | None, *, is_fork: bool) -> None:
        self.job = job
        self._loaded = loaded
        self._is_of_fork = is_fork
        self._has_gone_on = False
        self._stay = Stay(job.most_items)
        self._cells = {job.filename: job.label}
        """Which files are cells."""

    def goes_on(self, job: Job) -> None:
        """Work at another, which comes with the next turn."""
        self.job = job
        self._stay.goes_on(job.most_items)
        self._cells = {job.filename: job.label}

    def take(self, turn: Turn, end: socket.socket) -> bool:
        """Run one item and say how it went; whether this process is free for another."""
        line = Line(end, f"{self.job.fan}/{turn.index}", turn.attempt)
        lives.attach(line)
        said, parcel = self._attempt(turn, line)
        _flush()
        line.flush()
        is_free = said == "returned" and self._stay.is_free(turn, parcel, _live(self._loaded), self.job.met)
        cpu_s = time.process_time() + sum(os.times()[2:4])
        line.say(said, (parcel,), cpu_s=cpu_s, **said_of_free(is_free))
        wire.close_fds((parcel, *turn.descriptors))
        return is_free

    def _attempt(self, turn: Turn, line: Line) -> tuple[str, int]:
        """What to say, and the parcel to send with it."""
        try:
            loaded = self._ready()
            self._stay.begins(turn, loaded.live)
            give_up = partial(_give_up, line) if turn.is_guarded else None
            return "returned", _run_item(loaded, self._stay.is_first, turn, line, give_up)
        except BaseException as e:  # SystemExit and KeyboardInterrupt of the body are its errors too
            return "raised", pack(json.dumps(self._report(e)).encode())

    def _ready(self) -> Loaded:
        """Loaded for the job."""
        if not self._stay.is_first and self._loaded is not None:
            return self._loaded
        traces.add_source(self.job.filename, self.job.cell)
        if self._loaded is None:
            self._loaded = _loaded(self.job, self._cells)
            return self._loaded
        if self._is_of_fork:
            self._is_of_fork = False
            self._loaded.session.after_fork()
        if self._loaded.job is self.job:
            _add_sources(self._loaded.session, self._cells)
        else:
            self._has_gone_on = True
            self._loaded = _loaded_anew(self.job, self._loaded)
        return self._loaded

    def _report(self, error: BaseException) -> dict[str, str]:
        if self._loaded is not None and self._has_gone_on:  # only an error asks for the text of cells
            with suppress(kvs.KvsError):
                self._loaded.session.read_cells()
            _add_sources(self._loaded.session, self._cells)
        return _report(error, self._cells, self.job)


def _live(loaded: Loaded | None) -> dict[str, Any]:
    return {} if loaded is None else loaded.live


def _loaded(job: Job, cells: dict[str, str]) -> Loaded:
    """Attached and loaded in this process; `cells` learns which files are cells."""
    tree = ast.parse(job.body, job.filename)
    live = _main_module().__dict__
    sys.path[:] = job.import_path
    session = TaskSession(job.store, job.session, live, job.moment)
    _refuse_stale(session, job)
    _add_sources(session, cells)
    session.prepare(tree)
    _load_generator(job)
    return Loaded(job, tree, live, session, _function(job, tree, live))


def _attached(store: str, session: str) -> Loaded | None:
    """To the session as it is now, before there is a job; None if that cannot be: whoever loads a job meets it again,
    and says so."""
    live = _main_module().__dict__
    try:
        return Loaded(_NO_JOB, ast.Module([], []), live, TaskSession(store, session, live))
    except (kvs.KvsError, LambdaKernelError, OSError):
        return None


def _loaded_anew(job: Job, before: Loaded) -> Loaded:
    """The same for a later job, in a process that has loaded for one `before` and is clean."""
    tree = ast.parse(job.body, job.filename)
    sys.path[:] = job.import_path
    before.session.start_over()
    _refuse_stale(before.session, job)
    before.session.prepare(tree)
    _load_generator(job)
    return Loaded(job, tree, before.live, before.session, _function(job, tree, before.live))


def _function(job: Job, tree: ast.Module, live: Mapping[str, Any]) -> Function | None:
    if job.most_items == 1:  # nobody knows that the body cannot tell
        return None
    return as_function(tree, job.filename, live.keys() | set(job.bound), job.shared)


def _load_generator(job: Job) -> None:
    """It is seeded for each item where numpy is there, which loads it late."""
    if "numpy" in job.seeds and "numpy" in sys.modules:
        importlib.import_module("numpy.random")


def _refuse_stale(session: TaskSession, job: Job) -> None:
    if session.epoch != job.epoch:
        raise StaleTask("the notebook was restarted while this task began. Run the cell again.")


def _add_sources(session: TaskSession, cells: dict[str, str]) -> None:
    for filename, number, source in session.cells:
        cells.setdefault(filename, f"Cell In[{number}]")
        traces.add_source(filename, source)


def _run_item(loaded: Loaded, is_first: bool, turn: Turn, line: Line, give_up: GiveUp | None) -> int:
    """The parcel with what is collected."""
    job, tree, live, session, function = loaded
    _seed(job.seeds, turn.index, is_further=not is_first)
    thing = session.decode(unpack(turn.item)) if job.target else None
    before = session.prepare_item(thing)
    if job.target:
        bind(live, job.target, thing)
    displays = Displays(line.ask, live)
    displays.install()
    if is_first:
        line.say("begins")
    with limited(job.memory_nbytes), guarded(give_up):
        last = function.run(live) if function is not None else run_body(tree, job.filename, live)
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
