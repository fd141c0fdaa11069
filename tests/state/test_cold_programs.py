"""A program shows the same whether each of its cells has a process of its own or all share one."""

from __future__ import annotations

from pathlib import Path

import numpy  # noqa: F401 - imported before the forks, so that they need not
import pandas  # noqa: F401
import pytest

from tests.state.cold import cold, seen, warm
from tests.state.programs import PROGRAMS


@pytest.mark.parametrize("claim", PROGRAMS, ids=lambda claim: claim.replace(" ", "_"))
def test_cells_in_fresh_processes_show_what_one_process_shows(claim: str, tmp_path: Path) -> None:
    cells = PROGRAMS[claim]
    assert seen(cold(tmp_path / "store", cells)) == warm(cells)


def test_most_programs_show_something() -> None:
    """A program that prints nothing would claim nothing."""
    assert all(any("print" in cell for cell in cells) for cells in PROGRAMS.values())
