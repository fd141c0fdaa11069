"""A Jupyter kernel whose cells run on serverless workers and whose variables outlive every process."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs the front milliseconds
if TYPE_CHECKING:
    from lambdakernel.futures import Executor

__version__ = "0.1.0"
__all__ = ["Executor", "__version__"]


def __getattr__(name: str) -> object:
    """`Executor` on first use: the front imports this module and needs none of it."""
    if name == "Executor":
        from lambdakernel.futures import Executor

        return Executor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


from lambdakernel.futures.registration import register as _register  # noqa: E402 (what it imports must find the above)

_register()
