"""What a task's process works at: items of one job, or of one after the other, and what it says of each."""

from __future__ import annotations

import ctypes
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import kvs
from lambdakernel import live as lives
from lambdakernel.errors import LambdaKernelError
from lambdakernel.executors import wire
from lambdakernel.parallel import traces
from lambdakernel.parallel.body import assigned, bind, collected, run_body
from lambdakernel.parallel.displays import Displays
from lambdakernel.parallel.further import Stay, Turn, said_of_free
from lambdakernel.parallel.guard import guarded
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.line import Line
from lambdakernel.parallel.loading import Loaded, add_sources, loaded_anew, loaded_for
from lambdakernel.parallel.memory import limited, size
from lambdakernel.parallel.parcels import Sealed
from lambdakernel.parallel.values import TaskSession

GiveUp = Callable[[str], NoReturn]
_libc = ctypes.CDLL(None)


class LostUpdate(LambdaKernelError):
    """The task changed a value of the notebook in place; that change would be lost with the task."""

    def __init__(self, names: Sequence[str], remedy: str) -> None:
        listed = " and ".join(repr(name) for name in names)
        super().__init__(
            f"the body changed {listed} in place. A task works on its own copy, so the notebook would never see the"
            f" change. {remedy}"
        )
        self.names = tuple(names)


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
        said, result = self._attempt(turn, line)
        _flush()
        line.end()
        is_free = (
            said == "returned"
            and not line.has_missed
            and self._stay.is_free(turn, result, _live(self._loaded), self.job.met)
        )
        cpu_s = time.process_time() + sum(os.times()[2:4])
        more, fds = result.in_message()
        line.say(said, fds, cpu_s=cpu_s, **more, **said_of_free(is_free))
        result.close()
        wire.close_fds(turn.descriptors)
        return is_free

    def _attempt(self, turn: Turn, line: Line) -> tuple[str, Sealed]:
        """What to say, and the parcel to send with it."""
        try:
            loaded = self._ready()
            self._stay.begins(turn, loaded.live)
            line.begin(turn.joins)
            give_up = partial(_give_up, line) if turn.is_guarded else None
            return "returned", _run_item(loaded, self._stay.is_first, turn, line, give_up)
        except BaseException as e:  # SystemExit and KeyboardInterrupt of the body are its errors too
            return "raised", Sealed.of(json.dumps(self._report(e)).encode())

    def _ready(self) -> Loaded:
        """Loaded for the job."""
        if not self._stay.is_first and self._loaded is not None:
            return self._loaded
        traces.add_source(self.job.filename, self.job.cell)
        if self._loaded is None:
            self._loaded = loaded_for(self.job, self._cells)
            return self._loaded
        if self._is_of_fork:
            self._is_of_fork = False
            self._loaded.session.after_fork()
        if self._loaded.job is self.job:
            add_sources(self._loaded.session, self._cells)
        else:
            self._has_gone_on = True
            self._loaded = loaded_anew(self.job, self._loaded)
        return self._loaded

    def _report(self, error: BaseException) -> dict[str, str]:
        if self._loaded is not None and self._has_gone_on:  # only an error asks for the text of cells
            with suppress(kvs.KvsError):
                self._loaded.session.read_cells()
            add_sources(self._loaded.session, self._cells)
        return _report(error, self._cells, self.job)


def _live(loaded: Loaded | None) -> dict[str, Any]:
    return {} if loaded is None else loaded.live


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


def _run_item(loaded: Loaded, is_first: bool, turn: Turn, line: Line, give_up: GiveUp | None) -> Sealed:
    """The parcel with what is collected."""
    job, tree, live, session, function = loaded
    _seed(job.seeds, turn.index, is_further=not is_first)
    thing = session.decode(turn.item.opened()) if job.target else None
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
        _refuse_lost_updates(session, job, live)
        collects_item = not set(job.bound).isdisjoint(job.finals)
        if before and not collects_item and session.item_changed(before, thing, turn.item.opened()):
            raise LostUpdate(job.bound, _collect(f"Name {job.bound[0]} after `->`"))
    if job.is_whole:
        return session.encode((assigned(job.finals, live),))
    return session.encode(collected(job.collects(), live, last))


def _refuse_lost_updates(session: TaskSession, job: Job, live: dict[str, Any]) -> None:
    names = session.mutated({*job.finals, *job.bound})
    if not names:
        return
    first = names[0]
    if (maker := _makes_numbers_like(live.get(first))) and not job.is_whole:
        seed = job.bound[0] if job.bound else "..."
        raise LostUpdate(
            names,
            "It would give each task the same numbers. Make one in the body, from a seed that differs"
            f" (`{first} = {maker}({seed})`).",
        )
    if first not in live or isinstance(live[first], type):
        raise LostUpdate(
            names, "What a class has is the notebook's, too. Collect a value of each task after `->`, or use a `Live`."
        )
    copied = f"Assign {first} in the body (`{first} = copy.copy({first})`)"
    raise LostUpdate(names, _collect(copied if job.is_whole else f"{copied} and name it after `->`"))


def _collect(how: str) -> str:
    return f"{how} to collect each task's value, or make the change in the next cell, from the results."


def _makes_numbers_like(value: object) -> str:
    """What makes another generator of random numbers such as this; empty if it is none."""
    kind = type(value)
    if isinstance(value, random.Random):
        return "random.Random"
    if kind.__module__.startswith("numpy.random"):
        return {"Generator": "numpy.random.default_rng", "RandomState": "numpy.random.RandomState"}.get(
            kind.__name__, ""
        )
    return ""


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
