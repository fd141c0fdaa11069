"""A worker that runs one task of a fan-out."""

from __future__ import annotations

from typing import Any


def run(params: dict[str, Any], fds: tuple[int, ...]) -> int:
    return 0
