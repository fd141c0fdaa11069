from collections.abc import Sequence
from typing import Any, final

from lambdakernel.state.bases import Numbers
from lambdakernel.state.snapshots import Leaf

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
    def disordered(self, roots: tuple[object, ...], /) -> list[tuple[Any, int, bytes, bytes]] | None: ...
    def needs(self, most: int, /) -> tuple[list[Any], list[Any]] | None: ...
    def write(
        self, roots: tuple[object, ...], names: tuple[str, ...], places: dict[int, int], first: int, /
    ) -> tuple[bytes, int] | None: ...
    def edit_needs(self, added: list[int], least: int, most: int, /) -> tuple[list[Any], list[Any]] | None: ...
    def write_edit(
        self,
        roots: tuple[object, ...],
        added: list[int],
        said: list[Any],
        names: dict[str, Any],
        without: list[str],
        numbers: Numbers,
        gone: frozenset[int],
        places: dict[int, int],
        first: int,
        /,
    ) -> tuple[bytes, int, list[int]] | None: ...
    def place(self, address: int, /) -> int | None: ...

_Difference = tuple[list[tuple[Any, int, int, list[Any] | None]], *tuple[list[int], ...]]

def snapshot(
    roots: tuple[object, ...], live: dict[str, Any], leaf: Leaf | None, limit: int, atoms: tuple[type, ...], /
) -> Snapshot | None: ...
def arrange(obj: Any, size: int, places: bytes, removed: bytes, /) -> bool: ...
def amend(
    old: Snapshot, roots: tuple[object, ...], live: dict[str, Any], atoms: tuple[type, ...], /
) -> tuple[Snapshot, _Difference] | None: ...
def advance(
    old: Snapshot,
    roots: tuple[object, ...],
    live: dict[str, Any],
    leaf: Leaf | None,
    limit: int,
    atoms: tuple[type, ...],
    /,
) -> tuple[Snapshot, _Difference | None] | None: ...
def nested(
    roots: tuple[object, ...],
    live: dict[str, Any],
    limit: int,
    atoms: tuple[type, ...],
    stride: int,
    plain: tuple[type, ...],
    /,
) -> tuple[list[Any], bool, list[type]] | None: ...
