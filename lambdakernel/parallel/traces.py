"""A traceback as text for a person: the cell's own lines, under the name that the notebook shows for the cell.

IPython's formatter needs a shell to know that `/tmp/ipykernel_7/123.py` is `Cell In[5]`; a task has none. So this one
takes the names as a table. Frames above the body (ours) are left out.
"""

from __future__ import annotations

import linecache
import os
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""Where our own code is: an error of ours, raised beside the body, is told by its text alone."""
CONTEXT = 2
"""Lines shown before and after the failing one in a frame of the notebook."""
FRAMES = 40
"""Frames shown of one traceback; of a deeper one, the middle is counted."""


def add_source(filename: str, source: str) -> None:
    """Let tracebacks, warnings and `inspect` find `source` under `filename`."""
    lines = [line + "\n" for line in source.split("\n")]
    linecache.cache[filename] = (len(source), None, lines, filename)


def render(error: BaseException, cells: Mapping[str, str], body: str) -> str:
    """The traceback of `error`, causes first; `cells` maps file names to labels, `body` is the file of the body."""
    return "\n".join(_chain(error, cells, body, set()))


def _chain(error: BaseException, cells: Mapping[str, str], body: str, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before, said = error.__cause__, "The above exception was the direct cause of the following exception:"
    if before is None and not error.__suppress_context__:
        before, said = error.__context__, "During handling of the above exception, another exception occurred:"
    if before is not None and id(before) not in seen:
        yield from _chain(before, cells, body, seen)
        yield from ("", said, "")
    yield from _frames(error.__traceback__, cells, body)
    yield "".join(traceback.format_exception_only(error)).rstrip("\n")


def _frames(tb: TracebackType | None, cells: Mapping[str, str], body: str) -> Iterator[str]:
    frames = list(traceback.extract_tb(tb))
    ours = next((n for n, frame in enumerate(frames) if frame.filename == body), None)
    frames = frames[ours:] if ours is not None else [f for f in frames if not f.filename.startswith(_PACKAGE)]
    skipped = len(frames) - FRAMES
    for number, frame in enumerate(frames):
        if skipped > 0 and number == FRAMES // 2:
            yield f"... {skipped} more frames"
        if skipped <= 0 or not FRAMES // 2 <= number < FRAMES // 2 + skipped:
            yield from _frame(frame, cells)


def _frame(frame: traceback.FrameSummary, cells: Mapping[str, str]) -> Iterator[str]:
    inside = "" if frame.name == "<module>" else f", in {frame.name}"
    if frame.filename not in cells:
        yield f"File {frame.filename}:{frame.lineno}{inside}"
        if frame.line:
            yield f"    {frame.line}"
        return
    yield f"{cells[frame.filename]}, line {frame.lineno}{inside}"
    lines = linecache.getlines(frame.filename)
    at = frame.lineno or 1
    for number in range(max(1, at - CONTEXT), min(len(lines), at + CONTEXT) + 1):
        arrow = "---->" if number == at else "     "
        yield f"{arrow} {number:>3} {lines[number - 1].rstrip()}"
