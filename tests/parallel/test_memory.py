"""Sizes as a person writes them, and the limit on what a process allocates."""

import os
import subprocess
import sys

import pytest

from lambdakernel.parallel.memory import held, read_size, size


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("2GB", 2 * 10**9), ("500MiB", 500 * 2**20), ("1.5g", 1_500_000_000), ("512M", 512_000_000), ("3 TiB", 3 * 2**40)],
)
def test_sizes(text, nbytes):
    assert read_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GB", "500", "-1GB", "10kB", "1PB", "1e3MB", "nanGB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match=r".*"):
        read_size(text)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(512_000, "512 kB"), (1_500_000, "1.5 MB"), (999_600_000, "1 GB"), (2 * 10**12, "2 TB"), (12_345_678, "12 MB")],
)
def test_sizes_as_text(nbytes, text):
    assert size(nbytes) == text


def test_a_process_holds_what_it_allocates_and_nothing_when_it_is_gone():
    before = held(os.getpid())
    block = b"x" * 50_000_000
    after = held(os.getpid())
    assert after.own - before.own > 40_000_000 and after.resident >= after.own
    del block
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(30)
    assert held(child.pid).own == 0


def test_inside_the_limit_memory_can_be_had_beyond_it_not_and_afterwards_again():
    script = """
from lambdakernel.parallel.memory import limited
with limited(100_000_000):
    small = b'x' * 60_000_000
    try:
        b'x' * 60_000_000
    except MemoryError:
        print('refused')
print(len(b'x' * 60_000_000))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["refused", "60000000"]
