"""`notebooks/02_parallel.ipynb` runs from top to bottom, and finds what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernels import Kernel

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "02_parallel.ipynb"


def test_the_notebook_searches_simulates_and_counts(start_kernel: Callable[..., Kernel]) -> None:
    for module in ("matplotlib", "sklearn"):
        pytest.importorskip(module)
    kernel, shown = start_kernel(), {}
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "lambdakernel"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            result = kernel.run("".join(cell["source"]), timeout=100)
            assert result.status == "ok", f"{cell['id']}: {result.shown}"
            shown[cell["id"]] = result
    assert shown["watch"].types.count("update_display_data") >= 1
    assert kernel.value("(len(score), len(model), bool(best.value == max(score)), waited.rounds())") == (
        12,
        12,
        True,
        3000,
    )
    assert kernel.value("float(chosen.score(X_test, y_test))") > 0.9
    assert abs(kernel.value("waited.mean()") - 3.2) < 0.8
    assert kernel.value("sum(counts.values())") == 60 * 2000
