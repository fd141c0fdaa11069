"""Modules that other processes had better be born with."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lambdakernel.worker import preload


def test_public_parts_of_what_the_setting_names_as_far_as_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lk_one", "lk_one.part", "lk_one._own", "lk_one.part.deep", "lk_other", "lk_other.part"):
        module = ModuleType(name)
        module.__file__ = f"/env/site-packages/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
    assert preload.used(("lk_none", "lk_one.part.deep", "lk_one")) == ["lk_one.part.deep", "lk_one", "lk_one.part"]
    assert preload.used(()) == []


def test_a_module_of_the_notebooks_folder_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The zygote would import the installed one of that name, and the next worker would have that."""
    (tmp_path / "lk_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert preload.wanted(ast.parse("import lk_mine").body, ("lk_mine",)) == []
    importlib.import_module("lk_mine")
    monkeypatch.delitem(sys.modules, "lk_mine")
    module = ModuleType("lk_mine")
    module.__file__ = str(tmp_path / "lk_mine.py")
    monkeypatch.setitem(sys.modules, "lk_mine", module)
    assert preload.used(("lk_mine",)) == []


def test_what_a_cell_is_about_to_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("lk_one", "lk_two"):
        folder = tmp_path / "site-packages" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('only looked for')")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    cell = ast.parse(
        "import lk_one.a as x, lk_other\nif x:\n    from lk_two import b, C\ntry:\n    from lk_two.d import e\n"
        "except ImportError: pass\nfrom . import lk_one\nimport lk_none\ndef f():\n    import lk_one.later"
    )
    assert preload.wanted(cell.body, ("lk_one", "lk_two", "lk_none")) == ["lk_one.a", "lk_two", "lk_two.b", "lk_two.d"]
    monkeypatch.setitem(sys.modules, "lk_two", ModuleType("lk_two"))
    assert preload.wanted(cell.body, ("lk_one",)) == ["lk_one.a"]
    assert preload.wanted(ast.parse("x = 1").body, ("lk_one",)) == []
