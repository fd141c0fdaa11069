"""What a lattice may hold: a closed union of plain values, with one total order.

Python calls `1`, `1.0` and `True` equal, and `0.0` and `-0.0`; a set or a map keeps whichever came first, so that its
content would depend on the order of arrival. `nan` is in no order at all. So here every plain value has a *key*: two
values are the same exactly when their keys are equal, and keys are totally ordered.

The order: None, then numbers by value (equal numbers: -0.0, bool, int, float), then text, bytes, and tuples entry by
entry. Integers of any size compare exactly with floats.
"""

from __future__ import annotations

from math import copysign
from typing import Any, TypeAlias

from kvs.lattices.errors import OutsideDomain

Scalar: TypeAlias = "bool | int | float | str | bytes | tuple[Scalar, ...] | None"
Key: TypeAlias = tuple[Any, ...]

MAX_DEPTH = 16
"""Tuples inside tuples, at most: no value of ours needs more, and readers of stored bytes need a limit."""

_NONE, _NUMBER, _TEXT, _BYTES, _TUPLE = range(5)
_NEGATIVE_ZERO, _BOOL, _INT, _FLOAT = range(4)
_AS_IT_IS = (str, int, bytes, type(None))
_ORDERED = (int, str, bytes)
"""Types whose own order is that of their keys."""
_SHOWN_BITS = 1024


def checked(value: Any, what: str = "a lattice value") -> Any:
    """The value as it is.

    Raises:
        OutsideDomain: it is not of the union, is nan, or is a tuple too deep.
    """
    kind = type(value)
    if kind in _AS_IT_IS or kind is bool:
        return value
    if kind is float:
        if value != value:
            raise OutsideDomain(
                f"nan as {what}", "is in no order, not even with itself", "Leave it out, or write None for 'no value'."
            )
        return value
    if kind is tuple:
        _check_tuple(value, what, MAX_DEPTH)
        return value
    raise OutsideDomain(
        f"{brief(value)} as {what}",
        f"is a {kind.__module__}.{kind.__qualname__}".replace(" a builtins.", " a "),
        "Use None, bool, int, float, str, bytes or tuples of them (of numpy's numbers: `.item()`).",
    )


def _check_tuple(value: tuple[Any, ...], what: str, depth: int) -> None:
    if depth == 0:
        raise OutsideDomain(f"a tuple as {what}", f"is nested deeper than {MAX_DEPTH}", "Flatten it, or store bytes.")
    for entry in value:
        if type(entry) is tuple:
            _check_tuple(entry, what, depth - 1)
        else:
            checked(entry, what)


def key(value: Any) -> Key:
    """Where a value of the union stands in the order. Equal exactly for the same value; hashable. O(size)."""
    kind = type(value)
    if kind is str:
        return (_TEXT, value)
    if kind is int:
        return (_NUMBER, value, _INT)
    if kind is bytes:
        return (_BYTES, value)
    if kind is float:
        return (_NUMBER, value, _NEGATIVE_ZERO if value == 0.0 and copysign(1.0, value) < 0 else _FLOAT)
    if kind is bool:
        return (_NUMBER, value, _BOOL)
    if value is None:
        return (_NONE,)
    if kind is tuple:
        return (_TUPLE, tuple(map(key, value)))
    checked(value)  # raises: there is nothing else in the union
    raise AssertionError(kind)


def at_most(a: Any, b: Any) -> bool:
    """Whether `a` is not above `b` in the order."""
    if type(a) is type(b) and type(a) in _ORDERED:
        return bool(a <= b)
    return key(a) <= key(b)


def ident(value: Any) -> Any:
    """What a dict or set may use in place of a value: text, bytes, int and None are themselves, the rest their key."""
    return value if type(value) in _AS_IT_IS else key(value)


def original(identity: Any) -> Any:
    """The value that `ident` was given."""
    return _of_key(identity) if type(identity) is tuple else identity


def _of_key(position: Key) -> Any:
    if position[0] == _TUPLE:
        return tuple(map(_of_key, position[1]))
    return position[1] if len(position) > 1 else None


def shown(value: Any) -> str:
    """The value for a reader: as Python writes it, integers of very many digits by their first ones."""
    if type(value) is int and value.bit_length() > _SHOWN_BITS:
        return f"{hex(value)[: 18 if value > 0 else 19]}…({value.bit_length()} bits)"
    if type(value) is tuple:
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    return repr(value)


def brief(value: object) -> str:
    """What a message can show of a value that is being refused, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # the repr of a stranger's object may do anything; it is being refused already
        text = "an object without a repr"
    return text if len(text) <= 60 else text[:57] + "..."
