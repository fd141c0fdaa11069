"""The background jobs of one worker: numbered, listed, waited for, and missed when their worker was lost.

Each running job has a small file beside the kernel's sockets. It goes when the job is settled; one that a worker finds
when it starts is of a job that was lost with the worker before it, and the next cell says so.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
from collections.abc import Callable
from typing import Any

import msgspec

from lambdakernel.errors import LambdaKernelError
from lambdakernel.parallel.background import Background, State
from lambdakernel.parallel.begun import Begun, Where
from lambdakernel.parallel.frontend import bar_name, shower

KEPT = 100
"""Jobs that are over and still listed."""
_FILE = "job-"


class NoSuchJob(LambdaKernelError):
    """The number is no job's."""


class StillRunning(LambdaKernelError):
    """A job was not through in time; it goes on."""


class JobView(msgspec.Struct, frozen=True):
    """A job as it was when it was asked for."""

    number: int
    cell: str
    state: str
    names: tuple[str, ...]
    done: int
    total: int
    elapsed_s: float
    failures: tuple[Any, ...] = ()
    """A `TaskFailed` for each task that failed."""
    results: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the job did not bind, since the notebook had bound the name anew."""
    taken: str = ""
    """Processor seconds and GB-seconds, where they are worth a word."""


class LostJob(msgspec.Struct, frozen=True):
    """A job whose worker is gone."""

    number: int
    cell: str
    names: tuple[str, ...]
    bar: str

    def text(self) -> str:
        names = f"{', '.join(self.names)} {'was' if len(self.names) == 1 else 'were'} not bound. " if self.names else ""
        return f"job {self.number} ({self.cell}) was lost with the worker that ran it. {names}Run its cell again."


class Jobs:
    """See the module. `directory` is the kernel's; `on_main` runs something on the main thread, between cells."""

    def __init__(self, directory: str, pins: set[object], on_main: Callable[[Callable[[], None]], None]) -> None:
        self._directory = directory
        self._pins = pins
        self._on_main = on_main
        self._jobs: dict[int, Background] = {}
        self._lost = self._find_lost()
        self._last = max((job.number for job in self._lost), default=0)

    # -- a new one

    def start(self, where: Where, begun: Begun) -> Background:
        """Begin a job; it is listed from now on."""
        number = self._last = self._last + 1
        job = Background(number, bar_name(), where, begun, lambda: self._on_main(self._settle_now))
        self._jobs[number] = job
        self._pins.add(job)
        job.start()
        with open(self._file(number), "w") as f:
            json.dump({"number": number, "cell": job.label, "names": job.names, "bar": job.bar_name}, f)
        over = [n for n, known in self._jobs.items() if known.state is not State.RUNNING]
        for old in over[: max(0, len(over) - KEPT)]:
            del self._jobs[old]
        return job

    def _file(self, number: int) -> str:
        return os.path.join(self._directory, f"{_FILE}{number}")

    # -- when one is over

    def settle(self) -> list[str]:
        """Bind what the jobs found that are over; the names that were bound. On the main thread."""
        names: list[str] = []
        for job in [job for job in self._jobs.values() if job.is_over and job in self._pins]:
            names += job.settle()
            self._pins.discard(job)
            _delete(self._file(job.number))
        return names

    def _settle_now(self) -> None:
        self.settle()

    # -- for the magics

    def all(self) -> list[Background]:
        return list(self._jobs.values())

    def get(self, number: int) -> Background:
        """The job of that number.

        Raises:
            NoSuchJob: there is none.
        """
        if number not in self._jobs:
            known = ", ".join(map(str, self._jobs)) or "none"
            raise NoSuchJob(f"there is no job {number}. Jobs of this worker: {known}.")
        return self._jobs[number]

    def view(self, job: Background) -> JobView:
        p = job.progress
        state, taken = job.state.value, p.cost.said(p.price)
        return JobView(
            job.number, job.label, state, job.names, p.done, job.total, p.elapsed_s, job.failures, job.results, taken
        )

    # -- lost ones

    def _find_lost(self) -> list[LostJob]:
        found = []
        for name in sorted(os.listdir(self._directory)):
            if name.startswith(_FILE) and name.removeprefix(_FILE).isdigit():
                try:
                    with open(os.path.join(self._directory, name)) as f:
                        said = json.load(f)
                    found.append(LostJob(said["number"], said["cell"], tuple(said["names"]), said["bar"]))
                except ValueError:  # its worker was killed while it wrote
                    found.append(LostJob(int(name.removeprefix(_FILE)), "its cell is not known", (), ""))
        return sorted(found, key=lambda job: job.number)

    def tell_lost(self, write: Callable[[str], None]) -> None:
        """Say once which jobs were lost, on their bars too."""
        lost, self._lost = self._lost, []
        for job in lost:
            write(job.text())
            if job.bar:
                shower(job.bar)({"text/plain": job.text(), "text/html": f"<b>{html.escape(job.text())}</b>"}, True)
            _delete(self._file(job.number))

    def close(self) -> None:
        """End all jobs and their threads."""
        for job in [job for job in self._jobs.values() if job in self._pins]:
            job.close()
            self._pins.discard(job)
            _delete(self._file(job.number))


def _delete(path: str) -> None:
    """A file may be gone with its directory, when the kernel ends."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
