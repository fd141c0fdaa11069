"""A notebook behaves as on ipykernel: warm always, and cold always but for what cannot move, which is named.

Each program of `families/` runs on ipykernel, on us warm and on us with `LAMBDAKERNEL_COLD=1`, where every cell has a
fresh worker. What clients see is compared message by message (`seen.py`). A program that is known to differ says why,
and its test fails once it does not differ any more.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator

import pytest

from tests.scenarios.parity import families
from tests.scenarios.parity.program import Program
from tests.scenarios.parity.seen import Message, first_difference
from tests.scenarios.parity.trio import COLD, IPYKERNEL, WARM, Cells, Trio

LEAST = 150
"""Programs that there must be."""


def named(programs: Iterable[Program]) -> dict[str, Program]:
    """Programs by name, of which no two have the same."""
    listed = list(programs)
    found = {program.name: program for program in listed}
    assert len(found) == len(listed), "two programs of a family have one name; give one of them another"
    return found


FAMILIES = {
    module.name: named(importlib.import_module(f"{families.__name__}.{module.name}").PROGRAMS)
    for module in pkgutil.iter_modules(families.__path__)
}


class Runs:
    """What each program showed on each kind; a program runs once, when a test first asks for it."""

    def __init__(self, trio: Trio) -> None:
        self._trio = trio
        self._shown: dict[Program, dict[str, Cells]] = {}

    def of(self, program: Program) -> dict[str, Cells]:
        if program not in self._shown:
            self._shown[program] = self._trio.run(program)
        return self._shown[program]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    trio = Trio()
    try:
        yield Runs(trio)
    finally:
        trio.close()


def cases() -> Iterator[object]:
    for family, programs in FAMILIES.items():
        for program in programs.values():
            for kind, known in ((WARM, program.known_warm), (COLD, program.known)):
                marks = [pytest.mark.xfail(reason=known, strict=True)] if known else []
                name = f"{family}-{program.name.replace(' ', '_')}-{kind}"
                yield pytest.param(program, kind, id=name, marks=marks)


@pytest.mark.parametrize(("program", "kind"), list(cases()))
def test_parity(program: Program, kind: str, runs: Runs) -> None:
    shown = runs.of(program)
    assert all(not is_unanswered(cell) for cell in shown[IPYKERNEL]), shown[IPYKERNEL]
    if kind == COLD and program.resident:
        lost = cells_that_lost(shown[COLD], program.resident)
        assert lost, f"no cell ended in ResidentLost of {program.resident!r}: {shown[COLD]}"
        assert lost[-1] < len(program.cells) - 1, "the last cell must look at the other variables"
        shown = without(shown, lost)
    difference = first_difference(shown, kind, IPYKERNEL)
    assert difference is None, f"{kind} differs from ipykernel in {difference}"


def is_unanswered(cell: list[Message]) -> bool:
    return any(kind == "no answer" for kind, _ in cell)


def cells_that_lost(cells: Cells, name: str) -> list[int]:
    """Which cells ended in `ResidentLost` of variable `name`."""

    def lost(kind: str, content: dict[str, str]) -> bool:
        named_it = str(content.get("evalue", "")).startswith(f"{name} is gone:")
        return kind == "execute_reply" and content.get("ename") == "ResidentLost" and named_it

    return [at for at, cell in enumerate(cells) if any(lost(*message) for message in cell)]


def without(shown: dict[str, Cells], left_out: list[int]) -> dict[str, Cells]:
    """All kinds with nothing in the cells `left_out`, whose numbers stay."""
    return {kind: [[] if at in left_out else cell for at, cell in enumerate(cells)] for kind, cells in shown.items()}


def test_there_are_programs_enough_of_every_family() -> None:
    assert sum(map(len, FAMILIES.values())) >= LEAST
    assert all(FAMILIES.values())


def test_a_difference_is_found_and_shown_side_by_side() -> None:
    """The comparison can fail: one changed value, one message missing, one too many."""
    one: Cells = [[("stream", {"name": "stdout", "text": "1\n"}), ("execute_reply", {"status": "ok"})]]
    other: Cells = [[("stream", {"name": "stdout", "text": "2\n"}), ("execute_reply", {"status": "ok"})]]
    text = first_difference({IPYKERNEL: one, COLD: other}, COLD, IPYKERNEL) or ""
    assert text.startswith("cell 1, message 1:")
    assert '"1\n' in text and '"2\n' in text
    shortened: list[Cells] = [[one[0][:1]], [one[0][1:]], [[]]]
    for shorter in shortened:
        assert first_difference({IPYKERNEL: one, COLD: shorter}, COLD, IPYKERNEL)
        assert first_difference({IPYKERNEL: shorter, COLD: one}, COLD, IPYKERNEL)
    assert first_difference({IPYKERNEL: one, COLD: list(one)}, COLD, IPYKERNEL) is None
