"""What a fan-out shows, by way of the shell that its cell runs in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from lambdakernel.parallel.progress import Bundle


def bar_name() -> str:
    """A name for a display that nothing else has."""
    return f"lambdakernel-parallel-{os.urandom(8).hex()}"


def shower(name: str) -> Callable[[Bundle, bool], None]:
    """Shows a bundle as the display `name`, or updates it."""
    import IPython.display

    ipython: Any = IPython.display

    def show(bundle: Bundle, is_update: bool) -> None:
        (ipython.update_display if is_update else ipython.display)(bundle, raw=True, display_id=name)

    return show


def display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    import IPython.display

    ipython: Any = IPython.display
    ipython.display(data, metadata=metadata, raw=True)


def write(stream: str, text: str) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()
