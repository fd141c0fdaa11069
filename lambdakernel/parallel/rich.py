"""What one task printed and displayed as one thing to show, which folds: HTML, with plain text beside it. Pure.

Images and HTML go into the fold. What only a front end can render (a plot as JSON, Markdown, LaTeX) is a display of its
own between folds. A widget lives in the process that made it, so of one in a task there is the text.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_SVG = "image/svg+xml"
_INSIDE = ("text/html", _SVG, *_IMAGES)
_WIDGET = "application/vnd.jupyter.widget-view+json"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TEXT = 20_000
"""Characters of the text that stands for a display which is too large."""


class Display(msgspec.Struct, frozen=True):
    """One display of a task: a bundle by mime type, as a front end gets it (images in base64)."""

    data: dict[str, Any]
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    id: str = ""
    """By which a later one takes its place."""

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.data)


Piece = tuple[str, bytes] | Display
"""Text of a stream, or a display."""
Bundle = dict[str, Any]


def nbytes_of(data: Bundle) -> int:
    """About how many bytes a bundle is."""
    return sum(len(value) if isinstance(value, str) else len(repr(value)) for value in data.values())


def text_only(display: Display) -> Display:
    """What stands for a display that is too large."""
    text = str(display.data.get("text/plain", ""))[:_TEXT]
    note = f"(not shown: {display.nbytes / 1e6:.1f} MB of displays is more than a cell shows)"
    return Display({"text/plain": f"{text}\n{note}".lstrip()}, id=display.id)


def grouped(heading: str, pieces: Sequence[Piece]) -> Iterator[tuple[Bundle, Bundle]]:
    """Bundles to display, with their metadata: folds under `heading`, and between them what cannot be in one."""
    inside: list[Piece] = []
    said = heading
    for piece in pieces:
        if not isinstance(piece, Display) or not _is_alone(piece):
            inside.append(piece)
            continue
        if inside:
            yield _fold(said, inside), {}
            inside, said = [], f"{heading}, continued"
        yield piece.data, piece.metadata
    if inside:
        yield _fold(said, inside), {}


def _is_alone(display: Display) -> bool:
    kinds = display.data.keys() - {"text/plain", _WIDGET}
    return bool(kinds) and kinds.isdisjoint(_INSIDE)


def _fold(heading: str, pieces: Sequence[Piece]) -> Bundle:
    text = "".join(map(_as_text, pieces)).rstrip("\n")
    body = "".join(map(_as_html, pieces))
    return {
        "text/plain": f"{heading}\n{text}",
        "text/html": f"<details open><summary>{html.escape(heading)}</summary>{body}</details>",
    }


def _as_text(piece: Piece) -> str:
    if isinstance(piece, Display):
        text = str(piece.data.get("text/plain", "<display>"))
    else:
        text = piece[1].decode("utf-8", "replace")
    return text if text.endswith("\n") else text + "\n"


def _as_html(piece: Piece) -> str:
    if not isinstance(piece, Display):
        return _pre(piece[1].decode("utf-8", "replace"), is_error=piece[0] == "stderr")
    data = piece.data
    if "text/html" in data:
        return f"<div>{_joined(data['text/html'])}</div>"
    if _SVG in data:
        # as an image: styles and names inside one drawing do not reach the next
        return _image(_SVG, base64.b64encode(_joined(data[_SVG]).encode()).decode(), {})
    for kind in _IMAGES:
        if kind in data:
            return _image(kind, _joined(data[kind]), piece.metadata.get(kind, {}))
    return _pre(_joined(data.get("text/plain", "")), is_error=False)


def _image(kind: str, data: str, metadata: Any) -> str:
    size = "".join(
        f' {side}="{int(metadata[side])}"'
        for side in ("width", "height")
        if isinstance(metadata, dict) and isinstance(metadata.get(side), int | float)
    )
    return f'<div><img alt="" src="data:{kind};base64,{html.escape("".join(data.split()))}"{size}></div>'


def _pre(text: str, *, is_error: bool) -> str:
    style = ' style="background:var(--jp-rendermime-error-background,#fdd)"' if is_error else ""
    return f"<pre{style}>{html.escape(_ANSI.sub('', text))}</pre>"


def _joined(value: Any) -> str:
    """A value of a bundle as text; notebooks may hold it in lines."""
    return "".join(value) if isinstance(value, list) else str(value)
