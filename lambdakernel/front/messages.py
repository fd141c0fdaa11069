"""Jupyter messages as frames: read a header, sign a message of our own. Pure.

The front forwards frames as they come. It reads a header to learn where a request goes, and makes messages only
when there is no worker that could: before the first one lives, and after one died.
Source: the Jupyter messaging protocol, "The wire protocol".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from lambdakernel.executors.frames import DELIMITER

PROTOCOL = "5.5"
Frames = list[bytes]


class Request(NamedTuple):
    """A message from a client, and where its parts are."""

    frames: Frames
    idents: Frames
    header: dict[str, Any]

    @property
    def msg_id(self) -> str:
        return str(self.header.get("msg_id", ""))

    @property
    def msg_type(self) -> str:
        return str(self.header.get("msg_type", ""))

    @property
    def subshell(self) -> str | None:
        return self.header.get("subshell_id")

    def content(self) -> dict[str, Any]:
        return _object(self.frames[len(self.idents) + 5])


def read_request(frames: Frames) -> Request | None:
    """The request in `frames`, or None if they are no message; its signature is not looked at."""
    try:
        at = frames.index(DELIMITER)
        if len(frames) < at + 6:
            return None
        return Request(frames, frames[:at], _object(frames[at + 2]))
    except ValueError:
        return None


def parent_id(frames: Frames) -> str:
    """The id of the request that the worker's message in `frames` answers; empty if it says none."""
    try:
        return str(_object(frames[frames.index(DELIMITER) + 3]).get("msg_id", ""))
    except (ValueError, IndexError):
        return ""


def idle_parents(statuses: Iterable[Frames]) -> set[str]:
    """Ids of the requests that these status messages declare done."""
    return {parent_id(frames) for frames in statuses if b'"idle"' in frames[-1]}


def message_type(frames: Frames) -> str:
    try:
        return str(_object(frames[frames.index(DELIMITER) + 2]).get("msg_type", ""))
    except (ValueError, IndexError):
        return ""


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


class Signer:
    """Makes and checks messages with a connection's key.

    `session` is the id under which the front speaks; clients see it beside the worker's own.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0
        self.session = os.urandom(16).hex()

    def sign(self, parts: Frames) -> bytes:
        if not self._key:
            return b""
        return hmac.new(self._key, b"".join(parts), hashlib.sha256).hexdigest().encode()

    def is_genuine(self, request: Request) -> bool:
        """Whether someone who knows the key sent it; without a key, anyone may."""
        if not self._key:
            return True
        at = len(request.idents)
        return hmac.compare_digest(self.sign(request.frames[at + 2 : at + 6]), request.frames[at + 1])

    def message(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        parent: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        idents: Frames | None = None,
    ) -> Frames:
        """Signed frames; on iopub `idents` is the topic, in a reply the client's identity."""
        self._count += 1
        header = {
            "msg_id": f"{self.session}_{self._count}",
            "session": self.session,
            "username": "",
            "date": _now(),
            "msg_type": msg_type,
            "version": PROTOCOL,
        }
        parts = [json.dumps(part).encode() for part in (header, parent or {}, metadata or {}, content)]
        return [*(idents or []), DELIMITER, self.sign(parts), *parts]


def _now() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
