"""A long list of texts as one piece: a pickler remembers every object that it meets, in case it meets it again, which
takes ten times as long as to write a short text.

Texts cannot change, so nothing is lost if one of them is written twice. Where many places hold the same text object, it
is written once for all of them, as by any pickler: there, to remember pays.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

MANY = 10_000
"""Texts from which it is worth it."""
_SAMPLE = 500
_MOST_REPEATED = 0.1
"""Part of a sample that may be the same objects as others in it."""


class Texts:
    """Dumps as the list `texts`, whose place in the memo is that of this."""

    __slots__ = ("texts",)

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __reduce__(self) -> tuple[Any, ...]:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 5)
        pickler.fast = True
        pickler.dump(self.texts)
        return (texts_of, (file.getvalue(),))


def as_texts(value: Any) -> Texts | None:
    """`value` to be dumped as one piece, if it is a list of texts and worth it. Costs about 20 ns a text."""
    if type(value) is not list or len(value) < MANY:
        return None
    sample = value[:: len(value) // _SAMPLE]
    if set(map(type, sample)) != {str} or len(set(map(id, sample))) < (1 - _MOST_REPEATED) * len(sample):
        return None
    texts = value.copy()  # a thread may go on to fill it
    return Texts(texts) if set(map(type, texts)) == {str} else None


def texts_of(data: bytes) -> Any:
    return pickle.loads(data)
