"""The guides do what they say: their examples run, and no type of lattice is left out."""

from __future__ import annotations

import builtins
import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kvs.lattices import codec

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE = DOCS / "lattices.md"


@pytest.mark.parametrize(("name", "least"), [("lattices.md", 60), ("kvs.md", 30)])
def test_the_examples_of_a_guide_run(name: str, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    module = ModuleType("guide")  # a real one: its classes are pickled by name
    monkeypatch.setitem(sys.modules, "guide", module)
    monkeypatch.setattr(codec, "_TYPES", dict(codec.types()))  # the guide's own types end with it
    monkeypatch.setattr(builtins, "_", None, raising=False)  # an expression that is shown binds it
    said: list[str] = []
    for n, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, {}, f"block {n + 1}", name, 0)
        test.globs = module.__dict__
        runner.run(test, out=said.append, clear_globs=False)
    assert runner.tries > least
    assert runner.failures == 0, "".join(said)


def test_every_type_is_in_the_guide() -> None:
    text = GUIDE.read_text()
    ours = [cls.__name__ for cls in codec.types().values() if re.match(r"kvs\.(lattices|causal)\.", cls.__module__)]
    assert len(ours) > 15 and [name for name in ours if f"`{name}`" not in text] == []
