"""What a machine can check of the documents: links, settings, names of errors, and the README's first notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import lambdakernel.errors
from lambdakernel.settings import Settings
from tests.kernels import Kernel

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TOUR = ROOT / "notebooks" / "01_tour.ipynb"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [d.name for d in DOCUMENTS if d.parent.name == "docs" and f"docs/{d.name}" not in readme] == []


def test_every_setting_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(Settings._fields)


def test_every_number_among_the_defaults_is_the_documented_one() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)`", text, re.MULTILINE))
    numbers = {name: value for name, value in Settings()._asdict().items() if isinstance(value, int | float)}
    assert {name: float(rows[name]) for name in numbers} == {name: float(value) for name, value in numbers.items()}


def test_errors_that_the_documents_name_exist() -> None:
    text = (ROOT / "docs" / "failures.md").read_text()
    for name in ("WorkerLost", "NoWorker", "ResidentLost", "ValueDamaged", "NotSaved"):
        assert f"`{name}`" in text
        assert hasattr(lambdakernel.errors, name)


def test_the_tour_is_stored_without_outputs_and_for_our_kernel() -> None:
    notebook = json.loads(TOUR.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "lambdakernel"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_the_readmes_first_notebook_does_what_it_says(start_kernel: Callable[..., Kernel]) -> None:
    section = (ROOT / "README.md").read_text().partition("## A first notebook")[2].partition("\n## ")[0]
    cells = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    kernel = start_kernel()
    results = [kernel.run(cell) for cell in cells]
    assert [r.status for r in results] == ["ok", "error", "ok", "ok"], [r.shown for r in results]
    assert results[1].ename == "WorkerLost"
    assert results[2].value is not None
    assert eval(results[2].value, {"np": _Numpy}) == (5.0, 5.0)
    assert kernel.value("[len(means), all(abs(m) < 1 for m in means)]") == [8, True]


class _Numpy:
    """Reads numpy's own spelling of a number, `np.float64(5.0)`."""

    float64 = float
