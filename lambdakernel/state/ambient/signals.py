"""Handlers of signals that cells set: a function of the notebook, or the two that every process has."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as `signal`, without an enumeration's member for each answer
import operator
import signal
from collections.abc import Mapping
from typing import Any

from lambdakernel.state.ambient.held import Held

_NOT_KEPT = {signal.SIGINT, signal.SIGKILL, signal.SIGSTOP}
"""The kernel sets its own handler of interrupts for each cell, so that a cell's never outlives it."""
_OF_LOOPS = ("asyncio.", "ipykernel.", "lambdakernel.")
"""Modules whose handlers belong to an event loop, or to the kernel, of their process."""


class Signals(Held):
    """See the module. Only the main thread can set handlers."""

    name = "signal"

    def __init__(self) -> None:
        self._numbers = sorted(map(int, signal.valid_signals() - _NOT_KEPT))
        self._start = self._seen = self._handlers()
        self._captured: dict[str, Any] = {}

    def _handlers(self) -> list[Any]:
        return list(map(_signal.getsignal, self._numbers))

    def capture(self) -> Mapping[str, Any]:
        now = self._handlers()
        if not all(map(operator.is_, now, self._seen)):
            self._seen = now
            self._captured = {
                _name(number): handler
                for number, handler, start in zip(self._numbers, now, self._start, strict=True)
                if handler is not start and handler is not None and not _is_of_a_loop(handler)
            }
        return self._captured

    def restore(self, values: Mapping[str, Any]) -> Mapping[str, Exception]:
        failed: dict[str, Exception] = {}
        now = dict(zip(self._numbers, self._handlers(), strict=True))
        for number, start in zip(self._numbers, self._start, strict=True):
            wanted = values.get(_name(number), start)
            if wanted is now[number] or wanted is None or _is_of_a_loop(now[number]):
                continue
            try:
                signal.signal(number, wanted)
            except (OSError, ValueError, TypeError) as e:
                failed[_name(number)] = e
        return failed


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of those for real time only the first and the last have one
        return str(number)


def _is_of_a_loop(handler: Any) -> bool:
    module = getattr(getattr(handler, "__func__", handler), "__module__", None)
    return isinstance(module, str) and module.startswith(_OF_LOOPS)
