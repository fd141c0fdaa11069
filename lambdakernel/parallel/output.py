"""What a task printed and displayed: kept up to a limit, counted beyond it, and shown in the order of tasks. No I/O.

A task that only printed is shown as text. One that displayed something is one display of the cell, which folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lambdakernel.parallel import rich
from lambdakernel.parallel.rich import Display, Piece

TASK_NBYTES = 64 * 1024
"""Bytes kept of one task's output: a few hundred lines, which a person may still read."""
TOTAL_NBYTES = 4 * 1024 * 1024
"""Bytes shown of all tasks of one cell: a notebook with more does not open well."""
TOTAL_DISPLAY_NBYTES = 32 * 1024 * 1024
"""Bytes of displays (figures, tables) shown of all tasks of one cell; of what is beyond, the text."""
PLAIN = "text/plain"


class Output(msgspec.Struct):
    """One task's streams and displays, in the order in which their pieces arrived."""

    pieces: list[Piece] = msgspec.field(default_factory=list)
    kept: int = 0
    dropped: int = 0

    def add(self, stream: str, data: bytes) -> None:
        """Keep what still fits; `stream` is `stdout` or `stderr`."""
        kept = data[: max(0, TASK_NBYTES - self.kept)]
        self.dropped += len(data) - len(kept)
        self.kept += len(kept)
        if kept:
            self._append(stream, kept)

    def _append(self, stream: str, data: bytes) -> None:
        if self.pieces and not isinstance(last := self.pieces[-1], Display) and last[0] == stream:
            data = last[1] + data
            self.pieces.pop()
        self.pieces.append((stream, data))

    def show(self, display: Display) -> None:
        """Keep a display, in place of the one that it updates. Text alone is as if it had been printed."""
        if display.id and (at := self._at(display.id)) is not None:
            self.pieces[at] = display
        elif not display.id and set(display.data) == {PLAIN}:
            self.add("stdout", f"{display.data[PLAIN]}\n".encode())
        elif display.data:
            self.pieces.append(display)

    def _at(self, name: str) -> int | None:
        found = (n for n, piece in enumerate(self.pieces) if isinstance(piece, Display) and piece.id == name)
        return next(found, None)

    def clear(self) -> None:
        """Forget what came until now."""
        self.pieces.clear()
        self.kept = 0

    def mark(self, text: str) -> None:
        """A line of ours after what came until now, however much that was; nothing if there was nothing."""
        if not self.pieces:
            return
        last = self.pieces[-1]
        start = "" if isinstance(last, Display) or last[1].endswith(b"\n") else "\n"
        note = f"{start}--- {text} ---\n".encode()
        self.kept += len(note)
        self._append("stderr", note)

    @property
    def displays(self) -> Sequence[Display]:
        return [piece for piece in self.pieces if isinstance(piece, Display)]


class Grouped(msgspec.Struct):
    """Shows outputs in the order of tasks, each as soon as those before it were shown."""

    write: Callable[[str, str], None]
    """Takes the stream and the text."""
    heading: Callable[[int], str]
    display: Callable[[dict[str, Any], dict[str, Any]], None] = lambda data, metadata: None
    """Takes a bundle by mime type, and its metadata."""
    waiting: dict[int, Output] = msgspec.field(default_factory=dict)
    next: int = 0
    left: int = TOTAL_NBYTES
    left_to_display: int = TOTAL_DISPLAY_NBYTES
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
        if not output.pieces:
            return
        if output.kept > self.left:
            self.silent += 1
            return
        self.left -= output.kept
        if output.displays:
            self._show_displays(index, output)
        else:
            self._show_text(index, output)

    def _show_text(self, index: int, output: Output) -> None:
        self.write("stdout", f"{self.heading(index)}\n")
        end = "\n"
        for piece in output.pieces:
            stream, text = piece[0], piece[1].decode("utf-8", "replace")  # type: ignore[index]
            end = text[-1]
            self.write(stream, text)
        self.write("stdout", ("" if end == "\n" else "\n") + _more(output.dropped))

    def _show_displays(self, index: int, output: Output) -> None:
        pieces = [self._within_limit(piece) for piece in output.pieces]
        if output.dropped:
            pieces.append(("stdout", _more(output.dropped).encode()))
        for data, metadata in rich.grouped(self.heading(index), pieces):
            self.display(data, metadata)

    def _within_limit(self, piece: Piece) -> Piece:
        if not isinstance(piece, Display):
            return piece
        if piece.nbytes > self.left_to_display:
            return rich.text_only(piece)
        self.left_to_display -= piece.nbytes
        return piece


def _more(dropped: int) -> str:
    return f"... {dropped:,} more bytes\n" if dropped else ""
