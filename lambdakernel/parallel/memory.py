"""How much memory a task has, and a limit on it that needs no privilege; and what it has computed.

The limit is the system's on writable private memory (RLIMIT_DATA), raised by what the task holds when its body begins:
libraries, and variables of the notebook that are mapped. So it is about what the body allocates, whoever allocates it
(Python, numpy, C). A limit on address space would count every file that is mapped, and a control group needs a
delegation that a notebook does not have. Memory that the limit cannot see (pages of a mapped variable that the body
writes, memory shared with other processes) shows in what the task holds, which its parent looks at.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

LEAST_NBYTES = 1_000_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)B?", re.IGNORECASE)
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_PAGE = os.sysconf("SC_PAGESIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def read_size(text: str) -> int:
    """Bytes that `text` says: `500MB`, `1.5G`, `512MiB`.

    Raises:
        ValueError: it says none, or less than 1 MB.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    nbytes = int(float(found[1]) * _UNITS[found[2].lower()])
    if nbytes < LEAST_NBYTES:
        raise ValueError(text)
    return nbytes


def size(nbytes: int) -> str:
    """`512 kB`, `1.5 MB`, `120 GB`: powers of 1,000, as `read_size` reads them."""
    value, unit = nbytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{text} {unit}"


@contextmanager
def limited(nbytes: int | None) -> Iterator[None]:
    """Inside, this process may allocate `nbytes` more than it has; then MemoryError. None: no limit of ours."""
    if nbytes is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ours = _data_nbytes() + nbytes
    if hard != resource.RLIM_INFINITY:
        ours = min(ours, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ours, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_nbytes() -> int:
    """Writable private memory of this process, as RLIMIT_DATA counts it."""
    with open("/proc/self/status", "rb") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(b"VmData:"))


class Held(msgspec.Struct, frozen=True):
    """Memory of a process, in bytes."""

    resident: int = 0
    own: int = 0
    """That no file is behind."""


def held(pid: int) -> Held:
    """What process `pid` holds now; nothing when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as f:
            _, resident, shared, *_ = f.read().split()
    except OSError:
        return Held()
    return Held(int(resident) * _PAGE, (int(resident) - int(shared)) * _PAGE)


def cpu_seconds(pid: int) -> float:
    """What process `pid` has computed until now, with children that it has waited for; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS
