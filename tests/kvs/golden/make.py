"""Makes the golden store of the current format. Run it once for each new format, never again for an old one:

python -m tests.kvs.golden.make tests/kvs/golden/format-2.tar.gz
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import kvs
from kvs import Value

SETTINGS = kvs.Settings(inline_limit_bytes=100)


def contents(space: str) -> dict[bytes, bytes]:
    """What the golden store shows in each of its spaces."""
    return {b"small": space.encode(), b"large": space.encode() * 100, b"": b"", b"\xff\x00": b"bytes", b"new": b"3"}


def make(path: Path, copied: Callable[[], object] = lambda: None) -> None:
    """Two spaces of two lanes: inline and spilled values, a blob, an old version, a deletion, a note.

    `copied` is called while the second space is in use, so that its lanes have tails.
    """
    store = kvs.open(path, SETTINGS)
    for name in ("one", "zwei ☃"):
        with store.space(name).replica() as a, store.space(name).replica() as b:
            a.publish({b"new": Value(b"1"), b"gone": Value(b"x")}, note=b"first")
            b.refresh()
            b.publish({key: Value(value) for key, value in contents(name).items() if key != b"new"})
            b.publish({b"new": Value(b"2", (b.put_blob(b"old blob"),)), b"gone": None})
            a.refresh()
            a.publish({b"new": Value(b"3", (a.put_blob(b"blob of " + name.encode()),))}, note=b"last")
            if name != "one":
                copied()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sys.argv[1], "x:gz") as archive:

        def add() -> None:
            for name in ("store", "store.key"):
                archive.add(f"{folder}/{name}", name)

        make(Path(folder, "store"), add)


if __name__ == "__main__":
    main()
