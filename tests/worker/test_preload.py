"""Modules that other processes had better be born with."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from lambdakernel.worker import preload


def test_public_parts_of_what_the_setting_names_as_far_as_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lk_one", "lk_one.part", "lk_one._own", "lk_one.part.deep", "lk_other", "lk_other.part"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert preload.used(("lk_none", "lk_one.part.deep", "lk_one")) == ["lk_one.part.deep", "lk_one", "lk_one.part"]
    assert preload.used(()) == []
