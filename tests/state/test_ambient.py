"""Ambient state that cannot be brought back costs itself and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lambdakernel.state.ambient import AmbientState
from tests.kernels import running


class Stubborn:
    """Refuses to be restored."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def capture(self) -> Any:
        return self.value

    def restore(self, value: Any) -> None:
        if self.name == "bad":
            raise ModuleNotFoundError("no such extension")
        self.value = value


def test_one_that_cannot_be_restored_is_named_and_the_others_are() -> None:
    before = (Stubborn("bad", 0), Stubborn("good", 0))
    state = AmbientState(before)
    for item in before:
        item.value = 7
    stored = state.changed()
    after = (Stubborn("bad", 0), Stubborn("good", 0))
    restored = AmbientState(after)
    restored.restore(stored)
    assert [item.value for item in after] == [0, 7]
    assert restored.failed == {"bad": "ModuleNotFoundError: no such extension"}


def test_one_that_cannot_be_pickled_is_named_and_the_others_are_kept() -> None:
    items = (Stubborn("open", 0), Stubborn("plain", 0))
    state = AmbientState(items)
    items[0].value, items[1].value = (lambda: 0), 5
    assert list(state.changed()) == ["plain"]
    assert list(state.failed) == ["open"]


def test_an_extension_that_is_gone_does_not_keep_the_next_worker_from_starting(tmp_path: Path) -> None:
    extension = tmp_path / "gone_ext.py"
    extension.write_text("def load_ipython_extension(shell): pass\n")
    with running(tmp_path / "store") as kernel:
        kernel.run(f"import sys, warnings; sys.path.insert(0, {str(tmp_path)!r})\n%load_ext gone_ext\nx = [1]")
        kernel.run("class Mine(Warning): pass\nwarnings.simplefilter('ignore', Mine)")
        extension.unlink()
        kernel.kill_worker()
        result = kernel.run("x")
        assert result.status == "ok"
        shown = str(result)
        assert "Not brought back" in shown and "gone_ext" in shown
        assert kernel.run("[f[2] is Mine for f in warnings.filters].count(True)").value == "1"
