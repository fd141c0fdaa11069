"""joblib learns the name `lambdakernel` when it is imported, whoever is imported first.

joblib has no entry point by which it finds backends, and neither package may import the other at once: many programs
that import lambdakernel, Jupyter's front among them, never need joblib. So a finder on `sys.meta_path` waits for
joblib, has the others find it, and registers the backend's name once joblib is loaded. It imports nothing itself.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def register() -> None:
    """Make `joblib.parallel_config("lambdakernel")` work, now or when joblib is imported. To call it again is no
    error.
    """
    joblib = sys.modules.get("joblib")
    if joblib is not None and hasattr(joblib, "register_parallel_backend"):
        joblib.register_parallel_backend("lambdakernel", _backend)
    elif not any(type(finder) is _WhenJoblibComes for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenJoblibComes())


def _backend(**options: Any) -> Any:
    from lambdakernel.futures.joblib_backend import LambdaKernelBackend

    return LambdaKernelBackend(**options)


class _WhenJoblibComes:
    """Leaves `sys.meta_path` when joblib is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "joblib":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = _Registering(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None


class _Registering:
    """joblib's loader, which registers the backend at the end."""

    def __init__(self, loader: Any, finder: _WhenJoblibComes) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        register()
