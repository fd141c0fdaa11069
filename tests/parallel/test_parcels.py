"""Parcels: whole, writable, private, sealed; and refused when they are not."""

import gc
import json
import os
from pathlib import Path

import pytest

from lambdakernel.parallel import parcels
from lambdakernel.parallel.parcels import SMALL_NBYTES, ParcelDamaged, Sealed, pack, unpack


def through(head, buffers=()):
    fd = pack(head, buffers)
    try:
        return unpack(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "buffers", [[], [b""], [b"", b"x", b""], [b"a" * 1000], [bytearray(b"b" * 300_000), b"", b"z"]]
)
def test_what_was_packed_comes_out(buffers):
    parcel = through(b"head", buffers)
    assert bytes(parcel.head) == b"head"
    assert [bytes(buffer) for buffer in parcel.buffers] == [bytes(buffer) for buffer in buffers]


def test_buffers_begin_at_multiples_of_a_cache_line():
    np = pytest.importorskip("numpy")
    parcel = through(b"h", [b"abc", bytes(500_000), bytes(9)])
    for buffer in parcel.buffers:
        assert np.frombuffer(buffer, dtype="u1").ctypes.data % 64 == 0


@pytest.mark.parametrize("nbytes", [100, 1_000_000])
def test_two_receivers_write_without_seeing_each_other(nbytes):
    fd = pack(b"h", [bytes(nbytes)])
    one, two = unpack(fd), unpack(fd)
    os.close(fd)
    one.buffers[0][0] = 7
    assert two.buffers[0][0] == 0 and one.buffers[0][0] == 7


def test_a_mapped_parcel_holds_no_descriptor_and_is_unmapped_when_nobody_refers_to_it():
    gc.collect()
    before, mapped = len(os.listdir("/proc/self/fd")), maps()
    held = [through(b"h", [bytes(1_000_000)]) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert maps() >= mapped + 20
    del held
    gc.collect()
    assert maps() <= mapped


def maps() -> int:
    return Path("/proc/self/maps").read_text().count("lk-parcel")


def test_a_parcel_cannot_shrink_under_its_receiver():
    fd = pack(b"h", [bytes(1_000_000)])
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 10)
    os.close(fd)


def test_a_file_that_is_not_sealed_is_refused():
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    with pytest.raises(ParcelDamaged, match="not sealed"):
        unpack(fd)
    os.close(fd)


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:10], lambda d: b"x" + d[1:], lambda d: d[:-1], lambda d: d[:8] + b"\xff" * 8]
)
def test_a_damaged_parcel_is_refused(spoil):
    good = pack(b"head", [b"0123456789"])
    data = spoil(os.pread(good, 10_000, 0))
    os.close(good)
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    parcels.fcntl.fcntl(fd, parcels.fcntl.F_ADD_SEALS, parcels._SEALS)
    with pytest.raises(ParcelDamaged):
        unpack(fd)
    os.close(fd)


@pytest.mark.parametrize("nbytes", [0, 1, SMALL_NBYTES, SMALL_NBYTES + 1, 100_000])
def test_a_small_one_travels_in_the_message_and_holds_no_descriptor(nbytes):
    sealed, before = Sealed.of(b"x" * nbytes), len(os.listdir("/proc/self/fd"))
    message, fds = sealed.in_message()
    assert len(fds) == (nbytes > SMALL_NBYTES) and len(json.dumps(message)) < 2 * SMALL_NBYTES
    again = Sealed.from_message(json.loads(json.dumps(message)), fds).opened()
    assert bytes(again.head) == b"x" * nbytes and not again.head.readonly and again.buffers == ()
    fd = sealed.descriptor()
    assert bytes(unpack(fd).head) == b"x" * nbytes
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before
    sealed.close()


def test_one_with_buffers_has_a_file_however_small_it_is():
    sealed = Sealed.of(b"head", [b"buffer"])
    assert sealed.fd is not None and [bytes(one) for one in sealed.opened().buffers] == [b"buffer"]
    sealed.close()


def test_of_one_that_did_not_arrive_it_says_why():
    with pytest.raises(ParcelDamaged, match="too many open files"):
        Sealed.from_message({}, ())
