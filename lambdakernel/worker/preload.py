"""Which modules other processes of a kernel had better be born with."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def used(preload: Sequence[str]) -> list[str]:
    """What the setting `preload` names of the modules that are imported in this process, and their public parts."""
    named = [name for name in preload if name in sys.modules]
    parts = [name for name in [*sys.modules] if name.count(".") == 1 and "._" not in name]
    return list(dict.fromkeys([*named, *(name for name in parts if name.partition(".")[0] in named)]))
