"""Readers and writers of the `csv` module: they go with the file, or whatever else it is, that they read or write."""

from __future__ import annotations

import _csv
import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

_DETAILS = (
    "delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting", "skipinitialspace", "strict",
)  # fmt: skip


class After(itertools.chain[Any]):
    """What is left to read, after as many empty lines as were read of it before: so the reader goes on counting."""

    __slots__ = ()

    def left(self) -> Any:
        ended: Iterator[str] = iter(())
        return next((part for part in gc.get_referents(self) if not isinstance(part, (type, type(ended)))), ended)


def reduce_reader(reader: Any) -> tuple[Any, ...]:
    source = _part(reader)
    if type(source) is After:
        source = source.left()
    return (make_reader, (source, reader.line_num, _details(reader)))


def make_reader(source: Any, count: int, details: dict[str, Any]) -> Any:
    reader = _csv.reader(After(itertools.repeat("", count), source) if count else source, **details)
    for _ in range(count):
        next(reader)
    return reader


def reduce_writer(writer: Any) -> tuple[Any, ...]:
    write = _part(writer)
    return (make_writer, (getattr(write, "__self__", None), write, _details(writer)))


class _Target:
    """What has a `write`, and nothing else."""

    def __init__(self, write: Any) -> None:
        self.write = write


def make_writer(owner: Any, write: Any, details: dict[str, Any]) -> Any:
    """A writer calls the `write` that its file had when it was made."""
    own = getattr(owner, "write", None)
    return _csv.writer(owner if own == write else _Target(write), **details)


def _part(of: Any) -> Any:
    """What it reads, or calls to write."""
    return next(part for part in gc.get_referents(of) if not isinstance(part, (type, _csv.Dialect)))


def _details(of: Any) -> dict[str, Any]:
    return {name: getattr(of.dialect, name) for name in _DETAILS}


REDUCERS: dict[type, Callable[[Any], Any]] = {_csv.Reader: reduce_reader, _csv.Writer: reduce_writer}
