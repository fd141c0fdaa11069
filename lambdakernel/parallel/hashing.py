"""A hash that is the same in every process: what partitions keys.

Python's own is salted per process for texts, and says where an object is for some. Here equal keys have equal hashes
as far as Python's types go: `1`, `1.0` and `True` are one key, as are a named tuple and a plain one, a text and a
member of a `StrEnum`. Of other classes the pickled content counts: two keys that are equal must pickle alike.
"""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Sequence, Set
from numbers import Number
from typing import Any

_MASK = (1 << 64) - 1
_NAN = 0x7FF8


def stable_hash(key: Any) -> int:
    """At least 32 bits, in every process the same. Cost: in proportion to the key.

    Raises:
        Exception: the key's own `__reduce_ex__` raised.
    """
    kind = type(key)
    if kind is str:
        return zlib.crc32(key.encode("utf-8", "surrogatepass"))
    if kind is int or kind is bool or kind is float:
        return _of_number(key)
    if kind is tuple:
        return _of_parts(2, key)
    return _of_other(key)


def stable_hashes(keys: Sequence[Any]) -> list[int]:
    """`stable_hash` of each; a fifth of its cost for texts.

    Raises:
        Exception: a key's own `__reduce_ex__` raised.
    """
    if set(map(type, keys)) == {str}:
        try:
            return list(map(zlib.crc32, map(str.encode, keys)))
        except UnicodeEncodeError:  # one has a surrogate
            pass
    return list(map(stable_hash, keys))


def _of_other(key: Any) -> int:
    if key is None:
        return 3
    if isinstance(key, str):
        return stable_hash(str(key.encode("utf-8", "surrogatepass"), "utf-8", "surrogatepass"))
    if isinstance(key, Number):
        return _of_number(key)
    if isinstance(key, bytes | bytearray):
        return zlib.crc32(key) ^ 4
    if isinstance(key, tuple):
        return _of_parts(2, tuple(key))
    if isinstance(key, Set):
        return _mixed(sum(map(stable_hash, key)) & _MASK, 5)
    if isinstance(key, dict):
        return _mixed(sum(_of_parts(6, pair) for pair in key.items()) & _MASK, 6)
    if isinstance(key, list):
        return _of_parts(7, key)
    if isinstance(key, datetime.datetime) and key.utcoffset() is not None:
        key = key.astimezone(datetime.UTC)  # equal times of two zones are one key
        return _of_parts(8, (key.toordinal(), key.hour, key.minute, key.second, key.microsecond))
    if isinstance(key, type) or callable(key):
        return _of_parts(9, (key.__module__, key.__qualname__))
    return _of_reduced(key.__reduce_ex__(4))


def _of_reduced(reduced: Any) -> int:
    """The names of what makes it, its arguments and its state; what it holds as a list or a dictionary, too."""
    if isinstance(reduced, str):
        return stable_hash(reduced)
    listed = [list(part) if hasattr(part, "__next__") else part for part in reduced]
    return _of_parts(10, listed)


def _of_number(key: Any) -> int:
    if key != key:  # nan, whose own hash says where it is
        return _NAN
    return _mixed(hash(key) & _MASK, 11)  # Python promises it to be equal for equal numbers of any type; it has no salt


def _of_parts(salt: int, parts: Any) -> int:
    found = salt
    for part in parts:
        found = _mixed(found ^ stable_hash(part), salt)
    return found


def _mixed(number: int, salt: int) -> int:
    """Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (the mix of SplitMix64)."""
    number = (number + salt * 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
