"""A table as plain text and as HTML. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

Row = Sequence[str]
WIDEST = 60
"""Characters of the longest cell shown as text; HTML wraps instead."""


class Table:
    """Shown by a notebook as HTML, elsewhere as text. `right` are the columns that hold numbers."""

    def __init__(self, head: Row, rows: Sequence[Row], *, right: Sequence[int] = (), note: str = "") -> None:
        self.head, self.rows, self.right, self.note = tuple(head), [tuple(r) for r in rows], frozenset(right), note

    def __repr__(self) -> str:
        lines = [self.head, *([_cut(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        text = ["  ".join(self._padded(line, widths)).rstrip() for line in lines]
        return "\n".join([*text, *([self.note] if self.note else [])])

    def _padded(self, line: Row, widths: Sequence[int]) -> list[str]:
        return [
            cell.rjust(width) if column in self.right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]

    def _repr_html_(self) -> str:
        head = "".join(self._cell("th", column, cell) for column, cell in enumerate(self.head))
        body = "".join(
            f"<tr>{''.join(self._cell('td', column, cell) for column, cell in enumerate(row))}</tr>"
            for row in self.rows
        )
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{note}"

    def _row(self, tag: str, row: Row) -> str:
        return f"<tr>{''.join(self._cell(tag, column, cell) for column, cell in enumerate(row))}</tr>"

    def _cell(self, tag: str, column: int, text: str) -> str:
        side = "right" if column in self.right else "left"
        return f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'


def _cut(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= WIDEST else one[: WIDEST - 3] + "..."


def size(nbytes: Any) -> str:
    """`512 B`, `1.5 KB`, `120 MB`: powers of 1,024."""
    value = float(nbytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
