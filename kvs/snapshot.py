"""A frozen view of a space: one causal cut that stays as it is, and stays readable, until it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvs.causal import Dot
from kvs.errors import KvsError
from kvs.pins import Pin

if TYPE_CHECKING:
    from kvs.history import Past
    from kvs.replica import Replica, Version
    from kvs.tiers.blobs import BlobRef


class Snapshot:
    """What a replica showed at one moment, read as the replica is; `vector` says which commits that are.

    While it is open, no collection takes a version that it shows, in whatever process: it holds a pin, which goes with
    its process if nobody closes it. It ends with the replica too. Made in the time of one look at every commit.
    """

    def __init__(self, replica: Replica, pins: str) -> None:
        self._pin = Pin(pins)  # says "nothing yet", which keeps everything
        try:
            with replica.undisturbed():
                self.vector = replica.vector
                self._past: Past | None = replica.history().at(self.vector)
            self._pin.move(self.vector)
        except BaseException:
            self._pin.drop()
            raise

    def get(self, key: bytes) -> tuple[Version, ...]:
        """The siblings of `key`, the deterministic winner first; empty if it was absent or deleted.

        Raises:
            NotAuthentic: one was damaged or planted. StoreDamaged: its lane cannot be read.
            KvsError: this snapshot is closed.
        """
        return self._open().get(key)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that were written and not deleted, sorted; those that `get` refuses are among them."""
        return self._open().keys(prefix)

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, tuple[Version, ...]]]:
        """Every key with its siblings, in the order of keys."""
        past = self._open()
        return ((key, past.get(key)) for key in past.keys(prefix))

    def dots(self, key: bytes) -> tuple[Dot, ...]:
        """Which writes `get` would return; deletions too."""
        return self._open().dots(key)

    def open_blob(self, ref: BlobRef) -> memoryview:
        """See `Replica.open_blob`."""
        return self._open().open_blob(ref)

    def read_blob(self, ref: BlobRef) -> bytes:
        """See `Replica.read_blob`."""
        return self._open().read_blob(ref)

    def _open(self) -> Past:
        if self._past is None:
            raise KvsError("this snapshot is closed. Make a new one with Replica.snapshot().")
        return self._past

    def close(self) -> None:
        """Let collectors have what only this showed."""
        self._past = None
        self._pin.drop()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_past"):
            self.close()
