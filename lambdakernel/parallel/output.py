"""What a task printed: kept up to a limit, counted beyond it, and shown in the order of tasks. No I/O of its own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

TASK_NBYTES = 64 * 1024
"""Bytes kept of one task's output: a few hundred lines, which a person may still read."""
TOTAL_NBYTES = 4 * 1024 * 1024
"""Bytes shown of all tasks of one cell: a notebook with more does not open well."""


class Output(msgspec.Struct):
    """One task's streams, in the order in which their pieces arrived."""

    pieces: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    kept: int = 0
    dropped: int = 0

    def add(self, stream: str, data: bytes) -> None:
        """Keep what still fits; `stream` is `stdout` or `stderr`."""
        kept = data[: max(0, TASK_NBYTES - self.kept)]
        self.dropped += len(data) - len(kept)
        self.kept += len(kept)
        if not kept:
            return
        if self.pieces and self.pieces[-1][0] == stream:
            kept = self.pieces.pop()[1] + kept
        self.pieces.append((stream, kept))


class Grouped(msgspec.Struct):
    """Shows outputs in the order of tasks, each as soon as those before it were shown."""

    write: Callable[[str, str], None]
    """Takes the stream and the text."""
    heading: Callable[[int], str]
    waiting: dict[int, Output] = msgspec.field(default_factory=dict)
    next: int = 0
    left: int = TOTAL_NBYTES
    silent: int = 0

    def ended(self, index: int, output: Output) -> None:
        """Task `index` will print no more."""
        self.waiting[index] = output
        while self.next in self.waiting:
            self._show(self.next, self.waiting.pop(self.next))
            self.next += 1

    def close(self) -> None:
        """Show what waits for tasks that will never end, and say what was left out."""
        for index in sorted(self.waiting):
            self._show(index, self.waiting.pop(index))
        if self.silent:
            tasks = "1 more task" if self.silent == 1 else f"{self.silent} more tasks"
            self.write("stdout", f"... output of {tasks} is not shown\n")
            self.silent = 0

    def _show(self, index: int, output: Output) -> None:
        if not output.kept:
            return
        if output.kept > self.left:
            self.silent += 1
            return
        self.left -= output.kept
        self.write("stdout", f"{self.heading(index)}\n")
        end = "\n"
        for stream, data in output.pieces:
            text = data.decode("utf-8", "replace")
            end = text[-1]
            self.write(stream, text)
        self.write("stdout", ("" if end == "\n" else "\n") + _more(output.dropped))


def _more(dropped: int) -> str:
    return f"... {dropped:,} more bytes\n" if dropped else ""
