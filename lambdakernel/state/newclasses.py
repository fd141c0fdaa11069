"""A value on its way to another worker, with the definitions of classes that the other worker does not know.

Classes of the session are in its store, and a value refers to them. A class that a task made itself is in no store: its
definition goes along. Its identity is what it is defined as, so that tasks that make the same class make one class, and
tasks whose classes differ (in an attribute that depends on the item) make several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import xxhash

from lambdakernel.state.classes import ClassBook, kind_of
from lambdakernel.state.codec import Dump, dump, unmarked


def encode(value: Any, live: dict[str, Any], book: ClassBook, is_known: Callable[[str], bool]) -> Dump:
    """`value` as bytes; `is_known` says whether the receiver finds a class by this identity.

    Raises:
        Exception: as `dump`.
    """
    found = dump(value, live, book, mark=unmarked)[0]
    new = _classes(found.uses, book, is_known)
    if not new:
        return found
    while True:  # the definition of one may refer to another
        found = dump((value, new), live, book, new, mark=unmarked)[0]
        more = [cls for cls in _classes(found.uses, book, is_known) if cls not in new]
        if not more:
            break
        new += more
    _identify(new, live, book)
    return dump(value, live, book, new, mark=unmarked)[0]


def _classes(uids: Iterable[str], book: ClassBook, is_known: Callable[[str], bool]) -> list[type]:
    unknown = [cls for uid in uids if not is_known(uid) and (cls := book.get(uid)) is not None]
    return sorted(unknown, key=kind_of)


def _identify(classes: list[type], live: dict[str, Any], book: ClassBook) -> None:
    """Give each an identity that depends on nothing but its definition, and on those that it refers to."""
    names: dict[str, int] = {}
    for cls in classes:
        number = names[kind_of(cls)] = names.get(kind_of(cls), 0) + 1
        book.learn(f"{kind_of(cls)}#{number}", cls)
    marks = [b"".join(dump(cls, live, book, classes)[0].fingerprint) for cls in classes]
    for cls, mark in zip(classes, marks, strict=True):
        book.learn(xxhash.xxh3_128_hexdigest(book.uid(cls).encode() + mark), cls)
