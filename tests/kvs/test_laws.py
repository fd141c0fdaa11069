"""Every lattice keeps the contract, ties included; and the kit that says so catches lattices that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from kvs.lattices import codec
from kvs.testing import check_lattice, values_of
from tests.kvs.lattice_cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls.__name__)
def test_a_lattice_keeps_the_contract(case: Case) -> None:
    check_lattice(
        case.cls,
        values_of(case.cls),
        arguments=case.arguments,
        meanings=case.meanings,
        order=case.order,
        examples=case.examples,
    )


def test_no_type_that_can_be_stored_is_left_out() -> None:
    ours = {
        cls for cls in codec.types().values() if not cls.__module__.startswith(("kvs.testing", "tests", "__main__"))
    }
    assert {case.cls for case in CASES} == ours


def test_a_declared_method_without_arguments_to_draw_is_named() -> None:
    values: st.SearchStrategy[Any] = values_of(CASES[0].cls)
    with pytest.raises(ValueError, match=r"Max\.raise_to is declared"):
        check_lattice(CASES[0].cls, values)
