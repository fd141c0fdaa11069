from collections.abc import Sequence
from typing import Any, final

from lambdakernel.state.graph import Leaf

@final
class Snapshot:
    @property
    def nbytes(self) -> int: ...
    @property
    def references(self) -> int: ...
    def is_unchanged(self, roots: Sequence[object], /) -> bool: ...

def snapshot(
    roots: tuple[object, ...], live: dict[str, Any], leaf: Leaf | None, limit: int, atoms: tuple[type, ...], /
) -> Snapshot | None: ...
