"""The guide to tiers does what it says: its examples run, and its numbers are the code's."""

from __future__ import annotations

import builtins
import doctest
import re
from pathlib import Path

import pytest

from kvs.tiers.object import SEGMENT_BYTES
from kvs.tiers.retry import Retry
from kvs.tiers.s3 import PART_BYTES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "tiers.md"


def test_the_examples_of_the_guide_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "_", None, raising=False)  # an expression that is shown binds it
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), list[str]()
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "guide", str(GUIDE), 0)
    runner.run(examples, out=said.append)
    assert runner.tries > 12
    assert runner.failures == 0, "".join(said)


def test_the_numbers_of_the_guide_are_the_codes() -> None:
    text = GUIDE.read_text()
    assert f"up to {SEGMENT_BYTES >> 20} MiB" in text
    assert f"each {PART_BYTES >> 20} MiB" in text
    assert f"operation's deadline ({Retry().deadline_s:.0f} s)" in text
