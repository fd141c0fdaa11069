"""A store: a directory (0700) of spaces, and beside it the key that makes its records authentic.

Whoever holds the key can write values that others will load, so it lies beside the directory and not in it: a copy
of the directory, an archive or a share, does not carry it.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kvs import seal
from kvs.errors import KvsError, StoreForeign, StoreUnusable
from kvs.settings import Settings, checked
from kvs.space import Space
from kvs.tiers.files import read, write_private
from kvs.tiers.node import FORMAT, sync_folder

if TYPE_CHECKING:
    from kvs.tiers.protocol import Place

READ_BY = "lambdakernel 0.1.0"
"""The first release that reads `FORMAT`: what an earlier one tells its user to install."""
_NETWORK = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "glusterfs", "lustre", "afs", "gpfs")
_ANY_NETWORK = re.compile(f" (?:{'|'.join(_NETWORK)})")
_WRITE_REMEDY = "Choose a directory that you own (a setting names it), or give it back its permissions."


class SpaceInfo(NamedTuple):
    """A space as a listing shows it; `damage` is empty where it is whole."""

    name: str
    directory: str
    nbytes: int
    modified_s: float
    damage: str


class Store:
    """See the module."""

    def __init__(self, path: str, key: bytes, settings: Settings, *, cold: Place | None = None) -> None:
        self._cold = cold
        self.path = path
        self._key = key
        self._settings = settings

    def space(self, name: str) -> Space:
        """The space of that name, which may be any text; nothing is created before it is written."""
        directory = f"{self.path}/spaces/{seal.name_hash(name)}"
        key = self.space_key(name)
        if self._cold is None:
            return Space(name, directory, key, self._settings)
        tier = self._cold.space(seal.name_hash(name))
        return Space(name, directory, key, self._settings, cold=tier, machine=_id(self.path))

    def space_key(self, name: str) -> bytes:
        """The key that makes the records of that space authentic."""
        return seal.space_key(self._key, name)

    def delete_abandoned(self, *, before_s: float) -> None:
        """Delete what makers of stores and spaces left half written, and have not written to since `before_s`."""
        parent, name = os.path.split(self.path)
        made = [(parent, f"{name}.key-"), (self.path, ".FORMAT-")]
        made += [(directory, ".name-") for directory in self._directories()]
        for folder, prefix in made:
            for entry in os.scandir(folder):
                if entry.name.startswith(prefix) and entry.stat().st_mtime <= before_s:
                    os.unlink(entry.path)

    def archive_key(self) -> bytes:
        """The key that says of an archive that this store wrote it."""
        return seal.archive_key(self._key)

    def spaces(self) -> list[SpaceInfo]:
        """Every space; one that is damaged is named, not raised."""
        return [_space_info(path) for path in self._directories()]

    def _directories(self) -> Iterator[str]:
        """Of every space, but for those that nothing was written to before their maker died."""
        for entry in os.scandir(f"{self.path}/spaces"):
            is_space = entry.is_dir() and not entry.name.startswith(".")
            if is_space and (os.path.exists(f"{entry.path}/name") or _has_lanes(entry.path)):
                yield entry.path


def open(location: str | Path, settings: Settings | None = None, *, cold: str | Place | None = None) -> Store:
    """The store at a path or `file://` URL, created if there is none.

    `memory://` makes an empty one that ends with this process: its files are in a private temporary directory, which a
    normal exit deletes. Forked children may use it, nobody else can.

    With `cold` (`s3://bucket/prefix`, or a place), what is published can be copied there, and a space that is not at
    the path is restored from there. The key file that lies beside a store must be there too: it is never copied.

    Raises:
        StoreUnusable: it cannot be read or written, or lies on a network.
        StoreForeign: the directory holds something else, or a newer format; nothing was touched.
        TierUnreachable, TierRefused: the cold tier cannot be used.
        ValueError: a setting means nothing.
    """
    settings = checked(settings or Settings())
    path = _passing_path() if str(location) == "memory://" else _local_path(str(location))
    place = _place(cold) if isinstance(cold, str) else cold
    is_known = place is not None and _known_place(path) == place.name.encode()
    mark = place.key_mark() if place is not None and not is_known else None
    if mark is not None and not os.path.exists(f"{path}.key"):
        raise _without_key(path, "is not here")
    try:
        created = _prepare(path, settings)
        key = _key(path, created=created)
    except OSError as e:
        raise StoreUnusable(path, e.strerror or str(e), _WRITE_REMEDY) from e
    if place is not None and not is_known:
        if (mark or place.set_key_mark(_key_mark(key))) != _key_mark(key):
            raise _without_key(path, "is another store's")
        _remember_place(path, place)
    return Store(path, key, settings, cold=place)


def _place(url: str) -> Place:
    from kvs.tiers.object import place_at  # here: most stores have none

    return place_at(url)


def cold_of(path: str) -> str:
    """The name of the cold tier that the store at `path` was opened with last; empty if there never was one."""
    return (_known_place(path) or b"").decode()


def _known_place(path: str) -> bytes | None:
    """The cold tier that was seen to need this store's key: it is not asked again, so that work goes on without it."""
    try:
        return read(f"{path}/cold")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remember_place(path: str, place: Place) -> None:
    temporary = f"{path}/.cold-{os.getpid()}-{os.urandom(4).hex()}"
    write_private(temporary, place.name.encode())
    os.rename(temporary, f"{path}/cold")


def _key_mark(key: bytes) -> bytes:
    return seal.digest(seal.archive_key(key))


def _without_key(path: str, why: str) -> StoreUnusable:
    return StoreUnusable(
        path, f"the key that the cold tier's records need, {path}.key, {why}",
        "Copy the .key file of the store that wrote them to that name; without it nothing can be trusted.",
    )  # fmt: skip


def _id(path: str) -> bytes:
    """What tells this store from every other, copies of its key included."""
    try:
        return str(json.loads(Path(f"{path}/FORMAT").read_bytes())["id"]).encode()
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise StoreForeign(path, f"its FORMAT file names no id ({e}); restore it from a copy") from e


def _local_path(location: str) -> str:
    scheme, separator, rest = location.partition("://")
    if not separator:
        return os.path.abspath(os.path.expanduser(location))
    if scheme != "file":
        raise StoreUnusable(location, f"{scheme}:// is not built yet", "Give a path, a file:// URL or memory://.")
    return os.path.abspath(rest)


def _passing_path() -> str:
    """A path in a new temporary directory, which is deleted when this process, and not a fork of it, exits."""
    directory, owner = tempfile.mkdtemp(prefix="kvs-"), os.getpid()

    def delete() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(delete)
    return f"{directory}/store"


def _prepare(path: str, settings: Settings) -> bool:
    """Make sure that `path` is a store of ours; whether it was made now."""
    marker = f"{path}/FORMAT"
    if not settings.allow_network:
        _refuse_network(path)
    if not os.path.exists(marker):
        if os.path.isdir(path) and not _is_unfinished(path):
            raise StoreForeign(path, "it holds files of something else; choose an empty or a new directory")
        os.makedirs(path, 0o700, exist_ok=True)
        os.chmod(path, 0o700)
        os.makedirs(f"{path}/spaces", 0o700, exist_ok=True)
        temporary = f"{path}/.FORMAT-{os.getpid()}-{os.urandom(4).hex()}"
        said = {"kvs": FORMAT, "id": os.urandom(8).hex(), "needs": READ_BY}
        write_private(temporary, json.dumps(said).encode())
        os.rename(temporary, marker)
        sync_folder(path)
        sync_folder(os.path.dirname(path))
        return True
    _check_format(path, marker)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        os.chmod(path, 0o700)  # others could read it; if it is not ours to change, this says so
    if not os.access(path, os.W_OK | os.X_OK) or not os.access(f"{path}/spaces", os.W_OK | os.X_OK):
        raise StoreUnusable(path, "it is read-only", _WRITE_REMEDY)
    return False


def _is_unfinished(path: str) -> bool:
    """Whether a directory without FORMAT is what another process is making, or died while making."""
    names = {name for name in os.listdir(path) if not name.startswith(".FORMAT-")}
    if "FORMAT" in names:  # made by another process since we looked
        return True
    return not names or (names == {"spaces"} and not os.listdir(f"{path}/spaces"))


def _check_format(path: str, marker: str) -> None:
    try:
        said = json.loads(read(marker))
        version, needs = int(said["kvs"]), str(said.get("needs", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreForeign(
            path, "its FORMAT file is damaged; restore it from a copy, or choose a new directory"
        ) from None
    if version > FORMAT:
        raise StoreForeign.newer(path, version, FORMAT, needs)


def _key(path: str, *, created: bool) -> bytes:
    """The master key, made with the store. Two processes that make it at once agree: a link fails if it exists."""
    key_path = f"{path}.key"
    if not os.path.exists(key_path):
        if not created and os.listdir(f"{path}/spaces"):
            raise StoreUnusable(
                path, f"its key {key_path} is gone", "Restore the key file; without it nothing can be trusted."
            )
        temporary = f"{key_path}-{os.getpid()}-{os.urandom(4).hex()}"
        write_private(temporary, os.urandom(32))
        try:
            os.link(temporary, key_path)
            sync_folder(os.path.dirname(key_path))
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    key = read(key_path)
    if len(key) != 32:
        raise StoreUnusable(path, f"its key {key_path} is damaged", "Restore the key file from a copy.")
    if stat.S_IMODE(os.stat(key_path).st_mode) & 0o077:
        os.chmod(key_path, 0o600)
    return key


def _refuse_network(path: str) -> None:
    if kind := _network(path):
        raise StoreUnusable(
            path, f"it lies on a network file system ({kind}), whose locks and maps cannot be relied on",
            "Choose a local directory, or set KVS_ALLOW_NETWORK=1 if you know better.",
        )  # fmt: skip


def _network(path: str) -> str:
    """The type of the network file system that holds `path`, or will; empty if it is none."""
    try:
        mounts = read("/proc/self/mounts").decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    if not _ANY_NETWORK.search(mounts):  # as on most machines
        return ""
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    real, best, kind = os.path.realpath(path), "", ""
    for line in mounts.splitlines():
        _, point, fs, _ = line.split(" ", 3)
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fs
    return kind if kind.startswith(_NETWORK) else ""


def _has_lanes(directory: str) -> bool:
    try:
        return bool(os.listdir(f"{directory}/lanes"))
    except FileNotFoundError:
        return False


def _space_info(directory: str) -> SpaceInfo:
    try:
        name = Path(directory, "name").read_bytes().decode("utf-8", "surrogatepass")
        damage = "" if seal.name_hash(name) == os.path.basename(directory) else "its name is another space's"
    except (OSError, ValueError) as e:
        name, damage = os.path.basename(directory), f"its name cannot be read ({e})"
    stats = list(_file_stats(directory))
    return SpaceInfo(
        name, directory, sum(s.st_size for s in stats), max((s.st_mtime for s in stats), default=0.0), damage
    )


def _file_stats(directory: str) -> Iterator[os.stat_result]:
    """Of every file below; those that go while we look are left out."""
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                yield os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue


__all__ = ["KvsError", "SpaceInfo", "Store", "open"]
