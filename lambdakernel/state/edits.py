"""A large value that changed a little: what the store holds of it, its *base*, and edits of that.

Theory of operation
- The base is a whole dump. Every object in it has a number: the place at which the pickler met it, which is the place
  at which an unpickler makes it. An edit is a pickle that refers to such objects by number, and says what a list, a
  dictionary, a set or an instance among them holds now. Objects that are new are in it, and have the next numbers.
- Numbers are kept by address, and no object is kept alive by that. A snapshot says which addresses are still of the
  object that was numbered, or of one just born there that is equal to it (see `graph`).
- What cannot be said so is dumped whole: another kind of object changed, an object of a class with a finalizer is in
  it (a load would make what was removed, and finalize it again), or the edits have grown as large as a part of the
  base.
"""

from __future__ import annotations

import copyreg
import io
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import xxhash

import kvs
from lambdakernel.state import attempts, codec, flat
from lambdakernel.state.bases import Base, Numbers
from lambdakernel.state.buffers import BlobSource
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Decoder, Dump, Encoder, damaged_if_it_raises, refs_of
from lambdakernel.state.sharing import Memo
from lambdakernel.state.snapshots import ComparableSnapshot, Difference, Edit
from lambdakernel.state.units import Unit

WORTH_NBYTES = 1 << 16
"""Bytes of a dump from which its edits are worth the numbers."""
_MOST_ITEMS = 5_000
"""Items that the objects of one edit may list: each is asked whether it has a number."""
_MOST_EDITS = 64
_PART = 4
"""Edits may be as large as the base divided by this."""


class CannotEdit(Exception):
    """It must be dumped whole."""


def is_worth(found: Dump) -> bool:
    return len(found.head) >= WORTH_NBYTES and not found.buffers


def number(found: Dump, memo: Memo, look: ComparableSnapshot) -> Base | None:
    """The base that `found` may be from now on; None if edits of it are not worth it, or would not be true.

    `memo` is of the dump; it is empty if `look` wrote that itself.
    """
    if not is_worth(found) or _has_finalizer(look.kinds()):
        return None
    if not memo:
        return Base(found.fingerprint[0], len(found.head), found.numbers, Numbers(look.place))
    numbers = look.numbers(memo)
    if numbers is None:  # what has no number could not be referred to
        return None
    return Base(found.fingerprint[0], len(found.head), found.numbers, Numbers(numbers.get))


def edit(
    base: Base,
    look: ComparableSnapshot,
    difference: Difference,
    roots: Sequence[object],
    names: Mapping[str, Any],
    without: Sequence[str],
    live: dict[str, Any],
    book: ClassBook,
) -> Dump:
    """What changed since the last edit, up to `look`, which is of `roots`; with `names` bound to what is new, and
    `without` others that were there: a dump that is an edit of its base.

    Raises:
        CannotEdit: it must be dumped whole.
        Exception: what an object's own reducer raises.
    """
    if len(base.edits) >= _MOST_EDITS or 2 * len(difference.gone) > base.count:
        raise CannotEdit
    said = [_said(each) for each in difference.edits]
    changed = {id(each.obj) for each in difference.edits}
    if any(each.between is None and id(_dict_of(each.obj)) in changed for each in difference.edits):
        raise CannotEdit  # it would be edited twice
    parts = (said, dict(names), list(without))
    found = flat.edit(look, difference, roots, parts, base.numbers, live, book)
    if found is None:
        found = _encode(parts, difference, base, live, book)
    if _PART * (base.edited_nbytes + len(found.head)) > base.nbytes or _has_finalizer(found.kinds):
        raise CannotEdit
    numbered = {address: base.count + place for address, place in found.places.items()}
    digest = xxhash.xxh3_128_digest(base.digest + found.head)
    after = replace(
        base, digest=digest, count=base.count + found.taken, edits=(*base.edits, found.head), numbered=numbered,
        gone=difference.gone, is_parted=base.is_parted or bool(without),
    )  # fmt: skip
    return Dump(found.head, [], (digest,), *refs_of(found.encoder), base=after)


def _encode(
    parts: tuple[list[flat.Said], dict[str, Any], list[str]],
    difference: Difference,
    base: Base,
    live: dict[str, Any],
    book: ClassBook,
) -> flat.WrittenEdit:
    if sum(len(contents) for *_, contents in parts[0]) > _MOST_ITEMS:
        raise CannotEdit
    gone = frozenset(difference.gone)
    encoder, head = attempts.encode_once(parts, lambda file: _EditEncoder(file, live, book, base.numbers, gone))
    memo: Memo = encoder.memo.copy()
    if encoder.buffers or encoder.fixtures or id(live) in memo:
        raise CannotEdit
    added = frozenset(difference.added)
    if not added - memo.keys() <= _UNNUMBERED:
        raise CannotEdit
    places = {address: at for address, (at, _) in memo.items() if address in added}
    return flat.WrittenEdit(head, encoder, len(memo), places, [type(obj) for _, obj in memo.values()])


_UNNUMBERED = frozenset({id(())})
"""Of what a pickler makes anew wherever it meets it."""


def _said(change: Edit) -> flat.Said:
    obj, before, after, between = change
    kind = type(obj)
    if between is None:
        if not _is_plain_instance(kind):
            raise CannotEdit
        return obj, 0, 0, dict(_dict_of(obj))
    if kind is set:  # where an item is in a set says nothing in another process
        return obj, 0, 0, list(obj)
    if kind is not list and kind is not dict:
        raise CannotEdit
    return obj, before, after, between


def _is_plain_instance(kind: Any) -> bool:
    """Whether its objects are pickled as what is in their `__dict__`, and nothing else."""
    if kind in copyreg.dispatch_table or copyreg._slotnames(kind):  # type: ignore[attr-defined]
        return False
    namespaces = [vars(base) for base in kind.__mro__ if base is not object]
    return (
        all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__ if base is not object)
        and not any("__dict__" in n and type(n["__dict__"]) is not types.GetSetDescriptorType for n in namespaces)
        and not any(name in n for n in namespaces for name in _OWN_WAYS)
    )


_HEAP_TYPE = 1 << 9
_OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")


def _dict_of(obj: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(obj, "__dict__")
    return found


def _has_finalizer(kinds: Iterable[type]) -> bool:
    return any("__del__" in vars(base) for kind in set(kinds) for base in kind.__mro__)


class _EditEncoder(Encoder):
    """Refers to what has a number."""

    def __init__(
        self, file: io.BytesIO, live: dict[str, Any], book: ClassBook, numbers: Numbers, gone: frozenset[int]
    ) -> None:
        self._numbers = numbers
        self._gone = gone
        super().__init__(file, live, book, ())

    def persistent_id(self, obj: Any) -> int | None:
        address = id(obj)
        return self._numbers.get(address) if address not in self._gone else None


# -- back


class _EditDecoder(Decoder):
    def __init__(self, objects: dict[int, Any], *arguments: Any) -> None:
        self._objects = objects
        super().__init__(*arguments)

    def persistent_load(self, pid: Any) -> Any:
        return self._objects[pid]


class Stored(NamedTuple):
    """What the store holds of a value: a whole dump, edits of it, and the blobs that its buffers are made up of."""

    head: bytes
    edits: tuple[bytes, ...]
    refs: tuple[kvs.BlobRef, ...]


def stored(unit: Unit, value: kvs.Value, source: BlobSource) -> Stored:
    """Raises:
    KvsError, ValueError: it cannot be read.
    """
    if not unit.edited:
        return Stored(value.payload, (), value.blobs)
    if not value.blobs:
        raise ValueError("its base is not in the store")
    return Stored(source.read_blob(value.blobs[0]), _EDITS.decode(value.payload), value.blobs[1:])


def to_value(base: kvs.BlobRef, edits: Sequence[bytes], refs: Sequence[kvs.BlobRef]) -> kvs.Value:
    """What `stored` takes apart."""
    return kvs.Value(msgspec.msgpack.encode(edits), (base, *refs))


_EDITS = msgspec.msgpack.Decoder(tuple[bytes, ...])


def load(what: str, head: bytes, edits: Sequence[bytes], *rest: Any) -> Any:
    """The value that `head` was edited to; `rest` is what a decoder takes beside the head.

    Raises:
        ValueDamaged: it cannot be loaded here; `what` names it.
    """
    if not edits:
        return codec.load(what, head, *rest)
    objects: dict[int, Any] = {}
    with damaged_if_it_raises(what):
        value = _load(Decoder(head, *rest), objects)
        for each in edits:
            said, names, without = _load(_EditDecoder(objects, each, *rest), objects)
            for one in said:
                _do(*one)
            for name in without:
                del value["names"][name]
            value["names"].update(names)
        return value


def _load(decoder: Decoder, objects: dict[int, Any]) -> Any:
    try:
        value = decoder.load()
        first = len(objects)
        objects.update((first + at, obj) for at, obj in decoder.memo.copy().items())
        return value
    finally:
        decoder.memo.clear()


def _do(obj: Any, before: int, after: int, contents: Any) -> None:
    """Make `obj` hold what an edit says."""
    kind = type(obj)
    if kind is list:
        obj[before : len(obj) - after] = contents
    elif kind is dict:
        items = list(obj.items())
        obj.clear()
        obj.update(items[:before])
        obj.update(zip(contents[::2], contents[1::2], strict=True))
        obj.update(items[len(items) - after :])
    elif kind is set:
        obj.clear()
        obj.update(contents)
    else:
        attributes = _dict_of(obj)
        attributes.clear()
        attributes.update(contents)
