"""Where a store lies, who may read it, and what happens when the place has no room or cannot be written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import kvs
from kvs import Value
from kvs.settings import from_env
from tests.kvs.support import child, received, values

NOBODY = 65534


def test_a_path_a_text_and_a_url_open_the_same_store(tmp_path: Path) -> None:
    locations: list[str | Path] = [tmp_path / "s", str(tmp_path / "s"), f"file://{tmp_path}/s"]
    for n, location in enumerate(locations):
        with kvs.open(location).space("x").replica() as replica:
            assert len(replica.keys()) == n
            replica.publish({b"%d" % n: Value(b"1")})
    with pytest.raises(kvs.StoreUnusable, match="s3://"):
        kvs.open("s3://bucket/store")


@pytest.mark.parametrize("name", ["", "a/../../b", "näme ☃", "x" * 5000, "new\nline\x1b[31m", "latin-\udcff-1"])
def test_a_space_may_have_any_name(store: kvs.Store, name: str) -> None:
    with store.space(name).replica() as replica:
        replica.publish({b"a": Value(b"1")})
    assert [(info.name, info.damage) for info in store.spaces()] == [(name, "")]
    assert Path(store.space(name).directory).parent == Path(store.path, "spaces")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_or_write_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        space = kvs.open(tmp_path / "store").space("s")
        with space.replica() as replica:
            replica.put_blob(b"x")
            replica.publish({b"a": Value(b"1")})
            paths = [tmp_path / "store", tmp_path / "store.key", *(tmp_path / "store").rglob("*")]
            modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in paths}
    finally:
        os.umask(before)
    assert {name: oct(mode) for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_a_store_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    kvs.open(tmp_path / "store")
    (tmp_path / "store").chmod(0o777)
    (tmp_path / "store.key").chmod(0o644)
    kvs.open(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store.key").stat().st_mode & 0o777 == 0o600


def test_the_key_is_not_in_the_store(tmp_path: Path) -> None:
    with kvs.open(tmp_path / "store").space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
        key = (tmp_path / "store.key").read_bytes()
        assert len(key) == 32
        assert not any(key in path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())


def test_settings_come_from_the_environment_and_nonsense_is_refused(tmp_path: Path) -> None:
    found = from_env({"KVS_DURABILITY": "disk", "KVS_RETAIN_S": "1.5", "KVS_ALLOW_NETWORK": "1", "OTHER": "x"})
    assert found == kvs.Settings(durability="disk", retain_s=1.5, allow_network=True)
    with pytest.raises(ValueError, match="KVS_RETAIN_BYTES is 'much'"):
        from_env({"KVS_RETAIN_BYTES": "much"})
    with pytest.raises(ValueError, match="durability is 'dsik'"):
        from_env({"KVS_DURABILITY": "dsik"})
    with pytest.raises(ValueError, match="durability is 'dsik'"):
        kvs.open(tmp_path / "store", kvs.Settings(durability="dsik"))


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_both_levels_of_durability_publish_and_sync(tmp_path: Path, durability: str) -> None:
    space = kvs.open(tmp_path / "store", kvs.Settings(durability=durability, inline_limit_bytes=10)).space("s")
    with space.replica() as replica:
        replica.publish({b"a": Value(b"x" * 100), b"b": Value(b"y")})
        replica.sync()
        assert values(replica) == {b"a": b"x" * 100, b"b": b"y"}


# -- no room, no permission


def publish_under_limit(connection: Connection, space: kvs.Space) -> None:
    """Write until no file may grow, then go on without the limit."""
    with space.replica() as replica:
        replica.publish({b"first": Value(b"1")})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            for n in range(100):
                replica.publish({b"n": Value(b"%d" % n + b"x" * 10_000), b"m": Value(b"%d" % n)})
            connection.send("never full")
        except kvs.KvsError as e:
            n -= 1
            connection.send((type(e).__name__, n, replica.get(b"m")[0].value.payload))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        replica.publish({b"after": Value(b"1")})
        connection.send(list(values(replica)))


def test_a_file_that_may_not_grow_fails_the_commit_and_nothing_else(space: kvs.Space) -> None:
    with child(publish_under_limit, space) as (_, connection):
        kind, last, shown = received(connection)
        assert kind in ("StoreFull", "StoreUnusable") and shown == b"%d" % last
        assert sorted(received(connection)) == [b"after", b"first", b"m", b"n"]
    with space.reader() as reader:
        assert reader.get(b"n")[0].value.payload.startswith(b"%dx" % last) and list(reader.check()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, timeout=10)
    if made.returncode:
        pytest.skip(f"this user may not mount: {made.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True, timeout=10)


def test_a_full_disk_fails_the_commit_and_nothing_else(small_disk: Path) -> None:
    space = kvs.open(small_disk / "store").space("s")
    with space.replica() as replica:
        replica.publish({b"n": Value(b"0")})
        with pytest.raises(kvs.StoreFull, match="no room"):
            replica.put_blob(os.urandom(2_000_000))
        with pytest.raises(kvs.StoreFull):
            for n in range(1, 100):
                replica.publish({b"n": Value(b"%d" % n + os.urandom(30_000)), b"m": Value(b"%d" % n)})
        last = replica.vector[0] - 1
        assert replica.get(b"m")[0].value.payload == b"%d" % last and list(replica.check()) == []
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True, timeout=10)
    with space.replica() as replica:
        assert replica.get(b"m")[0].value.payload == b"%d" % last
        replica.publish({b"after": Value(b"1")})
        assert [path for path in Path(space.directory, "blobs").iterdir() if path.name.startswith("tmp-")] == []


def open_unprivileged(connection: Connection, path: Path) -> None:
    """Make a store as nobody, take its permissions away, and say what opening it says."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with kvs.open(path / "store").space("s").replica() as replica:
        replica.publish({b"a": Value(b"1")})
    for folder in ("store", "store/spaces"):
        (path / folder).chmod(0o500)
    before = sorted(path.rglob("*"))
    try:
        kvs.open(path / "store")
        connection.send("opened")
    except kvs.KvsError as e:
        connection.send((type(e).__name__, str(e), sorted(path.rglob("*")) == before))
    for folder in ("store", "store/spaces"):
        (path / folder).chmod(0o700)
    with kvs.open(path / "store").space("s").reader() as reader:
        connection.send(values(reader))


def test_a_read_only_store_is_refused_with_the_remedy_and_whole_afterwards() -> None:
    path = Path(tempfile.mkdtemp(prefix="kvs-readonly-"))  # not below `tmp_path`, which only this user may enter
    path.chmod(0o777)
    try:
        with child(open_unprivileged, path) as (_, connection):
            kind, text, untouched = received(connection)
            assert kind == "StoreUnusable" and "read-only" in text and "Choose a directory" in text and untouched
            assert received(connection) == {b"a": b"1"}
    finally:
        shutil.rmtree(path)


def test_a_network_file_system_is_refused_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network file system can be had in a test: what the system says of mounts is given instead."""
    real = kvs.store.read
    said = f"server:/x {tmp_path} nfs4 rw 0 0\n".encode()
    monkeypatch.setattr(kvs.store, "read", lambda path: said if path == "/proc/self/mounts" else real(path))
    with pytest.raises(kvs.StoreUnusable, match=r"network file system \(nfs4\).*KVS_ALLOW_NETWORK"):
        kvs.open(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    kvs.open(tmp_path / "store", kvs.Settings(allow_network=True))


def test_importing_kvs_loads_nothing_slow() -> None:
    code = (
        "import sys, kvs; print(sorted({'asyncio', 'subprocess', 'logging', 'msgspec', 'concurrent'} & {*sys.modules}))"
    )
    root = Path(kvs.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, timeout=30, check=True)
    assert done.stdout.strip() == b"[]"
