"""A kernel's connection file: where clients connect, with which key. Pure but for reading the file."""

from __future__ import annotations

import json
from typing import NamedTuple

from lambdakernel.errors import BadConnectionFile

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


class Connection(NamedTuple):
    """What a connection file says; frozen."""

    path: str
    transport: str
    ip: str
    ports: dict[str, int]
    key: bytes
    curve: tuple[bytes, bytes] | None
    """Public and secret key of this kernel, where transport is encrypted."""

    def endpoint(self, channel: str) -> str:
        """The address that the front binds for `channel`."""
        separator = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{separator}{self.ports[channel]}"


def read(path: str) -> Connection:
    """The connection in the file at `path`.

    Raises:
        BadConnectionFile: it is gone, is no JSON, or lacks something; says what to do.
    """
    try:
        with open(path, "rb") as f:
            said = json.load(f)
        curve = said.get("curve_secretkey")
        return Connection(
            path=path,
            transport=said.get("transport", "tcp"),
            ip=said["ip"],
            ports={channel: int(said[f"{channel}_port"]) for channel in CHANNELS},
            key=said.get("key", "").encode(),
            curve=(said["curve_publickey"].encode(), curve.encode()) if curve else None,
        )
    except OSError as e:
        raise BadConnectionFile(path, e.strerror or str(e)) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadConnectionFile(path, f"it is not a connection file ({type(e).__name__}: {e})") from e
