"""The session in a task's process, or in one that tasks are forked from, with what the body of a job reaches."""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import kvs
from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel import traces
from lambdakernel.parallel.function import Function, as_function
from lambdakernel.parallel.job import Job
from lambdakernel.parallel.parcels import unpack
from lambdakernel.parallel.values import TaskSession, rehearse

NO_JOB = Job("", "", 0, "", "", "", "", "", (), (), (), {}, ())


class StaleTask(LambdaKernelError):
    """The session was restarted between the cell and its task."""


class Loaded(NamedTuple):
    """The session as the tasks of a job see it, with what their body reaches."""

    job: Job
    tree: ast.Module
    live: dict[str, Any]
    session: TaskSession
    function: Function | None = None
    """The body, where it may run as one."""


def get_ready(params: Mapping[str, Any]) -> None:
    """Before there is a job: what loading one does a first time in a process. `params`: the store and the session, and
    modules that it is likely to use."""
    with suppress(kvs.KvsError, OSError):  # loading meets it again, and says so
        rehearse(params["store"], params["session"])
    _import(params["modules"])


def load(job: int) -> Loaded:
    """For the tasks of the job in that descriptor, before this process is forked for them.

    Raises:
        NotToBeForked: a thread came with what was loaded.
        BaseException: what each of them would raise.
    """
    told = Job.from_bytes(unpack(job).head)
    loaded = loaded_for(told, {})
    if _threads() > 1 and _threads_after_a_fork() > 1:
        raise NotToBeForked
    loaded.session.settle()
    return loaded


class NotToBeForked(LambdaKernelError):
    """A fork would have the locks of threads, Python's or a library's, and not the threads."""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _threads_after_a_fork() -> int:
    """Without those that see to forks themselves: OpenBLAS, of which numpy and scipy have one each, ends its own."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return _threads()


# -- in a process that is to work itself


def job_of(parcel: int | None) -> Job:
    if parcel is None:
        raise ValueError("a first task came without its job")
    return Job.from_bytes(unpack(parcel).head)


def loaded_for(job: Job, cells: dict[str, str]) -> Loaded:
    """Attached and loaded in this process; `cells` learns which files are cells."""
    tree = ast.parse(job.body, job.filename)
    live = _main_module().__dict__
    sys.path[:] = job.import_path
    _import(job.modules)
    session = TaskSession(job.store, job.session, live, job.moment)
    _refuse_stale(session, job)
    add_sources(session, cells)
    session.prepare(tree, job.shared)
    _load_generator(job)
    return Loaded(job, tree, live, session, _function(job, tree, live))


def attached(store: str, session: str) -> Loaded | None:
    """To the session as it is now, before there is a job; None if that cannot be: whoever loads a job meets it again,
    and says so."""
    live = _main_module().__dict__
    try:
        return Loaded(NO_JOB, ast.Module([], []), live, TaskSession(store, session, live))
    except (kvs.KvsError, LambdaKernelError, OSError):
        return None


def loaded_anew(job: Job, before: Loaded) -> Loaded:
    """The same for a later job, in a process that has loaded for one `before` and is clean."""
    tree = ast.parse(job.body, job.filename)
    sys.path[:] = job.import_path
    _import(job.modules)
    before.session.start_over()
    _refuse_stale(before.session, job)
    before.session.prepare(tree, job.shared)
    _load_generator(job)
    return Loaded(job, tree, before.live, before.session, _function(job, tree, before.live))


def _function(job: Job, tree: ast.Module, live: Mapping[str, Any]) -> Function | None:
    if job.most_items == 1:  # nobody knows that the body cannot tell
        return None
    return as_function(tree, job.filename, live.keys() | set(job.bound), job.shared)


def _import(modules: Iterable[str]) -> None:
    """So that what comes later brings none of them in. Whoever uses a module that cannot be imported says so."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)


def _load_generator(job: Job) -> None:
    """It is seeded for each item where numpy is there, which loads it late."""
    if "numpy" in job.seeds and "numpy" in sys.modules:
        importlib.import_module("numpy.random")


def _refuse_stale(session: TaskSession, job: Job) -> None:
    if session.epoch != job.epoch:
        raise StaleTask("the notebook was restarted while this task began. Run the cell again.")


def add_sources(session: TaskSession, cells: dict[str, str]) -> None:
    for filename, number, source in session.cells:
        cells.setdefault(filename, f"Cell In[{number}]")
        traces.add_source(filename, source)


def _main_module() -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module
