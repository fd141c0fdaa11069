"""What a task's process was when it was born, and whether it still is that: what a walk over the text (`stays`) has
promised is looked at once more where the system, or Python, keeps it.

A look takes a tenth of a millisecond. What it cannot see is what `stays` is there for.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Set
from itertools import islice
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

from lambdakernel.parallel.classes import are_as_before, defined_in
from lambdakernel.parallel.known import shows_nowhere
from lambdakernel.parallel.values import is_plain

GREW_NBYTES = 32 * 1024 * 1024
"""Memory that a process may have taken since its birth, at its peak; then it ends with its item."""
_SIGNALS = tuple(int(signal.Signals[f"SIG{name}"]) for name in "INT TERM HUP QUIT CHLD PIPE ALRM USR1 USR2".split())
_MISSING = object()


class Birth(NamedTuple):
    """Made before the process knows its first item."""

    live: dict[str, Any]
    """The namespace, as it was."""
    facts: dict[str, Any]
    modules: int
    """How many there were. Each of them to be touched would cost a page of memory that was its parent's, too."""
    peak_nbytes: int
    warned: list[object]
    """What was warned of since."""
    classes: dict[type, dict[str, Any]]
    """Those of the notebook, each with what it has."""

    @classmethod
    def of(cls, live: dict[str, Any], but: Set[int]) -> Birth:
        """Of this process, now; `but` are descriptors that come and go with an item.

        Raises:
            OSError: the system does not say (its directory is gone).
            AttributeError: this Python does not tell of warnings.
        """
        warned = _warnings_from_now()
        return cls(dict(live), _facts(but), len(sys.modules), peak_nbytes(), warned, defined_in(live))

    def again(self, live: dict[str, Any], but: Set[int]) -> Birth:
        """Of the same process, now: it was as at its birth, and has loaded more since. This one is over.

        Raises:
            OSError: as `of`.
        """
        self.live.clear()  # a value that nobody else holds any more ends now, and so does the file it is mapped from
        return Birth(dict(live), _facts(but), len(sys.modules), peak_nbytes(), self.warned, defined_in(live))

    def is_as_now(self, live: dict[str, Any], met: Set[str], but: Set[int]) -> bool:
        """Whether the process is what it was, once `live` is: that is made so. `met` are names by which the body may
        have changed a value in place that it has bound anew since."""
        try:
            facts = _facts(but)
        except OSError:
            return False
        return (
            facts == self.facts
            and peak_nbytes() - self.peak_nbytes < GREW_NBYTES
            and not self.warned
            and len(sys.modules) >= self.modules
            and all(map(shows_nowhere, self._new_modules()))
            and are_as_before(self.classes)
            and self._restore(live, met)
        )

    def _new_modules(self) -> list[Any]:
        """Those that were imported since: the last ones."""
        return [sys.modules[name] for name in islice(reversed(sys.modules), len(sys.modules) - self.modules)]

    def _restore(self, live: dict[str, Any], met: Set[str]) -> bool:
        """Make the namespace what it was; whether that could be."""
        changed = [name for name, value in self.live.items() if live.get(name, _MISSING) is not value]
        if not changed and len(live) == len(self.live):
            return True
        if not all(name not in met or is_plain(self.live[name]) for name in changed):
            return False
        for name in live.keys() - self.live.keys():
            del live[name]
        if all(name in live for name in changed):
            live.update({name: self.live[name] for name in changed})
        else:  # what was deleted would come last
            live.clear()
            live.update(self.live)
        return True


def peak_nbytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _facts(but: Set[int]) -> dict[str, Any]:
    """What can be compared."""
    environment: Any = os.environ
    numpy: Any = sys.modules.get("numpy")
    return {
        "process": (os.getpid(), os.getppid(), os.getsid(0), os.stat("/proc/self/task").st_nlink, _has_children()),
        "threads": threading.active_count(),
        "descriptors": _descriptors(but),
        "directory": (os.getcwd(), _umask()),
        "environment": dict(environment._data),
        "signals": [*map(signal.getsignal, _SIGNALS)],
        "timers": [signal.getitimer(which)[0] > 0 for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)],
        "streams": [_stream(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "path": list(sys.path),
        "hooks": (sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile(), sys.getrecursionlimit()),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "warnings": ([*map(id, warnings.filters)], id(warnings.showwarning)),
        "numbers": None if numpy is None else (numpy.geterr(), numpy.get_printoptions()),
        "main": id(sys.modules.get("__main__")),
        "shell": _shell() is None,
    }


def _shell() -> object:
    shells: Any = InteractiveShell
    return shells._instance


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _descriptors(but: Set[int]) -> list[int]:
    """Those that are open; the one that lists them, which was the first number that was free, is not any more."""
    found = set(map(int, os.listdir("/proc/self/fd")))
    first_missing = next(fd for fd in range(len(found) + 1) if fd not in found)
    lister = next((fd for fd in reversed(range(first_missing)) if not _is_open(fd)), -1)
    return sorted(found - but - {lister})


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _stream(stream: Any) -> tuple[object, ...]:
    return (id(stream), stream.closed, stream.encoding, stream.errors, getattr(stream, "line_buffering", None))


def _warnings_from_now() -> list[object]:
    """Grows with each warning: one that was shown is not shown again by this process, as it would be by another.
    Python calls this function for each, before it looks for one of the user's."""
    module: Any = warnings
    show, found = module._showwarnmsg, list[object]()

    def noted(message: Any) -> None:
        found.append(type(message))
        show(message)

    module._showwarnmsg = noted
    return found
