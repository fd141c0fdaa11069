"""A Jupyter kernel whose cells run on serverless workers and whose variables outlive every process."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lambdakernel.live import Live

__all__ = ["Live", "__version__"]

_LATE = {"Live": "lambdakernel.live"}
"""What is imported when it is first asked for: the front imports this package at start-up."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)
