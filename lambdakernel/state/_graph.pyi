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
    @property
    def objects(self) -> int: ...
    @property
    def has_shared_dict(self) -> bool: ...
    def shared(self) -> frozenset[int]: ...
    def containers(self) -> frozenset[int]: ...
    def numbers(self, memo: dict[int, tuple[int, Any]], /) -> dict[int, int] | None: ...
    def kinds(self) -> list[type]: ...

def snapshot(
    roots: tuple[object, ...], live: dict[str, Any], leaf: Leaf | None, limit: int, atoms: tuple[type, ...], /
) -> Snapshot | None: ...
def advance(
    old: Snapshot,
    roots: tuple[object, ...],
    live: dict[str, Any],
    leaf: Leaf | None,
    limit: int,
    atoms: tuple[type, ...],
    /,
) -> tuple[Snapshot, tuple[list[tuple[Any, int, int, list[Any] | None]], *tuple[list[int], ...]] | None] | None: ...
def nested(
    roots: tuple[object, ...],
    live: dict[str, Any],
    limit: int,
    atoms: tuple[type, ...],
    stride: int,
    plain: tuple[type, ...],
    /,
) -> tuple[list[Any], bool, list[type]] | None: ...
