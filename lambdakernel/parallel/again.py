"""Whether a task of a fan-out may have a second attempt beside its first: asked once, when it first matters."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from lambdakernel.parallel.effects import effect_of

CHOICES = ("auto", "yes", "no")
"""What `--again` takes: `auto` asks the body."""


class Again:
    """See the module. `effect` says what the body may do outside, as `effect_of_source` does."""

    def __init__(self, wanted: str, effect: Callable[[], str]) -> None:
        self._wanted = wanted
        self._effect = effect

    @cached_property
    def is_allowed(self) -> bool:
        return self._wanted == "yes" or (self._wanted == "auto" and not self._effect())

    @property
    def is_guarded(self) -> bool:
        """A second attempt ends itself before it does anything outside: nobody has said that it may."""
        return self._wanted != "yes"


NEVER = Again("no", str)


def effect_of_source(
    source: str, bound: Iterable[str], live: Mapping[str, Any], load: Callable[[str], object], items: object
) -> str:
    """`effect_of` for a body as text, which may await at its top level."""
    code = compile(source, "<body>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return effect_of(code, bound, live, load, items)
