"""The progress of a fan-out: a frozen state, and what it looks like as text and as HTML. Pure, but for `Bar`.

`Bar` shows it: one display that is updated in place, at most ten times a second.
"""

from __future__ import annotations

import html
from collections.abc import Callable

import msgspec

from lambdakernel.parallel.cost import Cost
from lambdakernel.parallel.memory import size

WIDTH = 30
"""Characters of the bar as text."""
PERIOD_S = 0.1
"""Least seconds between two updates of the display."""
MATTERS_NBYTES = 50_000_000
"""Memory that is worth a word."""
Bundle = dict[str, str]


class Progress(msgspec.Struct, frozen=True):
    """How many tasks are where; those that are neither done nor running wait."""

    total: int
    done: int = 0
    """Tasks that have ended, the failed ones among them."""
    running: int = 0
    failed: int = 0
    retried: int = 0
    """Attempts that were lost and made again."""
    twice: int = 0
    """Tasks that were late and had a second attempt beside the first."""
    memory_nbytes: int = 0
    """What the running tasks hold beyond what they were born with."""
    peak_nbytes: int = 0
    """The most that one task that ended has held so."""
    cost: Cost = Cost()
    """Of all attempts that have ended."""
    price: float = 0.0
    """Dollars for a GB-second; 0: none is known."""
    elapsed_s: float = 0.0
    stopped: bool = False
    """It ended before all tasks did."""
    label: str = ""
    """What is said before the numbers: which background job this is."""
    note: str = ""
    """What is said after them: what became of the results."""

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last task ends, at the pace so far; None before the first ended, and when none is left."""
        if not self.done or self.is_over:
            return None
        return self.elapsed_s / self.done * (self.total - self.done)

    @property
    def is_over(self) -> bool:
        return self.stopped or self.done >= self.total


def summary(p: Progress) -> str:
    """`12 of 32 done, 4 running, 1 failed; 3 s, 5 s left`."""
    parts = [f"{p.done} of {p.total} done"]
    if p.running and not p.is_over:
        parts.append(f"{p.running} running")
    if p.failed:
        parts.append(f"{p.failed} failed")
    if p.retried:
        parts.append(f"{p.retried} retried")
    if p.twice:
        parts.append(f"{p.twice} run twice")
    if p.stopped:
        parts.append("stopped")
    eta = "" if p.eta_s is None else f", {duration(p.eta_s)} left"
    label, note = p.label and f"{p.label}: ", p.note and f"; {p.note}"
    return f"{label}{', '.join(parts)}; {duration(p.elapsed_s)}{eta}{_memory(p)}{_cost(p)}{note}"


def _memory(p: Progress) -> str:
    """`; 1.2 GB, at most 300 MB a task`; empty where it is too little to matter."""
    now = size(p.memory_nbytes) if p.memory_nbytes >= MATTERS_NBYTES and not p.is_over else ""
    peak = f"at most {size(p.peak_nbytes)} a task" if p.peak_nbytes >= MATTERS_NBYTES else ""
    said = ", ".join(filter(None, (now, peak)))
    return f"; {said}" if said else ""


def _cost(p: Progress) -> str:
    """When it is over: `; 12 CPU-s, 3.4 GB-s`."""
    said = p.cost.said(p.price) if p.is_over else ""
    return f"; {said}" if said else ""


def as_text(p: Progress) -> str:
    full = WIDTH if not p.total else WIDTH * min(p.done, p.total) // p.total
    return f"[{'#' * full}{'.' * (WIDTH - full)}] {summary(p)}"


def as_html(p: Progress) -> str:
    """A bar that shows done and failed, with the summary beside it and as its label for screen readers."""
    said = html.escape(summary(p))
    good, bad = _percent(p.done - p.failed, p.total), _percent(p.failed, p.total)
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="{p.total}" aria-valuenow="{p.done}"'
        f' aria-label="{said}" style="display:flex;align-items:center;gap:.7em">'
        '<div style="display:flex;width:16em;height:.8em;border-radius:.4em;overflow:hidden;background:#8884">'
        f'<div style="width:{good}%;background:#2a9d4a"></div><div style="width:{bad}%;background:#d04437"></div></div>'
        f'<span style="font-variant-numeric:tabular-nums">{said}</span></div>'
    )


def bundle(p: Progress) -> Bundle:
    return {"text/plain": as_text(p), "text/html": as_html(p)}


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _percent(part: int, total: int) -> str:
    return f"{100 * part / total:.1f}" if total else "0"


class Bar:
    """Shows progress by `show(bundle, is_update)`. Owned by the cell that fans out; `last` shows the end for sure."""

    def __init__(self, show: Callable[[Bundle, bool], None], clock: Callable[[], float]) -> None:
        self._show = show
        self._clock = clock
        self._shown_at: float | None = None
        self._shown: Bundle = {}

    def update(self, progress: Progress) -> None:
        """Show `progress`, unless something was shown a moment ago."""
        now = self._clock()
        if self._shown_at is None or now - self._shown_at >= PERIOD_S:
            self._now(progress, now)

    def last(self, progress: Progress) -> None:
        """Show the end."""
        self._now(progress, self._clock())

    def _now(self, progress: Progress, now: float) -> None:
        new = bundle(progress)
        if new != self._shown:
            self._show(new, self._shown_at is not None)
            self._shown_at, self._shown = now, new
