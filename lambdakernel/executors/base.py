"""What every executor is asked, and the three ways an invocation can end.

The front and `%%parallel` know only this module; the local executor forks workers from a zygote, others will call
a cloud. Values here are frozen and import nothing, since the front loads them at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Invocation(NamedTuple):
    """One attempt to run something on a worker."""

    id: str
    role: str
    """What the worker is to be: `kernel` (runs cells until told to end) or `task` (one piece of a fan-out)."""
    params: Mapping[str, object]
    """JSON-able facts that the role needs: endpoints, session, limits."""


class Started(NamedTuple):
    """The worker of invocation `id` lives, as process `pid`."""

    id: str
    pid: int


class Refused(NamedTuple):
    """No worker could be made for invocation `id`; `reason` is for the user (out of memory, process limit)."""

    id: str
    reason: str


class Exited(NamedTuple):
    """The worker of invocation `id` is gone and reaped."""

    id: str
    pid: int
    code: int
    """Exit code, or minus the signal that killed it."""
    out_of_memory: bool
    """The machine's out-of-memory killer struck while it lived, and it died by SIGKILL."""
    peak_nbytes: int

    def reason(self) -> str:
        """How it ended, for a person: `was killed by SIGKILL`, `exited with code 3`."""
        if self.out_of_memory:
            return "was killed by the system because memory ran out (SIGKILL)"
        if self.code < 0:
            from signal import Signals

            try:
                return f"was killed by {Signals(-self.code).name}"
            except ValueError:
                return f"was killed by signal {-self.code}"
        return f"exited with code {self.code}"


class ExecutorLost(NamedTuple):
    """The executor itself is gone, and with it every worker that it had started."""

    reason: str


Event = Started | Refused | Exited | ExecutorLost


class Executor(Protocol):
    """Starts workers and says what becomes of them; never blocks for longer than one system call.

    For implementers: `start` must not raise for a failure of the platform, which is a `Refused` event; every
    started invocation ends in exactly one `Exited`, unless the executor is lost; `close` ends all workers.
    """

    def fileno(self) -> int:
        """A descriptor that becomes readable when `events` has something."""

    def start(self, invocation: Invocation, fds: tuple[int, ...] = ()) -> None:
        """Ask for a worker; `fds` are handed to it. The answer is an event."""

    def warm(self, modules: tuple[str, ...], *, now: bool = False) -> None:
        """Hint: sessions use these modules; later workers had better be born with them. `now`: the next one, too, which
        waits for that."""

    def events(self) -> list[Event]:
        """What happened since the last call, in order; empty when nothing did."""

    def close(self, deadline_s: float) -> None:
        """End every worker and the executor, within `deadline_s` seconds."""
