"""What a new worker's shell knows of the inputs and outputs before it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lambdakernel.state import Cell
from lambdakernel.worker import history
from lambdakernel.worker.underscores import SHOWN, ClearedInputs, Kept, OutputTexts


def new_shell() -> InteractiveShell:
    config = Config()
    config.HistoryManager.enabled = False
    return InteractiveShell(config=config, user_ns={})


@pytest.fixture()
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.delattr(builtins, "_", raising=False)  # IPython leaves `_` alone where a translation is installed
    yield new_shell()


def run(shell: InteractiveShell, *sources: str) -> None:
    for source in sources:
        shell.run_cell(source, store_history=True).raise_error()


def cell(number: int, source: str) -> Cell:
    return Cell(number, source, f"m{number}", "ok", "", "", "", 0.0, 0.0)


def after(shell: InteractiveShell, ambient: Any) -> InteractiveShell:
    """A new worker's shell, told what `ambient`, of `shell`, says."""
    new = new_shell()
    new.execution_count = shell.execution_count
    type(ambient)(new).restore(ambient.capture())
    return new


@pytest.mark.parametrize(
    ("sources", "kept"),
    [
        (["1"], ()),
        (["_ = 5"], ("_",)),
        (["1", "2", "__ = 3", "4"], ("__",)),
        (["1", "%reset -f out"], ("_",)),
        (["_ = 5", "del _"], ()),
        (["_ = 5", "del _", "1"], ()),
    ],
)
def test_a_new_shell_leaves_alone_what_the_old_one_left_alone(
    shell: InteractiveShell, sources: list[str], kept: tuple[str, ...]
) -> None:
    run(shell, *sources)
    ambient = Kept(shell)
    assert ambient.capture() == kept
    for at in (shell, after(shell, ambient)):
        before = at.user_ns.get("_")
        run(at, "'shown'")
        assert at.user_ns["_"] == (before if kept else "shown")
        assert Kept(at).capture() == kept


def test_what_is_kept_no_more_follows_again(shell: InteractiveShell) -> None:
    kept = Kept(shell)
    kept.restore(("_",))
    run(shell, "1")
    assert shell.user_ns["_"] == ""
    kept.restore(())
    run(shell, "2")
    assert [shell.user_ns[name] for name in SHOWN] == [2, 1, ""]


@pytest.mark.parametrize("count", range(6))
def test_inputs_go_on_as_in_one_shell(shell: InteractiveShell, count: int) -> None:
    sources = [f"a = {n}" for n in range(1, count + 1)]
    run(shell, *sources)
    new = new_shell()
    history.restore(new, [cell(n, source) for n, source in enumerate(sources, 1)])
    names = ("_i", "_ii", "_iii", *(f"_i{n}" for n in range(1, count + 1)))
    for look in range(2):
        if look:
            run(shell, "b = 1")
            run(new, "b = 1")
        assert [new.user_ns.get(name, "") for name in names] == [shell.user_ns.get(name, "") for name in names]
        assert new.user_ns["In"] == shell.user_ns["In"]


def test_inputs_that_were_cleared_stay_so(shell: InteractiveShell) -> None:
    sources = ["a = 1", "b = 2", "%reset -f in", "c = 3"]
    run(shell, *sources)
    cleared = ClearedInputs(shell)
    new = new_shell()
    other = ClearedInputs(new)
    other.restore(cleared.capture())
    history.restore(new, [cell(n, source) for n, source in enumerate(sources, 1)], other.until)
    assert new.user_ns["In"] == shell.user_ns["In"] == ["", "", "", "", "c = 3"]
    assert "_i2" not in new.user_ns
    assert new.user_ns["_i4"] == "c = 3"
    run(shell, "d = 4")
    run(new, "d = 4")
    assert [new.user_ns[n] for n in ("_i", "_ii")] == [shell.user_ns[n] for n in ("_i", "_ii")]
    assert other.capture() == cleared.capture() == 3


def test_a_text_of_an_output_is_made_when_it_is_asked_for(shell: InteractiveShell) -> None:
    asked: list[int] = []

    def output(number: int) -> Any:
        asked.append(number)
        return {1: [1, 2], 2: "text"}.get(number)

    texts = OutputTexts(shell, output)
    shell.history_manager.output_hist_reprs = texts
    assert asked == []
    assert [texts.get(number) for number in (1, 2, 3)] == ["[1, 2]", "'text'", None]
    assert texts.get(1) == "[1, 2]"
    assert asked == [1, 2, 3]
    run(shell, "6 * 7")
    assert shell.history_manager.output_hist_reprs[1] == "42"
