"""Names that stand in a pickle for things of the loading worker.

They are written as references to these functions; `Decoder.find_class` gives its own methods instead. Called anywhere
else they say where such a value belongs.
"""

from __future__ import annotations

import types
from typing import Any

from lambdakernel.errors import LambdaKernelError

_TEXT = "this value belongs to a lambdakernel session and can be loaded by a worker of it only"


def live_namespace() -> dict[str, Any]:
    """The namespace of the worker that loads: what functions of the notebook have as their globals."""
    raise LambdaKernelError(_TEXT)


def main_module() -> types.ModuleType:
    """`__main__` of the worker that loads."""
    raise LambdaKernelError(_TEXT)


def class_by_uid(uid: str) -> type:
    """The notebook's class of that identity."""
    raise LambdaKernelError(_TEXT)


def fixture(name: str) -> Any:
    """The worker's own object of that name."""
    raise LambdaKernelError(_TEXT)


def make_class(uid: str, *arguments: Any) -> type:
    """A notebook's class, known under its identity before it is filled."""
    raise LambdaKernelError(_TEXT)


def make_enum(uid: str, *arguments: Any) -> type:
    """The same for an enumeration, whose members are made with it."""
    raise LambdaKernelError(_TEXT)
