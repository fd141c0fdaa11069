"""Where ipykernel's debugger is loaded: with it comes debugpy, a seventh of all that a worker imports."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODULE = "ipykernel.debugger"
_QUIET = "PYDEVD_DISABLE_FILE_VALIDATION"
loading = threading.RLock()
"""Held while it is loaded, or made."""


def load() -> Any:
    """The module. debugpy warns of frozen modules on a terminal when it is imported; where ipykernel imports it nobody
    sees that, and here nobody should."""
    with loading:
        silenced = os.environ.setdefault(_QUIET, "1") == "1"
        try:
            return importlib.import_module(MODULE)
        finally:
            if silenced:
                os.environ.pop(_QUIET, None)


def is_loaded() -> bool:
    return MODULE in sys.modules


@contextmanager
def left_out() -> Iterator[None]:
    """While a kernel is made, which asks whether it can have a debugger at once: only if it is loaded."""
    if is_loaded():
        yield
        return
    nothing = types.ModuleType(MODULE)
    nothing._is_debugpy_available = False  # type: ignore[attr-defined]
    sys.modules[MODULE] = nothing
    try:
        yield
    finally:
        del sys.modules[MODULE]
