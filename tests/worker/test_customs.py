"""What cells register in the shell, in real kernels whose workers end. Parity programs compare it with ipykernel."""

from __future__ import annotations

from pathlib import Path

from tests.kernels import running

HOOKS = """
def counting():
    steps = (n for n in range(9))
    return lambda info: next(steps)
ip = get_ipython()
ip.events.register("pre_run_cell", counting())
seen = []
ip.events.register("post_execute", lambda: seen.append(len(seen)))
from IPython.core.magic import register_line_magic
@register_line_magic
def twice(line): return line * 2
"""


def test_a_hook_that_cannot_move_is_named_and_the_rest_is_registered_again(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run(HOOKS)
        kernel.kill_worker()
        result = kernel.run("%twice ab")
        assert result.value == "'abab'"
        assert "Not brought back: hook pre_run_cell (" in result.shown and "generator" in result.shown
        assert kernel.run("get_ipython().events.callbacks['pre_run_cell'], len(seen) >= 2").value == "([], True)"
        kernel.kill_worker()
        again = kernel.run("%twice x")
        assert again.value == "'xx'" and "Not brought back" not in again.shown


def test_the_shell_is_looked_at_without_making_what_it_makes_when_needed(tmp_path: Path) -> None:
    """`%config PlainTextFormatter...` has an effect until the formatters are made, which a display does."""
    with running(tmp_path / "store") as kernel:
        made = "print('formatters' in get_ipython().display_formatter._trait_values)"
        kernel.run("x = 1")
        assert kernel.run(made).stdout == "False\n"
        kernel.run("x")
        assert kernel.run(made).stdout == "True\n"


def test_what_is_captured_is_the_same_until_it_changes(tmp_path: Path) -> None:
    """Else every cell would publish it again."""
    with running(tmp_path / "store") as kernel:
        kernel.run(HOOKS.replace('cell", counting()', 'cell", str'))
        kernel.run("get_ipython().display_formatter.formatters['text/html'].for_type(set, str)\n%xmode Minimal")
        look = """
held = get_ipython().kernel.durable.namespace._held
held.capture(); one = dict(held._values); held.capture(); other = dict(held._values)
print(sorted(n[3:] for n in one), all(one[n] is other[n] for n in one))"""
        names = ["formatter text/html set 0", "hook post_execute", "hook pre_run_cell", "magic line twice"]
        assert kernel.run(look).stdout == f"{names} True\n"
        kernel.kill_worker()
        assert kernel.run(look).stdout == f"{names} True\n"


def test_the_shell_moves_by_its_name(tmp_path: Path) -> None:
    with running(tmp_path / "store") as kernel:
        kernel.run(
            "ip = get_ipython(); parts = [ip.events, {'f': ip.display_formatter.formatters['text/html']}]; a = [ip]"
        )
        kernel.kill_worker()
        asked = "print(ip is get_ipython() is a[0], parts[0] is ip.events)"
        assert kernel.run(asked).stdout == "True True\n"
        assert kernel.run("parts[1]['f'] is ip.display_formatter.formatters['text/html']").value == "True"
        groups = "print([r.group for r in ip.kernel.durable.namespace.rows() if r.name in ('ip', 'a', 'parts')])"
        assert kernel.run(groups).stdout == "[('a',), ('ip',), ('parts',)]\n"
