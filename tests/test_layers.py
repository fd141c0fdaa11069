"""Who may import whom, as a table, held against the imports that are really written.

The table is the map of the code: a row is a layer (the longest prefix of a module's name that has one), with the layers
and the third-party packages that it may import. A layer may always import itself and the standard library. Imports
inside functions and under `TYPE_CHECKING` count too: what is imported late is still known.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lambdakernel", "kvs")


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer may import: `ours` are prefixes of module names, `theirs` top-level packages."""

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()


ERRORS, SETTINGS = "lambdakernel.errors", "lambdakernel.settings"
LAYERS = {
    "kvs": Layer(theirs=("msgspec", "blake3")),
    "kvs.errors": Layer(),
    "kvs.settings": Layer(("kvs.errors",)),
    "kvs.lattices": Layer(("kvs.errors",)),
    "kvs.causal": Layer(("kvs.errors", "kvs.lattices")),
    "kvs.testing": Layer(("kvs.errors", "kvs.lattices", "kvs.causal"), ("hypothesis",)),
    "kvs.movement": Layer(("kvs.errors",)),
    "kvs.testing.tier": Layer(
        ("kvs.errors", "kvs.seal", "kvs.records", "kvs.causal", "kvs.tiers")  # bytes: no lattice, no hypothesis
    ),
    "kvs.tiers": Layer(("kvs.errors", "kvs.settings", "kvs.seal", "kvs.causal"), ("msgspec", "blake3")),
    "lambdakernel": Layer(("lambdakernel.futures",)),
    "lambdakernel.__main__": Layer(("lambdakernel.front", "lambdakernel.install")),
    "lambdakernel.install": Layer((ERRORS,), ("jupyter_client",)),
    "lambdakernel.errors": Layer(),
    "lambdakernel.settings": Layer((ERRORS,)),
    "lambdakernel.live": Layer((ERRORS, "kvs")),
    "lambdakernel.executors": Layer((ERRORS, SETTINGS)),
    "lambdakernel.front": Layer((ERRORS, SETTINGS, "lambdakernel.executors"), ("zmq",)),
    "lambdakernel.pages": Layer(()),
    "lambdakernel.state": Layer((ERRORS, SETTINGS, "lambdakernel.pages", "kvs"), ("cloudpickle", "xxhash", "msgspec")),
    "lambdakernel.session": Layer((ERRORS, SETTINGS, "kvs"), ("msgspec",)),
    "lambdakernel.parallel": Layer(
        (ERRORS, SETTINGS, "lambdakernel.executors", "lambdakernel.live", "lambdakernel.state", "kvs"),
        ("IPython", "msgspec"),
    ),
    "lambdakernel.parallel.spool": Layer((ERRORS,), ("cloudpickle",)),
    "lambdakernel.parallel.shuffle": Layer(
        (ERRORS, "lambdakernel.live", "lambdakernel.parallel", "lambdakernel.futures.joins", "kvs")
    ),
    "lambdakernel.futures": Layer(
        (ERRORS, SETTINGS, "lambdakernel.pages", "lambdakernel.parallel.parcels"), ("cloudpickle", "xxhash")
    ),
    "lambdakernel.futures.joins": Layer(("lambdakernel.live", "kvs.lattices")),
    "lambdakernel.futures.joblib_backend": Layer(("lambdakernel.futures",), ("joblib",)),
    "lambdakernel.magics": Layer(
        (
            ERRORS,
            SETTINGS,
            "lambdakernel.executors",
            "lambdakernel.state",
            "lambdakernel.parallel",
            "lambdakernel.worker.processes",  # what `%workers` shows; it imports nothing of ours itself
        ),
        ("IPython",),
    ),
    "lambdakernel.worker": Layer(
        (
            ERRORS,
            SETTINGS,
            "lambdakernel.executors",
            "lambdakernel.state",
            "lambdakernel.session",
            "lambdakernel.parallel",
            "lambdakernel.magics",
            "kvs",
        ),
        ("IPython", "ipykernel", "traitlets", "tornado", "zmq", "comm"),
    ),
    "lambdakernel.worker.processes": Layer((), ("msgspec", "psutil")),
}
"""The map. A module without a row of its own belongs to the row with the longest prefix of its name."""

LATE = {
    ("kvs.tiers.s3", "boto3"): "makes the client of S3 for those who installed the extra",
    ("kvs.tiers.s3", "botocore"): "the errors and the settings of that client",
    ("kvs.causal.text", "pycrdt"): "reads and edits a text for those who installed the extra",
    ("lambdakernel.state.columns", "polars"): "makes frames and series that the user's polars had",
    ("lambdakernel.state.columns", "numpy"): "reads memory into those, where pyarrow is not installed",
    ("lambdakernel.state.ambient.libraries", "numpy"): "restores a generator and options that the user's numpy had",
    ("lambdakernel.state.ambient.libraries", "pandas"): "restores options that the user's pandas had",
    ("lambdakernel.state.ambient.libraries", "matplotlib"): "restores parameters that the user's matplotlib had",
    ("lambdakernel.state.ambient.registries", "pandas"): "adds to classes what the user's pandas had",
    ("lambdakernel.state.ambient.registries", "matplotlib"): "registers maps that the user's matplotlib had",
    ("lambdakernel.state.ambient.figures", "matplotlib"): "restores figures that the user's matplotlib had open",
}
"""Imports of a user's library, each inside a function that runs only for a user who has it; and why."""

HEAVY = ("IPython", "ipykernel", "traitlets", "tornado", "jupyter_client", "numpy", "pandas", "matplotlib", "kvs")
SLOW_TO_START = ("asyncio", "dataclasses", "inspect", "typing_extensions", "concurrent", "subprocess", "logging")
"""Of the standard library, what costs milliseconds at start and what a loop over sockets has no need of."""


@dataclass(frozen=True, slots=True)
class Import:
    """`module`, at `line`, imports `target`; `late` if inside a function."""

    module: str
    target: str
    line: int
    late: bool


# -- reading


def modules() -> dict[str, Path]:
    """Every module of ours by name; a package by its own name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, source: str, known: frozenset[str], *, is_package: bool = False) -> Iterator[Import]:
    """Every import that `source` writes; `from package import module` is an import of that module."""
    tree = ast.parse(source)
    late = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node, is_package)
            targets = [name if (name := f"{base}.{a.name}") in known else base for a in node.names]
        else:
            continue
        yield from (Import(module, target, node.lineno, id(node) in late) for target in targets)


def absolute(module: str, node: ast.ImportFrom, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *filter(None, [node.module])])


# -- judging


def layer_of(module: str) -> str:
    """The longest row of the table that `module` is in."""
    return max((row for row in LAYERS if within(module, row)), key=len)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def complaint(found: Import) -> str | None:
    """Why the map forbids an import, or None if it does not."""
    top = found.target.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__future__":
        return None
    name = layer_of(found.module)
    layer = LAYERS[name]
    where = f"{found.module}:{found.line} imports {found.target}"
    if top in PACKAGES:
        root = top if within(found.module, top) else ""  # a package's root holds its version and no more
        allowed = found.target == root or any(within(found.target, p) for p in (name, *layer.ours))
        return None if allowed else f"{where}, but {name} may import only {', '.join(layer.ours) or 'itself'}"
    if top in layer.theirs or (found.late and (found.module, top) in LATE):
        return None
    return f"{where}, but of others' packages {name} may import only {', '.join(layer.theirs) or 'none'}"


def complaints(module: str, source: str) -> list[str]:
    known = frozenset(modules())
    is_package = modules().get(module, Path()).name == "__init__.py"
    return list(filter(None, map(complaint, imports_of(module, source, known, is_package=is_package))))


# -- the claims


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_what_the_map_allows(module: str) -> None:
    assert complaints(module, modules()[module].read_text()) == []


def test_each_client_of_others_is_imported_by_one_layer() -> None:
    owners = {
        "cloudpickle": ("lambdakernel.state", "lambdakernel.futures", "lambdakernel.parallel.spool"),
        "xxhash": ("lambdakernel.state", "lambdakernel.futures"),
        "joblib": ("lambdakernel.futures.joblib_backend",),
        "blake3": ("kvs",),
        "boto3": ("kvs.tiers.s3",),
        "botocore": ("kvs.tiers.s3",),
        "psutil": ("lambdakernel.worker.processes",),
        "jupyter_client": ("lambdakernel.install",),
    }
    for module, path in modules().items():
        for found in imports_of(module, path.read_text(), frozenset(modules())):
            of = owners.get(found.target.partition(".")[0])
            assert of is None or any(within(module, o) for o in of), f"{module} imports {found.target}, which is {of}'s"


def test_every_row_of_the_map_is_a_place_in_the_code_or_in_the_plan() -> None:
    planned = {"kvs.lattices"}
    rows = {row for row in LAYERS if not any(within(module, row) for module in modules())}
    assert rows <= planned
    assert {module for module, _ in LATE} <= set(modules())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kvs.store", "import lambdakernel"),
        ("kvs.lattices.base", "from kvs.tiers import node"),
        ("kvs.tiers.node", "from kvs.lattices.base import Lattice"),
        ("kvs.tiers.node", "def f():\n    from kvs import store"),
        ("lambdakernel.front.loop", "import tornado.ioloop"),
        ("lambdakernel.front.loop", "def f():\n    import IPython"),
        ("lambdakernel.front.loop", "from lambdakernel.worker.app import main"),
        ("lambdakernel.front.loop", "from .. import state"),
        ("lambdakernel.state.codec", "import zmq"),
        ("lambdakernel.state.ambient", "import numpy"),
        ("lambdakernel.executors.local", "from lambdakernel import state"),
        ("lambdakernel.parallel.cell", "from lambdakernel.magics import load"),
        ("lambdakernel.magics.workers", "from lambdakernel.worker import app"),
        ("lambdakernel.worker.app", "from lambdakernel.front import lanes"),
        ("lambdakernel.worker.app", "import psutil"),
    ],
)
def test_the_checker_sees_a_forbidden_import(module: str, source: str) -> None:
    assert len(complaints(module, source)) == 1


def test_importing_the_front_loads_nothing_heavy() -> None:
    """What the table cannot see: what the few packages that the front imports load in their turn."""
    code = "import json, sys; import lambdakernel.front.app, lambdakernel.front.loop; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert {"lambdakernel", "zmq"} <= loaded
    assert sorted(loaded.intersection(HEAVY + SLOW_TO_START)) == []
