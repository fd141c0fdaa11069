"""The bytes that lattice values are kept as: canonical, of one type, and refused in words where they are none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.errors import KvsError
from kvs.lattices import (
    BadEncoding,
    BoolOr,
    GrowSet,
    Lattice,
    LatticeMismatch,
    Max,
    NewerEncoding,
    OutsideDomain,
    UnknownLattice,
    codec,
    decode,
    domain,
    encode,
    wire,
)
from kvs.testing.values import scalars, values_of
from tests.kvs.lattice_cases import CASES

few = settings(max_examples=100, deadline=None, derandomize=True)


@few
@given(st.recursive(scalars(), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8))
def test_the_byte_form_is_messagepack(value: Any) -> None:
    data = wire.packed(value)
    assert domain.key(wire.unpacked(data)) == domain.key(value)
    if all(not isinstance(v, int) or -(2**63) <= v < 2**64 for v in flat(value)) and "\ud800" not in flat(value):
        assert data == msgspec.msgpack.encode(value)


def flat(value: Any) -> list[Any]:
    return [leaf for entry in value for leaf in flat(entry)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_sizes_at_the_edge_of_a_form_take_the_shortest(size: int) -> None:
    for value in ("a" * size, b"a" * size, (None,) * size, 1 << size, -(1 << size)):
        data = wire.packed(value)
        assert wire.unpacked(data) == value
        if not isinstance(value, int) or size < 63:
            assert data == msgspec.msgpack.encode(value)


def test_equal_values_have_equal_bytes_in_every_process() -> None:
    code = (
        "from kvs.lattices import *; import sys;"
        "m = Map({k: GrowSet('abcdef'[:n]) if 0 else GrowSet(list('fedcba')[n:]) for n, k in enumerate('xyz')});"
        "print(m.encode().hex(), HyperLogLog().add('a', 1, True).encode().hex())"
    )
    said = set()
    for seed in ("0", "1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_a_value_of_another_type_is_refused_by_name() -> None:
    data = encode(GrowSet([1]))
    assert decode(data) == GrowSet([1])
    with pytest.raises(LatticeMismatch, match="a stored GrowSet does not join with Max"):
        Max.decode(data)


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"", BadEncoding, "do not begin as one"),
        (b"PK\x03\x04zip", BadEncoding, "do not begin as one"),
        (b"kvl\x02\x92\xa3max\x01", NewerEncoding, "version 2; this software reads 1"),
        (b"kvl\x01", BadEncoding, "end at byte 4"),
        (b"kvl\x01\x92\xa3max", BadEncoding, "end at byte"),
        (b"kvl\x01\x92\xa3max\x01\x01", BadEncoding, "1 bytes follow"),
        (b"kvl\x01\x01", BadEncoding, "no type and body"),
        (b"kvl\x01\x92\xa4some\x01", UnknownLattice, "'some'"),
        (b"kvl\x01\x92\x90\x01", UnknownLattice, "Import the module"),
        (b"kvl\x01\x92\xa3max\xcc\x01", BadEncoding, "canonical"),  # 1 in two bytes
        (b"kvl\x01\x92\xa3max\xcb\x7f\xf8\0\0\0\0\0\0", BadEncoding, "in no order"),
        (b"kvl\x01\x92\xa8grow_set\x92\x02\x01", BadEncoding, "canonical"),  # not in order
        (b"kvl\x01\x92\xa8grow_set\x92\x01\x01", BadEncoding, "canonical"),  # twice the same
        (b"kvl\x01\x92\xa8grow_set\xdd\xff\xff\xff\xff", BadEncoding, "were to come"),  # four thousand million entries
        (b"kvl\x01\x92\xa3max\xc6\xff\xff\xff\xff", BadEncoding, "were to come"),
        (b"kvl\x01\x92\xa3max" + b"\x91" * 3000 + b"\x01", BadEncoding, "nested deeper"),
        (b"kvl\x01\x92\xa3max\xa2\xff\xff", BadEncoding, "no UTF-8"),
        (b"kvl\x01\x92\xa3max\xd4\x05\x00", BadEncoding, "extension 5"),
        (b"kvl\x01\x92\xa3max\x80", BadEncoding, "which no value of ours begins with"),
        (b"kvl\x01\x92\xa3map\x91\x01", BadEncoding, "not defined|is not one"),
        (b"kvl\x01\x92\xabhyperloglog\x92\x04\x92\x7f\x01", BadEncoding, "outside of the sketch"),
        (b"kvl\x01\x92\xa7bool_or\x01", BadEncoding, "body of bool_or"),
    ],
)
def test_bytes_that_are_no_value_are_refused_in_words(data: bytes, error: type[KvsError], why: str) -> None:
    with pytest.raises(error, match=why):
        decode(data)
    for tag, cls in codec.types().items():  # what is asked for is looked for first
        if data.startswith(encode(cls.bottom())[:4] + b"\x92" + wire.packed(tag)):
            with pytest.raises(error, match=why):
                decode(data, cls)


@few
@given(st.binary(max_size=40), st.sampled_from(sorted(codec.types())))
def test_no_bytes_do_anything_but_be_refused(tail: bytes, tag: str) -> None:
    for data in (tail, b"kvl\x01" + tail, b"kvl\x01\x92" + wire.packed(tag) + tail):
        try:
            value = decode(data)
        except BadEncoding:
            with pytest.raises(BadEncoding):
                decode(data, codec.types()[tag])
            continue
        assert value.encode() == data and (value.tag != tag or decode(data, type(value)) == value)


def test_a_body_may_be_as_deep_by_itself_as_it_may_be_after_its_type() -> None:
    body: tuple[Any, ...] = ()
    for depth in range(1, wire.MAX_DEPTH + 1):  # of arrays
        if depth < wire.MAX_DEPTH:
            data = wire.packed(("max", body))
            assert data == wire.packed(("max", None))[:-1] + wire.packed(body, wire.MAX_DEPTH - 1)
            assert wire.unpacked(data, 5, wire.MAX_DEPTH - 1) == body
        else:
            with pytest.raises(OutsideDomain, match="deeper than"):
                wire.packed(("max", body))
            with pytest.raises(OutsideDomain, match="deeper than"):
                wire.packed(body, wire.MAX_DEPTH - 1)
            with pytest.raises(BadEncoding, match="deeper than"):
                wire.unpacked(wire.packed(body), 0, wire.MAX_DEPTH - 1)
        body = (body,)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from([case.cls for case in CASES]).flatmap(values_of), st.data())
def test_damaged_bytes_are_refused_or_another_value(value: Lattice, data: st.DataObject) -> None:
    plain = bytearray(value.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(plain))
    except BadEncoding:
        return
    assert read.encode() == bytes(plain) and repr(read)


def test_a_tag_belongs_to_one_class() -> None:
    with pytest.raises(ValueError, match=r"the tag 'max' is that of kvs\.lattices\.scalars\.Max"):
        codec.lattice_type("max")(BoolOr)
    assert codec.types()["max"] is Max and BoolOr.tag == "bool_or"


def test_what_is_no_bytes_is_refused() -> None:
    for data in ("kvl", 10**12, None, bytearray(b"kvl")):
        with pytest.raises(TypeError, match="is decoded from bytes"):
            decode(data)  # type: ignore[arg-type]
