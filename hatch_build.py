"""Builds the optional extension `lambdakernel.state._graph` where a C compiler works, and says in one line when not.

Without it the package is complete: `lambdakernel.state.graph` does the same in Python. So nothing here fails a build.
The extension is put beside its source, under a name that only this Python loads; a wheel takes it along.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "lambdakernel.state._graph"
SOURCE = Path("lambdakernel/state/_graph.c")
VERSIONS = ((3, 11), (3, 14))
"""First and last Python whose object layouts the source knows."""
COMPILE_S, TRY_S = 120, 30
_TRY = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.ExtensionFileLoader(sys.argv[1], sys.argv[2])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader(sys.argv[1], loader))
loader.exec_module(module)
roots = ([1, {"a": (2.0, {3})}],)
assert module.snapshot(roots, {}, None, 1000, ()).is_unchanged(roots)
"""


class CannotBuild(Exception):
    """Why there will be no extension."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        try:
            built = build(Path(self.root))
        except (CannotBuild, OSError) as e:  # the second: a source tree that cannot be written
            self.app.display_info(f"lambdakernel: without its C extension, which only makes it faster ({e})")
            return
        if version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"].append(f"/{built.relative_to(self.root).as_posix()}")


def build(root: Path) -> Path:
    """The extension, compiled, tried, and put beside its source in one step. One that was there is replaced in that
    step, so that whoever starts meanwhile (a kernel, a test) finds it.

    Raises:
        CannotBuild: it was not; what was there before is gone, since it may be of another source.
    """
    target = root / SOURCE.with_name(SOURCE.stem + str(sysconfig.get_config_var("EXT_SUFFIX")))
    try:
        _build(root, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def _build(root: Path, target: Path) -> None:
    if sys.implementation.name != "cpython" or not VERSIONS[0] <= sys.version_info[:2] <= VERSIONS[1]:
        raise CannotBuild(f"it knows CPython {VERSIONS[0][1]} to {VERSIONS[1][1]} of Python 3")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise CannotBuild("it does not know free-threaded Python")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        made = Path(scratch) / target.name
        run(compile_command(root / SOURCE, made), COMPILE_S)
        run([sys.executable, "-c", _TRY, MODULE, str(made)], TRY_S)
        os.replace(made, target)  # a process that has the old one mapped keeps it


def compile_command(source: Path, target: Path) -> list[str]:
    """As this Python compiles extensions, with CC and CFLAGS of the environment first."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = ["-O2", "-fPIC", "-shared", "-std=c11", *shlex.split(os.environ.get("CFLAGS", ""))]
    if sys.platform == "darwin":
        flags += ["-undefined", "dynamic_lookup"]
    return [*compiler, *flags, f"-I{sysconfig.get_path('include')}", str(source), "-o", str(target)]


def run(command: list[str], deadline_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise CannotBuild(f"{command[0]}: {e}") from e
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise CannotBuild(f"{command[0]} ended with {done.returncode}: {why}")
