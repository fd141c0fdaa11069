"""Lattice values to bytes and back, by the name of their type.

    "kvl" version(1 byte)  MessagePack array [tag, body]

Canonical: equal values have equal bytes, whatever the order they were made in; so a digest of the bytes names the
value, and two replicas are compared by it. Nothing runs on decoding but the type's own constructor, which checks its
input; and what decodes to a value with other bytes than the given ones is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from kvs.lattices import wire
from kvs.lattices.errors import BadEncoding, LatticeMismatch, NewerEncoding, UnknownLattice

if TYPE_CHECKING:
    from kvs.lattices.base import Lattice

MAGIC = b"kvl"
VERSION = 1

C = TypeVar("C", bound="type[Lattice]")

_TYPES: dict[str, type[Lattice]] = {}
"""Filled while modules are imported, and only added to: a name once given keeps its meaning."""


_KEPT_AT: dict[str, str] = {}
"""Modules that define the classes of tags and may not have been imported yet."""


def kept_at(modules: Mapping[str, str]) -> None:
    """The classes of these tags are defined by these modules, which are imported when such a value is decoded."""
    _KEPT_AT.update(modules)


def lattice_type(tag: str) -> Callable[[C], C]:
    """A class decorator: values of the class are stored under `tag`, which no other class may have.

    Raises:
        ValueError: another class has that tag.
    """

    def register(cls: C) -> C:
        known = _TYPES.setdefault(tag, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the tag {tag!r} is that of {known.__module__}.{known.__qualname__}. Choose another.")
        _TYPES[tag] = cls  # the same class defined again, as when a notebook's cell is run again
        cls.tag = tag
        return cls

    return register


def type_of(tag: object) -> type[Lattice]:
    """The class whose values are stored under `tag`.

    Raises:
        UnknownLattice: there is none.
    """
    if isinstance(tag, str) and tag not in _TYPES and tag in _KEPT_AT:
        import_module(_KEPT_AT[tag])
    cls = _TYPES.get(tag) if isinstance(tag, str) else None
    if cls is None:
        raise UnknownLattice(str(tag))
    return cls


def types() -> dict[str, type[Lattice]]:
    """Every class that can be decoded, by tag."""
    for module in _KEPT_AT.values():
        import_module(module)
    return dict(_TYPES)


def encode(value: Lattice) -> bytes:
    """The canonical bytes of a value. O(size), with a sort of keys."""
    return _head(value.tag) + wire.packed(value.body(), wire.MAX_DEPTH - 1)


@lru_cache(256)
def _head(tag: str) -> bytes:
    """What the bytes of all values of a type begin with: all but the body, the last entry of the array."""
    start = MAGIC + bytes((VERSION,))
    return start + wire.packed((tag, None))[:-1]


def decode(data: bytes, expected: type[Lattice] | None = None) -> Any:
    """The value of these bytes, of type `expected` if one is given.

    Raises:
        LatticeMismatch: they hold a value of another type.
        NewerEncoding: they are of a version that this software does not read.
        UnknownLattice: they hold a type that nothing here defines.
        BadEncoding: they are nothing that `encode` wrote.
    """
    if type(data) is bytes and expected is not None:
        tag = getattr(expected, "tag", None)
        if tag is not None and _TYPES.get(tag) is expected and data.startswith(head := _head(tag)):
            value = _made(expected, wire.unpacked(data, len(head), wire.MAX_DEPTH - 1))
            if encode(value) != data:
                raise _other_form(expected)
            return value
    return _decoded(data, expected)


def _decoded(data: bytes, expected: type[Lattice] | None) -> Any:
    """`decode` of whatever it may be."""
    if not isinstance(data, bytes):
        raise TypeError(f"a lattice value is decoded from bytes, and this is a {type(data).__name__}.")
    if data[:3] != MAGIC or len(data) < 4:
        raise BadEncoding("they do not begin as one")
    if data[3] != VERSION:
        raise NewerEncoding(data[3], VERSION)
    cls, value = _parsed(wire.unpacked(data, 4), expected)
    if encode(value) != data:
        raise _other_form(cls)
    return value


def _other_form(cls: type[Lattice]) -> BadEncoding:
    return BadEncoding(f"they are not the canonical form of {cls.tag}")


def _parsed(plain: Any, expected: type[Lattice] | None) -> tuple[type[Lattice], Lattice]:
    if type(plain) is not tuple or len(plain) != 2:
        raise BadEncoding("they hold no type and body")
    cls = type_of(plain[0])
    if expected is not None and cls is not expected:
        raise LatticeMismatch(expected.__name__, f"a stored {cls.__name__}")
    return cls, _made(cls, plain[1])


def _made(cls: type[Lattice], body: Any) -> Lattice:
    try:
        return cls.from_body(body)
    except BadEncoding:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as e:
        raise BadEncoding(f"the body of {cls.tag} is not one ({e})") from e


def nested(value: Lattice) -> tuple[Any, Any]:
    """A value as part of another's body."""
    return (value.tag, value.body())


def from_nested(plain: Any) -> Any:
    """The value that `nested` was given."""
    return _parsed(plain, None)[1]
