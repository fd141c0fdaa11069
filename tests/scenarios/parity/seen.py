"""What a client saw of a cell, without what may differ between two runs: colours, addresses, process ids, paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kernels import Result

Message = tuple[str, Any]
"""Its type and what of its content is compared."""

_NOT_COMPARED = {"status"}
_REPLY = ("status", "execution_count", "payload", "user_expressions", "ename", "evalue", "traceback")
_REPLACED = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"0x[0-9a-f]{6,}"), "0xADDRESS"),
    (re.compile(r"ipykernel_\d+"), "ipykernel_PID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "IDENTIFIER"),
)


def seen(result: Result, places: Mapping[str, str]) -> list[Message]:
    """The cell's messages in order, then its reply; `places` are this kernel's own directories and what to call them.

    Text on one stream between two other messages is one message, whatever pieces it came in. Stdout stands before
    stderr there, as the two are sent by different buffers. The busy and idle states are not compared: without them no
    result is complete.
    """
    messages: list[Message] = []
    streams: dict[str, str] = {}
    for message in result.messages:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            streams[content["name"]] = streams.get(content["name"], "") + content["text"]
        elif kind not in _NOT_COMPARED:
            messages += _joined(streams)
            messages.append((kind, content))
    messages += _joined(streams)
    messages.append(("execute_reply", {k: result.reply[k] for k in _REPLY if k in result.reply}))
    return [(kind, plain(content, places)) for kind, content in messages]


def _joined(streams: dict[str, str]) -> list[Message]:
    """A message for each stream that has text, which is then taken."""
    found: list[Message] = [("stream", {"name": name, "text": streams[name]}) for name in sorted(streams, reverse=True)]
    streams.clear()
    return found


def plain(content: Any, places: Mapping[str, str]) -> Any:
    """`content` with every text in it made comparable."""
    if isinstance(content, str):
        return plain_text(content, places)
    if isinstance(content, Mapping):
        return {plain_text(str(k), places): plain(v, places) for k, v in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return [plain(v, places) for v in content]
    return content


def plain_text(text: str, places: Mapping[str, str]) -> str:
    for pattern, name in _REPLACED:
        text = pattern.sub(name, text)
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return text


def first_difference(cells: Mapping[str, Sequence[Sequence[Message]]], kind: str, base: str) -> str | None:
    """What all kinds show where `kind` first differs from `base`, one under the other; None if it never does."""
    for number, (expected, found) in enumerate(zip(cells[base], cells[kind], strict=True), start=1):
        for at in range(max(len(expected), len(found))):
            if _at(expected, at) != _at(found, at):
                return "\n".join([f"cell {number}, message {at + 1}:", *_side_by_side(cells, number - 1, at)])
    return None


def _at(messages: Sequence[Message], at: int) -> Message | None:
    return messages[at] if at < len(messages) else None


def _side_by_side(cells: Mapping[str, Sequence[Sequence[Message]]], number: int, at: int) -> list[str]:
    lines = []
    for kind, of_kind in cells.items():
        message = _at(of_kind[number], at)
        text = "nothing" if message is None else f"{message[0]} {_readable(message[1])}"
        lines += [f"  {kind}:", *(f"    {line}" for line in text.splitlines())]
    return lines


def _readable(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=repr).replace("\\n", "\n  ")
