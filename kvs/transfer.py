"""Whole spaces out of a store into an archive, and into a store that has none of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvs import records, seal
from kvs.archive import (
    BLOB,
    COMMIT,
    ENTRY,
    SPACE,
    Archive,
    ArchiveDamaged,
    ArchiveUntrusted,
    Writer,
    commit_body,
    commit_of,
    entry_body,
    entry_of,
)
from kvs.causal import Dot
from kvs.errors import StoreUnusable
from kvs.replica import Replica
from kvs.space import Space
from kvs.store import Store
from kvs.tiers.blobs import BlobRef, Blobs, refs_from_bytes
from kvs.tiers.files import write_private
from kvs.tiers.node import CommitRow, EntryRow, LaneLog, sync_folder


def export_spaces(store: Store, path: str, names: list[str]) -> int:
    """Write the named spaces as they are now to a new file at `path`; how many commits.

    Raises:
        StoreUnusable: there is a file of that name, or it cannot be written.
        KvsError: something of a space is damaged; no file is left.
    """
    if os.path.exists(path):
        raise StoreUnusable(path, "there is a file of that name", "Remove it, or give another name.")
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    commits = 0
    try:
        with open(temporary, "xb", opener=_private) as file:
            writer = Writer(file)
            for name in names:
                with store.space(name).reader() as reader:
                    writer.add(SPACE, seal.name_bytes(name))
                    commits += _export(reader, writer)
            writer.end(store.archive_key())
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # fails if somebody was faster
    except OSError as e:
        raise StoreUnusable(
            path, e.strerror or str(e), "Choose a file that does not exist, where there is room."
        ) from e
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    sync_folder(os.path.dirname(os.path.abspath(path)))
    return commits


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _export(reader: Replica, writer: Writer) -> int:
    commits = 0
    written: set[BlobRef] = set()
    for lane, commit, entries in reader.records():
        for ref in {ref for row in entries for ref in refs_from_bytes(row.blobs)} - written:
            with reader.open_blob(ref) as data:
                if seal.digest(data) != ref.digest:
                    reader.read_blob(ref)  # says what is wrong
                writer.add(BLOB, ref.digest, data)
            written.add(ref)
        writer.add(COMMIT, commit_body(lane, commit))
        for row in entries:
            writer.add(ENTRY, entry_body(row))
        commits += 1
    return commits


def import_spaces(store: Store, archive: Archive, path: str) -> list[str]:
    """Take every space of the archive into `store`, which must have none of them; their names.

    They are made aside and appear when all of them are whole and flushed.

    Raises:
        StoreUnusable: the store has one of them already, or there is no room. ArchiveDamaged: its contents do not fit.
    """
    names = [_name(archive.body(frame)) for frame in archive.frames() if frame.kind == SPACE]
    for name in names:
        if store.space(name).exists():
            raise StoreUnusable(
                store.path,
                f"it has a space {name!r} already",
                "Import into an empty store, or delete that space first.",
            )
    with _aside(store) as folder:
        made: list[str] = []
        try:
            _take(store, archive, folder, made)
        except (ValueError, KeyError, IndexError) as e:
            raise ArchiveDamaged(path, f"its records do not fit each other ({e})") from e
        for space in made:
            os.rename(space, f"{store.path}/spaces/{os.path.basename(space)}")
        sync_folder(f"{store.path}/spaces")
    return names


def opened(file_path: str, keys: list[bytes], *, trust: bool) -> Archive:
    """The archive at a path, whole and by the holder of one of `keys` (archive keys).

    Raises:
        ArchiveDamaged, StoreForeign, ArchiveUntrusted, StoreUnusable: says what to do.
    """
    try:
        archive = Archive(file_path)
    except OSError as e:
        raise StoreUnusable(file_path, e.strerror or str(e), "Give an archive that you may read.") from e
    if not trust and not any(map(archive.is_by, keys)):
        archive.close()
        raise ArchiveUntrusted(file_path)
    return archive


@contextmanager
def _aside(store: Store) -> Iterator[str]:
    """A folder beside the spaces, gone at the end; listings leave out names that begin with a dot."""
    folder = f"{store.path}/spaces/.import-{os.getpid()}-{os.urandom(4).hex()}"
    os.mkdir(folder, 0o700)
    try:
        yield folder
    except OSError as e:
        raise StoreUnusable(store.path, e.strerror or str(e), "Make room, then import again.") from e
    finally:
        shutil.rmtree(folder)


def _take(store: Store, archive: Archive, folder: str, made: list[str]) -> None:
    taker: _Taker | None = None
    for frame in archive.frames():
        if frame.kind == SPACE:
            if taker is not None:
                taker.finish()
            space = store.space(_name(archive.body(frame)))
            taker = _Taker(space, f"{folder}/{os.path.basename(space.directory)}", store.space_key(space.name))
            made.append(taker.directory)
        elif taker is None:
            raise ValueError("a record before any space")
        elif frame.kind == BLOB:
            taker.blob(archive.body(frame))
        elif frame.kind == COMMIT:
            taker.commit(archive.body(frame))
        elif frame.kind == ENTRY:
            taker.entry(archive.body(frame))
        else:
            raise ValueError(f"a record of kind {frame.kind!r}")
    if taker is not None:
        taker.finish()


class _Taker:
    """Makes one space from its records."""

    def __init__(self, space: Space, directory: str, key: bytes) -> None:
        self.directory, self._key = directory, key
        for folder in ("", "/lanes", "/blobs"):
            os.mkdir(directory + folder, 0o700)
        write_private(f"{directory}/name", seal.name_bytes(space.name))
        self._blobs = Blobs(f"{directory}/blobs")
        self._logs: dict[int, LaneLog] = {}
        self._lane = -1
        self._commit: CommitRow | None = None
        self._entries: list[EntryRow] = []

    def blob(self, body: bytes) -> None:
        ref = self._blobs.put(memoryview(body)[32:])
        if ref.digest != body[:32]:
            raise ValueError(f"blob {body[:32].hex()} is not what its name says")

    def commit(self, body: bytes) -> None:
        self._flush()
        self._lane, self._commit = commit_of(body)

    def entry(self, body: bytes) -> None:
        row, commit = entry_of(body), self._commit
        if commit is None or row.n != commit.n:
            raise ValueError(f"an entry of commit {row.n} in the place of another's")
        records.refuse_newer(f"key {row.key!r}", row.kind)
        code = records.entry_mac(self._key, Dot(self._lane, row.n), commit.hlc, commit.context, row)
        self._entries.append(row._replace(mac=code))

    def finish(self) -> None:
        self._flush()
        for lane, log in self._logs.items():
            log.close()  # the last to close it, so that all of it is in the database, flushed
            sync_folder(f"{self.directory}/lanes/{lane}")
        self._blobs.sync()
        for folder in ("/lanes", "/blobs", ""):
            sync_folder(self.directory + folder)

    def _flush(self) -> None:
        if self._commit is not None:
            self._log().insert(records.sealed(self._key, self._lane, self._commit), self._entries)
        self._commit, self._entries = None, []

    def _log(self) -> LaneLog:
        if self._lane not in self._logs:
            if self._lane < 0:
                raise ValueError("a lane without a number")
            os.mkdir(f"{self.directory}/lanes/{self._lane}", 0o700)
            self._logs[self._lane] = LaneLog(f"{self.directory}/lanes/{self._lane}/log.sqlite", writable=True)
        return self._logs[self._lane]


def _name(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")


def archive_key_of(path: str) -> bytes:
    """The archive key of the store whose key file is at `path`.

    Raises:
        StoreUnusable: it cannot be read, or is no key file.
    """
    try:
        master = Path(path).read_bytes()
    except OSError as e:
        raise StoreUnusable(path, e.strerror or str(e), "Give the .key file that lies beside a store.") from e
    if len(master) != 32:
        raise StoreUnusable(path, "it is no key file", "Give the .key file that lies beside a store.")
    return seal.archive_key(master)
