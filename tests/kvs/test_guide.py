"""The guide to lattices does what it says: its examples run, and no type is left out."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kvs.lattices import codec

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "lattices.md"


def test_the_examples_of_the_guide_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    module = ModuleType("guide")  # a real one: its classes are pickled by name
    monkeypatch.setitem(sys.modules, "guide", module)
    said: list[str] = []
    for n, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, {}, f"block {n + 1}", str(GUIDE), 0)
        test.globs = module.__dict__
        runner.run(test, out=said.append, clear_globs=False)
    assert runner.tries > 60
    assert runner.failures == 0, "".join(said)


def test_every_type_is_in_the_guide() -> None:
    text = GUIDE.read_text()
    ours = [cls.__name__ for cls in codec.types().values() if re.match(r"kvs\.(lattices|causal)\.", cls.__module__)]
    assert len(ours) > 15 and [name for name in ours if f"`{name}`" not in text] == []
