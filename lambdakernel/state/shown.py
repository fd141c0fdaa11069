"""What `_`, `__` and `___` stand for after a cell, in a worker that may have loaded none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Shown = tuple[str, str, str]
"""Names of outputs (`_5`), or empty."""


def shown_after(here: Sequence[str | None], before: Shown, is_there: Callable[[str], bool]) -> Shown:
    """What the three names stand for now.

    `here` says it as far as this worker knows: the name of an output, empty for any other value, None where the shell
    still has what it begins with. There it is what it was `before`, moved on by the outputs that are new; those that
    are not there any more (`%reset out`) are left out.
    """
    new = next((n for n, name in enumerate(here) if not name or name in before), len(here))
    old: list[str | None] = [*[""] * new, *before]
    now = [(before_it if name is None else name) or "" for name, before_it in zip(here, old, strict=False)]
    one, two, three = (name if name and is_there(name) else "" for name in now)
    return (one, two, three)
