"""A dump of many objects that is written from the snapshot of them, and not by a pickler.

Theory of operation
- The extension writes what a walk wrote down: one pickle, in which every object has the next place of the memo and is
  referred to by that. It takes a part of the time of a pickler (`benchmarks/object_graph.py`), recurses nowhere, and
  knows each object's number.
- That is right for what a pickler would write as the same: built-in containers, numbers and texts, and instances that
  are their class, `__dict__` and slots, where no code of theirs runs at a load. The encoder is asked about each class.
- Classes and other immutable values are in a pickle of the encoder's own, which comes first: what it wrote stays in the
  memo of the load, and is taken from the stack. So a load sees one pickle, and needs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import xxhash

from lambdakernel.state import attempts, bounds, deep
from lambdakernel.state.bases import Numbers
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump, Encoder, refs_of
from lambdakernel.state.sharing import Memo
from lambdakernel.state.snapshots import ComparableSnapshot, Difference

WORTH_OBJECTS = 200
"""Objects from which a pickle is written here: below, a pickler is as quick."""
_MOST_FOREIGN = 5_000
"""Immutable values of other types than numbers and texts, above which the encoder would do most of the work."""
_POP = b"0"
Said = tuple[Any, int, int, Any]
"""Of an object that changed: the object, items before and after that are as they were, and what is between, or its
attributes."""


def dump(
    look: ComparableSnapshot, names: Sequence[str], live: dict[str, Any], book: ClassBook
) -> tuple[Dump, Memo] | None:
    """The values of `names`, which `look` was just taken of, and the memo of what the encoder wrote of them; None if it
    must write all.

    Raises:
        Exception: what a class of the notebook raises when it is asked how its instances are stored.
    """
    if look.objects < WORTH_OBJECTS:
        return None
    needs = look.needs(_MOST_FOREIGN)
    start = _begin(needs, live, book) if needs is not None else None
    if start is None:
        return None
    written = look.write(tuple(live[name] for name in names), tuple(names), start.places, len(start.memo))
    if written is None:
        return None
    body, numbers = written
    head = start.head + body
    limit = bounds.value_nbytes()
    if limit and len(head) > limit:  # the pickler says it
        return None
    return Dump(head, [], (xxhash.xxh3_128_digest(head),), *refs_of(start.encoder), numbers=numbers), start.memo


def edit(
    look: ComparableSnapshot,
    difference: Difference,
    roots: Sequence[object],
    parts: tuple[list[Said], dict[str, Any], list[str]],
    numbers: Numbers,
    live: dict[str, Any],
    book: ClassBook,
) -> WrittenEdit | None:
    """As the encoder of edits writes it: `parts` are what is said of objects that changed, names with new values, and
    names that went. None if it must write it, or it is small.

    Raises:
        Exception: as for `dump`.
    """
    needs = look.edit_needs(difference.added, WORTH_OBJECTS, _MOST_FOREIGN)
    start = _begin(needs, live, book) if needs is not None else None
    if needs is None or start is None:
        return None
    gone = frozenset(difference.gone)
    written = look.write_edit(tuple(roots), difference.added, *parts, numbers, gone, start.places, len(start.memo))
    if written is None:
        return None
    body, taken, places = written
    kinds = [type(each) for each in needs[0]]
    return WrittenEdit(start.head + body, start.encoder, taken, dict(zip(difference.added, places, strict=True)), kinds)


class WrittenEdit(NamedTuple):
    """An edit, and what its load will have in the memo."""

    head: bytes
    encoder: Encoder
    taken: int
    places: dict[int, int]
    """Of the new objects, by address."""
    kinds: list[type]
    """Classes of new instances."""


class _Start(NamedTuple):
    """What the encoder writes first."""

    head: bytes
    encoder: Encoder
    memo: Memo
    places: dict[int, int]


def _begin(needs: tuple[list[Any], list[Any]], live: dict[str, Any], book: ClassBook) -> _Start | None:
    """The classes of some instances, and other values; None if one of them is not to be written so."""
    samples, foreign = needs
    wanted = [*map(type, samples), *foreign]
    encoder, start = attempts.encode_once(wanted, lambda file: Encoder(file, live, book, ()))
    if encoder.buffers or encoder.fixtures or not all(_is_flat(encoder, sample) for sample in samples):
        return None
    memo: Memo = encoder.memo.copy()
    if not all(id(each) in memo for each in wanted) or id(live) in memo:
        return None
    return _Start(start[:-1] + _POP, encoder, memo, {id(each): memo[id(each)][0] for each in wanted})


def _is_flat(encoder: Encoder, sample: Any) -> bool:
    """Whether instances of this class are stored as it, `__dict__` and slots, and may be empty for a while."""
    return deep.may_be_empty(type(sample)) and encoder.is_plain(sample)
