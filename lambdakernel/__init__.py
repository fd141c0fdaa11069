"""A Jupyter kernel whose cells run on serverless workers and whose variables outlive every process."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing itself costs the front milliseconds
if TYPE_CHECKING:
    from lambdakernel.futures import Executor
    from lambdakernel.live import Live
    from lambdakernel.parallel.shuffle import all_to_all, group_by, reduce, shuffle

__all__ = ["Executor", "Live", "__version__", "all_to_all", "group_by", "reduce", "shuffle"]

_SHUFFLE = "lambdakernel.parallel.shuffle"
_LATE = {
    "Executor": "lambdakernel.futures",
    "Live": "lambdakernel.live",
    "all_to_all": _SHUFFLE,
    "group_by": _SHUFFLE,
    "reduce": _SHUFFLE,
    "shuffle": _SHUFFLE,
}


def __getattr__(name: str) -> object:
    """Imported on first use: the front imports this module and needs none of it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)


from lambdakernel.futures.registration import register as _register  # noqa: E402 (what it imports must find the above)

_register()
