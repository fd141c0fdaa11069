"""Whether anything in an object graph has changed, without encoding it: "surely unchanged", or "don't know".

Theory of operation
- A snapshot writes down, for every object that some roots reach, the addresses of its children. Atoms (what cannot
  change) are kept alive by it, so that their addresses stay theirs. Other objects are not: they die when the notebook
  lets go of them, as they would without a snapshot.
- A check follows the same references in the same order and compares addresses. It reads an object only after one that
  refers to it was found unchanged, so what it reads is alive; and one that was born at the address of a dead one, with
  the same type and the same children, is the same value.
- Types that are not understood to the last field are *opaque*: no snapshot, unless the caller's `leaf` gives a token.
  Understood are the built-in containers, functions, cells, methods, and instances of classes whose layout adds only a
  dictionary, slots and weak references to one of those. A class is compared by identity: it is a unit of its own.
- No code of the notebook runs: no attribute, no comparison, no hash.
- In C only: a snapshot can be amended where little changed, compared with an older one, and written as a pickle.

`_graph.c` does this in C; `walk.py` does it level by level in Python, and is used where the extension was not built, or
when LAMBDAKERNEL_NO_EXTENSION is 1. Both give the same answers, but for one: on Python 3.12, where reading an
attribute can replace an instance's dictionary, that in Python then says "don't know".
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from lambdakernel.state.snapshots import LIMIT, ComparableSnapshot, Difference, Edit, Leaf, Snapshot
from lambdakernel.state.walk import python_snapshot


def snapshot(
    roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None, limit: int = LIMIT
) -> Snapshot | None:
    """What `roots` and all that they reach look like; None if something there is opaque, or it is over `limit`.

    Functions whose globals are `live` do not reach it. Costs about 30 ns a reference, a check 3 ns (Python: 300, 60).

    Raises:
        Exception: what `leaf` raised.
    """
    take = native_snapshot if native_snapshot is not None and FAST else python_snapshot
    return take(tuple(roots), live, leaf, limit, late_atoms())


def take(roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None) -> ComparableSnapshot | None:
    """As `snapshot`, by the extension only."""
    assert native_snapshot is not None
    return cast("ComparableSnapshot | None", native_snapshot(tuple(roots), live, leaf, LIMIT, late_atoms()))


def amend(
    old: ComparableSnapshot, roots: Sequence[object], live: dict[str, Any]
) -> tuple[ComparableSnapshot, Difference] | None:
    """As `advance`, at the cost of a check where little changed; None if it was more than this can say, or what `leaf`
    gives for an opaque object is another token.

    Raises:
        Exception: what `leaf` raised.
    """
    assert native_amend is not None
    found = native_amend(old, tuple(roots), live, late_atoms())
    return (found[0], _difference(found[1])) if found is not None else None


def advance(
    old: ComparableSnapshot, roots: Sequence[object], live: dict[str, Any], *, leaf: Leaf | None = None
) -> tuple[ComparableSnapshot | None, Difference | None]:
    """A new snapshot, and what changed since `old`, whose roots may have been others; no difference if something
    changed that it cannot say (an array, the class of an object). By the extension only.

    Raises:
        Exception: what `leaf` raised.
    """
    assert native_advance is not None
    if (amended := amend(old, roots, live)) is not None:
        return amended
    taken = native_advance(old, tuple(roots), live, leaf, LIMIT, late_atoms())
    if taken is None:
        return None, None
    return taken[0], _difference(taken[1]) if taken[1] is not None else None


def arrange(obj: Any, size: int, places: bytes, removed: bytes) -> bool:
    """Put the elements of a set that was just loaded where they were (see `Places`); False if they cannot be there, or
    without the extension. Runs no code of theirs."""
    return native_arrange is not None and FAST and native_arrange(obj, size, places, removed)


def _difference(found: tuple[Any, ...]) -> Difference:
    edits, *addresses = found
    return Difference([Edit(*edit) for edit in edits], *addresses)


def nested(
    root: object, live: dict[str, Any], stride: int, is_plain: Callable[[type], bool]
) -> tuple[list[Any], bool] | None:
    """Objects to dump before `root`, innermost first, so that no dump goes deeper than `stride` of them; and whether
    some are in a cycle, which this does not break. None where the extension does not know. Instances are gone into if
    their type `is_plain`: if it is dumped as its attributes."""
    if native_nested is None or not FAST:
        return None
    plain: tuple[type, ...] = ()
    for _ in range(2):
        found = native_nested((root,), live, LIMIT, late_atoms(), stride, plain)
        if found is None:
            return None
        parts, is_cyclic, kinds = found
        plain = tuple(kind for kind in kinds if is_plain(kind))
    return parts, is_cyclic


_NO_EXTENSION = os.environ.get("LAMBDAKERNEL_NO_EXTENSION") == "1"
Take = Callable[[tuple[object, ...], dict[str, Any], Leaf | None, int, tuple[type, ...]], Snapshot | None]

native_snapshot: Take | None
native_advance: Callable[..., Any] | None
native_amend: Callable[..., Any] | None
native_nested: Callable[..., Any] | None
native_arrange: Callable[..., bool] | None
try:
    from lambdakernel.state._graph import advance as native_advance
    from lambdakernel.state._graph import amend as native_amend
    from lambdakernel.state._graph import arrange as native_arrange
    from lambdakernel.state._graph import nested as native_nested
    from lambdakernel.state._graph import snapshot as native_snapshot
except ImportError:  # there was no compiler when it was installed, or it was built for another Python
    native_snapshot = native_advance = native_amend = native_nested = native_arrange = None

FAST = native_snapshot is not None and not _NO_EXTENSION
"""Whether the extension is used. A snapshot then costs about a tenth of a dump, and a check a hundredth; without it a
snapshot costs as much as some dumps, and a check from a tenth of a dump (instances) to five (numbers in a list)."""

_LATE = (
    ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"), ("zoneinfo", "ZoneInfo"), ("re", "Pattern"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("ipaddress", "IPv4Address"), ("ipaddress", "IPv6Address"),
)  # fmt: skip


def late_atoms() -> tuple[type, ...]:
    """Types of immutable values in modules that were imported: there is no instance of others."""
    found = [getattr(sys.modules[module], name, None) for module, name in _LATE if module in sys.modules]
    return (*(kind for kind in found if isinstance(kind, type)), *_numpy_scalars(sys.modules.get("numpy")))


@functools.lru_cache(maxsize=2)
def _numpy_scalars(numpy: Any) -> tuple[type, ...]:
    kinds: set[type] = set(getattr(numpy, "sctypeDict", {}).values())
    return tuple(kind for kind in kinds if kind.__name__ not in ("void", "object_"))
