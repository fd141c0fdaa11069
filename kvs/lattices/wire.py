"""Plain values to bytes and back: a strict, canonical subset of MessagePack, in the standard library alone.

Every value of `domain.Scalar` has exactly one form, the shortest: tuples are arrays, and an integer beyond 64 bits is
extension 1 with its two's complement, big end first. Any MessagePack reader can show these bytes.
Source: MessagePack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from struct import Struct, unpack_from
from typing import Any

from kvs.lattices.errors import BadEncoding, OutsideDomain

MAX_DEPTH = 100
"""Arrays inside arrays, at most: the stack of a reader must survive any bytes."""

_BIG_INT = 1
_DOUBLE = Struct(">d")
_UNSIGNED = ((0xFF, 0xCC, ">B"), (0xFFFF, 0xCD, ">H"), (0xFFFFFFFF, 0xCE, ">I"), (0xFFFFFFFFFFFFFFFF, 0xCF, ">Q"))
_SIGNED = ((-0x80, 0xD0, ">b"), (-0x8000, 0xD1, ">h"), (-0x80000000, 0xD2, ">i"), (-0x8000000000000000, 0xD3, ">q"))
_FIXED_EXTENSION = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
_NUMBERS = {code: (Struct(form), Struct(form).size) for _, code, form in (*_UNSIGNED, *_SIGNED)}
_PACK_UNSIGNED = [(limit, code, Struct(f">B{form[1]}").pack) for limit, code, form in _UNSIGNED]
_PACK_SIGNED = [(limit, code, Struct(f">B{form[1]}").pack) for limit, code, form in _SIGNED]
_NUMBERS[0xCB] = (_DOUBLE, 8)


def packed(value: Any, depth: int = MAX_DEPTH) -> bytes:
    """The one form of a plain value, of arrays inside arrays at most `depth`.

    Raises:
        OutsideDomain: it is nested too deeply.
    """
    out = bytearray()
    _pack(value, out, depth)
    return bytes(out)


def _pack(value: Any, out: bytearray, depth: int) -> None:
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
        size = len(data)
        if size < 32:
            out.append(0xA0 | size)
        else:
            _pack_size(size, out, 0xD9, 0xDA, 0xDB)
        out += data
    elif kind is int:
        _pack_int(value, out)
    elif kind is tuple:
        if depth == 0:
            raise OutsideDomain("a lattice value", f"is nested deeper than {MAX_DEPTH}", "Use fewer maps inside maps.")
        size = len(value)
        if size < 16:
            out.append(0x90 | size)
        else:
            _pack_size(size, out, None, 0xDC, 0xDD)
        for entry in value:
            if type(entry) is int and 0 <= entry < 0x80:  # what most entries are; the call costs more than the byte
                out.append(entry)
            else:
                _pack(entry, out, depth - 1)
    elif kind is bytes:
        _pack_size(len(value), out, 0xC4, 0xC5, 0xC6)
        out += value
    elif kind is float:
        out.append(0xCB)
        out += _DOUBLE.pack(value)
    elif value is None:
        out.append(0xC0)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    else:
        raise OutsideDomain(f"a {kind.__name__}", "has no byte form", "Use plain values and lattices.")


def _pack_size(size: int, out: bytearray, one: int | None, two: int, four: int) -> None:
    if one is not None and size <= 0xFF:
        out += bytes((one, size))
    elif size <= 0xFFFF:
        out.append(two)
        out += size.to_bytes(2, "big")
    elif size <= 0xFFFFFFFF:
        out.append(four)
        out += size.to_bytes(4, "big")
    else:
        raise OutsideDomain(f"a value of {size} entries", "is too long to encode", "Split it over several keys.")


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 0x80:
        out.append(value)
    elif -0x20 <= value < 0:
        out.append(value & 0xFF)
    elif 0 < value <= 0xFFFFFFFFFFFFFFFF:
        for limit, code, pack in _PACK_UNSIGNED:
            if value <= limit:
                out += pack(code, value)
                break
    elif -0x8000000000000000 <= value < 0:
        for limit, code, pack in _PACK_SIGNED:
            if value >= limit:
                out += pack(code, value)
                break
    else:
        data = value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)
        if len(data) in _FIXED_EXTENSION:
            out.append(_FIXED_EXTENSION[len(data)])
        else:
            _pack_size(len(data), out, 0xC7, 0xC8, 0xC9)
        out.append(_BIG_INT)
        out += data


def unpacked(data: bytes, start: int = 0, depth: int = MAX_DEPTH) -> Any:
    """The plain value that `data` holds from `start` to its end, of arrays inside arrays at most `depth`.

    Raises:
        BadEncoding: the bytes are cut off, go on after their end, or are of no form that `packed` writes.
    """
    value, end = _unpack(data, start, depth)
    if end != len(data):
        raise BadEncoding(f"{len(data) - end} bytes follow its end")
    return value


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data):
        raise BadEncoding(f"they end at byte {at}")
    code = data[at]
    at += 1
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 0x100, at
    if 0xA0 <= code < 0xC0:
        return _text(data, at, code & 0x1F)
    if 0x90 <= code < 0xA0:
        return _array(data, at, code & 0x0F, depth)
    if code in _NUMBERS:
        form, size = _NUMBERS[code]
        _need(data, at, size)
        return form.unpack_from(data, at)[0], at + size
    return _unpack_rare(data, at, code, depth)


def _unpack_rare(data: bytes, at: int, code: int, depth: int) -> tuple[Any, int]:
    match code:
        case 0xC0:
            return None, at
        case 0xC2 | 0xC3:
            return code == 0xC3, at
        case 0xC4 | 0xC5 | 0xC6:
            size, at = _size(data, at, code - 0xC4)
            _need(data, at, size)
            return data[at : at + size], at + size
        case 0xC7 | 0xC8 | 0xC9:
            size, at = _size(data, at, code - 0xC7)
            return _big_int(data, at, size)
        case 0xD4 | 0xD5 | 0xD6 | 0xD7 | 0xD8:
            return _big_int(data, at, 1 << (code - 0xD4))
        case 0xD9 | 0xDA | 0xDB:
            size, at = _size(data, at, code - 0xD9)
            return _text(data, at, size)
        case 0xDC | 0xDD:
            size, at = _size(data, at, code - 0xDC + 1)
            return _array(data, at, size, depth)
    raise BadEncoding(f"byte {at - 1} is {code:#04x}, which no value of ours begins with")


def _need(data: bytes, at: int, size: int) -> None:
    if len(data) - at < size:
        raise BadEncoding(f"they end at byte {len(data)}, and {size} were to come from byte {at}")


def _size(data: bytes, at: int, power: int) -> tuple[int, int]:
    width = 1 << power
    _need(data, at, width)
    size: int = unpack_from(">" + "BHI"[power], data, at)[0]
    return size, at + width


def _text(data: bytes, at: int, size: int) -> tuple[str, int]:
    _need(data, at, size)
    try:
        return str(data[at : at + size], "utf-8", "surrogatepass"), at + size
    except UnicodeDecodeError as e:
        raise BadEncoding(f"the text at byte {at} is no UTF-8") from e


def _big_int(data: bytes, at: int, size: int) -> tuple[int, int]:
    _need(data, at, size + 1)
    if data[at] != _BIG_INT:
        raise BadEncoding(f"extension {data[at]} at byte {at} is not one of ours")
    return int.from_bytes(data[at + 1 : at + 1 + size], "big", signed=True), at + 1 + size


def _array(data: bytes, at: int, size: int, depth: int) -> tuple[tuple[Any, ...], int]:
    if depth == 0:
        raise BadEncoding(f"they are nested deeper than {MAX_DEPTH}")
    _need(data, at, size)  # each entry takes a byte at least: no list is begun that cannot be filled
    entries: list[Any] = []
    entry: Any
    for _ in range(size):
        code = data[at] if at < len(data) else 0xC1
        if code < 0x80:  # a small integer or a short text, as most are; the call costs more than the reading
            entry, at = code, at + 1
        elif 0xA0 <= code < 0xC0:
            entry, at = _text(data, at + 1, code & 0x1F)
        else:
            entry, at = _unpack(data, at, depth - 1)
        entries.append(entry)
    return tuple(entries), at
