"""Bytecode of ours, written before anything is timed."""

from __future__ import annotations

import compileall
from pathlib import Path

import kvs
import lambdakernel


def compile_ours() -> None:
    """As an installer does. In a checkout it may be missing or stale, and the peers are installed."""
    for package in (lambdakernel, kvs):
        compileall.compile_dir(Path(package.__file__ or "").parent, quiet=1)
